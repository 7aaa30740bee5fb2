package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
)

const builders = "DANELAW_TEST_BUILD"

// corefile returns the Corefile of a server that asks the lab. Readiness has a port of its own.
func corefile(t *testing.T, l *lab, port, ready int) string {
	t.Helper()
	return write(t, "Corefile", fmt.Sprintf(".:%d {\n bind 127.0.0.1\n ready 127.0.0.1:%d\n danelaw {\n upstream . "+
		"%s\n trust_anchor %s\n control off\n }\n}\n",
		port, ready, l.Recursor, write(t, "root.ds", strings.Join(l.Anchor.DS, "\n")+"\n")))
}

// readiness asks over HTTP whether the server is ready.
func readiness(port int) (code int, body string) {
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", port))
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	text, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(text)
}

func secure(port int, name string) bool {
	query := new(dns.Msg).SetQuestion(name, dns.TypeMX)
	query.SetEdns0(1232, true)
	m, _, err := (&dns.Client{Timeout: patience}).Exchange(query, fmt.Sprintf("127.0.0.1:%d", port))
	return err == nil && m.AuthenticatedData && len(m.Answer) > 0
}

// TestBuiltInTheFuture: while the clock is before the build date, danelaw is not ready and says why (T-14), but it
// answers what it can validate (S-13a).
func TestBuiltInTheFuture(t *testing.T) {
	needs.Variable(t, builders, "the module proxy, and minutes of building")
	l := startLab(t, build(t))
	port, ready := ports.Closed(t), ports.Closed(t)
	p := start(t, build(t, "-ldflags", "-X "+module+"plugin/danelaw.buildDate=4102444800"), "-conf",
		corefile(t, l, port, ready))
	eventually(t, "the reason", func() bool {
		return strings.Contains(p.err.String(), "not ready: check this host's clock: it is 20") &&
			strings.Contains(p.err.String(), "before danelaw was built (2100-01-01T00:00:00Z)")
	})
	if code, body := readiness(ready); code != http.StatusServiceUnavailable || !strings.Contains(body, "danelaw") {
		t.Errorf("ready says %d %s", code, body)
	}
	if !secure(port, "good.dane.") {
		t.Error("no answer")
	}
	port, ready = ports.Closed(t), ports.Closed(t)
	start(t, build(t), "-conf", corefile(t, l, port, ready))
	eventually(t, "one built in the past to be ready",
		func() bool { code, _ := readiness(ready); return code == http.StatusOK })
}

// TestStockCoreDNS: a CoreDNS whose plugin.cfg has danelaw before forward can be built, and answers.
func TestStockCoreDNS(t *testing.T) {
	needs.Variable(t, builders, "the module proxy, and minutes of building")
	here, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	main := fmt.Sprintf(`package main

import (
	"slices"

	_ "github.com/coredns/coredns/core/plugin"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ %q
)

func init() {
	for i, d := range dnsserver.Directives {
		if d == "forward" {
			dnsserver.Directives = slices.Insert(dnsserver.Directives, i, "danelaw")
			return
		}
	}
}

func main() { coremain.Run() }
`, module+"plugin/danelaw")
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(mod), "module "+strings.TrimSuffix(module, "/"), "module stock", 1)
	text += fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %[1]s => %s\n", strings.TrimSuffix(module, "/"), here)
	sum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"main.go": main, "go.mod": text, "go.sum": string(sum)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-o", "coredns", "."}} {
		c := exec.CommandContext(t.Context(), "go", args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	l := startLab(t, build(t))
	port, ready := ports.Closed(t), ports.Closed(t)
	start(t, filepath.Join(dir, "coredns"), "-conf", corefile(t, l, port, ready))
	eventually(t, "an answer", func() bool { return secure(port, "good.dane.") })
}
