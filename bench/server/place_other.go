//go:build !linux

package server

import (
	"errors"
	"os/exec"
	"time"
)

// Placement says on which processors servers run.
type Placement struct{ Shared bool }

var errLinux = errors.New("servers are measured on Linux only: elsewhere danelaw cannot bind a process to a processor")

// Place fails: there is no measuring here.
func Place() (Placement, error) { return Placement{}, errLinux }

func (Placement) start(*exec.Cmd) error { return errLinux }

func (Placement) busy() (time.Duration, error) { return 0, errLinux }

func cpuTime(int) (time.Duration, error) { return 0, errLinux }

// ErrQuota is that of a system on which no process can be limited.
var ErrQuota = errLinux

type limit struct{}

func newLimit(int, float64) (*limit, error) { return nil, errLinux }

func (*limit) remove() {}
