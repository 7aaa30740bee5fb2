package universe

import (
	"math/rand/v2"
	"net"
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
	plain, told := positive.Plain(), positive.Told()
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
		{"an EDE that is wanted", &told, func(m *dns.Msg) { explain(m, 1) }, ""},
		{"no EDE where one is wanted", &told, func(*dns.Msg) {}, "it has no EDE 1"},
		{"another EDE", &told, func(m *dns.Msg) { explain(m, 22) }, "it has no EDE 1; EDE 22"},
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

// explain adds an Extended DNS Error.
func explain(m *dns.Msg, code uint16) {
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: code})
}

// TestAttack: of what attackers ask, a failure is none of ours, but AD where it does not belong is wrong, as is data of
// a name that does not exist or is bogus; each is told.
func TestAttack(t *testing.T) {
	none, data := []dns.RR{}, []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: "x.bogus.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1),
	}}
	for _, c := range []struct {
		rcode         int // the right one
		secure        bool
		got           int
		ad            bool
		answer        []dns.RR
		failed, wrong bool
	}{
		{dns.RcodeServerFailure, false, dns.RcodeServerFailure, false, none, false, false},
		{dns.RcodeServerFailure, false, dns.RcodeNameError, false, none, true, false},
		{dns.RcodeServerFailure, false, dns.RcodeSuccess, false, data, false, true},
		{dns.RcodeServerFailure, false, dns.RcodeNameError, true, none, false, true},
		{dns.RcodeServerFailure, false, dns.RcodeServerFailure, true, none, false, true},
		{dns.RcodeNameError, true, dns.RcodeNameError, true, none, false, false},
		{dns.RcodeNameError, true, dns.RcodeServerFailure, false, none, true, false},
		{dns.RcodeNameError, true, dns.RcodeSuccess, true, data, false, true},
		{dns.RcodeNameError, false, dns.RcodeSuccess, false, none, true, false},
		{dns.RcodeSuccess, true, dns.RcodeSuccess, true, data, false, false},
		{dns.RcodeSuccess, true, dns.RcodeServerFailure, false, none, true, false},
	} {
		q := Attack(dns.Question{Name: "x.bogus.", Qtype: dns.TypeA}, c.rcode, c.secure)
		m := new(dns.Msg).SetQuestion("x.bogus.", dns.TypeA)
		m.Response, m.Rcode, m.AuthenticatedData, m.Answer = true, c.got, c.ad, c.answer
		reply, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if failed, fault := q.Failed(reply), q.Fault(reply); failed != c.failed || (fault != "") != c.wrong {
			t.Errorf("%+v: failed %t, fault %q", c, failed, fault)
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
