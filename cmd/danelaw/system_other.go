//go:build !linux

package main

import "time"

// become fails: how a process keeps the right to bind low ports differs from system to system.
func become(string) error {
	return wrong("--user is for Linux; elsewhere start danelaw as the user, by the means of the system")
}

// clockSynchronised reports what only Linux tells.
func clockSynchronised() (synchronised, known bool) { return false, false }

// monotonic is what systemd alone wants to know.
func monotonic() time.Duration { return 0 }
