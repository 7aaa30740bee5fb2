package world

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

func question(name string, qtype uint16) dns.Question {
	return dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
}

func noon() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// keyTag is the key tag of the only key of a zone.
func keyTag(t *Tree, name string) uint16 { return t.Zone(name).Keys[0].DNSKEY.KeyTag() }

// TestTree: publishing a tree again keeps the keys, Roll replaces them and the DS in the zone above, and an upstream
// without a cache shows each change at once.
func TestTree(t *testing.T) {
	tree := New(noon, Zone("."), Zone("com."), Domain("example.com."))
	u, before := tree.Upstream(), keyTag(tree, "example.com.")
	tag := func() uint16 {
		return u.Resolve(question("example.com.", dns.TypeDS)).Answer[0].(*dns.DS).KeyTag
	}
	tree.Plan("example.com.").Text += "new A 192.0.2.1\n"
	tree.Publish()
	if tag() != before || len(u.Resolve(question("new.example.com.", dns.TypeA)).Answer) != 2 {
		t.Errorf("published again: the key tag of the DS is %d, want %d, and a signed answer for the new name",
			tag(), before)
	}
	tree.Roll("example.com.")
	if after := keyTag(tree, "example.com."); tag() != after || after == before {
		t.Errorf("rolled: the key tag of the DS is %d, of the key %d, of the key before %d", tag(), after, before)
	}
	tree.Plan("example.com.").Config.Unsigned = true
	tree.Publish()
	if m := u.Resolve(question("example.com.", dns.TypeDS)); len(m.Answer) > 0 {
		t.Errorf("DS of an unsigned zone: %v", m)
	}
	tree.Add(Zone("net.", "x A 192.0.2.2"))
	if m := u.Resolve(question("x.net.", dns.TypeA)); len(m.Answer) != 2 {
		t.Errorf("a zone that was added: %v", m)
	}
}

// TestValidity: without times in its plan, a zone's signatures end 14 days after their inception, which is an hour ago;
// a plan may set another time.
func TestValidity(t *testing.T) {
	until := noon().Add(time.Minute)
	tree := New(noon, Zone("."), zones.Plan{Name: "com.", Text: Base, Config: zones.Config{Expiration: until}})
	for name, want := range map[string]time.Time{".": noon().Add(validity - time.Hour), "com.": until} {
		m := tree.Zone(name).Answer(question(name, dns.TypeSOA), true)
		sig, planned := m.Answer[1].(*dns.RRSIG), tree.Plan(name).Config.Expiration
		if int64(sig.Expiration) != want.Unix() || !planned.Equal(want) {
			t.Errorf("%s: the signature ends at %d, want %d", name, sig.Expiration, want.Unix())
		}
	}
}

// TestUpstream: a caching upstream on a socket keeps an answer until Forget, obeys Spoil, and records what it is asked.
func TestUpstream(t *testing.T) {
	tree := New(noon, Zone("."), Domain("com."))
	u := tree.Caching()
	addr := u.Serve(t, AnyPort)
	ask := func() *dns.Msg {
		m, _, err := (&dns.Client{Timeout: time.Minute}).Exchange(
			new(dns.Msg).SetQuestion("com.", dns.TypeMX).SetEdns0(1232, true), addr)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	preference := func(m *dns.Msg) uint16 { return m.Answer[0].(*dns.MX).Preference }
	first := preference(ask())
	tree.Plan("com.").Text = Base + "@ MX 20 mx\n"
	tree.Publish()
	second := preference(ask())
	u.Forget()
	if third := preference(ask()); first != 10 || second != 10 || third != 20 {
		t.Errorf("the preferences are %d, %d and %d, want 10, 10 from the cache, and 20", first, second, third)
	}
	u.Spoil(func(dns.Question, *dns.Msg) *dns.Msg { return nil })
	if m := ask(); m.Rcode != dns.RcodeServerFailure ||
		u.Reply(new(dns.Msg).SetQuestion(".", dns.TypeNS)).Rcode != dns.RcodeServerFailure {
		t.Errorf("want SERVFAIL from a spoilt upstream: %v", m)
	}
	if got, want := u.Asked(), []string{"com. MX", "com. MX", ". NS"}; !slices.Equal(got, want) {
		t.Errorf("asked %v, want %v", got, want)
	}
	for pattern, want := range map[string]int{"com. MX": 2, "*om. MX": 2, "* NS": 1, "*": 3, "om. MX": 0, "com. M": 0} {
		if n := u.Count(pattern); n != want {
			t.Errorf("%q was asked %d times, want %d", pattern, n, want)
		}
	}
}

// TestClock: a clock moves only when it is told to, and then calls the function given to Tell.
func TestClock(t *testing.T) {
	c, told := NewClock(noon()), []time.Time{}
	c.Tell(func(now time.Time) { told = append(told, now) })
	c.Advance(time.Minute)
	c.Set(noon().Add(-time.Hour))
	want := []time.Time{noon(), noon().Add(time.Minute), noon().Add(-time.Hour)}
	if !slices.Equal(told, want) || !c.Now().Equal(want[2]) {
		t.Errorf("told %v, shows %v", told, c.Now())
	}
}
