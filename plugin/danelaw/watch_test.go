package danelaw

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// watching is a Handler that watches domains of the lab, and the watcher with nobody behind it yet.
func watching(t *testing.T, c Config, domains ...string) (*Handler, *watcher) {
	t.Helper()
	c.Watch, c.WatchDial = domains, lab().Dial
	h := open(t, c)
	process.begin(h)
	w := newWatcher(h)
	w.prober.Timeout = time.Minute
	w.begin()
	return h, w
}

// TestLook: the domains of the lab as their owners see them.
func TestLook(t *testing.T) {
	h, w := watching(t, config(t))
	for _, test := range []struct {
		domain       string
		state        State
		good         bool
		hosts, certs int
		why          string
	}{
		{"good.dane.", StateSecure, true, 2, 4, "_25._tcp.mx1.good.dane. TLSA is Secure and usable"},
		{"two-certificates.dane.", StateSecure, true, 1, 4, "usable"},
		{"no-mx.dane.", StateSecure, true, 1, 2, "usable"},
		{"alias-signed.dane.", StateSecure, true, 1, 2, "_25._tcp.mx1.good.dane. TLSA"},
		{"alias-unsigned.dane.", StateSecure, false, 1, 2, "_25._tcp.mx.alias-unsigned.dane. TLSA"},
		{"dane-ta.dane.", StateSecure, true, 1, 2, "usable"},
		{"expired-ee.dane.", StateSecure, true, 1, 2, "usable"},
		{"expired-ta.dane.", StateSecure, false, 1, 2, "usable"},
		{"mismatch.dane.", StateSecure, false, 1, 2, "usable"},
		{"no-starttls.dane.", StateSecure, false, 1, 2, "usable"},
		{"unusable-tlsa.dane.", StateNone, false, 1, 0, "no record of it is usable"},
		{"no-tlsa.dane.", StateNone, false, 1, 0, "no Secure TLSA record"},
		{"unsigned.dane.", StateNone, false, 1, 0, "Insecure"},
		{"null-mx.dane.", StateNone, false, 0, 0, "takes no mail"},
		{"nothing.good.dane.", StateNone, false, 0, 0, "there is no domain"},
		{"expired.dane.", StateBogus, false, 0, 0, "the RRSIG over expired.dane. DNSKEY"},
		{"alias-broken.dane.", StateBogus, false, 1, 0, "expired"},
		{"bad-tlsa-denial.dane.", StateBogus, false, 1, 0, "no NSEC or NSEC3 in the reply proves"},
		{"tlsa-servfail.dane.", StateUnknown, false, 1, 0, "SERVFAIL"},
	} {
		seen, err := h.Look(t.Context(), strings.ToUpper(test.domain), w.prober)
		if err != nil {
			t.Errorf("%s: %v", test.domain, err)
			continue
		}
		certs := 0
		for _, host := range seen.Hosts {
			certs += len(host.Certificates)
		}
		if seen.Domain != test.domain || seen.State != test.state || seen.Good() != test.good ||
			len(seen.Hosts) != test.hosts ||
			certs != test.certs || !strings.Contains(seen.Why, test.why) {
			t.Errorf("%s: %+v, %d certificates; want %+v", test.domain, seen, certs, test)
		}
		left := seen.Signatures.Sub(seen.At)
		if test.state == StateSecure && (left < 13*24*time.Hour || left > 14*24*time.Hour) {
			t.Errorf("%s: signatures end in %v", test.domain, left)
		}
	}
	if _, err := h.Look(t.Context(), "localhost.", w.prober); err == nil {
		t.Error("localhost was looked at")
	}
}

// TestLookNoRoute: an address of a kind that this host has no route for says nothing, beside one that was reached.
func TestLookNoRoute(t *testing.T) {
	h, w := watching(t, config(t))
	w.prober.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "[") {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}
		return lab().Dial(ctx, network, address)
	}
	for domain, certs := range map[string]int{"good.dane.": 1, "mismatch.dane.": 1, "no-starttls.dane.": 2} {
		seen, err := h.Look(t.Context(), domain, w.prober)
		if err != nil || len(seen.Hosts[0].Certificates) != certs || seen.Good() != (domain == "good.dane.") {
			t.Errorf("%s: %+v, %v", domain, seen, err)
		}
	}
}

// TestWatchDowngrade: what a domain goes through is counted where it loses DANE, whatever lies between, and over a
// reload.
func TestWatchDowngrade(t *testing.T) {
	h, w := watching(t, config(t), "example.org.")
	count := func(to State) float64 {
		return metric(t, "watch_downgrades_total", "block", h.config.Block, "domain", "example.org.", "to", string(to))
	}
	book := logged(t)
	for i, step := range []struct {
		state       State
		none, bogus float64
	}{
		{StateNone, 0, 0}, {StateUnknown, 0, 0}, {StateBogus, 0, 0}, // nothing was secure yet
		{StateSecure, 0, 0}, {StateUnknown, 0, 0}, {StateNone, 1, 0}, {StateNone, 1, 0}, {StateBogus, 1, 0},
		{StateSecure, 1, 0}, {StateBogus, 1, 1}, {StateSecure, 1, 1},
	} {
		w.remember(&Seen{Domain: "example.org.", State: step.state, Why: "because"})
		if count(StateNone) != step.none || count(StateBogus) != step.bogus {
			t.Errorf("step %d to %s: %v to none and %v to bogus, want %+v", i, step.state, count(StateNone),
				count(StateBogus), step)
		}
	}
	if got := strings.Count(book.String(),
		"[ERROR] plugin/danelaw: watch example.org.: DANE was secure and is "); got != 2 {
		t.Errorf("%d errors in\n%s", got, book)
	}
	next := newWatcher(h) // as after a reload
	next.begin()
	next.remember(&Seen{Domain: "example.org.", State: StateNone})
	if count(StateNone) != 2 {
		t.Errorf("%v downgrades after a reload", count(StateNone))
	}
	h.config.Watch = nil
	next.begin()
	next.remember(&Seen{Domain: "example.org.", State: StateSecure}) // by a look that had begun before
	if known := h.watches.known(); len(known) != 0 {
		t.Errorf("%v is still known", known)
	}
}

// TestWatchCertificates: a fault of a certificate is logged once, and its end.
func TestWatchCertificates(t *testing.T) {
	_, w := watching(t, config(t), "example.org.")
	book := logged(t)
	look := func(failure *probe.Failure) {
		r := &probe.Report{Address: netip.MustParseAddrPort("192.0.2.25:25"), Failure: failure}
		w.remember(&Seen{Domain: "example.org.", State: StateSecure, Hosts: []SeenHost{{
			Name: "mx.example.org.", Certificates: []SeenCertificate{{r, probe.ECDSA}},
		}}})
	}
	fault := &probe.Failure{Kind: probe.Certificate, Err: errors.New("another key")}
	for _, failure := range []*probe.Failure{nil, fault, fault, nil, nil} {
		look(failure)
	}
	for _, want := range []string{"mx.example.org. at 192.0.2.25 ECDSA: another key\n",
		"mx.example.org. at 192.0.2.25 ECDSA: no fault any more\n"} {
		if strings.Count(book.String(), want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, book)
		}
	}
}

// TestWatchMetrics: what is seen in the lab is exported; one who strips signatures on the way makes a downgrade, one
// who is silent none.
func TestWatchMetrics(t *testing.T) {
	p := between(t, honest)
	c := config(t, p.addr)
	c.Timeout = time.Minute
	h, w := watching(t, c, "two-certificates.dane.", "mismatch.dane.", "no-starttls.dane.")
	book := logged(t)
	look := func(domain string) {
		t.Helper()
		if _, err := w.look(t.Context(), domain); err != nil {
			t.Fatal(err)
		}
	}
	for _, domain := range h.config.Watch {
		look(domain)
	}
	value := func(name string, labels ...string) float64 {
		return metric(t, name, append(labels, "block", h.config.Block)...)
	}
	const two = "two-certificates.dane."
	for _, test := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"watch_state", []string{"domain", two, "state", "secure"}, 1}, {"watch_state", []string{"domain", two}, 1},
		{"watch_certificate_matches", []string{"domain", two, "host", "mx.two-certificates.dane.", "address",
			"192.0.2.25", "key", "RSA"}, 1},
		{"watch_certificate_matches", []string{"domain", two, "address", "2001:db8::25", "key", "ECDSA"}, 1},
		{"watch_certificate_matches", []string{"domain", two}, 4},
		{"watch_certificate_matches", []string{"domain", "mismatch.dane."}, 0},
		{"watch_host_reached", []string{"domain", "mismatch.dane."}, 2},
		{"watch_host_reached", []string{"domain", "no-starttls.dane."}, 0},
		{"watch_downgrades_total", nil, 0},
	} {
		if got := value(test.name, test.labels...); got != test.want {
			t.Errorf("%s%v is %v, want %v", test.name, test.labels, got, test.want)
		}
	}
	for name, days := range map[string]float64{"watch_signatures_left_seconds": 14,
		"watch_certificate_left_seconds": 90} {
		left := value(name, "domain", two, "address", "192.0.2.25", "key", "ECDSA") + value(name, "domain", two,
			"address", "")
		if name == "watch_signatures_left_seconds" {
			left = value(name, "domain", two)
		}
		if left /= 86400; left > days || left < days-1 {
			t.Errorf("%s: %v days, want %v", name, left, days)
		}
	}
	if at := value("watch_checked_timestamp_seconds", "domain", two); time.Since(time.Unix(int64(at), 0)) > time.Hour {
		t.Errorf("looked at at %v", at)
	}
	for _, want := range []string{
		"watch mismatch.dane.: mx.mismatch.dane. at 192.0.2.25 ECDSA: no TLSA record matches the " +
			"certificates presented",
		"watch no-starttls.dane.: mx.no-starttls.dane. at 192.0.2.27: the host does not offer STARTTLS",
		"watch " + two + ": DANE is secure",
	} {
		if !strings.Contains(book.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, book)
		}
	}

	p.become(servfail)
	if look(two); value("watch_state", "domain", two, "state", "unknown") != 1 || value("watch_downgrades_total") != 0 {
		t.Errorf("without answers:\n%s", book)
	}
	p.become(stripped)
	if look(two); value("watch_state", "domain", two, "state", "bogus") != 1 ||
		value("watch_downgrades_total", "domain", two, "to", "bogus") != 1 {
		t.Errorf("stripped:\n%s", book)
	}
}

// TestWatchPace: the first look comes soon, the next one after ten minutes or so, or soon again if nothing was found
// out; it ends with the context.
func TestWatchPace(t *testing.T) {
	p := between(t, honest)
	c := config(t, p.addr)
	c.Timeout = time.Minute
	_, w := watching(t, c, "good.dane.")
	w.random = func() float64 { return 0.5 }
	waits, again := make(chan time.Duration), make(chan struct{})
	w.wait = func(ctx context.Context, d time.Duration) error {
		select {
		case waits <- d:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case <-again:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.run(ctx); close(ended) }()
	if d := <-waits; d != watchSoon/2 {
		t.Errorf("the first look after %v", d)
	}
	again <- struct{}{}
	if d := <-waits; d != watchEvery {
		t.Errorf("the second look after %v", d)
	}
	p.become(servfail)
	again <- struct{}{}
	if d := <-waits; d != 5*watchSoon/2 {
		t.Errorf("after an unknown state the next look after %v", d)
	}
	cancel()
	<-ended
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := sleep(t.Context(), 1); err != nil {
		t.Errorf("%v", err)
	}
}

// TestWatchStarts: a Handler that is started watches, and is not held up at its end.
func TestWatchStarts(t *testing.T) {
	c := config(t)
	c.Watch, c.WatchDial = []string{"good.dane."}, lab().Dial
	h := started(t, c)
	eventually(t, "the begin", func() bool {
		_, known := h.watches.known()["good.dane."]
		return known
	})
	h.Close()
}

// TestUnwatchable: what is never validated cannot be watched.
func TestUnwatchable(t *testing.T) {
	for _, domain := range []string{"localhost.", "mail.home.arpa.", "corp.example."} {
		c := config(t)
		c.Watch, c.Private = []string{domain}, []string{"corp.example."}
		c.Next = plugin.HandlerFunc(func(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
			return dns.RcodeServerFailure, nil
		})
		if h, err := New(c); err == nil || !strings.Contains(err.Error(), "watch "+domain) {
			h.Close()
			t.Errorf("%s: %v", domain, err)
		}
	}
}
