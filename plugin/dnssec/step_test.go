package dnssec

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

var cutNames = []string{"unproven", "signed", "insecure cut", "no cut", "no cut below"}

// toldCut puts a delegation in words: the cut, how many DS are in use, and the EDE code of the cause.
func toldCut(d Delegation) string {
	words := cutNames[d.Cut]
	if len(d.DS) > 0 {
		words += fmt.Sprint(" by ", len(d.DS))
	}
	if d.Cause != nil {
		words += fmt.Sprint(", EDE ", d.Cause.Code)
	}
	return words
}

// toldZone puts a zone in words: the status, how many keys it has, and the EDE code of the cause.
func toldZone(z *Zone) string {
	words := fmt.Sprintf("%v, %d keys", z.Status, len(z.Keys))
	if z.Cause != nil {
		words = fmt.Sprintf("%v, EDE %d", z.Status, z.Cause.Code)
	}
	return words
}

// V-36..V-40: which DS of a Secure set are used, and what follows if none is.
func TestUsableDS(t *testing.T) {
	parent := newForger(t, "example.")
	hex := func(octets int) string { return strings.Repeat("AB", octets) }
	ds := func(tag int, algorithm, digest uint8, octets int) string {
		return fmt.Sprintf("a.example. 3600 DS %d %d %d %s", tag, algorithm, digest, hex(octets))
	}
	var nine []string
	for i := range 9 {
		nine = append(nine, ds(i, 13, 2, 32))
	}
	for _, row := range []struct {
		name string
		ds   []string
		want string
	}{
		{"V-38 SHA-256", []string{ds(1, 13, 2, 32)}, "signed by 1"},
		{"V-38 SHA-384", []string{ds(1, 13, 4, 48)}, "signed by 1"},
		{"V-38 both", []string{ds(1, 13, 2, 32), ds(1, 13, 4, 48)}, "signed by 2"},
		{"V-38 SHA-1 alone", []string{ds(1, 13, 1, 20)}, "signed by 1"},
		{"V-38 SHA-1 beside SHA-256", []string{ds(1, 13, 1, 20), ds(1, 13, 2, 32)}, "signed by 1"},
		{"V-39 SHA-1 of another key beside SHA-384", []string{ds(1, 13, 1, 20), ds(2, 13, 4, 48)}, "signed by 1"},
		{"X-13 V-39 SHA-1 beside a SHA-256 of an unsupported algorithm", []string{ds(1, 13, 1, 20), ds(2, 253, 2, 32)},
			"signed by 1"},
		{"X-13 V-39 SHA-1 beside a SHA-256 of a wrong length", []string{ds(1, 13, 1, 20), ds(2, 13, 2, 31)},
			"signed by 1"},
		{"V-39 SHA-256 beside one of a wrong length", []string{ds(1, 13, 2, 32), ds(2, 13, 2, 31)}, "signed by 1"},
		{"V-39 wrong lengths only", []string{ds(1, 13, 2, 31), ds(2, 13, 4, 32), ds(3, 13, 1, 32)}, "unproven, EDE 6"},
		{"V-39 no digest", []string{"a.example. DS 1 13 2"}, "unproven, EDE 6"},
		{"V-35, V-40 GOST digest", []string{ds(1, 13, 3, 32)}, "insecure cut, EDE 2"},
		{"V-38, V-40 digest 5", []string{ds(1, 13, 5, 32)}, "insecure cut, EDE 2"},
		{"V-37, V-40 algorithm 253", []string{ds(1, 253, 2, 32)}, "insecure cut, EDE 1"},
		{"V-37, V-40 algorithm 0", []string{ds(1, 0, 2, 32)}, "insecure cut, EDE 1"},
		{"V-35, V-40 RSAMD5, DSA, GOST", []string{ds(1, 1, 2, 32), ds(1, 3, 2, 32), ds(1, 12, 2, 32)},
			"insecure cut, EDE 1"},
		{"V-36, V-40 RSASHA1", []string{ds(1, 5, 2, 32)}, "insecure cut, EDE 1"},
		{"V-37 unsupported beside supported", []string{ds(1, 253, 2, 32), ds(2, 13, 2, 32)}, "signed by 1"},
		{"V-40 unsupported digest of one, algorithm of another", []string{ds(1, 253, 2, 32), ds(2, 13, 3, 32)},
			"insecure cut, EDE 1"},
		{"L-2 nine", nine, "signed by 8"},
	} {
		lines := slices.Clone(row.ds)
		if strings.HasSuffix(lines[0], " 2") { // the reader of zone files wants a digest
			lines[0] += " AB"
		}
		set := rrs(t, lines...)
		if row.ds[0] != lines[0] {
			set[0].(*dns.DS).Digest = ""
		}
		d := denialCheck().Delegation(parent.zone, "a.example.",
			replyTo(t, "a.example. DS", 0, append(set, parent.rrsig(t, set)), nil))
		if got := toldCut(d); got != row.want {
			t.Errorf("%s: %s (%v), want %s", row.name, got, d.Cause, row.want)
		}
	}
	// V-36: with SHA-1 allowed, algorithm 5 is as good as any.
	c := denialCheck()
	c.Policy.SHA1 = true
	m := replyTo(t, "a.example. DS", 0, parent.set(t, ds(1, 5, 2, 32)), nil)
	if got := toldCut(c.Delegation(parent.zone, "a.example.", m)); got != "signed by 1" {
		t.Errorf("V-36: %s", got)
	}
}

// V-6, V-8, V-10, V-13, V-68: what answers to a DS question prove.
func TestDelegations(t *testing.T) {
	root, parent, child := newForger(t, "."), newForger(t, "example."), newForger(t, "a.example.")
	const (
		ds     = "a.example. 3600 DS 1 13 2 ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"
		wildDS = "*.example. 3600 DS 1 13 2 ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"
		cname  = "a.example. 3600 CNAME elsewhere.test."
		apex   = "example. 3600 NSEC b.example. NS SOA RRSIG NSEC" // covers a.example.
	)
	wild := func(line string) []dns.RR { return renamed("a.example.", parent.set(t, line)) }
	secureDNAME := parent.set(t, "example. 3600 DNAME elsewhere.test.")
	badDNAME := rrs(t, "example. 3600 DNAME elsewhere.test.")
	optOut := nsec3Lines("example.", 0, "-", 1, map[string]string{"example.": "NS SOA RRSIG"})
	over := nsec3Lines("example.", 51, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})
	unsigned := rrs(t, cname)
	for _, row := range []struct {
		name              string
		answer, authority []dns.RR
		want              string
	}{
		{"V-1 DS of the parent", parent.set(t, ds), nil, "signed by 1"},
		{"V-13 DS without RRSIG", rrs(t, ds), nil, "unproven, EDE 10"},
		{"V-8 DS signed by the child itself", child.set(t, ds), nil, "unproven, EDE 10"},
		{"V-8 DS signed from above the parent", root.set(t, ds), nil, "unproven, EDE 10"},
		{"V-8 DS signed by both", append(parent.set(t, ds), root.set(t, ds)[1]), nil, "signed by 1"},
		{"DS from a wildcard", wild(wildDS), parent.set(t, apex), "unproven, EDE 6"},
		{"DS in the authority section", nil, parent.set(t, ds), "unproven, EDE 12"},
		{"DS of another name", parent.set(t, strings.Replace(ds, "a.", "b.", 1)), nil, "unproven, EDE 12"},
		{"V-13 nothing", nil, nil, "unproven, EDE 12"},
		{"V-10 NSEC of the parent", nil, parent.set(t, "a.example. 3600 NSEC b.example. NS RRSIG NSEC"),
			"insecure cut"},
		{"V-10 NSEC without RRSIG", nil, rrs(t, "a.example. 3600 NSEC b.example. NS RRSIG NSEC"), "unproven, EDE 10"},
		{"X-13 V-8 NSEC from above the known cut", nil, root.set(t, "a.example. 3600 NSEC b.example. NS RRSIG NSEC"),
			"unproven, EDE 12"},
		{"V-50c NSEC of the child", nil, child.set(t, "a.example. 3600 NSEC b.a.example. NS SOA RRSIG NSEC"),
			"unproven, EDE 12"},
		{"X-14 V-72 NS of the cut, unsigned, beside", nil, append(rrs(t, "a.example. NS ns.a.example."),
			parent.set(t, "a.example. 3600 NSEC b.example. NS RRSIG NSEC")...), "insecure cut"},
		{"V-6 name error, wildcard covered by the same", nil, parent.set(t, apex), "no cut below"},
		{"X-14 V-68 CNAME", parent.set(t, cname), nil, "no cut"},
		{"V-68 CNAME without RRSIG", unsigned, nil, "unproven, EDE 10"},
		{"V-68 CNAME of the child", child.set(t, cname), nil, "unproven, EDE 10"},
		{"V-68 CNAME changed", append(rrs(t, "a.example. 3600 CNAME else.test."), parent.set(t, cname)[1]), nil,
			"unproven, EDE 6"},
		{"V-68 CNAME from a wildcard", wild("*.example. 3600 CNAME elsewhere.test."), parent.set(t, apex), "no cut"},
		{"V-68 CNAME from a wildcard without proof", wild("*.example. 3600 CNAME elsewhere.test."), nil,
			"unproven, EDE 12"},
		{"V-68, V-51 CNAME from a wildcard by opt-out", wild("*.example. 3600 CNAME elsewhere.test."),
			parent.each(t, optOut...), "insecure cut"},
		{"V-68, V-61 CNAME from a wildcard by too many iterations", wild("*.example. 3600 CNAME elsewhere.test."),
			parent.each(t, over...), "insecure cut, EDE 27"},
		{"X-14 V-68 DNAME above", secureDNAME, nil, "no cut below"},
		{"X-14 V-68 DNAME above with its CNAME", slices.Concat(secureDNAME, unsigned), nil, "no cut below"},
		{"V-68 DNAME without RRSIG", slices.Concat(badDNAME, unsigned), nil, "unproven, EDE 10"},
		{"V-68 DNAME that fails beside a CNAME that does not", slices.Concat(badDNAME, parent.set(t, cname)), nil,
			"no cut"},
		{"V-68 both fail, the CNAME's is told", slices.Concat(badDNAME, append(rrs(t, "a.example. CNAME else.test."),
			parent.set(t, cname)[1])), nil, "unproven, EDE 6"},
		{"V-66 DNAME from a wildcard", renamed("example.", root.set(t, "*. 3600 DNAME elsewhere.test.")), nil,
			"unproven, EDE 10"},
		{"V-7 DNAME above the zone that signed it", parent.set(t, ". 3600 DNAME elsewhere.test."), nil,
			"unproven, EDE 6"},
		{"DNAME at the name itself", parent.set(t, "a.example. 3600 DNAME elsewhere.test."), nil, "unproven, EDE 12"},
		{"targets do not matter", slices.Concat(parent.set(t, cname), rrs(t, "elsewhere.test. DS 1 13 2 AB")), nil,
			"no cut"},
	} {
		c := denialCheck()
		d := c.Delegation(parent.zone, "a.example.", replyTo(t, "a.example. DS", 0, row.answer, row.authority))
		if got := toldCut(d); got != row.want || d.Name != "a.example." {
			t.Errorf("%s: %s (%v), want %s", row.name, got, d.Cause, row.want)
		}
		if d.Cut != Unproven && (d.Until.Before(c.Now.Add(time.Second)) || d.Expires.IsZero()) {
			t.Errorf("%s: lives until %v, expires %v", row.name, d.Until, d.Expires)
		}
	}

	// A DNAME made from a wildcard, between the parent and the name.
	m := replyTo(t, "x.b.example. DS", 0, renamed("b.example.", parent.set(t, "*.example. 3600 DNAME elsewhere.test.")),
		parent.set(t, apex))
	if got := toldCut(denialCheck().Delegation(parent.zone, "x.b.example.", m)); got != "unproven, EDE 6" {
		t.Errorf("V-66 DNAME from a wildcard: %s", got)
	}
}

// A limit on the way of a delegation is told as one.
func TestDelegationLimit(t *testing.T) {
	parent := newForger(t, "example.")
	c := denialCheck()
	c.SignatureChecks = 0
	for _, m := range []*Message{
		replyTo(t, "a.example. DS", 0, parent.set(t, "a.example. 3600 DS 1 13 2 ABAB"), nil),
		replyTo(t, "a.example. DS", 0, parent.set(t, "a.example. 3600 CNAME b.example."), nil),
		replyTo(t, "a.example. DS", 0, nil, parent.set(t, "a.example. 3600 NSEC b.example. NS RRSIG NSEC")),
	} {
		if d := c.Delegation(parent.zone, "a.example.", m); d.Cut != Unproven || !d.Cause.Limit() {
			t.Errorf("%s (%v)", toldCut(d), d.Cause)
		}
	}
}

// C-1, C-2, C-4, C-5, C-16: a link lives as long as the shortest TTL and signature of what it rests on, and what is
// below it no longer than that expires.
func TestLinkLifetimes(t *testing.T) {
	parent := newForger(t, "example.")
	parent.zone.Expires = denialNow.Add(10 * time.Hour)
	const digest = " DS 1 13 2 ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"
	until := func(d time.Duration) edit { return func(s *dns.RRSIG) { s.Expiration = at(d) } }
	for _, row := range []struct {
		name           string
		line           string
		edits          []edit
		until, expires time.Duration
	}{
		{"TTL of the set", "a.example. 60" + digest, nil, time.Minute, 10 * time.Hour},
		{"Original TTL", "a.example. 3600" + digest, []edit{func(s *dns.RRSIG) { s.OrigTtl = 30 }},
			30 * time.Second, 10 * time.Hour},
		{"TTL of the RRSIG", "a.example. 3600" + digest, []edit{func(s *dns.RRSIG) { s.Hdr.Ttl = 20 }},
			20 * time.Second, 10 * time.Hour},
		{"C-5 a day at most", "a.example. 864000" + digest, []edit{until(1000 * time.Hour)},
			24 * time.Hour, 10 * time.Hour},
		{"C-5 the top bit set", "a.example. 4294967295" + digest, []edit{until(1000 * time.Hour)},
			24 * time.Hour, 10 * time.Hour},
		{"C-1 the signature ends", "a.example. 3600" + digest, []edit{until(time.Minute)}, time.Minute, time.Minute},
		{"C-4 a denial", "a.example. 86400 NSEC b.example. NS RRSIG NSEC", nil, time.Hour, 10 * time.Hour},
		{"C-1 a denial whose signature ends", "a.example. 60 NSEC b.example. A RRSIG NSEC", []edit{until(time.Second)},
			time.Second, time.Second},
		{"an alias", "a.example. 40 CNAME b.example.", nil, 40 * time.Second, 10 * time.Hour},
	} {
		set := rrs(t, row.line)
		signed := append(slices.Clone(set), parent.rrsig(t, set, row.edits...))
		answer, authority := signed, []dns.RR(nil)
		if set[0].Header().Rrtype == dns.TypeNSEC {
			answer, authority = nil, signed
		}
		d := denialCheck().Delegation(parent.zone, "a.example.", replyTo(t, "a.example. DS", 0, answer, authority))
		if d.Cut == Unproven || d.Until.Sub(denialNow) != row.until || d.Expires.Sub(denialNow) != row.expires {
			t.Errorf("%s: %s (%v) until %v, expires %v, want %v, %v", row.name, toldCut(d), d.Cause,
				d.Until.Sub(denialNow),
				d.Expires.Sub(denialNow), row.until, row.expires)
		}
	}
	// A denial lives as the SOA of the zone above says (C-3, RFC 9077); that of another zone says nothing.
	denial := parent.set(t, "a.example. 3600 NSEC b.example. NS RRSIG NSEC")
	for line, want := range map[string]time.Duration{
		"example. 3600 SOA a. b. 1 2 3 4 30":   30 * time.Second,
		"example. 20 SOA a. b. 1 2 3 4 300":    20 * time.Second,
		"a.example. 20 SOA a. b. 1 2 3 4 30":   time.Hour,
		"example. 8000 SOA a. b. 1 2 3 4 8000": time.Hour,
	} {
		m := replyTo(t, "a.example. DS", 0, nil, append(rrs(t, line), denial...))
		if d := denialCheck().Delegation(parent.zone, "a.example.", m); d.Cut != InsecureCut ||
			d.Until.Sub(denialNow) != want {
			t.Errorf("with %q: %s until %v, want %v", line, toldCut(d), d.Until.Sub(denialNow), want)
		}
	}
	// An expanded alias lives as its proof does.
	m := replyTo(t, "a.example. DS", 0, renamed("a.example.", parent.set(t, "*.example. 3600 CNAME b.example.")),
		parent.set(t, "example. 5 NSEC b.example. NS SOA RRSIG NSEC"))
	if d := denialCheck().Delegation(parent.zone, "a.example.", m); d.Until.Sub(denialNow) != 5*time.Second {
		t.Errorf("an expanded alias lives until %v", d.Until)
	}

	z := newForger(t, "a.example.")
	keys := []dns.RR{dns.Copy(z.dnskey)}
	keys[0].Header().Ttl = 50
	d := Delegation{Name: "a.example.", Cut: SignedCut, DS: []*dns.DS{z.dnskey.ToDS(dns.SHA256)},
		Until: denialNow.Add(70 * time.Second), Expires: denialNow.Add(90 * time.Second)}
	for _, row := range []struct {
		change         func(*Delegation)
		expiration     time.Duration
		until, expires time.Duration
	}{
		{func(*Delegation) {}, time.Hour, 50 * time.Second, 90 * time.Second},
		{func(d *Delegation) { d.Until = denialNow.Add(time.Second) }, time.Hour, time.Second, 90 * time.Second},
		{func(*Delegation) {}, 20 * time.Second, 20 * time.Second, 20 * time.Second},
		// an anchor
		{func(d *Delegation) { d.Until, d.Expires = time.Time{}, time.Time{} }, time.Hour, 50 * time.Second, time.Hour},
	} {
		d := d
		row.change(&d)
		m := replyTo(t, "a.example. DNSKEY", 0, append(slices.Clone(keys), z.rrsig(t, keys, until(row.expiration))),
			nil)
		zone := denialCheck().Apex(d, m)
		if zone.Status != Secure || zone.Until.Sub(denialNow) != row.until ||
			zone.Expires.Sub(denialNow) != row.expires {
			t.Errorf("%s (%v) until %v, expires %v, want %v, %v", toldZone(zone), zone.Cause, zone.Until.Sub(denialNow),
				zone.Expires.Sub(denialNow), row.until, row.expires)
		}
		below := InsecureZone(Delegation{Name: "x.", Until: zone.Until, Expires: zone.Expires})
		if below.Status != Insecure || below.Until != zone.Until || below.Expires != zone.Expires {
			t.Errorf("%+v", below)
		}
	}
}

// X-12 for V-2..V-5, V-41, V-42: the DNSKEY RRset of a zone with its DS, and the same with one thing off.
func TestApex(t *testing.T) {
	ksk, zsk := newForger(t, "example."), newForger(t, "example.")
	zsk.dnskey.Flags = 256
	variant := func(f forger, change func(*dns.DNSKEY)) forger {
		key := *f.dnskey
		change(&key)
		f.dnskey = &key
		return f
	}
	flags := func(n uint16) func(*dns.DNSKEY) { return func(k *dns.DNSKEY) { k.Flags = n } }
	// signed is the RRset of all keys, signed by some of them.
	signed := func(keys []forger, by ...forger) []dns.RR {
		var set []dns.RR
		for _, k := range keys {
			set = append(set, k.dnskey)
		}
		out := slices.Clone(set)
		for _, k := range by {
			out = append(out, k.rrsig(t, set))
		}
		return out
	}
	ds := func(keys ...forger) (all []*dns.DS) {
		for _, k := range keys {
			all = append(all, k.dnskey.ToDS(dns.SHA256))
		}
		return all
	}
	both := []forger{ksk, zsk}
	revoked := variant(ksk, flags(257|flagRevoke))
	noZone := variant(ksk, flags(1))
	protocol := variant(ksk, func(k *dns.DNSKEY) { k.Protocol = 2 })
	stranger := newForger(t, "example.")
	expired := ksk.rrsig(t, []dns.RR{ksk.dnskey, zsk.dnskey}, func(s *dns.RRSIG) { s.Expiration = at(-time.Second) })
	for _, row := range []struct {
		name   string
		ds     []*dns.DS
		answer []dns.RR
		want   string
	}{
		{"V-2 signed by the key of the DS", ds(ksk), signed(both, ksk), "Secure, 2 keys"},
		{"V-3 a DS of a key without SEP", ds(zsk), signed(both, zsk), "Secure, 2 keys"},
		{"V-3 signed by both", ds(ksk), signed(both, zsk, ksk), "Secure, 2 keys"},
		{"V-2 signed by another key only", ds(ksk), signed(both, zsk), "Bogus, EDE 6"},
		{"V-13 not signed", ds(ksk), signed(both), "Bogus, EDE 10"},
		{"V-2 signed by a key that is not there", ds(ksk), signed(both, stranger), "Bogus, EDE 6"},
		{"V-2 the signature is wrong", ds(ksk), append(signed(both), spoil(ksk.rrsig(t, signed(both)))),
			"Bogus, EDE 6"},
		{"V-19 expired", ds(ksk), append(signed(both), expired), "Bogus, EDE 7"},
		{"V-19 expired, and signed by another key", ds(ksk), append(signed(both, zsk), expired), "Bogus, EDE 7"},
		{"V-41 no key of the DS", ds(stranger), signed(both, ksk, zsk), "Bogus, EDE 9"},
		{"X-14 V-41 an unused second DS", ds(stranger, ksk), signed(both, ksk), "Secure, 2 keys"},
		{"V-41 a second DS whose key did not sign", ds(zsk, ksk), signed(both, ksk), "Secure, 2 keys"},
		{"V-41 a second DS of another digest type", append(ds(ksk), ksk.dnskey.ToDS(dns.SHA384)), signed(both, ksk),
			"Secure, 2 keys"},
		{"V-41 DS of SHA-384 only", []*dns.DS{ksk.dnskey.ToDS(dns.SHA384)}, signed(both, ksk), "Secure, 2 keys"},
		{"V-38 DS of SHA-1 only", []*dns.DS{ksk.dnskey.ToDS(dns.SHA1)}, signed(both, ksk), "Secure, 2 keys"},
		{"V-4 the key of the DS has no zone key flag", ds(noZone), signed([]forger{noZone, zsk}, noZone, zsk),
			"Bogus, EDE 11"},
		{"V-4 the key of the DS has protocol 2", ds(protocol), signed([]forger{protocol, zsk}, protocol, zsk),
			"Bogus, EDE 11"},
		{"V-5 the key of the DS is revoked", ds(revoked), signed([]forger{revoked, zsk}, revoked, zsk),
			"Bogus, EDE 11"},
		{"V-5 a DS made before the key was revoked", ds(ksk), signed([]forger{revoked, zsk}, revoked, zsk),
			"Bogus, EDE 9"},
		{"V-4, V-5 keys that are no zone keys sign nothing", ds(ksk), signed([]forger{ksk, variant(zsk, flags(0)),
			variant(zsk, flags(256|flagRevoke)), variant(zsk, func(k *dns.DNSKEY) { k.Protocol = 4 })}, ksk),
			"Secure, 1 keys"},
		{"V-37 keys of unsupported algorithms sign nothing", ds(ksk),
			signed([]forger{ksk, variant(zsk, func(k *dns.DNSKEY) {
				k.Algorithm = 253
			})}, ksk), "Secure, 1 keys"},
		{"V-42, V-44 a malformed key beside", ds(ksk), signed([]forger{ksk, variant(zsk, func(k *dns.DNSKEY) {
			k.PublicKey = "AAAA"
		})}, ksk), "Secure, 1 keys"},
		{"no DNSKEY", ds(ksk), nil, "Bogus, EDE 9"},
		{"DNSKEY of another name", ds(ksk), newForger(t, "a.example.").set(t, "a.example. DNSKEY 256 3 13 AAAA"),
			"Bogus, EDE 9"},
		{"V-27 owner and signer in mixed case", ds(ksk),
			renamed("EXAMPLE.", signed([]forger{variant(ksk, func(*dns.DNSKEY) {})}, ksk)),
			"Secure, 1 keys"},
	} {
		// Records are packed when they are grouped, so each row has its own.
		var answer []dns.RR
		for _, rr := range row.answer {
			answer = append(answer, dns.Copy(rr))
		}
		for range 2 {
			zone := denialCheck().Apex(DefaultPolicy().Anchor("example.", row.ds),
				replyTo(t, "example. DNSKEY", 0, answer, nil))
			if got := toldZone(zone); got != row.want || zone.Name != "example." ||
				(zone.Status == Secure) != (zone.Tie.Expiration != 0) {
				t.Errorf("%s: %s (%v), want %s", row.name, got, zone.Cause, row.want)
			}
			slices.Reverse(answer)
			slices.Reverse(row.ds)
		}
	}
}

// T-15: what the anchors of a zone stand for: unlike its DS they all count, and of the root one must be supported.
func TestAnchor(t *testing.T) {
	ds := func(algorithm, digest uint8, octets int) *dns.DS {
		return &dns.DS{Algorithm: algorithm, DigestType: digest, Digest: strings.Repeat("00", octets)}
	}
	good, weak, old, gost := ds(13, 2, 32), ds(13, 1, 20), ds(5, 2, 32), ds(13, 3, 32)
	for _, row := range []struct {
		name    string
		anchors []*dns.DS
		cut     Cut
		used    int
		code    uint16
	}{
		{"example.", []*dns.DS{good}, SignedCut, 1, 0},
		{"example.", []*dns.DS{good, weak}, SignedCut, 2, 0},
		{"example.", slices.Repeat([]*dns.DS{good}, maxDS+1), SignedCut, maxDS + 1, 0},
		{"example.", []*dns.DS{old, good, gost}, SignedCut, 1, 0},
		{"example.", []*dns.DS{old}, InsecureCut, 0, dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm},
		{"example.", []*dns.DS{gost}, InsecureCut, 0, dns.ExtendedErrorCodeUnsupportedDSDigestType},
		{"example.", []*dns.DS{old, ds(13, 2, 31)}, Unproven, 0, dns.ExtendedErrorCodeDNSBogus},
		{".", []*dns.DS{old, good}, SignedCut, 1, 0},
		{".", []*dns.DS{old, gost}, Unproven, 0, dns.ExtendedErrorCodeDNSBogus},
	} {
		d := DefaultPolicy().Anchor(row.name, row.anchors)
		if d.Name != row.name || d.Cut != row.cut || len(d.DS) != row.used || (d.Cause == nil) != (row.code == 0) ||
			d.Cause != nil && d.Cause.Code != row.code || !d.Until.IsZero() {
			t.Errorf("%s %v: %+v", row.name, row.anchors, d)
		}
	}
	if d := (Policy{SHA1: true}).Anchor("example.", []*dns.DS{old}); d.Cut != SignedCut {
		t.Errorf("with sha1 verify: %+v", d)
	}
}

// V-41: what is told when the key that the DS names is there and cannot be used or did not sign.
func TestApexSentences(t *testing.T) {
	z, other := newForger(t, "example."), newForger(t, "example.")
	malformed := *z.dnskey
	malformed.PublicKey = "AAAA"
	plain := *z.dnskey
	plain.Flags = 1
	anchor := func(k *dns.DNSKEY) Delegation {
		return DefaultPolicy().Anchor("example.", []*dns.DS{k.ToDS(dns.SHA256)})
	}
	for _, row := range []struct {
		d      Delegation
		answer []dns.RR
		want   string
	}{
		{anchor(z.dnskey), []dns.RR{z.dnskey, other.dnskey, other.rrsig(t, []dns.RR{z.dnskey, other.dnskey})},
			fmt.Sprintf("example.: the DNSKEY RRset is not signed by the key that the DS names (key tag %d)",
				z.dnskey.KeyTag())},
		{anchor(&malformed), []dns.RR{&malformed, z.rrsig(t, []dns.RR{&malformed})},
			fmt.Sprintf("example.: the DNSKEY with key tag %d cannot be used: ", malformed.KeyTag())},
		{anchor(&plain), []dns.RR{&plain, z.rrsig(t, []dns.RR{&plain})},
			fmt.Sprintf("example.: the DNSKEY with key tag %d "+
				"that the DS names is no usable zone key (flags 1, protocol 3)", plain.KeyTag())},
		{anchor(other.dnskey), z.set(t, z.dnskey.String()),
			fmt.Sprintf("example.: no DNSKEY matches the DS (key tag %d, "+
				"algorithm 13, digest type 2)", other.dnskey.KeyTag())},
		{anchor(z.dnskey), nil, "example.: the reply has no DNSKEY, but there is a DS"},
	} {
		zone := denialCheck().Apex(row.d, replyTo(t, "example. DNSKEY", 0, row.answer, nil))
		if zone.Cause == nil || !strings.HasPrefix(zone.Cause.Text, row.want) || zone.Cause.KeyTag == 0 {
			t.Errorf("%+v, want %q", zone.Cause, row.want)
		}
	}
}

// L-2, L-3, L-12: DNSKEY RRsets that cost too much: colliding keys, malformed ones, and no budget.
func TestApexBudgets(t *testing.T) {
	z := newForger(t, "example.")
	set := []dns.RR{z.dnskey}
	good := append(slices.Clone(set), z.rrsig(t, set))
	anchor := DefaultPolicy().Anchor("example.", []*dns.DS{z.dnskey.ToDS(dns.SHA256)})

	c := denialCheck()
	c.SignatureChecks = 0
	zone := c.Apex(anchor, replyTo(t, "example. DNSKEY", 0, good, nil))
	if zone.Status != Indeterminate || !zone.Cause.Limit() {
		t.Errorf("L-12: %s (%v)", toldZone(zone), zone.Cause)
	}

	// The same wrong signature under each of eight DS is checked four times at most.
	ds := slices.Repeat(anchor.DS, maxDS)
	c = denialCheck()
	zone = c.Apex(DefaultPolicy().Anchor("example.", ds),
		replyTo(t, "example. DNSKEY", 0, append(slices.Clone(set), spoil(z.rrsig(t, set))), nil))
	if cost := c.Work().Signatures; toldZone(zone) != "Bogus, EDE 6" || cost > maxFailures {
		t.Errorf("L-3: %s after %d checks", toldZone(zone), cost)
	}

	// Malformed keys count as failures: after four the good one is not tried any more (CVE-2025-8677).
	for n, want := range map[int]string{3: "Secure, 1 keys", 4: "Bogus, EDE 0"} {
		var bad []*dns.DS
		keys := slices.Clone(set)
		for i := range n {
			key := *z.dnskey
			key.PublicKey = fmt.Sprintf("AA%02d", i)
			keys, bad = append(keys, &key), append(bad, key.ToDS(dns.SHA256))
		}
		c = denialCheck()
		zone = c.Apex(DefaultPolicy().Anchor("example.", append(bad, anchor.DS...)), replyTo(t, "example. DNSKEY", 0,
			append(slices.Clone(keys), z.rrsig(t, keys)), nil))
		if got := toldZone(zone); got != want {
			t.Errorf("L-3, %d malformed keys: %s (%v), want %s", n, got, zone.Cause, want)
		}
	}
}

// V-42: an RSA key out of bounds is skipped and does no harm to others; as the only key its zone is Bogus, not
// Insecure.
func TestOutOfBoundsRSAKey(t *testing.T) {
	n := new(big.Int).SetBit(big.NewInt(1), 4096, 1)
	huge := &dns.DNSKEY{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 256, Protocol: 3, Algorithm: dns.RSASHA256, PublicKey: toBase64(rsaOctets([]byte{1, 0, 1}, n.Bytes()))}
	z := newForger(t, "example.")
	set := []dns.RR{z.dnskey, huge}
	m := replyTo(t, "example. DNSKEY", 0, append(slices.Clone(set), z.rrsig(t, set)), nil)
	for ds, want := range map[*dns.DS]string{
		z.dnskey.ToDS(dns.SHA256): "Secure, 1 keys", huge.ToDS(dns.SHA256): "Bogus, EDE 6",
	} {
		if got := toldZone(denialCheck().Apex(DefaultPolicy().Anchor("example.", []*dns.DS{ds}),
			m.Clone())); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// V-1, V-2: from the root's anchor down to data, over three zones of three algorithms; and nothing of it with another
// anchor.
func TestChainOfThree(t *testing.T) {
	names := []string{".", "example.", "a.example."}
	var keys []*zones.Key
	for i, name := range names {
		keys = append(keys, newKey(t, name, []uint8{8, 13, 15}[i]))
	}
	walk := func(anchor *zones.Key) []*Zone {
		c := denialCheck()
		d := DefaultPolicy().Anchor(".", []*dns.DS{anchor.DS(dns.SHA256)})
		var found []*Zone
		for i, key := range keys {
			zone := c.Apex(d, reply(t, 0, signedBy(t, key, key.DNSKEY), nil))
			if found = append(found, zone); zone.Status != Secure || i == 2 {
				break
			}
			d = c.Delegation(zone, names[i+1], reply(t, 0, signedBy(t, key, keys[i+1].DS(dns.SHA256)), nil))
		}
		return found
	}
	found := walk(keys[0])
	if len(found) != 3 || found[2].Status != Secure || found[2].Tie.Algorithm != 15 ||
		found[2].Tie.KeyTag != keys[2].DNSKEY.KeyTag() ||
		found[2].Tie.Digest != dns.SHA256 {
		t.Errorf("found %d zones, the last %+v", len(found), found[len(found)-1])
	}
	if found = walk(newKey(t, ".", 13)); len(found) != 1 || toldZone(found[0]) != "Bogus, EDE 9" {
		t.Errorf("with another anchor %d zones, %s", len(found), toldZone(found[0]))
	}
}

// What could not be had is Indeterminate, what could and is wrong is Bogus, and the cause says that it is of a link.
func TestBogusZone(t *testing.T) {
	for kind, want := range map[Kind]struct {
		status Status
		kind   Kind
	}{OfData: {Bogus, OfLink}, OfLink: {Bogus, OfLink}, OfNoReply: {Indeterminate, OfNoReply},
		OfMissingLink: {Indeterminate, OfMissingLink}, OfSignature: {Bogus, OfLink},
		OfNoUpstream: {Indeterminate, OfNoUpstream}} {
		if z := BogusZone("example.", &Failure{Kind: kind}); z.Status != want.status || z.Cause.Kind != want.kind {
			t.Errorf("kind %d: %v, %d", kind, z.Status, z.Cause.Kind)
		}
	}
	if z := BogusZone("example.", &Failure{Code: 6, Err: ErrLimit}); z.Status != Indeterminate {
		t.Errorf("a limit: %v", z.Status)
	}
}
