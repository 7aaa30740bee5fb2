package zones_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// counted is the recursor of a world, whose servers count what they are asked.
func counted(w *zones.World, clock func() time.Time) (*zones.Recursor, *atomic.Int64) {
	r, asked := w.Recursor(clock), new(atomic.Int64)
	for zone, server := range r.Servers {
		r.Servers[zone] = func(q dns.Question) *dns.Msg {
			asked.Add(1)
			return server(q)
		}
	}
	return r, asked
}

// aliases lead from zone to zone.
func aliasWorld(t *testing.T) *zones.World {
	return build(t,
		zones.Plan{Name: ".", Text: soa},
		zones.Plan{Name: "a.", Text: soa + "mx CNAME mx.b.\nout CNAME nothing.b.\nlost CNAME x.lame.\n"},
		zones.Plan{Name: "b.", Text: soa + "mx CNAME mx.old\nold DNAME c.\n"},
		zones.Plan{Name: "c.", Text: soa + "mx A 192.0.2.1\n"},
		zones.Plan{Name: "lame.", Text: soa, Fault: zones.Fault{Zone: func(z *zones.Zone) {
			z.Spoil(func(dns.Question, *dns.Msg) *dns.Msg { return nil })
		}}},
	)
}

// Aliases are followed through all zones, and a denial at the end belongs to the last name (RFC 6604).
func TestRecursorFollows(t *testing.T) {
	r := aliasWorld(t).Recursor(func() time.Time { return now })
	for _, tt := range []struct {
		name   string
		qtype  uint16
		answer []string
		rcode  int
		denier string // the owner of the SOA
	}{
		{"mx.a.", dns.TypeA, []string{"CNAME", "DNAME", "CNAME", "A"}, dns.RcodeSuccess, ""},
		{"mx.a.", dns.TypeMX, []string{"CNAME", "DNAME", "CNAME"}, dns.RcodeSuccess, "c."},
		{"mx.a.", dns.TypeCNAME, []string{"CNAME"}, dns.RcodeSuccess, ""},
		{"out.a.", dns.TypeA, []string{"CNAME"}, dns.RcodeNameError, "b."},
		{"a.", dns.TypeDS, []string{"DS"}, dns.RcodeSuccess, ""},
		{"mx.c.", dns.TypeDS, nil, dns.RcodeSuccess, "c."},
		{".", dns.TypeDS, nil, dns.RcodeSuccess, "."},
		{"lost.a.", dns.TypeA, nil, dns.RcodeServerFailure, ""},
	} {
		m := r.Resolve(question(tt.name, tt.qtype))
		denier := ""
		for _, rr := range m.Ns {
			if rr.Header().Rrtype == dns.TypeSOA {
				denier = rr.Header().Name
			}
		}
		if m.Rcode != tt.rcode || !slices.Equal(typesOf(m.Answer), tt.answer) || denier != tt.denier {
			t.Errorf("%s %s: %s denied by %q\n%v", tt.name, dns.Type(tt.qtype), dns.RcodeToString[m.Rcode], denier, m)
		}
	}
}

// A reply is kept as long as its smallest TTL, counted down meanwhile; failures are not kept.
func TestRecursorCaches(t *testing.T) {
	clock := now
	r, asked := counted(aliasWorld(t), func() time.Time { return clock })
	for _, tt := range []struct {
		title string
		name  string
		after time.Duration
		ttl   uint32 // of the first record
		asked int64
	}{
		{"fresh", "mx.c.", 0, 3600, 1},
		{"kept", "mx.c.", 100 * time.Second, 3500, 0},
		{"the other case", "MX.c.", 0, 3500, 0},
		{"almost over", "mx.c.", 3499 * time.Second, 1, 0},
		{"over", "mx.c.", time.Second, 3600, 1},
		{"denial, fresh", "no.c.", 0, 300, 1},
		{"denial, kept", "no.c.", 299 * time.Second, 1, 0},
		{"denial, over", "no.c.", time.Second, 300, 1},
		{"the clock is set back", "mx.c.", -time.Hour, 3600, 1},
		{"failure", "x.lame.", 0, 0, 1},
		{"failure again", "x.lame.", 0, 0, 1},
	} {
		clock = clock.Add(tt.after)
		before := asked.Load()
		m := r.Resolve(question(tt.name, dns.TypeA))
		var ttl uint32
		if rrs := slices.Concat(m.Answer, m.Ns); len(rrs) > 0 {
			ttl = rrs[0].Header().Ttl
		}
		if n := asked.Load() - before; n != tt.asked || ttl != tt.ttl {
			t.Errorf("%s: asked %d times, TTL %d; want %d, %d", tt.title, n, ttl, tt.asked, tt.ttl)
		}
	}
}

// What one client does to its reply is nothing to the next.
func TestRecursorCopies(t *testing.T) {
	r, _ := counted(aliasWorld(t), func() time.Time { return now })
	r.Resolve(question("mx.c.", dns.TypeA)).Answer[0].Header().Name = "spoilt."
	if m := r.Resolve(question("mx.c.", dns.TypeA)); m.Answer[0].Header().Name != "mx.c." {
		t.Errorf("%v", m)
	}
}

// The question comes back as it was asked, and owners that are the same name with it (0x20).
func TestRecursorCase(t *testing.T) {
	r := aliasWorld(t).Recursor(func() time.Time { return now })
	m := r.Resolve(question("mX.C.", dns.TypeA))
	if m.Question[0].Name != "mX.C." || m.Answer[0].Header().Name != "mX.C." || m.Answer[1].Header().Name != "mX.C." {
		t.Errorf("%v", m)
	}
}

// Referrals and refusals are no answers.
func TestRecursorWantsAnswers(t *testing.T) {
	w := aliasWorld(t)
	for title, server := range map[string]zones.Server{
		"referral":  func(q dns.Question) *dns.Msg { return w.Zone(".").Answer(q, true) },
		"refusal":   func(dns.Question) *dns.Msg { return &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeRefused}} },
		"no answer": func(dns.Question) *dns.Msg { return nil },
	} {
		r := w.Recursor(func() time.Time { return now })
		r.Servers["c."] = server
		if m := r.Resolve(question("mx.c.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure ||
			len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("%s: %v", title, m)
		}
	}
	r := &zones.Recursor{Servers: map[string]zones.Server{}, Clock: time.Now}
	if m := r.Resolve(question("a.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("no server: %v", m)
	}
}

// An alias chain through more zones than a recursor follows ends in a failure.
func TestRecursorLimit(t *testing.T) {
	var plans []zones.Plan
	for c := 'a'; c < 'z'; c++ { // to z., which has no alias
		plans = append(plans, zones.Plan{Name: string(c) + ".", Text: soa + "x CNAME x." + string(c+1) + ".\n"})
	}
	plans = append(plans, zones.Plan{Name: "z.", Text: soa + "x A 192.0.2.1\n"})
	r := build(t, plans...).Recursor(func() time.Time { return now })
	if m := r.Resolve(question("x.a.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", m)
	}
	if m := r.Resolve(question("x.p.", dns.TypeA)); len(typesOf(m.Answer)) != 2 {
		t.Errorf("%v", m)
	}
}
