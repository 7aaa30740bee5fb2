package zones_test

import (
	"bytes"
	"context"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// start runs a lab for the time of a test.
func start(t *testing.T) *zones.Lab { return startWith(t, zones.Options{}) }

func startWith(t *testing.T, o zones.Options) *zones.Lab {
	t.Helper()
	l, err := zones.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// ask puts a question with RD, DO and AD.
func ask(t *testing.T, network, addr, name string, qtype uint16) *dns.Msg {
	t.Helper()
	query := new(dns.Msg).SetQuestion(name, qtype)
	query.AuthenticatedData = true
	return put(t, network, addr, query.SetEdns0(1232, true))
}

func put(t *testing.T, network, addr string, query *dns.Msg) *dns.Msg {
	t.Helper()
	client := &dns.Client{Net: network, Timeout: time.Minute} // the machine may be slow
	m, _, err := client.ExchangeContext(context.Background(), query, addr)
	if err != nil {
		t.Fatalf("%v: %v", query.Question, err)
	}
	return m
}

// Every question of the lab gets the RCODE that the table says, before anyone validates; and a validator of our own
// finds Secure what the table says is, and nothing else.
func TestQuestions(t *testing.T) {
	l := start(t)
	v := newValidator(time.Now(), l.DS(),
		func(name string, qtype uint16) *dns.Msg { return ask(t, "tcp", l.Addr(), name, qtype) })
	for _, d := range l.Domains() {
		for _, q := range d.Questions {
			m := ask(t, "tcp", l.Addr(), q.Name, q.Type)
			if slices.Contains(unasked, q.Name) {
				q = unanswered(t, v, q)
			}
			if q.Status != "Bogus" && m.Rcode != q.Rcode || m.AuthenticatedData {
				t.Errorf("%s %s: %s, AD %v, want %s from one who does not validate", q.Name, dns.Type(q.Type),
					dns.RcodeToString[m.Rcode], m.AuthenticatedData, dns.RcodeToString[q.Rcode])
			}
			problems := v.judge(q.Name, q.Type)
			secure := q.Status == "Secure" || slices.Contains(verifiesSHA1, d.Name) ||
				q.EDE == dns.ExtendedErrorCodeUnsupportedNSEC3IterValue // by our limits, not by theirs
			if secure != (len(problems) == 0) {
				t.Errorf("%s %s is %s in the table, but: %s", q.Name, dns.Type(q.Type), q.Status,
					strings.Join(problems, "\n"))
			}
		}
	}
}

// unanswered is what to expect of a question on which the server fails: SERVFAIL, but the name above is provably not
// there.
func unanswered(t *testing.T, v *validator, q zones.Question) zones.Question {
	t.Helper()
	_, above, _ := strings.Cut(q.Name, ".")
	if problems := v.judge(above, dns.TypeA); len(problems) > 0 || v.ask(above, dns.TypeA).Rcode != dns.RcodeNameError {
		t.Errorf("%s is not denied: %v", above, problems)
	}
	q.Status, q.Rcode = "Indeterminate", dns.RcodeServerFailure
	return q
}

// The table has what an operator and the other tests look for.
func TestTable(t *testing.T) {
	l := start(t)
	used := map[string]bool{}
	for _, d := range l.Domains() {
		used[d.Fault] = true
		if d.Shows == "" || len(d.Shows) > 70 {
			t.Errorf("%s shows %q", d.Name, d.Shows)
		}
		for _, q := range d.Questions {
			failed := q.Status == "Bogus" || q.Status == "Indeterminate"
			if failed != (q.Rcode == dns.RcodeServerFailure) || failed != (q.EDE != 0 && q.Status != "Insecure") {
				t.Errorf("%+v does not agree with itself", q)
			}
			if !dns.IsSubDomain(d.Name, q.Name) || q.Name != dns.CanonicalName(q.Name) {
				t.Errorf("%s: question about %s", d.Name, q.Name)
			}
		}
	}
	for _, fault := range zones.FaultNames() {
		if !used[fault] {
			t.Errorf("no domain has the fault %s", fault)
		}
	}
}

// What shows a fault comes first among the questions of a domain.
func TestFirstQuestionShows(t *testing.T) {
	for _, d := range start(t).Domains() {
		statuses := map[string]bool{}
		for _, q := range d.Questions {
			statuses[q.Status] = true
		}
		first := d.Questions[0]
		if statuses["Bogus"] && first.Status != "Bogus" ||
			statuses["Indeterminate"] && first.Status != "Indeterminate" ||
			statuses["Insecure"] && first.Status != "Insecure" {
			t.Errorf("%s: first question is %+v", d.Name, first)
		}
	}
}

// Names that danelaw answers itself cannot show anything (S-18).
func TestNoSpecialNames(t *testing.T) {
	special := []string{
		"localhost.", "invalid.", "test.", "onion.", "local.", "alt.", "home.arpa.", "service.arpa.", "resolver.arpa.",
		"10.in-addr.arpa.", "168.192.in-addr.arpa.", "0.in-addr.arpa.", "127.in-addr.arpa.", "254.169.in-addr.arpa.",
		"2.0.192.in-addr.arpa.", "100.51.198.in-addr.arpa.", "113.0.203.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa.",
		"d.f.ip6.arpa.", "8.e.f.ip6.arpa.", "9.e.f.ip6.arpa.", "a.e.f.ip6.arpa.", "b.e.f.ip6.arpa.",
	}
	l := start(t)
	for zone := range l.Authorities() {
		if slices.ContainsFunc(special, func(s string) bool { return dns.IsSubDomain(s, zone) }) {
			t.Errorf("%s is under a special name", zone)
		}
	}
}

// A mail domain without fault has the RRsets that delivery needs (D-1, D-3).
func TestGoodDomain(t *testing.T) {
	l := start(t)
	for _, q := range []struct {
		name  string
		qtype uint16
		n     int
	}{
		{"good.dane.", dns.TypeMX, 2},
		{"good.dane.", dns.TypeTXT, 1},
		{"mx1.good.dane.", dns.TypeA, 1},
		{"mx1.good.dane.", dns.TypeAAAA, 1},
		{"mx2.good.dane.", dns.TypeA, 1},
		{"_25._tcp.mx1.good.dane.", dns.TypeTLSA, 1},
		{"_25._tcp.mx2.good.dane.", dns.TypeTLSA, 2},
		{"_mta-sts.announced.dane.", dns.TypeTXT, 1},
		{"_smtp._tls.good.dane.", dns.TypeTXT, 1},
		{"null-mx.dane.", dns.TypeMX, 1},
		{"_25._tcp.mx.large-tlsa.dane.", dns.TypeTLSA, 40},
	} {
		m := ask(t, "tcp", l.Addr(), q.name, q.qtype)
		if n := len(m.Answer) - len(signatures(m.Answer, q.name, q.qtype)); n != q.n {
			t.Errorf("%s %s: %d records, want %d", q.name, dns.Type(q.qtype), n, q.n)
		}
	}
}

// The anchors are those of the key that signs the root's keys, and of that alone.
func TestAnchors(t *testing.T) {
	l := start(t)
	if len(l.DS()) != 1 || len(l.DNSKEY()) != 1 {
		t.Fatalf("%v %v", l.DS(), l.DNSKEY())
	}
	key, ds := l.DNSKEY()[0], l.DS()[0]
	if key.Flags != 257 || key.ToDS(dns.SHA256).Digest != ds.Digest {
		t.Errorf("%v is not that of %v", ds, key)
	}
	m := ask(t, "udp", l.Addr(), ".", dns.TypeDNSKEY)
	sigs := signatures(m.Answer, ".", dns.TypeDNSKEY)
	if len(sigs) != 1 || sigs[0].KeyTag != key.KeyTag() {
		t.Errorf("the root's keys are signed by %v", sigs)
	}
}

// A test may sign the lab for another time and put its own certificate and address into it.
func TestOptions(t *testing.T) {
	now := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	digest := strings.Repeat("ab", 32)
	l := startWith(t, zones.Options{Now: now, Edit: func(z *zones.Zone) {
		for _, owner := range z.Owners(dns.TypeTLSA) {
			z.Remove(owner, dns.TypeTLSA)
			rr, err := dns.NewRR(owner + " 60 TLSA 3 1 1 " + digest)
			if err != nil {
				t.Error(err)
			}
			z.Add(rr)
		}
	}})
	m := ask(t, "udp", l.Addr(), "_25._tcp.mx1.good.dane.", dns.TypeTLSA)
	if len(m.Answer) != 2 || m.Answer[0].(*dns.TLSA).Certificate != digest {
		t.Fatalf("%v", m)
	}
	sig := m.Answer[1].(*dns.RRSIG)
	if !sig.ValidityPeriod(now) || sig.ValidityPeriod(now.Add(-24*time.Hour)) {
		t.Errorf("signed from %s to %s", dns.TimeToString(sig.Inception), dns.TimeToString(sig.Expiration))
	}
}

// Two labs run side by side; Close frees everything.
func TestStartTwiceAndClose(t *testing.T) {
	for range 2 {
		a, err := zones.Start(zones.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := start(t)
		if a.Addr() == b.Addr() || a.DS()[0].Digest == b.DS()[0].Digest {
			t.Errorf("two labs share %s or %s", a.Addr(), a.DS()[0])
		}
		for _, network := range []string{"udp", "tcp"} {
			ask(t, network, a.Addr(), "good.dane.", dns.TypeMX)
			ask(t, network, b.Addr(), "good.dane.", dns.TypeMX)
		}
		a.Close()
		ask(t, "udp", b.Addr(), "good.dane.", dns.TypeA)
		b.Close()
		query := new(dns.Msg).SetQuestion("good.dane.", dns.TypeMX)
		if _, _, err := (&dns.Client{Net: "tcp"}).Exchange(query, a.Addr()); err == nil {
			t.Error("a closed lab answers")
		}
	}
	eventually(t, func() (string, bool) {
		var stacks bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		return stacks.String(), !strings.Contains(stacks.String(), "miekg/dns.(*Server)")
	})
}

// eventually waits for a state that nothing announces; it fails only after very long.
func eventually(t *testing.T, state func() (string, bool)) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		what, ok := state()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}
