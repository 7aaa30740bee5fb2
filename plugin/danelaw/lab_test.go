package danelaw

import (
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// TestLab: every question about every domain of the lab is answered as its table says, by a danelaw that knows nothing
// yet and by one that has just been asked.
func TestLab(t *testing.T) {
	for _, d := range lab().Domains() {
		server := serve(t, open(t, config(t)))
		for _, state := range []string{"cold", "warm"} {
			for _, q := range d.Questions {
				name := d.Name + " (" + d.Shows + "), " + state + ": " + q.Name + " " + dns.Type(q.Type).String()
				check(t, name, q, ask(t, server, q.Name, q.Type, withDO), state == "warm")
				plain := ask(t, server, q.Name, q.Type) // V-74: neither DO nor AD
				if plain.AuthenticatedData || plain.Rcode != q.Rcode || plain.IsEdns0() != nil {
					t.Errorf("%s: without EDNS: %s", name, describes(plain))
				}
			}
		}
	}
}

// check compares a reply with what is expected of a question.
func check(t *testing.T, name string, q zones.Question, r *dns.Msg, warm bool) {
	t.Helper()
	if r.Rcode != q.Rcode || r.AuthenticatedData != (q.Status == "Secure") {
		t.Errorf("%s: %s, want %s %s", name, describes(r), q.Status, dns.RcodeToString[q.Rcode])
	}
	codes := faultCodes(r)
	if q.EDE == 0 && len(codes) > 0 || q.EDE != 0 && (len(codes) == 0 || codes[0] != q.EDE) {
		t.Errorf("%s: %s, want EDE %d first", name, describes(r), q.EDE)
	}
	if failed := r.Rcode == dns.RcodeServerFailure; failed && (len(r.Answer)+len(r.Ns) > 0 ||
		warm && !slices.Contains(codes, dns.ExtendedErrorCodeCachedError)) { // C-12
		t.Errorf("%s: %s with %d records, want none and EDE 13", name, describes(r), len(r.Answer)+len(r.Ns))
	}
}

// TestTypeZero: nobody may put a denial of all types into the cache by asking for type 0, which is no type: C-4 keeps
// what holds for a whole name under it.
func TestTypeZero(t *testing.T) {
	server := server(t)
	const tlsa = "_25._tcp.mx.rsasha256.dane."
	r := ask(t, server, tlsa, dns.TypeNone, withDO)
	if r.Rcode != dns.RcodeRefused || !slices.Equal(edes(r), []uint16{dns.ExtendedErrorCodeNotSupported}) {
		t.Errorf("type 0: %s", describes(r))
	}
	if r := ask(t, server, tlsa, dns.TypeTLSA, withDO); len(r.Answer) == 0 || !r.AuthenticatedData {
		t.Errorf("TLSA after a question for type 0: %s with %d records", describes(r), len(r.Answer))
	}
}
