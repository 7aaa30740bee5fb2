package dnssec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// forger is a Secure zone of the tests whose private key is at hand, so that it can make signatures that hold although
// no honest signer makes them.
type forger struct {
	zone    *Zone
	dnskey  *dns.DNSKEY
	private *ecdsa.PrivateKey
}

func newForger(t testing.TB, apex string) forger {
	t.Helper()
	for {
		if f := forgerOf(t, apex, rand.Text()); !tags[f.dnskey.KeyTag()] {
			tags[f.dnskey.KeyTag()] = true
			return f
		}
	}
}

// tags are those of the keys made so far: no two keys of the tests collide by chance.
var tags = map[uint16]bool{}

// forgerOf makes the zone's key from a seed: fuzzing runs in several processes, whose zones must have the same keys.
func forgerOf(t testing.TB, apex, seed string) forger {
	t.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), digest(crypto.SHA256, []byte(apex+seed)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := zones.KeyFrom(apex, dns.ECDSAP256SHA256, 257, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseKey(key.DNSKEY)
	if err != nil {
		t.Fatal(err)
	}
	return forger{&Zone{Name: apex, Status: Secure, Keys: []*Key{parsed}}, key.DNSKEY, private}
}

// edit changes an RRSIG before it is signed.
type edit func(*dns.RRSIG)

// rrsig signs records of one set after the edits, which may break any rule.
func (f forger) rrsig(t testing.TB, set []dns.RR, edits ...edit) *dns.RRSIG {
	t.Helper()
	h := set[0].Header()
	owner := dns.CanonicalName(h.Name)
	sig := &dns.RRSIG{
		Hdr:         dns.RR_Header{Name: h.Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: h.Ttl},
		TypeCovered: h.Rrtype, Algorithm: f.dnskey.Algorithm, Labels: uint8(Labels(owner)), OrigTtl: h.Ttl,
		Inception: at(-time.Hour), Expiration: at(24 * time.Hour), KeyTag: f.dnskey.KeyTag(), SignerName: f.zone.Name,
	}
	for _, e := range edits {
		e(sig)
	}
	sorted := &RRset{Owner: owner, Type: h.Rrtype, RRs: slices.Clone(set)}
	sorted.canonicalise()
	digest := digest(crypto.SHA256, signedOver(sorted, sig))
	r, s, err := ecdsa.Sign(rand.Reader, f.private, digest)
	if err != nil {
		t.Fatal(err)
	}
	var octets [64]byte
	r.FillBytes(octets[:32])
	s.FillBytes(octets[32:])
	sig.Signature = toBase64(octets[:])
	return sig
}

// set returns the lines as one RRset with its signature.
func (f forger) set(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	set := rrs(t, lines...)
	return append(set, f.rrsig(t, set))
}

// each returns every line as an RRset of its own with its signature.
func (f forger) each(t testing.TB, lines ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, line := range lines {
		out = append(out, f.set(t, line)...)
	}
	return out
}

// newKey makes a key of a zone for an algorithm of which the forger has none.
func newKey(t testing.TB, apex string, algorithm uint8) *zones.Key {
	t.Helper()
	key, err := zones.NewKey(apex, algorithm, 257)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signedBy returns the records of one RRset with a signature by the key.
func signedBy(t testing.TB, key *zones.Key, set ...dns.RR) []dns.RR {
	t.Helper()
	sig, err := key.Sign(set, denialNow.Add(-time.Hour), denialNow.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return append(set, sig)
}

// validAt makes an RRSIG valid for a day from an hour before another time.
func validAt(now time.Time) edit {
	return func(sig *dns.RRSIG) {
		sig.Inception, sig.Expiration = uint32(now.Add(-time.Hour).Unix()), uint32(now.Add(24*time.Hour).Unix())
	}
}

// at is a time before or after that of the tests, as an RRSIG has it.
func at(after time.Duration) uint32 { return uint32(denialNow.Add(after).Unix()) }

// renamed gives records another owner, as the expansion of a wildcard does.
func renamed(owner string, records []dns.RR) []dns.RR {
	for _, rr := range records {
		rr.Header().Name = owner
	}
	return records
}

// spoil changes one octet of a signature.
func spoil(sig *dns.RRSIG) *dns.RRSIG {
	octets, _ := base64.StdEncoding.DecodeString(sig.Signature)
	octets[len(octets)-1] ^= 1
	spoilt := *sig
	spoilt.Signature = toBase64(octets)
	return &spoilt
}

// asked is the question in words: "NAME TYPE".
func asked(words string) dns.Question {
	f := strings.Fields(words)
	return dns.Question{Name: f[0], Qtype: dns.StringToType[f[1]], Qclass: dns.ClassINET}
}

// replyTo groups a reply to a question in words.
func replyTo(t testing.TB, question string, rcode int, answer, authority []dns.RR) *Message {
	t.Helper()
	m, err := Group(&dns.Msg{
		MsgHdr: dns.MsgHdr{Rcode: rcode}, Question: []dns.Question{asked(question)}, Answer: answer, Ns: authority,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// told puts a verdict in words: what it needs, or the status, the RCODE if it is not NOERROR or SERVFAIL for a failure,
// where the chain goes on, and the EDE codes of cause and notes.
func told(v Verdict) string {
	if len(v.Needs) > 0 {
		words := "needs " + strings.Join(v.Needs, " ")
		for _, s := range v.Shown {
			words += fmt.Sprintf(", shown by %s: %s %s", s.Above.Name, s.Name, toldCut(s.Delegation))
		}
		return words
	}
	words := []string{v.Status.String()}
	switch {
	case v.Status <= Bogus && v.Rcode != dns.RcodeServerFailure, v.Status > Bogus && v.Rcode != dns.RcodeSuccess:
		words = append(words, dns.RcodeToString[v.Rcode])
	}
	if v.Denial {
		words = append(words, "denial")
	}
	if v.Next != "" {
		words = append(words, "next "+v.Next)
	}
	if v.Cause != nil {
		words = append(words, fmt.Sprint("EDE ", v.Cause.Code))
	}
	for _, note := range v.Notes {
		words = append(words, fmt.Sprint("note ", note.Code))
	}
	return strings.Join(words, ", ")
}

func toBase64(octets []byte) string { return base64.StdEncoding.EncodeToString(octets) }

func fromBase64(t testing.TB, text string) []byte {
	t.Helper()
	octets, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// signedOver is signedData without the signature.
func signedOver(set *RRset, sig *dns.RRSIG) []byte {
	data, _ := signedData(set, sig)
	return data
}
