package scripted

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// TestScripts: the first script that decides counts; if none does, the upstream answers honestly; and questions are
// recorded with their tries.
func TestScripts(t *testing.T) {
	u := New(Usual(func() time.Time { return Noon }))
	refused := errors.New("refused")
	refuse := func(qtype uint16) Script {
		return func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			return fetch.Reply{}, refused, q.Qtype == qtype
		}
	}
	ask := func(qtype uint16, want error) {
		t.Helper()
		q := dns.Question{Name: "example.com.", Qtype: qtype, Qclass: dns.ClassINET}
		var r fetch.Reply
		var err error
		came := make(chan struct{})
		try := fetch.Try{TCP: qtype == dns.TypeMX, Until: time.Now().Add(time.Minute)}
		u.Ask(q, try, func(reply fetch.Reply, failed error) {
			r, err = reply, failed
			close(came)
		})
		if <-came; !errors.Is(err, want) || want == nil && r.Msg.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: %v, want %v; %v", dns.Type(qtype), err, want, r.Msg)
		}
	}
	ask(dns.TypeMX, nil)
	u.First(refuse(dns.TypeMX))
	u.First(refuse(dns.TypeSOA))
	ask(dns.TypeMX, refused)
	ask(dns.TypeSOA, refused)
	ask(dns.TypeNS, nil)
	u.Follow(nil)
	ask(dns.TypeSOA, nil)
	if tries := u.Tries("example.com. MX"); len(tries) != 2 || !tries[1].TCP || u.Count("* SOA") != 2 {
		t.Errorf("asked %v, MX by %+v", u.Asked(), tries)
	}
	if u.Forget(); !slices.Equal(u.Asked(), nil) {
		t.Errorf("not forgotten: %v", u.Asked())
	}
}

// TestUsual: replies show what is wrong with the zones of the usual tree.
func TestUsual(t *testing.T) {
	u := New(Usual(func() time.Time { return Noon }))
	for _, tt := range []struct {
		name   string
		qtype  uint16
		signed bool
	}{
		{"example.com.", dns.TypeMX, true}, {"insecure.com.", dns.TypeMX, false}, {"stripped.com.", dns.TypeMX, false},
		{"stripped.com.", dns.TypeDNSKEY, true}, {"nokey.com.", dns.TypeDS, true}, {"mx.deep.co.uk.", dns.TypeA, true},
	} {
		m := u.Reply(dns.Question{Name: tt.name, Qtype: tt.qtype, Qclass: dns.ClassINET}).Msg
		if data := len(Unsigned(m.Answer)); data == 0 || (len(m.Answer) > data) != tt.signed {
			t.Errorf("%s %s: want signed %v\n%v", tt.name, dns.Type(tt.qtype), tt.signed, m)
		}
	}
}
