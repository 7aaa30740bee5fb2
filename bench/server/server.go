// Package server starts the resolvers that are measured, each on a processor of its own, and reads what they cost.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"github.com/shirou/gopsutil/v4/process"
)

// Server is a resolver that can be started.
type Server struct {
	Name    string
	Program string // its path
	Ours    bool   // it is a danelaw
	// Guesses is true if it says AD now and then of denials in zones signed with an algorithm that it does not know,
	// as PowerDNS Recursor 4.8 does: its answers of these would make each run void.
	Guesses bool
	// Postfix is true if all it does is to tell Postfix of policies of MTA-STS: it is no resolver.
	Postfix bool

	configure func(Setup) setting
	counts    func(*Process) (Counts, error) // nil: it has none
}

// setting is what makes a program the server that is to be measured.
type setting struct {
	arguments []string
	files     map[string]string // of its directory, in which it runs, by name
	// begun reports whether it answers; nil: it does when it says AD of the root.
	begun func(context.Context, *Process) bool
}

// Setup is what a server is to do.
type Setup struct {
	Upstream netip.AddrPort // whom to ask
	Anchor   *dns.DS        // of the root
	Place    Placement      // where to run
	CacheMiB int            // for what it remembers; 0: 256
	Quota    float64        // of its processor; 0: all of it
	Dir      string         // where to run, which is left as it is then; "": in one of its own
	Options  []string       // lines for danelaw's directive
	Listen   netip.AddrPort // where to answer; the zero value: where there is room
	Env      []string       // NAME=VALUE, beside what this process has

	statistics netip.AddrPort
	control    string // the path of a socket
}

// Process is a server that runs.
type Process struct {
	Addr netip.AddrPort

	server     Server
	place      Placement
	command    *exec.Cmd
	log        logged
	dir        string
	kept       bool // the directory is
	statistics netip.AddrPort
	control    string
	limited    *limit
	ended      chan struct{} // closed when it has
}

const (
	startTime = time.Minute      // for the first answer
	endTime   = 10 * time.Second // from SIGTERM
	askEvery  = 20 * time.Millisecond
)

// anchorFile is the name of a file with the trust anchor.
const anchorFile = "root.ds"

// Start runs the server in a directory of its own until [Process.Stop], and waits until it answers.
func (s Server) Start(ctx context.Context, setup Setup) (*Process, error) {
	dir := setup.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "danelaw-bench-"); err != nil {
			return nil, err
		}
	}
	p := &Process{server: s, place: setup.Place, dir: dir, kept: setup.Dir != "", ended: make(chan struct{})}
	p.control = filepath.Join(dir, "control.sock")
	config, err := s.launch(p, setup)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.Name, err), p.clean())
	}
	if err = p.limit(setup.Quota); err == nil {
		err = p.await(ctx, config.begun)
	}
	if err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// launch writes what the program reads and starts it.
func (s Server) launch(p *Process, setup Setup) (setting, error) {
	var errs [2]error
	if !setup.Listen.IsValid() {
		setup.Listen, errs[0] = freePort()
	}
	setup.statistics, errs[1] = freePort()
	if err := errors.Join(errs[:]...); err != nil {
		return setting{}, err
	}
	setup.control = p.control
	p.Addr, p.statistics = setup.Listen, setup.statistics
	config := s.configure(setup)
	if setup.Anchor != nil {
		config.files[anchorFile] = setup.Anchor.String() + "\n"
	}
	for name, text := range config.files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			return setting{}, err
		}
	}
	p.command = exec.Command(s.Program, config.arguments...)
	p.command.Dir, p.command.Stdout, p.command.Stderr = p.dir, &p.log, &p.log
	p.command.Env = append(os.Environ(), setup.Env...)
	if err := setup.Place.start(p.command); err != nil {
		return setting{}, err
	}
	go func() {
		defer close(p.ended)
		p.command.Wait() //nolint:errcheck // what it says is in its log
	}()
	return config, nil
}

// limit gives the server no more than a share of its processor; 0 is no limit.
func (p *Process) limit(quota float64) (err error) {
	if quota > 0 {
		p.limited, err = newLimit(p.command.Process.Pid, quota)
	}
	return err
}

// portTries is how often another port is tried if one is taken.
const portTries = 20

// freePort is an address of loopback that nobody has for UDP or TCP, and that no system gives to a client before the
// program has opened it: they begin at 32768 and above.
func freePort() (at netip.AddrPort, err error) {
	for range portTries {
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(10000+rand.IntN(20000)))
		if err = free(at); err == nil {
			break
		}
	}
	return at, err
}

// free opens what is to be free, and closes it.
func free(at netip.AddrPort) error {
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	defer l.Close()
	packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return packets.Close()
}

// root asks for the root; nil without a reply.
func (p *Process) root(ctx context.Context) *dns.Msg {
	m := new(dns.Msg).SetQuestion(".", dns.TypeSOA).SetEdns0(dns.DefaultMsgSize, true)
	r, _, err := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, m, p.Addr.String())
	if err != nil {
		return nil
	}
	return r
}

func replies(ctx context.Context, p *Process) bool { return p.root(ctx) != nil }

func validates(ctx context.Context, p *Process) bool {
	r := p.root(ctx)
	return r != nil && r.Rcode == dns.RcodeSuccess && r.AuthenticatedData
}

// accepts reports whether Postfix can connect.
func accepts(ctx context.Context, _ *Process) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp4", PolicyAddr.String())
	return err == nil && conn.Close() == nil
}

// await waits until it has begun.
func (p *Process) await(ctx context.Context, begun func(context.Context, *Process) bool) error {
	if begun == nil {
		begun = validates
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		if begun(ctx, p) {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s does not start: %s", p.server.Name, p.log.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer in %v: %w; it wrote: %s",
				p.server.Name, startTime, ctx.Err(), p.log.tail())
		case <-time.After(askEvery):
		}
	}
}

// Stop ends it.
func (p *Process) Stop() {
	p.command.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it has ended
	select {
	case <-p.ended:
	case <-time.After(endTime):
		p.command.Process.Kill() //nolint:errcheck // likewise
		<-p.ended
	}
	p.limited.remove()
	p.clean() //nolint:errcheck // it is one for temporary files
}

// clean removes the directory, if it is its own.
func (p *Process) clean() error {
	if p.kept {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// Reload has a danelaw go on with other options.
func (p *Process) Reload(setup Setup) error {
	setup.Listen, setup.statistics, setup.control = p.Addr, p.statistics, p.control
	for name, text := range p.server.configure(setup).files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return p.command.Process.Signal(syscall.SIGUSR1)
}

// Total is what it has cost in all; only once it has been stopped.
func (p *Process) Total() time.Duration {
	return p.command.ProcessState.UserTime() + p.command.ProcessState.SystemTime()
}

// Spent is time of processors up to some moment.
type Spent struct {
	CPU       time.Duration // of all threads of the server, in user space and in the kernel
	Processor time.Duration // of the server's processor, for whomever
}

// Spent is what it has cost until now.
func (p *Process) Spent() (s Spent, err error) {
	if s.CPU, err = cpuTime(p.command.Process.Pid); err != nil {
		return s, fmt.Errorf("%s has ended: %w; it wrote: %s", p.server.Name, err, p.log.tail())
	}
	s.Processor, err = p.place.busy()
	return s, err
}

// RSS is its memory in octets, with what is mapped of files: Knot Resolver has its cache in one.
func (p *Process) RSS() (uint64, error) {
	proc, err := process.NewProcess(int32(p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	memory, err := proc.MemoryInfo()
	if err != nil {
		return 0, err
	}
	return memory.RSS, nil
}

// logged keeps the end of what a program writes.
type logged struct {
	mu   sync.Mutex
	text []byte
}

const loggedSize = 1000

func (l *logged) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, text...)
	l.text = l.text[max(0, len(l.text)-loggedSize):]
	return len(text), nil
}

func (l *logged) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.TrimSpace(l.text))
}
