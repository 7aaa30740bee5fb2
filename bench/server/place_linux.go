package server

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"golang.org/x/sys/unix"
)

// Placement says on which processors servers run.
type Placement struct {
	// Shared is true where this process may use one processor only, which it then shares with the server.
	Shared bool

	processor int // of the servers
}

// Place takes the last processor that this process may use for servers, and binds the process to the others until it
// ends.
func Place() (Placement, error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return Placement{}, fmt.Errorf("which processors there are cannot be learned: %w", err)
	}
	p := Placement{Shared: all.Count() == 1}
	for cpu := range len(all) * 64 {
		if all.IsSet(cpu) {
			p.processor = cpu
		}
	}
	if p.Shared {
		return p, nil
	}
	all.Clear(p.processor)
	// what asks waits in system calls; beside a flood two do, and whichever waits for a processor of Go's does so for
	// many milliseconds
	runtime.GOMAXPROCS(all.Count() + 2)
	return p, confine(&all)
}

// confine moves all threads of this process, and so those that they start, to some processors.
func confine(to *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, to); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("a thread cannot be bound to a processor: %w", err)
		}
	}
	return nil
}

// start starts a command on the servers' processor. It does not get the terminal's Ctrl-C, and ends with this process.
func (p Placement) start(c *exec.Cmd) error {
	runtime.LockOSThread() // a process inherits the processors of the thread that starts it
	defer runtime.UnlockOSThread()
	var own, servers unix.CPUSet
	servers.Set(p.processor)
	if err := unix.SchedGetaffinity(0, &own); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, &servers); err != nil {
		return err
	}
	defer unix.SchedSetaffinity(0, &own) //nolint:errcheck // it was so before
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c.Start()
}

// busy is how long the servers' processor has worked for anybody since the machine started.
func (p Placement) busy() (time.Duration, error) {
	all, err := cpu.Times(true)
	if err != nil {
		return 0, err
	}
	for _, t := range all {
		if t.CPU == fmt.Sprint("cpu", p.processor) {
			seconds := t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal
			return time.Duration(seconds * float64(time.Second)), nil
		}
	}
	return 0, fmt.Errorf("/proc/stat has no processor %d", p.processor)
}

// cpuTime is the time that a process has spent on processors: the sum of utime and stime in /proc, but in nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	const scheduled = 2 // the kind of clock, clock_getcpuclockid(3)
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &spent); err != nil {
		return 0, err
	}
	return time.Duration(spent.Nano()), nil
}
