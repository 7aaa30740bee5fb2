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
	"slices"
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

	arguments []string // before the path of its configuration
	file      string   // the name of that
	configure func(Setup) string
}

// Setup is what a server is to do.
type Setup struct {
	Upstream netip.AddrPort // whom to ask
	Anchor   *dns.DS        // of the root
	Place    Placement      // where to run

	listen netip.AddrPort
	anchor string // the path of a file with Anchor
}

// Process is a server that runs.
type Process struct {
	Addr netip.AddrPort

	name    string
	place   Placement
	command *exec.Cmd
	log     logged
	dir     string
	ended   chan struct{} // closed when it has
}

const (
	startTime = time.Minute      // for the first answer
	endTime   = 10 * time.Second // from SIGTERM
	askEvery  = 20 * time.Millisecond
)

// Start runs the server in a directory of its own until [Process.Stop], and waits until it answers.
func (s Server) Start(ctx context.Context, setup Setup) (*Process, error) {
	var err error
	if setup.listen, err = freePort(); err != nil {
		return nil, err
	}
	p := &Process{Addr: setup.listen, name: s.Name, place: setup.Place, ended: make(chan struct{})}
	if p.dir, err = os.MkdirTemp("", "danelaw-bench-"); err != nil {
		return nil, err
	}
	if err := s.launch(p, setup); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.Name, err), os.RemoveAll(p.dir))
	}
	if err := p.await(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// launch writes what the program reads and starts it.
func (s Server) launch(p *Process, setup Setup) error {
	config := filepath.Join(p.dir, s.file)
	setup.anchor = filepath.Join(p.dir, "root.ds")
	err := errors.Join(os.WriteFile(setup.anchor, []byte(setup.Anchor.String()+"\n"), 0o600),
		os.WriteFile(config, []byte(s.configure(setup)), 0o600))
	if err != nil {
		return err
	}
	p.command = exec.Command(s.Program, slices.Concat(s.arguments, []string{config})...)
	p.command.Dir, p.command.Stdout, p.command.Stderr = p.dir, &p.log, &p.log
	if err := setup.Place.start(p.command); err != nil {
		return err
	}
	go func() {
		defer close(p.ended)
		p.command.Wait() //nolint:errcheck // what it says is in its log
	}()
	return nil
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

// await asks until there is an answer.
func (p *Process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		m := new(dns.Msg).SetQuestion(".", dns.TypeSOA).SetEdns0(dns.DefaultMsgSize, true)
		r, _, err := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, m, p.Addr.String())
		if err == nil && r.Rcode == dns.RcodeSuccess && r.AuthenticatedData {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s does not start: %s", p.name, p.log.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer in %v: %w; it wrote: %s", p.name, startTime, ctx.Err(), p.log.tail())
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
	os.RemoveAll(p.dir) //nolint:errcheck // it is one for temporary files
}

// Spent is time of processors up to some moment.
type Spent struct {
	CPU       time.Duration // of all threads of the server, in user space and in the kernel
	Processor time.Duration // of the server's processor, for whomever
}

// Spent is what it has cost until now.
func (p *Process) Spent() (s Spent, err error) {
	if s.CPU, err = cpuTime(p.command.Process.Pid); err != nil {
		return s, fmt.Errorf("%s has ended: %w; it wrote: %s", p.name, err, p.log.tail())
	}
	s.Processor, err = p.place.busy()
	return s, err
}

// RSS is its memory in octets.
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
