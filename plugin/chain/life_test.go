package chain

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// C-4: what is cached for a question of type 0 answers no other question: 0 is the type under which name errors are kept.
func TestTypeZero(t *testing.T) {
	r, _, _ := setup(t, nil)
	expect(t, ask(r, "mx.example.com.", 0), dnssec.Secure, dns.RcodeSuccess)
	a := ask(r, "mx.example.com.", dns.TypeA)
	expect(t, a, dnssec.Secure, dns.RcodeSuccess)
	if len(a.Answer) == 0 {
		t.Errorf("a denial of type 0 denied the address: %v", a.Ns)
	}
}

// C-2: that a name is no zone cut is not believed past the end of the signature that proved it.
func TestNoCutExpires(t *testing.T) {
	r, u, now := setup(t, nil)
	now.advance(u.world.expiration.Sub(now.Now()) - 50*time.Second)
	w := r.newQuery(context.Background(), question("mx.example.com.", dns.TypeA))
	w.zone("mx.example.com.")
	m, ok := r.Store.mark("mx.example.com.", now.Now())
	if !ok || m.cut != dnssec.NoCut {
		t.Fatalf("mark %+v %v, want NoCut", m, ok)
	}
	if _, ok := r.Store.mark("mx.example.com.", u.world.expiration.Add(time.Second)); ok {
		t.Error("still held for no cut when the proof has expired")
	}
}
