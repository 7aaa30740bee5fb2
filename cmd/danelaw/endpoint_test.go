package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// callAs asks an endpoint under a name, and returns status and text.
func callAs(t *testing.T, port int, host, path string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path),
		nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	reply, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return 0, err.Error()
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Error(err)
	}
	return reply.StatusCode, string(text)
}

// TestGuard: a caller may use addresses, localhost, and the names that are this host's or the Corefile's. All others
// have been led here.
func TestGuard(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	h := danelaw.Guard("metrics.example.org:9153", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	for host, lets := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:9153": true, "[::1]:9153": true, "[::1]": true, "192.0.2.1:80": true,
		"localhost": true, "LOCALHOST:9153": true,
		"localhost.:9153": true, "": true, own: true, own + ":9153": true, "metrics.example.org:9153": true,
		"Metrics.Example.Org.": true,
		"evil.example":         false, "evil.example:9153": false, "127.0.0.1.evil.example": false,
		"localhost.evil.example:9153": false, "127.0.0.1@evil.example": false,
		"example.org": false, "127.1": false, "0x7f000001": false, "evil.example:1:2": false,
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, "ODD"} {
			w, r := httptest.NewRecorder(), httptest.NewRequest(method, "/metrics", nil)
			r.Host = host
			h.ServeHTTP(w, r)
			if want := map[bool]int{true: http.StatusOK, false: http.StatusMisdirectedRequest}[lets]; w.Code != want {
				t.Errorf("%s %q: %d, want %d", method, host, w.Code, want)
			}
		}
	}
}

// TestEndpoints: the daemon's metrics, readiness and profiles are told to those alone who call them by their own names,
// before and after reloads, which may move them; one that fails leaves all as it was.
func TestEndpoints(t *testing.T) {
	lab := newLab(t)
	at := map[string]int{}
	for _, name := range []string{"ready", "prometheus", "pprof", "health", "other"} {
		at[name] = ports.Closed(t)
	}
	port := ports.Closed(t)
	text := func(endpoints ...string) string {
		for i, name := range endpoints {
			endpoints[i] = fmt.Sprintf("%s 127.0.0.1:%d\n", name, at[name])
		}
		return strings.Replace(corefile(port, lab.Addr(), anchors(t, lab)), "bind", strings.Join(endpoints, " ")+"bind",
			1)
	}
	file := write(t, "Corefile", text("ready", "prometheus", "pprof", "health"))
	p := start(t, nil, "-conf", file)
	p.says(t, &p.err, "listens on")
	ask(t, port, "good.dane.", dns.TypeMX)
	all := func(when string) {
		t.Helper()
		for name, path := range map[string]string{"ready": "/ready", "prometheus": "/metrics", "pprof": "/debug/pprof/",
			"health": "/health"} {
			if name == "ready" {
				eventually(t, when+", readiness", func() bool {
					status, _ := callAs(t, at[name], "localhost", path)
					return status == http.StatusOK
				})
			}
			wants := map[string]string{
				"ready": "OK", "prometheus": `coredns_dns_requests_total{family="1",proto="udp",` +
					`server="dns://127.0.0.1:`, "pprof": "goroutine", "health": "OK",
			}
			if status, text := callAs(t, at[name], fmt.Sprintf("localhost:%d", at[name]),
				path); status != http.StatusOK || !strings.Contains(text, wants[name]) {
				t.Errorf("%s, %s: %d %.300s", when, name, status, text)
			}
			if status, text := callAs(t, at[name], "evil.example", path); status != http.StatusMisdirectedRequest ||
				strings.Contains(text, wants[name]) {
				t.Errorf("%s, %s for evil.example: %d %.300s", when, name, status, text)
			}
		}
	}
	all("at first")
	reload := func(text, log string) {
		t.Helper()
		write(t, file, text)
		p.Process.Signal(syscall.SIGHUP)
		p.says(t, &p.err, log)
	}
	reload(text("ready", "prometheus", "pprof", "health"), "Reloading complete")
	all("after a reload")
	broken := strings.Replace(text("ready", "prometheus", "pprof", "health"), "danelaw {",
		fmt.Sprintf("danelaw {\n control /nonexistent/%s\n", "socket"), 1)
	broken = strings.Replace(broken, fmt.Sprint(at["pprof"]), fmt.Sprint(at["other"]), 1)
	broken = strings.Replace(broken, "control off", "", 1)
	reload(broken, "the configuration is kept")
	all("after one that failed")
	if status, _ := callAs(t, at["other"], "localhost", "/debug/pprof/"); status != 0 {
		t.Error("what that has opened is still open")
	}
	write(t, file, text("ready"))
	p.Process.Signal(syscall.SIGHUP)
	for _, gone := range []string{"prometheus", "pprof", "health"} {
		eventually(t, "the end of "+gone, func() bool {
			status, _ := callAs(t, at[gone], "localhost", "/")
			return status == 0
		})
	}
	if status, _ := callAs(t, at["ready"], "localhost", "/ready"); status != http.StatusOK {
		t.Errorf("not ready: %d", status)
	}
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestMutexProfile: one in so many of the waits for a mutex is told, if that is asked for.
func TestMutexProfile(t *testing.T) {
	lab := newLab(t)
	for property, want := range map[string]string{
		"": "period=0\n", "mutex": "period=1\n", "block\n mutex 7": "period=7\n",
	} {
		at := ports.Closed(t)
		text := fmt.Sprintf("pprof 127.0.0.1:%d {\n %s\n}\n bind", at, property)
		text = strings.Replace(corefile(ports.Closed(t), lab.Addr(), anchors(t, lab)), "bind", text, 1)
		p := start(t, nil, "-conf", write(t, "Corefile", text))
		p.says(t, &p.err, "listens on")
		if _, told := callAs(t, at, "localhost", "/debug/pprof/mutex?debug=1"); !strings.Contains(told, want) {
			t.Errorf("%q: want %q in %.300s", property, want, told)
		}
	}
}

// TestEndpointDefaults: without an address, endpoints are on loopback; two of them have no address in common.
func TestEndpointDefaults(t *testing.T) {
	for name, setup := range endpointDirectives {
		c := caddy.NewTestController(serverType, name)
		if err := setup(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for address := range endpointsOf(c).handlers {
			if !strings.HasPrefix(address, "127.0.0.1:") {
				t.Errorf("%s listens on %s", name, address)
			}
		}
	}
	for _, tt := range []struct{ lines, want string }{
		{"ready localhost\n", `"localhost" is no address with a port`},
		{"ready 127.0.0.1:1 x\n", "Wrong argument count"},
		{"pprof {\n block x\n}\n", "property 'block'"},
		{"pprof {\n block 1\n mutex x\n}\n", "property 'mutex'"},
		{"prometheus {\n tsl\n}\n", "unknown property 'tsl'"},
		{"ready {\n monitor never\n}\n", "property 'monitor'"},
		{"ready\nready\n", "once per Server Block"},
		{"ready 127.0.0.1:9153\nprometheus\n", "there is ready already: give it another address"},
	} {
		text := strings.Replace(corefile(53, "192.0.2.1", "embedded"), "bind", tt.lines+" bind", 1)
		says(t, []string{"-validate", "-conf", write(t, "Corefile", text)}, exitFailure, tt.want)
	}
}
