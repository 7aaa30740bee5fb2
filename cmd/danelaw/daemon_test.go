package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// TestSIGHUP: it reloads as SIGUSR1 does, and names itself in the log.
func TestSIGHUP(t *testing.T) {
	lab := newLab(t)
	p, port, file := serving(t, lab, "127.0.0.1:9")
	write(t, file, corefile(port, lab.Addr(), anchors(t, lab)))
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "Reloading complete")
	if m := ask(t, port, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
		t.Errorf("the new upstream is not used: %v", m)
	}
	write(t, file, "\n# nothing\n")
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "SIGHUP: "+file+" is empty but for comments and white space")
	if m := ask(t, port, "good.nsec3.", dns.TypeMX); !m.AuthenticatedData {
		t.Errorf("the configuration is not kept: %v", m)
	}
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestReadersGone: who reads stdout and stderr may end before danelaw does, which then serves on, reloads and ends as
// ever.
func TestReadersGone(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	file := write(t, "Corefile", corefile(port, lab.Addr(), anchors(t, lab)))
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := exec.Command(os.Args[0], "serve", "-conf", file)
	p.Env, p.Stdout, p.Stderr = append(os.Environ(), asDanelaw+"=1"), in, in
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	t.Cleanup(func() { p.Process.Kill() })
	eventually(t, "an answer", func() bool {
		m, err := exchange(port, "good.dane.", dns.TypeMX)
		return err == nil && m.AuthenticatedData
	})
	out.Close()
	if m := ask(t, port, "expired.dane.", dns.TypeMX); m.Rcode != dns.RcodeServerFailure { // which is logged
		t.Errorf("got %v", m)
	}
	write(t, file, strings.Replace(corefile(port, lab.Addr(), anchors(t, lab)), "bind", "log\n bind", 1))
	p.Process.Signal(syscall.SIGHUP) // which is logged too
	for range 20 {
		if m := ask(t, port, "good.nsec3.", dns.TypeMX); !m.AuthenticatedData {
			t.Errorf("got %v", m)
		}
	}
	p.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestReaderSleeps: who reads stderr may stop reading. No answer waits for that, nor does the end.
func TestReaderSleeps(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := exec.Command(os.Args[0], "serve", "-conf",
		write(t, "Corefile", strings.Replace(corefile(port, lab.Addr(), anchors(t, lab)), "bind", "log\n bind", 1)))
	p.Env, p.Stderr = append(os.Environ(), asDanelaw+"=1"), in
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	defer out.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	t.Cleanup(func() { p.Process.Kill() })
	eventually(t, "an answer", func() bool {
		m, err := exchange(port, "good.dane.", dns.TypeMX)
		return err == nil && m.AuthenticatedData
	})
	conn, err := (&dns.Client{Timeout: patience}).Dial(fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 * heldLines { // of lines, which a pipe of 64 KiB does not take
		m, _, err := (&dns.Client{Timeout: patience}).ExchangeWithConn(new(dns.Msg).SetQuestion("localhost.",
			dns.TypeA), conn)
		if err != nil || len(m.Answer) != 1 {
			t.Fatalf("got %v, %v", m, err)
		}
	}
	p.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
}

// TestPipe: a Corefile may come through a pipe, by whichever name, and from a FIFO; a reload keeps it. What is empty is
// called so.
func TestPipe(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	text := corefile(port, lab.Addr(), anchors(t, lab))
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, conf := range []string{"/dev/stdin", "/dev/fd/0", "-", "stdin", fifo} {
		t.Run(conf, func(t *testing.T) {
			p := start(t, strings.NewReader(text), "-conf", conf)
			if conf == fifo {
				write(t, fifo, text)
			}
			p.says(t, &p.err, "listens on")
			if m := ask(t, port, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
				t.Errorf("got %v", m)
			}
			p.Process.Signal(syscall.SIGHUP)
			p.says(t, &p.err, "cannot be read again: it is kept")
			p.terminate(t)
		})
	}
	for _, conf := range []string{"/dev/stdin", "-", "/dev/null", write(t, "Corefile", ""),
		write(t, "Corefile", " \n# none\n")} {
		for _, args := range [][]string{{"-conf", conf}, {"-validate", "-conf", conf},
			{"check", "-conf", conf, "good.dane"}} {
			p := start(t, strings.NewReader(""), args...)
			if code := p.end(t); code != exitFailure || !strings.Contains(p.err.String(), " is empty") ||
				!strings.Contains(p.err.String(), "-print-default-config") {
				t.Errorf("%q: exit code %d, %s", args, code, &p.err)
			}
		}
	}
}

// TestEndWhileStarting: SIGTERM ends a danelaw that still waits for its Corefile.
func TestEndWhileStarting(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-conf", fifo}, {"check", "-conf", fifo, "good.dane"}} {
		p := start(t, nil, args...)
		eventually(t, "it to read", func() bool {
			writer, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if err == nil {
				t.Cleanup(func() { writer.Close() })
			}
			return err == nil
		})
		if p.terminate(t); p.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
			t.Errorf("%q: it was killed: %v", args, p.ProcessState)
		}
	}
}

// TestEndWhileImporting: a Corefile that imports what hangs keeps no command from ending.
func TestEndWhileImporting(t *testing.T) {
	dir := t.TempDir()
	fifo, conf := filepath.Join(dir, "fifo"), filepath.Join(dir, "Corefile")
	text := ".:0 {\n danelaw {\n  import " + fifo + "\n }\n}\n"
	if err := errors.Join(syscall.Mkfifo(fifo, 0o600), os.WriteFile(conf, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-conf", conf}, {"-validate", "-conf", conf},
		{"check", "-conf", conf, "good.dane"}} {
		p := start(t, nil, args...)
		time.Sleep(300 * time.Millisecond) // until it hangs, or a little before: it ends in both cases
		p.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(20 * time.Second):
			t.Errorf("%q does not end", args)
		}
	}
}

// TestAsksItself: an upstream that is danelaw is refused, by its address without asking, and by whatever way leads back
// by a question.
func TestAsksItself(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	own := ""
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if n := a.(*net.IPNet); !n.IP.IsLoopback() && n.IP.To4() != nil {
				own = n.IP.String()
			}
		}
	}
	at := func(bind, upstream string) string {
		return strings.Replace(corefile(port, upstream, anchors(t, lab)), "bind 127.0.0.1", "bind "+bind, 1)
	}
	local := fmt.Sprintf("127.0.0.1:%d", port)
	for _, tt := range []struct {
		text   string
		itself bool
	}{
		{at("127.0.0.1", local), true},
		{at("127.0.0.1", "192.0.2.1 "+local), true},
		{at("0.0.0.0", local), true},
		{at("0.0.0.0", fmt.Sprintf("127.8.8.8:%d", port)), true},
		{at("::", fmt.Sprintf("[::1]:%d", port)), true},
		{at("::", local), true},
		{at("lo", local), true},
		{at("127.0.0.1 ::1", fmt.Sprintf("tls://[::1]:%d%%dns.example", port)), true},
		{at("0.0.0.0", fmt.Sprintf("%s:%d", own, port)), own != ""},
		{at("127.0.0.1", fmt.Sprintf("127.8.8.8:%d", port)), false},
		{at("::1", local), false},
		{at("127.0.0.1", lab.Addr()), false},
		{at("0.0.0.0", fmt.Sprintf("192.0.2.1:%d", port)), false},
	} {
		if strings.Contains(tt.text, "upstream . :") {
			continue // there is no such address here
		}
		code, _, stderr := here("-validate", "-conf", write(t, "Corefile", tt.text))
		if tt.itself != (code == exitFailure) ||
			tt.itself != strings.Contains(stderr, "that is danelaw itself, which listens there") {
			t.Errorf("exit code %d, %s\n%s", code, stderr, tt.text)
		}
	}
	p := start(t, nil, "-port", fmt.Sprint(port), "-upstream", local)
	if code := p.end(t); code != exitFailure || !strings.Contains(p.err.String(), "that is danelaw itself") {
		t.Errorf("exit code %d, %s", code, &p.err)
	}
}

// TestLeadsBack: so is one that hands all it is asked on to danelaw, as a redirection or a NAT does.
func TestLeadsBack(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	back, let := slowProxy(t, fmt.Sprintf("127.0.0.1:%d", port))
	let()
	p := startWith(t, []string{withPatience + "=1"}, nil, "-conf", write(t, "Corefile",
		corefile(port, back.addr, anchors(t, lab))))
	if code := p.end(t); code != exitFailure ||
		!strings.Contains(p.err.String(), "upstream "+back.addr+" leads back to danelaw itself") {
		t.Errorf("exit code %d, %s", code, &p.err)
	}
	p, port, file := serving(t, lab, lab.Addr())
	back, let = slowProxy(t, fmt.Sprintf("127.0.0.1:%d", port))
	let()
	write(t, file, corefile(port, back.addr, anchors(t, lab)))
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, back.addr+" is danelaw itself: the question")
	m := ask(t, port, "good.dane.", dns.TypeMX)
	if m.Rcode != dns.RcodeServerFailure || !strings.Contains(fmt.Sprint(errorsOf(m)), "is danelaw itself") {
		t.Errorf("got %v", m)
	}
}

// TestCorefileOfOthers: a Corefile that anybody may write is refused, at start, by -validate and by a reload, with the
// remedy.
func TestCorefileOfOthers(t *testing.T) {
	lab := newLab(t)
	p, port, file := serving(t, lab, lab.Addr())
	if err := os.Chmod(file, 0o606); err != nil {
		t.Fatal(err)
	}
	fault := file + " may be written by others (mode -rw----rw-): chmod go-w " + file
	says(t, []string{"-validate", "-conf", file}, exitFailure, fault)
	p.Process.Signal(syscall.SIGHUP)
	p.says(t, &p.err, "SIGHUP: the Corefile cannot be read: "+fault)
	if m := ask(t, port, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
		t.Errorf("the configuration is not kept: %v", m)
	}
}
