package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/zones"
)

const (
	// asDanelaw makes the test binary be danelaw.
	asDanelaw = "DANELAW_TEST_BE_DANELAW"
	// withResolvConf is where the system's configuration is for that.
	withResolvConf = "DANELAW_TEST_WITH_RESOLV_CONF"
	// withPatience has that wait for a question that comes back as long as a busy machine needs.
	withPatience = "DANELAW_TEST_WITH_PATIENCE"
)

func TestMain(m *testing.M) {
	if os.Getenv(asDanelaw) != "" {
		if file := os.Getenv(withResolvConf); file != "" {
			resolvConf, followEvery = file, 20*time.Millisecond
		}
		if os.Getenv(withPatience) != "" {
			loopPatience = patience
		}
		main()
	}
	syscall.Umask(0o022) // files that a group may write are refused
	os.Exit(m.Run())
}

// patience is how long anything may take on a machine that is busy with something else.
const patience = time.Minute

// child is a danelaw of its own.
type child struct {
	*exec.Cmd
	out, err observe.Output
	ended    chan struct{}
	tmp      string // its directory for temporary files
}

// start runs danelaw with the arguments until the test ends.
func start(t *testing.T, stdin io.Reader, args ...string) *child {
	t.Helper()
	return startWith(t, nil, stdin, args...)
}

// startWith does so with more in its environment.
func startWith(t *testing.T, env []string, stdin io.Reader, args ...string) *child {
	t.Helper()
	p := newChild(t, stdin, args...)
	p.Env = append(p.Env, env...)
	p.start(t)
	return p
}

// newChild is a danelaw that is not running yet.
func newChild(t *testing.T, stdin io.Reader, args ...string) *child {
	t.Helper()
	p := &child{Cmd: exec.Command(os.Args[0], args...), ended: make(chan struct{}), tmp: t.TempDir()}
	p.Env = append(os.Environ(), asDanelaw+"=1", "TMPDIR="+p.tmp)
	p.Stdin, p.Stdout, p.Stderr = stdin, &p.out, &p.err
	return p
}

func (p *child) start(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%v wrote\n%s\n%s", p.Args[1:], &p.out, &p.err)
		}
	})
}

// end waits for the end and returns the exit code.
func (p *child) end(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatal("danelaw does not end")
	}
	return p.ProcessState.ExitCode()
}

// terminate sends SIGTERM and returns the exit code.
func (p *child) terminate(t *testing.T) int {
	t.Helper()
	p.Process.Signal(syscall.SIGTERM)
	return p.end(t)
}

// eventually waits for something to become true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain waited for %s", what)
		}
	}
}

// says waits until danelaw has written a text.
func (p *child) says(t *testing.T, o *observe.Output, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q", text), func() bool { return strings.Contains(o.String(), text) })
}

// here runs a command in this process.
func here(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(context.Background(), append([]string{"danelaw"}, args...), &out, &err)
	return code, out.String(), err.String()
}

// says runs a command here, and wants its exit code and texts that it writes to either stream.
func says(t *testing.T, args []string, code int, texts ...string) {
	t.Helper()
	got, out, stderr := here(args...)
	if got != code {
		t.Errorf("%q: exit code %d, want %d\n%s%s", args, got, code, out, stderr)
	}
	for _, want := range texts {
		if !strings.Contains(out+stderr, want) {
			t.Errorf("%q lacks %q:\n%s%s", args, want, out, stderr)
		}
	}
}

// newLab starts a lab.
func newLab(t *testing.T) *zones.Lab {
	t.Helper()
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	return lab
}

// write makes a file.
func write(t *testing.T, file, text string) string {
	t.Helper()
	if !filepath.IsAbs(file) {
		file = filepath.Join(t.TempDir(), file)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// anchors makes a file with the trust anchor of a lab.
func anchors(t *testing.T, lab *zones.Lab) string {
	t.Helper()
	return write(t, "root.ds", lab.DS()[0].String()+"\n")
}

// corefile is one for a danelaw that asks an upstream, with some more options, and without the host's control socket.
func corefile(port int, upstream, anchors string, options ...string) string {
	if !slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, "control ") }) {
		options = append(options, "control off")
	}
	return fmt.Sprintf(".:%d {\n bind 127.0.0.1\n danelaw {\n upstream . %s\n trust_anchor %s\n %s\n }\n}\n", port,
		upstream,
		anchors, strings.Join(options, "\n"))
}

// ask puts a question with DO, over TCP if the reply is truncated.
func ask(t *testing.T, port int, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m, err := exchange(port, name, qtype)
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.Type(qtype), err)
	}
	return m
}

func exchange(port int, name string, qtype uint16) (*dns.Msg, error) {
	query := new(dns.Msg).SetQuestion(name, qtype)
	query.SetEdns0(1232, true)
	at := fmt.Sprintf("127.0.0.1:%d", port)
	m, _, err := (&dns.Client{Timeout: patience}).Exchange(query, at)
	if err == nil && m.Truncated {
		m, _, err = (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(query, at)
	}
	return m, err
}

// errorsOf returns the Extended DNS Errors of a reply.
func errorsOf(m *dns.Msg) (all []*dns.EDNS0_EDE) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				all = append(all, ede)
			}
		}
	}
	return all
}
