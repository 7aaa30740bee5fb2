package universe

import (
	"bytes"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// spec is a small universe with some of everything.
func spec() Spec {
	return Spec{
		Seed: 1, Domains: 40, Insecure: 0.4, Shared: 0.5, Providers: 5, Algorithms: []int{13}, Denial: Mixed,
		TopLevel: Mixed, Now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC),
	}
}

func build(t *testing.T, s Spec) *Universe {
	t.Helper()
	u, err := New(t.Context(), s, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestSameOctets: the same Spec makes the same universe, with every algorithm, and another seed another.
func TestSameOctets(t *testing.T) {
	for _, algorithm := range []int{8, 10, 13, 14, 15} {
		s := spec()
		s.Algorithms = []int{algorithm}
		one, same := build(t, s), build(t, s)
		if !maps.EqualFunc(one.replies.packed, same.replies.packed, bytes.Equal) {
			t.Errorf("algorithm %d: two universes of the same seed differ", algorithm)
		}
		s.Seed = 2
		other := build(t, s)
		for key := range one.replies.packed {
			ofDomain := int(key[0])+4 < len(key) // and not of a top-level domain: the length, the root's, and the type
			if other.replies.packed[key] != nil && ofDomain {
				t.Errorf("algorithm %d: universes of two seeds both have %q", algorithm, key)
			}
		}
	}
}

// TestSome: the small universe has some of everything, so that the other tests say something.
func TestSome(t *testing.T) {
	s, seen := spec(), map[string]int{}
	for i := range s.Domains {
		d := s.domain(i)
		for what, is := range map[string]bool{
			"secure": d.secure, "nsec3": d.nsec3, "own": d.provider == i, "AAAA": d.aaaa, "TLSA": d.tlsa != "",
			"insecure": !d.secure, "nsec": !d.nsec3, "shared": d.provider != i,
			"no AAAA": !d.aaaa, "no TLSA": d.tlsa == "",
		} {
			if is {
				seen[what]++
			}
		}
	}
	for what, n := range seen {
		if n < 4 || n == s.Domains {
			t.Errorf("%d of %d domains are %s", n, s.Domains, what)
		}
	}
	if len(seen) != 10 {
		t.Errorf("seen %v", seen)
	}
}

// TestUnforeseen: a question that nobody thought of is answered as if it had been thought of, and counted once.
func TestUnforeseen(t *testing.T) {
	u := build(t, spec())
	for _, q := range []dns.Question{
		{Name: u.spec.domain(0).name, Qtype: dns.TypeSOA}, {Name: "nowhere." + u.spec.domain(1).name, Qtype: dns.TypeA},
		{Name: "nowhere.nl.", Qtype: dns.TypeMX}, {Name: "nowhere.", Qtype: dns.TypeA}, {Name: ".", Qtype: dns.TypeNS},
	} {
		before := u.Unforeseen()
		query, err := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(udpSize, true).Pack()
		if err != nil {
			t.Fatal(err)
		}
		first, again := u.Reply(nil, query, false), u.Reply(nil, query, false)
		m := new(dns.Msg)
		if err := m.Unpack(first); err != nil || len(m.Answer)+len(m.Ns) == 0 || m.Question[0].Name != q.Name {
			t.Errorf("%s %s: %v %v", q.Name, dns.Type(q.Qtype), err, m)
		}
		if !bytes.Equal(first, again) || u.Unforeseen() != before+1 {
			t.Errorf("%s %s: %d questions were not foreseen", q.Name, dns.Type(q.Qtype), u.Unforeseen()-before)
		}
	}
}

// TestReply: a reply has the query's ID, RD, CD and letters, and is truncated where the client has no room, but not
// over a stream.
func TestReply(t *testing.T) {
	u := build(t, spec())
	name := strings.ToUpper(u.spec.domain(0).name)
	query := new(dns.Msg).SetQuestion(name, dns.TypeDNSKEY)
	query.Id, query.CheckingDisabled = 4711, true
	ask := func(stream bool) *dns.Msg {
		packed, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(u.Reply(nil, packed, stream)); err != nil {
			t.Fatal(err)
		}
		if m.Id != 4711 || !m.Response || !m.RecursionDesired || !m.CheckingDisabled || m.AuthenticatedData ||
			m.Question[0] != query.Question[0] {
			t.Errorf("%v", m)
		}
		return m
	}
	query.Question[0].Name, query.Question[0].Qtype = "nowhere.CZ.", dns.TypeA // three NSEC3
	if m := ask(false); !m.Truncated || len(m.Ns) > 0 || m.IsEdns0() == nil {
		t.Errorf("without EDNS: %v", m)
	}
	if m := ask(true); m.Truncated || len(m.Ns) == 0 {
		t.Errorf("over a stream: %v", m)
	}
	query.SetEdns0(udpSize, true)
	if m := ask(false); m.Truncated || len(m.Ns) == 0 {
		t.Errorf("with EDNS: %v", m)
	}
}

// TestNoQuery: what is no query gets no reply.
func TestNoQuery(t *testing.T) {
	u := build(t, spec())
	query, err := new(dns.Msg).SetQuestion("com.", dns.TypeDNSKEY).Pack()
	if err != nil {
		t.Fatal(err)
	}
	response := bytes.Clone(query)
	response[2] |= 0x80
	two := bytes.Clone(query)
	two[5] = 2
	pointer := append(bytes.Clone(query[:12]), 0xc0, 0x0c, 0, 1, 0, 1)
	long := append(bytes.Clone(query[:12]), bytes.Repeat([]byte("\x01a"), 200)...)
	long = append(long, 0, 0, 1, 0, 1)
	for _, text := range [][]byte{nil, query[:11], query[:14], query[:len(query)-1], response, two, pointer, long} {
		if reply := u.Reply(nil, text, true); len(reply) > 0 {
			t.Errorf("%x gets %x", text, reply)
		}
	}
}

// TestSpec: a Spec that makes no sense is refused in words.
func TestSpec(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		"at least one domain":                    func(s *Spec) { s.Domains = 0 },
		"insecure domains is from 0 to 1":        func(s *Spec) { s.Insecure = 1.5 },
		"shared mail host is from 0 to 1":        func(s *Spec) { s.Shared = -1 },
		"from 1 to 40 domains may be":            func(s *Spec) { s.Providers = 41 },
		`not by "nsec5"`:                         func(s *Spec) { s.Denial = "nsec5" },
		"algorithm 8, 10, 13, 14 or 15, not 5":   func(s *Spec) { s.Algorithms = []int{13, 5} },
		"algorithm 8, 10, 13, 14 or 15, not 269": func(s *Spec) { s.Algorithms = []int{256 + 13} },
	} {
		s := spec()
		change(&s)
		if _, err := New(t.Context(), s, func() {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestPolicies: domains have policies of MTA-STS where a Spec says who has the files: their records are signed ahead,
// and all else of a domain is as it was.
func TestPolicies(t *testing.T) {
	s := spec()
	without := build(t, s)
	s.Policies = netip.MustParseAddr("192.31.196.1")
	u, seen := build(t, s), map[string]int{}
	for i := range s.Domains {
		d, before := u.Domain(i), without.Domain(i)
		_, _, had := before.Policy()
		if had || before.Enforces() != "" || before.DANE != d.DANE || before.host != d.host {
			t.Errorf("%+v, before %+v", d, before)
		}
		host, file, ok := d.Policy()
		if ok && !strings.Contains(file, "mode: "+d.sts+"\r\nmx: "+strings.TrimSuffix(d.host, ".")+"\r\n") {
			t.Errorf("%s has the policy %q", d.Name, file)
		}
		if host != "mta-sts."+strings.TrimSuffix(d.Name, ".") {
			t.Errorf("%s has the policy host %s", d.Name, host)
		}
		want := map[bool]string{true: strings.TrimSuffix(d.host, ".")}[d.sts == enforce]
		if enforces := d.Enforces(); enforces != want {
			t.Errorf("%s, %q, enforces %q", d.Name, d.sts, enforces)
		}
		for q, answers := range map[dns.Question]bool{
			{Name: "_mta-sts." + d.Name, Qtype: dns.TypeTXT}: ok, {Name: host + ".", Qtype: dns.TypeA}: ok,
			{Name: host + ".", Qtype: dns.TypeAAAA}: false,
		} {
			m := new(dns.Msg)
			if err := m.Unpack(u.replies.get(key(q))); err != nil || len(m.Answer) > 0 != answers {
				t.Errorf("%v: error %v, %v", q, err, m)
			}
		}
		seen[d.sts]++
		if d.DANE {
			seen["DANE"]++
		}
	}
	for _, of := range []string{"", enforce, "testing", "DANE"} {
		if seen[of] == 0 {
			t.Errorf("there is none of %q: %v", of, seen)
		}
	}
}
