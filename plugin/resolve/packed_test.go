package resolve

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// packedAs unpacks what is packed for q; nil if nothing is.
func packedAs(t *testing.T, r *Resolver, q dns.Question, plain bool) (*dns.Msg, *Packed) {
	t.Helper()
	var p Packed
	if m := (Memory{r}); !m.Packed(q, plain, m.Now(), &p) {
		return nil, nil
	}
	m := new(dns.Msg)
	if err := dnssec.Unpack(m, p.Wire()); err != nil {
		t.Fatal(err)
	}
	return m, &p
}

// A cached answer is packed as Resolve tells it, now and later, with its proofs and without (V-75); nothing is packed
// of a failure, or of what has been flushed (C-12).
func TestPacked(t *testing.T) {
	for _, tt := range []struct {
		name    string
		qtype   uint16
		vouched bool
	}{
		{"example.com.", dns.TypeMX, true},
		{"mx.example.com.", dns.TypeTXT, true},     // NODATA
		{"nothing.example.com.", dns.TypeA, true},  // a name error
		{"insecure.com.", dns.TypeMX, false},       // unsigned
		{"outward.example.com.", dns.TypeA, false}, // an alias to where nothing is signed
		{"example.com.", dns.TypeDNSKEY, true},
	} {
		t.Run(tt.name+" "+typeName(tt.qtype), func(t *testing.T) {
			r, _, now := setup(t, nil)
			q := dnssec.Question(tt.name, tt.qtype)
			if m, _ := packedAs(t, r, q, false); m != nil {
				t.Fatal("packed before it was asked")
			}
			ask(r, tt.name, tt.qtype)
			for range 2 {
				want := ask(r, tt.name, tt.qtype)
				for _, plain := range []bool{false, true} {
					m, p := packedAs(t, r, q, plain)
					if m == nil {
						t.Fatal("nothing is packed")
					}
					answer, ns := want.Answer, want.Ns
					if plain {
						answer, ns = Plain(tt.qtype, copyRRs(answer)), Plain(tt.qtype, copyRRs(ns))
					}
					if fmt.Sprint(m.Answer, m.Ns) != fmt.Sprint(answer, ns) || m.Rcode != want.Rcode ||
						p.Status() != want.Status || p.Vouched() != tt.vouched {
						t.Errorf("plain %v: %v %v of %v %v", plain, p.Status(), m, want.Answer, want.Ns)
					}
				}
				now.Set(now.Now().Add(7 * time.Second))
			}
			r.Flush(tt.name)
			for _, plain := range []bool{false, true} {
				if m, _ := packedAs(t, r, q, plain); m != nil {
					t.Error("packed after it was flushed")
				}
			}
		})
	}
}

// S-15, T-18: what is packed brings the Extended DNS Errors that are told of it.
func TestPackedErrors(t *testing.T) {
	notes := []*dnssec.Failure{{Kind: dnssec.OfDistrust, Code: 1, Text: "one"}, {Code: 27}, {Code: 6, Text: "a\nb"},
		{Code: 5, Text: "four"}}
	opt := append([]byte{0, 0, byte(dns.TypeOPT), 0, 0, 0, 0, 0, 0, 0, 0}, packedErrors(packNotes(notes))...)
	opt[10] = byte(len(opt) - 11)
	rr, _, err := dns.UnpackRR(opt, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, want := fmt.Sprint(rr.(*dns.OPT).Option), fmt.Sprint(Errors(notes))
	if got != want || len(Errors(notes)) != 3 {
		t.Errorf("got %s, want %s", got, want)
	}
}
