package danelaw

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// TestAnswers: danelaw answers, whether its upstream does, says nothing or is gone; not while one of its blocks hangs
// (S-29). The question is no client's.
func TestAnswers(t *testing.T) {
	p := between(t, honest)
	process.begin(open(t, config(t, p.addr)))
	Answers()
	p.become(silent)
	c := config(t, p.addr)
	c.Timeout = time.Second
	process.begin(open(t, c)) // with nothing in memory
	Answers()
	if n := metric(t, "responses_total", "block", c.Block); n != 0 {
		t.Errorf("%v replies are counted", n)
	}
	hung := make(chan struct{})
	h := openCanned(t, func(dns.Question) *resolve.Answer {
		<-hung
		return &resolve.Answer{}
	})
	process.begin(h)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		Answers()
	}()
	select {
	case <-answered:
		t.Error("a resolver that hangs has answered")
	case <-time.After(100 * time.Millisecond): // a busy machine finds less, and nothing that is not so
	}
	close(hung)
	<-answered
}

// TestAnswersOfQuestion: what danelaw asks itself goes to the resolver.
func TestAnswersOfQuestion(t *testing.T) {
	var asked []dns.Question
	h := openCanned(t, func(q dns.Question) *resolve.Answer {
		asked = append(asked, q)
		return &resolve.Answer{}
	})
	h.config.AllowClients = nil
	await(h)
	if !slices.Equal(asked, []dns.Question{{Name: ".", Qtype: dns.TypeNS, Qclass: dns.ClassINET}}) {
		t.Errorf("asked were %v", asked)
	}
}

// TestCondition: it is that of the block that is not ready, which is named if there are several.
func TestCondition(t *testing.T) {
	good := started(t, config(t))
	eventually(t, "ready", func() bool { return Condition() == "ready: trust anchor, clock and upstream are in order" })
	packets, stream := ports.Open(t)
	defer packets.Close()
	defer stream.Close()
	c := config(t, packets.LocalAddr().String())
	c.Timeout = time.Second
	bad := started(t, c)
	want := c.Block + ": not ready: "
	eventually(t, "not ready", func() bool { return strings.HasPrefix(Condition(), want) })
	good.Close()
	eventually(t, "a reason", func() bool { return Condition() == "not ready: no upstream is fit for validation" })
	bad.Close()
}
