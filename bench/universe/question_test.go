package universe

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestFault: a reply is right if it has the records of the truth, in whatever order and with whatever TTLs; a client
// without EDNS gets no signatures and no AD; and each way in which it may be wrong is told.
func TestFault(t *testing.T) {
	u := build(t, spec())
	var positive, denied Question
	for i := range u.spec.Domains {
		all, err := u.Delivery(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range all {
			if q.Secure && q.Type == dns.TypeMX {
				positive = q
			}
			if q.Secure && q.Type == dns.TypeAAAA && strings.Count(q.Name, ".") == 3 && len(truth(t, q).Answer) == 0 {
				denied = q
			}
		}
	}
	plain := positive.Plain()
	for _, c := range []struct {
		name   string
		q      *Question
		change func(m *dns.Msg)
		fault  string
	}{
		{"as it is", &positive, func(*dns.Msg) {}, ""},
		{"another order, other TTLs", &positive, func(m *dns.Msg) {
			slices.Reverse(m.Answer)
			m.Answer[0].Header().Ttl = 7
		}, ""},
		{"no signature", &positive, func(m *dns.Msg) { m.Answer = m.Answer[:1] }, "the answer is"},
		{"another host", &positive, func(m *dns.Msg) { m.Answer[0].(*dns.MX).Mx = "evil.example." }, "the answer is"},
		{"no AD", &positive, func(m *dns.Msg) { m.AuthenticatedData = false }, "AD=false"},
		{"without EDNS", &plain, func(m *dns.Msg) { m.Answer, m.AuthenticatedData = m.Answer[:1], false }, ""},
		{"without EDNS, with AD", &plain, func(m *dns.Msg) { m.Answer = m.Answer[:1] }, "AD=true"},
		{"a denial", &denied, func(*dns.Msg) {}, ""},
		{"a denial without proof", &denied, func(m *dns.Msg) {
			m.Ns = slices.DeleteFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeSOA })
		}, "the denial has"},
		{"a denial without SOA", &denied, func(m *dns.Msg) { m.Ns = nil }, "the denial has"},
	} {
		m := truth(t, *c.q)
		m.AuthenticatedData = true
		c.change(m)
		reply, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		for _, again := range []bool{false, true} { // by the form that was found right, too
			fault := c.q.Fault(reply)
			if (c.fault == "") != (fault == "") || !strings.Contains(fault, c.fault) {
				t.Errorf("%s, again %t: fault %q, want %q", c.name, again, fault, c.fault)
			}
			reply[0]++ // ID
		}
	}
}

func truth(t *testing.T, q Question) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(q.truth); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTraps: each trap answers what its flood asks, each time about another name, but for the one that is silent; what
// has been asked is not kept.
func TestTraps(t *testing.T) {
	u := build(t, spec())
	kept := len(u.replies.packed)
	for _, name := range Traps() {
		ask := Flood(name, rand.New(rand.NewPCG(1, 2)))
		first, second := ask(), ask()
		if first.Name == second.Name {
			t.Errorf("%s: %s is asked for twice", name, first.Name)
		}
		reply := u.Reply(nil, first.Query, false)
		if silent := name == "silent"; silent != (len(reply) == 0) {
			t.Errorf("%s: %d octets", name, len(reply))
			continue
		}
		if len(reply) == 0 {
			continue
		}
		m := new(dns.Msg)
		if err := m.Unpack(reply); err != nil || m.Truncated || len(m.Answer)+len(m.Ns) == 0 {
			t.Errorf("%s: %v %v", name, err, m)
		}
	}
	if Flood("nothing", rand.New(rand.NewPCG(1, 2))) != nil {
		t.Error("there is a flood of nothing")
	}
	if now := len(u.replies.packed); now != kept || u.Unforeseen() != 0 {
		t.Errorf("%d replies are kept, %d before", now, kept)
	}
}
