package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
)

// serving starts danelaw with a Corefile that asks a lab.
func serving(t *testing.T, lab *zones.Lab, upstream string, options ...string) (p *child, port int, file string) {
	t.Helper()
	port = ports.Closed(t)
	file = write(t, "Corefile", corefile(port, upstream, anchors(t, lab), options...))
	p = start(t, nil, "serve", "-conf", file)
	p.says(t, &p.err, fmt.Sprintf("danelaw listens on 127.0.0.1:%d\n", port))
	return p, port, file
}

// TestReload: SIGUSR1 takes the Corefile as it is now, under load, without a lost query, and keeps the cache; a broken
// one is named and the old one stays.
func TestReload(t *testing.T) {
	lab := newLab(t)
	p, port, file := serving(t, lab, lab.Addr())
	first := ask(t, port, "good.dane.", dns.TypeMX)
	var lost, asked atomic.Int64
	stopped := make(chan struct{})
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stopped:
					return
				default:
				}
				asked.Add(1)
				m, err := exchange(port, fmt.Sprintf("n%d-%d.good.dane.", n, i%50), dns.TypeA)
				if err != nil || m.Rcode != dns.RcodeNameError || !m.AuthenticatedData {
					lost.Add(1)
				}
			}
		})
	}
	reload := func(text, log string) {
		before := strings.Count(p.err.String(), log)
		write(t, file, text)
		p.Process.Signal(syscall.SIGUSR1)
		eventually(t, log, func() bool { return strings.Count(p.err.String(), log) > before })
	}
	good := corefile(port, lab.Addr(), anchors(t, lab))
	for range 5 {
		reload(good, "Reloading complete")
	}
	reload(strings.Replace(good, "upstream", "upstraem", 1),
		file+":4 - Error during parsing: danelaw has no option \"upstraem\"")
	reload(strings.Replace(good, "bind 127.0.0.1", "bind 192.0.2.200", 1), "this host has no such address")
	eventually(t, "a thousand queries", func() bool { return asked.Load() > 1000 })
	close(stopped)
	clients.Wait()
	// nobody there: what is answered now was cached
	reload(corefile(port, "127.0.0.1:9", anchors(t, lab)), "Reloading complete")
	if m := ask(t, port, "good.dane.", dns.TypeMX); len(m.Answer) != len(first.Answer) || !m.AuthenticatedData {
		t.Errorf("the cache did not live on: %v", m)
	}
	if m := ask(t, port, "good.nsec3.", dns.TypeMX); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("the new upstream is not used: %v", m)
	}
	if lost.Load() > 0 || asked.Load() == 0 {
		t.Errorf("%d of %d queries were lost or wrong", lost.Load(), asked.Load())
	}
	os.Remove(file)
	p.Process.Signal(syscall.SIGUSR1)
	p.says(t, &p.err, "the Corefile cannot be read")
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrain: SIGTERM answers what was asked before.
func TestDrain(t *testing.T) {
	lab := newLab(t)
	held, let := slowProxy(t, lab.Addr())
	p, port, _ := serving(t, lab, held.addr)
	replies := make(chan *dns.Msg, 1)
	go func() {
		m, _ := exchange(port, "good.dane.", dns.TypeMX)
		replies <- m
	}()
	<-held.first
	p.Process.Signal(syscall.SIGTERM)
	eventually(t, "the port to be closed", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	let()
	if m := <-replies; m == nil || !m.AuthenticatedData {
		t.Errorf("the query in flight is not answered: %v", m)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// proxy hands queries on to an upstream over UDP once it is let.
type proxy struct {
	addr  string
	first chan struct{} // closed when the first query about good.dane is here
}

func slowProxy(t *testing.T, to string) (*proxy, func()) {
	t.Helper()
	conn, stream := ports.Open(t)
	stream.Close()
	p, gate := &proxy{conn.LocalAddr().String(), make(chan struct{})}, make(chan struct{})
	var once sync.Once
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		if r.Question[0].Name == "good.dane." { // not the test of fitness
			once.Do(func() { close(p.first) })
		}
		<-gate
		if m, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(r, to); err == nil {
			w.WriteMsg(m)
		}
	})}
	go server.ActivateAndServe()
	let := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(func() {
		let() // Shutdown waits for all
		server.Shutdown()
	})
	return p, let
}

// TestStdin: a Corefile may come from stdin; SIGUSR1 then keeps it and says so. -quiet is quiet.
func TestStdin(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	p := start(t, strings.NewReader(corefile(port, lab.Addr(), anchors(t, lab))), "-conf", "stdin", "-quiet")
	eventually(t, "an answer", func() bool {
		m, err := exchange(port, "good.dane.", dns.TypeMX)
		return err == nil && m.AuthenticatedData
	})
	p.Process.Signal(syscall.SIGUSR1)
	p.says(t, &p.err, "stdin cannot be read again: it is kept")
	if m := ask(t, port, "good.nsec3.", dns.TypeMX); !m.AuthenticatedData {
		t.Errorf("after SIGUSR1: %v", m)
	}
	if strings.Contains(p.err.String(), "listens") {
		t.Error("it is not quiet")
	}
}

// TestReloadPlugin: with the plugin reload a changed file is taken without a signal.
func TestReloadPlugin(t *testing.T) {
	lab := newLab(t)
	port := ports.Closed(t)
	with := func(upstream string) string {
		return strings.Replace(corefile(port, upstream, anchors(t, lab)), "bind", "reload 2s 1s\n bind", 1)
	}
	file := write(t, "Corefile", with("127.0.0.1:9"))
	p := start(t, nil, "-conf", file)
	p.says(t, &p.err, "listens")
	write(t, file, with(lab.Addr()))
	p.says(t, &p.err, "Reloading complete")
	eventually(t, "an answer", func() bool {
		m, err := exchange(port, "good.dane.", dns.TypeMX)
		return err == nil && m.AuthenticatedData
	})
}

// TestDefault: without a Corefile danelaw listens on loopback and asks whom -upstream names; it does without ready
// where the port is taken, and a second one on the same port is an error.
func TestDefault(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:8181")
	if err == nil {
		defer l.Close() // else another program has it, which does as well
	}
	lab := newLab(t)
	port := ports.Closed(t)
	p := start(t, nil, "-port", fmt.Sprint(port), "-upstream", lab.Addr())
	p.says(t, &p.err, fmt.Sprintf("danelaw listens on 127.0.0.1:%d", port))
	if want := "goes without ready: 127.0.0.1:8181 is in use by"; !strings.Contains(p.err.String(), want) {
		t.Errorf("it does not say %q", want)
	}
	if m := ask(t, port, "good.dane.", dns.TypeMX); m.Rcode != dns.RcodeServerFailure || len(errorsOf(m)) == 0 {
		t.Errorf("the lab's root is not the real one, but: %v", m)
	}
	second := start(t, nil, "-port", fmt.Sprint(port), "-upstream", lab.Addr())
	if code := second.end(t); code != exitFailure ||
		!strings.Contains(second.err.String(), fmt.Sprintf("(process %d)", p.Process.Pid)) {
		t.Errorf("exit code %d, %s", code, &second.err)
	}
	p.Process.Signal(syscall.SIGUSR1)
	p.says(t, &p.err, "the default configuration cannot be read again")
}

// TestValidate: the checks of a start, without one.
func TestValidate(t *testing.T) {
	good := corefile(53, "192.0.2.1", "embedded")
	for _, tt := range []struct {
		name, corefile string
		code           int
		want           string
	}{
		{"good", good, 0, "is valid"},
		{"option", strings.Replace(good, "upstream", "upstraem", 1), 1,
			`Corefile:4 - Error during parsing: danelaw has no option "upstraem"`},
		{"plugin", strings.Replace(good, "bind", "bidn", 1), 1,
			"Corefile:2 - Error during parsing: Unknown directive 'bidn'"},
		{"cache", strings.Replace(good, "bind", "cache\n bind", 1), 1,
			"Corefile:2 - Error during parsing: Unknown directive 'cache'"},
		{"nobody to ask", ". {\n danelaw\n}\n", 1, "there is nobody to ask"},
		{"no danelaw", ". {\n forward . 192.0.2.1\n}\n", 1, "no server block has the directive danelaw"},
		{"anchor", strings.Replace(good, "embedded", "/nowhere/root.ds", 1), 1, "/nowhere/root.ds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, stderr := here("-validate", "-conf", write(t, "Corefile", tt.corefile))
			if code != tt.code || !strings.Contains(out+stderr, tt.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, tt.code, tt.want, out, stderr)
			}
		})
	}
}

// TestSecretsOfCorefile: whatever is wrong with a Corefile or a command line, nothing that is printed holds the user,
// the password or the path of a URL in it.
func TestSecretsOfCorefile(t *testing.T) {
	const url, user = "https://9.9.9.9/s3cr3t%dns.example", "https://u:s3cr3t@9.9.9.9/dns-query%dns.example"
	for _, tt := range []struct{ name, corefile string }{
		{"user", ". {\n danelaw {\n  upstream . " + user + "\n }\n}\n"},
		{"no name", ". {\n danelaw {\n  upstream . https://9.9.9.9/s3cr3t\n }\n}\n"},
		{"zone", ". {\n danelaw {\n  upstream " + url + " " + url + "\n }\n}\n"},
		{"twice", ". {\n danelaw {\n  upstream . " + url + " " + url + "\n }\n}\n"},
		{"block", ". {\n danelaw {\n  upstream . " + url + " {\n  }\n }\n}\n"},
		{"another option", ". {\n danelaw {\n  cache " + url + "\n }\n}\n"},
		{"arguments", ". {\n danelaw upstream . " + url + "\n}\n"},
		{"directive", ". {\n " + url + "\n}\n"},
		{"key", url + " {\n danelaw\n}\n"},
		{"forward", ". {\n danelaw\n forward . " + user + "\n}\n"},
		{"forward without danelaw", ". {\n forward . " + url + "\n}\n"},
		{"bind", ". {\n bind " + url + "\n danelaw\n}\n"},
		{"good", ". {\n danelaw {\n  upstream . " + url + "\n }\n}\n"},
	} {
		file := write(t, "Corefile", tt.corefile)
		for _, args := range [][]string{{"-validate", "-conf", file}, {"check", "-conf", file, "example.org", "MX"}} {
			if args[0] == "check" && tt.name == "good" {
				continue // it would be asked
			}
			code, out, stderr := here(args...)
			if (code == 0) != (tt.name == "good") || strings.Contains(out+stderr, "s3cr3t") {
				t.Errorf("%s: exit code %d\n%s%s", tt.name, code, out, stderr)
			}
		}
		if tt.name != "good" {
			p := start(t, nil, "-conf", file, "-port", fmt.Sprint(ports.Closed(t)))
			if code := p.end(t); code != exitFailure || strings.Contains(p.err.String()+p.out.String(), "s3cr3t") {
				t.Errorf("%s: serve ends with exit code %d\n%s%s", tt.name, code, &p.out, &p.err)
			}
		}
	}
	for _, args := range [][]string{{"-print-default-config", "-upstream", user}, {"-validate", "-upstream", user},
		{"doctor", "-upstream", user}, {user}} {
		if code, out, stderr := here(args...); code != exitUsage || strings.Contains(out+stderr, "s3cr3t") {
			t.Errorf("%q: exit code %d\n%s%s", args, code, out, stderr)
		}
	}
}

// TestPrintDefaultConfig: what is printed is valid, and is what the flags ask for.
func TestPrintDefaultConfig(t *testing.T) {
	code, out, stderr := here("-print-default-config", "-port", "5353", "-upstream", "tls://9.9.9.9%dns.quad9.net",
		"-upstream", "192.0.2.1")
	for _, want := range []string{".:5353 {", "bind 127.0.0.1", "ready 127.0.0.1:8181", "prometheus 127.0.0.1:9153",
		"upstream . tls://9.9.9.9%dns.quad9.net 192.0.2.1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	if code, out, stderr := here("-validate", "-conf", write(t, "Corefile", out)); code != 0 {
		t.Errorf("it is not valid: %s%s", out, stderr)
	}
}

// TestExampleIsValid: so is Corefile.example.
func TestExampleIsValid(t *testing.T) {
	if code, out, stderr := here("-validate", "-conf", "../../Corefile.example"); code != 0 {
		t.Errorf("%s%s", out, stderr)
	}
}

// TestSystemUpstreams: the nameservers of resolv.conf are asked, but never danelaw itself.
func TestSystemUpstreams(t *testing.T) {
	for _, tt := range []struct {
		name, conf, resolved string
		port                 int
		want, failure        string
	}{
		{"two", "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example.net\n", "", 53, "192.0.2.1 [2001:db8::1]",
			""},
		{"link-local", "nameserver fe80::1%eth0\n", "", 53, "[fe80::1%eth0]", ""},
		{"danelaw itself", "nameserver 127.0.0.1\noptions trust-ad\n", "", 53, "",
			"names only 127.0.0.1, which is danelaw itself"},
		{"danelaw itself over IPv6", "nameserver ::1\n", "", 53, "", "names only ::1, which is danelaw itself"},
		{"danelaw itself first", "nameserver 127.0.0.1\nnameserver 192.0.2.1\n", "", 53, "192.0.2.1", ""},
		{"another at the usual port", "nameserver 127.0.0.1\n", "", 5300, "127.0.0.1", ""},
		{"none", "search example.net\n", "", 53, "", "names no nameserver"},
		{"a name", "nameserver resolver.example\n", "", 53, "", `"resolver.example" is not an IP address`},
		{"systemd-resolved", "nameserver 127.0.0.53\n", "nameserver 192.0.2.7\n", 53, "192.0.2.7", ""},
		{"a stub alone", "nameserver 127.0.0.53\n", "", 53, "127.0.0.53", ""},
		{"no file", "", "", 53, "", "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := newDefaults(tt.port, []string{"192.0.2.1"})
			if err != nil {
				t.Fatal(err)
			}
			d.Bind = append(d.Bind[:1], netip.IPv6Loopback())
			files := [2]string{t.TempDir() + "/none", t.TempDir() + "/none"}
			for i, text := range []string{tt.conf, tt.resolved} {
				if text != "" {
					files[i] = write(t, "resolv.conf", text)
				}
			}
			got, err := d.systemUpstreams(files[0], files[1])
			if strings.Join(got, " ") != tt.want || (err == nil) != (tt.failure == "") {
				t.Fatalf("%q, %v", got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.failure) ||
				!strings.Contains(err.Error(), "danelaw --upstream")) {
				t.Errorf("the error lacks %q or the remedy: %v", tt.failure, err)
			}
		})
	}
}

// TestUsage: a wrong command line is told with exit code 2, and in words for people.
func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"serv", `"serv" is no command of danelaw (did you mean serve?); there are serve, lab, check, doctor, setup, ` +
			`tlsa, watch, status, anchors, nta, flush, cache, policy, bench, version`},
		{"xyzzy", `"xyzzy" is no command of danelaw; there are serve, lab`},
		{"serve extra", `"extra" is no command`},
		{"setup --force", "--force is for --undo; see danelaw setup --help"},
		{"setup --undo --upstream 192.0.2.1", "--undo brings all back: leave out --upstream"},
		{"setup --upstream 192.0.2.1 --keep-upstreams", "contradict each other"},
		{"setup --yes --dry-run", "contradict each other"},
		{"setup --mta qmail", "--mta qmail: give postfix, exim, none or all"},
		{"setup --upstream tls://9.9.9.9", "the name that its certificate must hold is missing"},
		{"setup now", `setup takes no argument such as "now"`},
		{"-prot 53", "serve has no flag --prot (did you mean --port?); see danelaw serve --help"},
		{"-port 0", "--port 0: 0 is no port, they go from 1 to 65535"},
		{"-port x", "--port x: give a whole number"},
		{"-conf", "--conf needs a value"},
		{"version now", `version takes no argument such as "now"`},
		{"check --bogus example.org", "check has no flag --bogus; see danelaw check --help"},
		{"check -json=x y", "--json x: give no value, or true or false"},
		{"-upstream resolver.example", `"resolver.example"`},
		{"-upstream 192.0.2.1 -conf Corefile", "-upstream is for the default configuration"},
		{"lab now", `"now"`},
		{"lab -port 70000", "70000 is no port"},
		{"check", "takes domains"},
		{"check good.dane TXT -file x", "-file is for domains"},
		{"check good.dane TXT -smtp", "-smtp is for domains"},
		{"check a.example b..example c.example", `"b..example" is not a domain name`},
		{"check me@example.org", `give the domain alone, "example.org"`},
		{"check -smtp-port 0 good.dane", "0 is no port"},
		{"check -lab -server 192.0.2.1 good.dane", "leave out --conf and --upstream"},
		{"check a..b", `"a..b" is not a domain name`},
		{"check good.dane MMX", `"MMX" is not a type`},
		{"check good.dane TYPE70000", `"TYPE70000" is not a type`},
		{"check -lab -conf Corefile good.dane", "-lab has a configuration of its own"},
		{"check -server", "--server needs a value; see danelaw check --help"},
		{"nta", "danelaw: nta needs one of add, list, remove"},
		{"nta ad", `"ad" is no command of danelaw nta (did you mean add?); there are add, list, remove`},
		{"nta add", "nta add takes a zone"},
		{"nta add a..b", `"a..b" is not a domain name`},
		{"nta add a.example because", `"because" is not a duration`},
		{"nta add a.example 169h", "lasts from 1s to 168h"},
		{"nta add a.example -5h", "lasts from 1s to 168h"},
		{"nta add -forever a.example", "nta add has no flag --forever; see danelaw nta add --help"},
		{"nta list a.example", `nta list takes no argument such as "a.example"`},
		{"nta remove", "takes one name"},
		{"nta remove a b", "takes one name"},
		{"flush", "danelaw: flush takes one name, not 0; see danelaw flush --help"},
		{"policy", "needs one of query"},
		{"policy query", "takes one name"},
		{"policy query a b", "takes one name"},
		{"flush https://example.org/", `is a URL; give the domain alone, "example.org"`},
		{"cache", "needs one of stats, dump"},
		{"cache stats x", `cache stats takes no argument such as "x"`},
		{"cache dump", "takes one name"},
		{"cache dump -limit 0 .", "0 is no limit"},
		{"help chekc", `danelaw: there is no help on "chekc"; see danelaw --help`},
		{"check --help good.dane", `there is no help on "good.dane"`},
		{"completion", "danelaw: completion needs one of bash, zsh, fish, pwsh"},
		{"completion tcsh", `"tcsh" is no command of danelaw completion; there are bash`},
		{"completion bash --all", "completion bash has no flag --all"},
	} {
		code, out, stderr := here(strings.Fields(tt.args)...)
		if code != exitUsage || !strings.Contains(stderr, tt.want) || out != "" {
			t.Errorf("%s: exit code %d, %q; %s", tt.args, code, stderr, out)
		}
		for _, word := range []string{"strconv", "parse error", "flag provided", "[]"} {
			if strings.Contains(stderr, word) {
				t.Errorf("%s: %q is not for people: %s", tt.args, word, stderr)
			}
		}
	}
}

// TestHelp: every command has a help that names its options.
func TestHelp(t *testing.T) {
	for args, want := range map[string][]string{
		"-help":        {"serve", "lab", "check", "version"},
		"help":         {"serve", "lab", "check", "version"},
		"serve -help":  {"conf", "port", "validate", "print-default-config", "quiet", "upstream", "SIGUSR1"},
		"lab -help":    {"port", "json"},
		"doctor -help": {"resolver", "dnsbl", "lab", "Exit codes"},
		"setup -help":  {"upstream", "undo", "dry-run", "yes", "/var/lib/danelaw-setup", "Exit codes"},
		"check -help": {"conf", "lab", "upstream", "server", "file", "smtp", "smtp-port", "json", "html",
			"require-dane", "DOMAIN... | NAME TYPE", "Exit codes"},
		"help check":    {"DOMAIN... | NAME TYPE"},
		"nta -help":     {"add", "list", "remove", "RFC 7646"},
		"nta add -help": {"ZONE [DURATION [REASON]]", "keep", "socket", "json", "168h"},
		"flush -help":   {"NAME", "socket", "json"},
		"cache -help":   {"stats", "dump"},
		"version -help": {"version"},
	} {
		code, out, stderr := here(strings.Fields(args)...)
		for _, want := range want {
			if code != 0 || stderr != "" || !strings.Contains(out, want) {
				t.Errorf("%s: exit code %d, lacks %q: %s%s", args, code, want, out, stderr)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	code, out, _ := here("version", "--json")
	var v versionJSON
	if err := json.Unmarshal([]byte(out), &v); code != 0 || err != nil || v.Revision == "" || v.Go == "" ||
		len(v.Anchors) != 2 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
	for _, arg := range []string{"version", "-version", "--version", "-v"} {
		code, out, _ := here(arg)
		for _, want := range []string{"danelaw ", "built 20", "go1.", "20326, 38696"} {
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%s: exit code %d, lacks %q: %s", arg, code, want, out)
			}
		}
	}
}

// TestSecondSignal: Ctrl-C while a query is in flight waits for it, twice does not.
func TestSecondSignal(t *testing.T) {
	lab := newLab(t)
	held, _ := slowProxy(t, lab.Addr())
	p, port, _ := serving(t, lab, held.addr, "timeout 30s")
	go exchange(port, "good.dane.", dns.TypeMX)
	<-held.first
	p.Process.Signal(syscall.SIGINT)
	eventually(t, "the end of the service", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case <-p.ended:
		t.Fatal("it does not wait")
	default:
	}
	p.Process.Signal(syscall.SIGINT)
	if code := p.end(t); code != -1 { // by the signal
		t.Errorf("exit code %d", code)
	}
}

// TestClientsCannotTakeAllFiles: clients that hold as many TCP connections as they can leave danelaw the files for its
// upstreams.
func TestClientsCannotTakeAllFiles(t *testing.T) {
	const files = 128
	lab := newLab(t)
	port := ports.Closed(t)
	file := write(t, "Corefile", corefile(port, lab.Addr(), anchors(t, lab)))
	few := fmt.Sprintf("ulimit -n %d && exec \"$0\" \"$@\"", files)
	p := newChild(t, nil)
	p.Path, p.Args = "/bin/sh", []string{"sh", "-c", few, os.Args[0], "serve", "-conf", file}
	p.start(t)
	p.says(t, &p.err, fmt.Sprintf("danelaw listens on 127.0.0.1:%d\n", port))
	for range files {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for i := range 5 {
		if m := ask(t, port, fmt.Sprintf("n%d.wildcard.dane.", i), dns.TypeMX); m.Rcode != dns.RcodeSuccess ||
			!m.AuthenticatedData {
			t.Errorf("question %d: %v", i, m)
		}
	}
}
