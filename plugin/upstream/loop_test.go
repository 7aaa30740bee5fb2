package upstream

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// S-13: an upstream from which our own question comes back is the asker himself. It is named, and asked nothing more,
// as what it is asked would wait for itself; a sound one beside it answers. One that stops being the asker is asked
// again.
func TestLoop(t *testing.T) {
	leakless(t)
	var asker atomic.Pointer[Set]
	var loops, refuses atomic.Bool
	loops.Store(true)
	zone := signedZone(t)
	self := serve(t, func(a *asked) {
		q := a.msg.Question[0]
		if loops.Load() && q.Qtype == dns.TypeA && !asker.Load().Returned(q.Name) {
			t.Errorf("%s did not come back", q.Name)
		}
		if !loops.Load() {
			zone(a)
		} // else it hangs, as a question that waits for itself
	})
	sound := serve(t, func(a *asked) {
		switch q := a.msg.Question[0]; {
		case q.Qtype != dns.TypeMX:
			zone(a)
		case refuses.Load():
			a.rcode(dns.RcodeRefused)
		default:
			a.answer(theMX(t))
		}
	})
	set := newSet(t, Config{Routes: []Route{{".", []Address{self.plain(), sound.plain()}}}})
	asker.Store(set)
	if got := set.Loops(ctxFor(t, longEnough)); !slices.Equal(got, []string{self.addr.String()}) {
		t.Errorf("these are loops: %q", got)
	}
	reports := set.Fit(ctxFor(t, longEnough), []string{"."})
	if len(reports) != 2 || reports[0].Fit || !reports[1].Fit || !strings.Contains(strings.Join(reports[0].Faults, ""),
		self.addr.String()+" is danelaw itself") {
		t.Errorf("got %+v", reports)
	}
	reply, err := set.Exchange(ctxFor(t, longEnough), mxQuestion,
		fetch.Try{CD: true, Avoid: []string{sound.addr.String()}})
	if err != nil || reply.Upstream != sound.addr.String() {
		t.Errorf("reply of %s, %v", reply.Upstream, err)
	}
	refuses.Store(true) // so there is nobody else to ask
	if _, err := set.Exchange(ctxFor(t, longEnough), mxQuestion, fetch.Try{CD: true}); err == nil ||
		!strings.Contains(err.Error(), "is danelaw itself") {
		t.Errorf("got %v", err)
	}
	for _, a := range self.got("udp") {
		if a.msg.Question[0].Qtype == dns.TypeMX {
			t.Error("the loop was asked")
		}
	}
	loops.Store(false)
	if reports := set.Fit(ctxFor(t, longEnough), []string{"."}); !reports[0].Fit {
		t.Errorf("got %+v", reports)
	}
}

// A question of a client is none of ours, whatever it looks like.
func TestLoopGuessed(t *testing.T) {
	s := rootSet(t, closedPort(t))
	for _, name := range []string{"abcdefgh.", "abcdefgh.example.", "."} {
		if s.Returned(name) {
			t.Errorf("%s came back", name)
		}
	}
	if !IsProbe(question("abcdefgh.", dns.TypeA)) || IsProbe(question("www.example.", dns.TypeA)) ||
		IsProbe(question("abcdefgh.", dns.TypeMX)) {
		t.Error("another form")
	}
}
