package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/observe"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// build builds danelaw, once for each set of flags.
func build(t *testing.T, flags ...string) string {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	key := strings.Join(flags, " ")
	if binary, ok := builds.made[key]; ok {
		return binary
	}
	binary := filepath.Join(builds.dir, fmt.Sprint("danelaw-", len(builds.made)))
	args := append([]string{"build", "-o", binary}, flags...)
	if out, err := exec.Command("go", append(args, module+"cmd/danelaw")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	builds.made[key] = binary
	return binary
}

var builds = struct {
	sync.Mutex
	dir  string
	made map[string]string
}{made: map[string]string{}}

func TestMain(m *testing.M) {
	os.Exit(withBuilds(m))
}

func withBuilds(m *testing.M) int {
	dir, err := os.MkdirTemp("", "danelaw-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	builds.dir = dir
	return m.Run()
}

// process is a program that runs until the test ends.
type process struct {
	*exec.Cmd
	out, err observe.Output
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(program, args...)}
	p.Stdout, p.Stderr = &p.out, &p.err
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
		if t.Failed() {
			t.Logf("%s %v wrote\n%.2000s\n%s", program, args, &p.out, &p.err)
		}
	})
	return p
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// lab is the output of `danelaw lab -json`.
type lab struct {
	Address, Recursor string
	Anchor            struct {
		DS, DNSKEY []string
		Delv       string
	}
	Domains []struct {
		Name, Shows string
		Questions   []question
	}
}

type question struct {
	Name, Type, Status, Rcode, Dig string
	EDE                            uint16
}

// host and port are those of danelaw in the lab.
func (l *lab) at() (host, port string) {
	host, port, _ = net.SplitHostPort(l.Address)
	return host, port
}

// startLab runs the lab of a given danelaw binary.
func startLab(t *testing.T, danelaw string) *lab {
	t.Helper()
	p, l := start(t, danelaw, "lab", "-json"), new(lab)
	eventually(t, "the lab", func() bool { return json.Unmarshal([]byte(p.out.String()), l) == nil })
	return l
}

// write writes a file and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
