package main

import (
	"context"
	"fmt"
	"log"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func init() { caddy.RegisterEventHook("manager", followRestarts) }

// answers says that this process answers, which the service manager is told (S-29).
var answers atomic.Bool

// tell tells the service manager, if it is one that wants to know (sd_notify(3)).
func tell(states ...string) {
	if _, err := systemd.SdNotify(false, strings.Join(states, "\n")); err != nil {
		log.Printf("[WARNING] the service manager cannot be told %q: %v", states[0], err)
	}
}

// status is a line of the service manager's about danelaw.
func status(condition string) string { return "STATUS=" + printable.Text(condition) }

// reloading tells that a reload begins, and when.
func reloading() error {
	tell(systemd.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
	return nil
}

// served tells that danelaw serves, after a start or a reload.
func served() error {
	tell(systemd.SdNotifyReady, status(danelaw.Condition()))
	return nil
}

// followRestarts is called with each instance of CoreDNS that is about to serve, and has its reload told, whoever asks
// for it: a signal, the system's nameservers, or the plugin reload. The first one may yet be found to be of no use.
func followRestarts(event caddy.EventName, info any) error {
	if i, ok := info.(*caddy.Instance); ok && event == caddy.InstanceStartupEvent {
		i.OnRestart = append(i.OnRestart, reloading)
		i.OnRestartFailed = append(i.OnRestartFailed, served)
		if answers.Load() {
			return served()
		}
	}
	return nil
}

// manage keeps the service manager informed until ctx ends.
func manage(ctx context.Context) {
	answers.Store(true)
	served() //nolint:errcheck // none
	go followCondition(ctx)
	interval, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		log.Printf("[WARNING] the service manager's watchdog is not understood: %v", err)
	}
	if interval > 0 {
		go feed(ctx, interval/3, danelaw.Answers)
	}
}

// conditionEvery is how often one looks whether there is something new to tell.
const conditionEvery = time.Second

// followCondition tells of readiness when it changes.
func followCondition(ctx context.Context) {
	for told := ""; ; {
		if now := danelaw.Condition(); now != told {
			tell(status(now))
			told = now
		}
		if !pause(ctx, conditionEvery) {
			return
		}
	}
}

// feed tells the watchdog, each time that ask returns and once more after an interval, that danelaw answers.
func feed(ctx context.Context, interval time.Duration, ask func()) {
	for {
		ask()
		tell(systemd.SdNotifyWatchdog)
		if !pause(ctx, interval) {
			return
		}
	}
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
