package dnssec

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// X-12 for V-13, V-15a..V-25: one RRset of a signed zone, and the same with one field of its RRSIG off. Every signature
// holds, unless the row spoils it: it is the field alone that decides.
func TestRRSIGFields(t *testing.T) {
	z := newForger(t, "example.")
	set := rrs(t, "www.example. 3600 A 192.0.2.1")
	with := func(edits ...edit) []dns.RR { return append(slices.Clone(set), z.rrsig(t, set, edits...)) }
	after := func(change edit) []dns.RR {
		sig := z.rrsig(t, set)
		change(sig)
		return append(slices.Clone(set), sig)
	}
	times := func(inception, expiration time.Duration) edit {
		return func(s *dns.RRSIG) { s.Inception, s.Expiration = at(inception), at(expiration) }
	}
	stranger := newForger(t, "example.")
	wild := rrs(t, "*.example. 3600 A 192.0.2.1")
	known := memory{}
	for _, row := range []struct {
		name   string
		answer []dns.RR
		want   string
	}{
		{"good", with(), "Secure"},
		{"V-13 stripped", set, "Bogus, EDE 10"},
		{"V-16 another owner", after(func(s *dns.RRSIG) { s.Hdr.Name = "ww.example." }), "Bogus, EDE 10"},
		{"V-16 another class", after(func(s *dns.RRSIG) { s.Hdr.Class = dns.ClassCHAOS }), "Bogus, EDE 10"},
		{"V-16 another type covered", with(func(s *dns.RRSIG) { s.TypeCovered = dns.TypeAAAA }), "Bogus, EDE 10"},
		{"V-16 a signer beside", with(func(s *dns.RRSIG) { s.SignerName = "test." }), "Bogus, EDE 10"},
		{"V-16 a signer above that has another key", with(func(s *dns.RRSIG) { s.SignerName = "."; s.Labels = 2 }),
			"Bogus, EDE 9"},
		{"V-16 another algorithm", with(func(s *dns.RRSIG) { s.Algorithm++ }), "Bogus, EDE 9"},
		{"V-16 another key tag", with(func(s *dns.RRSIG) { s.KeyTag++ }), "Bogus, EDE 9"},
		{"V-16 a key that has the tag of none", append(slices.Clone(set), stranger.rrsig(t, set)), "Bogus, EDE 9"},
		{"V-16 another key of the tag", append(slices.Clone(set), stranger.rrsig(t, set, func(s *dns.RRSIG) {
			s.KeyTag = z.dnskey.KeyTag()
		})), "Bogus, EDE 6"},
		{"X-14 V-27 signer in mixed case", with(func(s *dns.RRSIG) { s.SignerName = "eXaMPle." }), "Secure"},
		{"V-27 signer in mixed case after signing", after(func(s *dns.RRSIG) { s.SignerName = "EXAMPLE." }), "Secure"},
		{"V-17 one label more than the owner", with(func(s *dns.RRSIG) { s.Labels++ }), "Bogus, EDE 6"},
		{"V-17 255 labels", with(func(s *dns.RRSIG) { s.Labels = 255 }), "Bogus, EDE 6"},
		{"V-18 as many labels as the signer: a wildcard, without proof",
			renamed("www.example.", append(slices.Clone(wild),
				z.rrsig(t, wild))), "Bogus, EDE 12"},
		{"X-13 V-18 fewer labels than the signer", with(func(s *dns.RRSIG) { s.Labels = 0 }), "Bogus, EDE 6"},
		{"V-19 expires now", with(times(-time.Hour, 0)), "Secure"},
		{"V-19 expired a second ago", with(times(-time.Hour, -time.Second)), "Bogus, EDE 7"},
		{"V-19 valid from now", with(times(0, time.Hour)), "Secure"},
		{"V-20 valid in 300 s", with(times(300*time.Second, time.Hour)), "Secure"},
		{"V-20 valid in 301 s", with(times(301*time.Second, time.Hour)), "Bogus, EDE 8"},
		{"V-19 expires as it begins", with(times(0, 0)), "Secure"},
		{"V-19 expires a second before it begins", with(times(time.Second, 0)), "Bogus, EDE 25"},
		{"V-19 valid for 2^31-1 seconds", with(func(s *dns.RRSIG) { s.Inception, s.Expiration = at(0), at(0)+1<<31-1 }),
			"Secure"},
		{"V-19 valid for 2^31 seconds is none",
			with(func(s *dns.RRSIG) { s.Inception, s.Expiration = at(0), at(0)+1<<31 }),
			"Bogus, EDE 25"},
		{"V-21 another Original TTL", after(func(s *dns.RRSIG) { s.OrigTtl++ }), "Bogus, EDE 6"},
		{"V-21 another TTL", after(func(s *dns.RRSIG) { s.Hdr.Ttl++ }), "Secure"},
		{"V-21 signed with another Original TTL", with(func(s *dns.RRSIG) { s.OrigTtl = 60 }), "Secure"},
		{"one octet of the signature", append(slices.Clone(set), spoil(z.rrsig(t, set))), "Bogus, EDE 6"},
		{"no signature", after(func(s *dns.RRSIG) { s.Signature = "" }), "Bogus, EDE 6"},
		{"one octet of the data", append(rrs(t, "www.example. 3600 A 192.0.2.2"), z.rrsig(t, set)), "Bogus, EDE 6"},
		{"a record more", append(rrs(t, "www.example. 3600 A 192.0.2.2"), with()...), "Bogus, EDE 6"},
		{"V-22 a bad one beside", append(with(), spoil(z.rrsig(t, set))), "Secure"},
		{"V-22 one by an unknown key beside", append(with(), stranger.rrsig(t, set)), "Secure"},
		{"V-22 an expired one beside", append(with(), z.rrsig(t, set, times(-2*time.Hour, -time.Hour))), "Secure"},
		{"V-22, V-23 one of an unknown algorithm beside", append(with(), z.rrsig(t, set, func(s *dns.RRSIG) {
			s.Algorithm = 253
		})), "Secure"},
		{"V-22 several bad ones: the worst is told", append(with(times(-2*time.Hour, -time.Hour)),
			stranger.rrsig(t, set)),
			"Bogus, EDE 7"},
		{"V-22 several bad ones: wrong beats expired", append(with(times(-2*time.Hour, -time.Hour)),
			spoil(z.rrsig(t, set))),
			"Bogus, EDE 6"},
	} {
		m := replyTo(t, "www.example. A", 0, row.answer, nil)
		root := newForger(t, ".")
		for _, known := range []Verified{nil, known, known} {
			check := denialCheck()
			check.Verified = known
			v := check.Answer(asked("www.example. A"), m, zoneMap{".": root.zone, "example.": z.zone})
			if got := told(v); got != row.want {
				t.Errorf("%s (known: %v): %s (%v), want %s", row.name, known != nil, got, v.Cause, row.want)
			}
		}
	}
}

// memory remembers all signatures that hold.
type memory map[[sha256.Size]byte]bool

func (m memory) Has(d [sha256.Size]byte) bool { return m[d] }
func (m memory) Add(d [sha256.Size]byte)      { m[d] = true }

// L-1: a signature that is known to hold is not verified once more, but counts in the budget; whatever else is in its
// place is verified, by whichever part of it differs, and one that fails is never known.
func TestKnownSignatures(t *testing.T) {
	z, twin := newForger(t, "example."), newForger(t, "example.")
	twin.zone.Keys[0].Tag = z.dnskey.KeyTag()
	set := rrs(t, "www.example. 3600 A 192.0.2.1")
	good := z.rrsig(t, set)
	again := z.rrsig(t, set) // ECDSA: other octets over the same data
	other := rrs(t, "www.example. 3600 A 192.0.2.2")
	known := memory{}
	for _, row := range []struct {
		name     string
		records  []dns.RR
		by       forger
		holds    bool
		verified int
	}{
		{"for the first time", append(slices.Clone(set), good), z, true, 1},
		{"once more", append(slices.Clone(set), good), z, true, 0},
		{"another signature", append(slices.Clone(set), again), z, true, 1},
		{"other data", append(slices.Clone(other), good), z, false, 1},
		{"other data once more", append(slices.Clone(other), good), z, false, 1},
		{"another key of the tag", append(slices.Clone(set), good), twin, false, 1},
		{"a spoilt signature", append(slices.Clone(set), spoil(good)), z, false, 1},
		{"the good one at the end", append(slices.Clone(set), good), z, true, 0},
	} {
		check := denialCheck()
		check.Verified = known
		_, failure := check.verify(reply(t, 0, row.records, nil).Answer[0], row.by.zone)
		if verified := check.Work().Signatures; failure == nil != row.holds || verified != row.verified {
			t.Errorf("%s: %v with %d verified, want %v with %d", row.name, failure, verified, row.holds, row.verified)
		}
	}
	check := denialCheck()
	check.Verified, check.SignatureChecks = known, 0
	if _, failure := check.verify(reply(t, 0, append(slices.Clone(set), good), nil).Answer[0],
		z.zone); failure == nil || !failure.Limit() {
		t.Errorf("without a budget: %v", failure)
	}
}

// X-13 V-16: a signer that is the end of the owner's name as a string, but no zone above it, may not sign it.
func TestSuffixSigner(t *testing.T) {
	root, z := newForger(t, "."), newForger(t, "example.")
	walked := zoneMap{".": root.zone, "example.": z.zone}
	for name, want := range map[string]string{
		"badexample.": "Bogus, EDE 10", "bad\\.example.": "Bogus, EDE 10", "bad.example.": "Secure",
	} {
		set := rrs(t, name+" 3600 A 192.0.2.1")
		m := replyTo(t, name+" A", 0, append(set, z.rrsig(t, set)), nil)
		if got := told(denialCheck().Answer(asked(name+" A"), m, walked)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// V-7, V-8, V-16: whoever asks, only a zone that may sign a set is believed, though its signature holds and has as many
// Labels as it should.
func TestMaySign(t *testing.T) {
	const ds, keys, soa = " DS 1 13 2 AB", " DNSKEY 256 3 13 AAAA", " SOA a. b. 1 2 3 4 5"
	for _, row := range []struct {
		signer, line string
		want         bool
	}{
		{"example.", "example. A 192.0.2.1", true}, {"example.", "a.b.example. A 192.0.2.1", true},
		{"example.", "badexample. A 192.0.2.1", false}, {"example.", "test. A 192.0.2.1", false},
		{"a.example.", "b.example. A 192.0.2.1", false},
		{"example.", "a.example." + ds, true}, {"example.", "a.b.example." + ds, true},
		{"example.", "example." + ds, false},
		{".", "." + ds, false},
		{"example.", "example." + keys, true}, {"example.", "a.example." + keys, false},
		{"example.", "example." + soa, true}, {"example.", "a.example." + soa, false},
	} {
		z := newForger(t, row.signer)
		set := reply(t, 0, z.set(t, row.line), nil).Answer[0]
		if _, f := denialCheck().verify(set, z.zone); (f == nil) != row.want {
			t.Errorf("%s over %s: %v", row.signer, row.line, f)
		}
	}
}

// V-25: nothing signs RRSIGs, however it came about that a set of them has a signature.
func TestNothingSignsRRSIG(t *testing.T) {
	z := newForger(t, "example.")
	sig := z.rrsig(t, rrs(t, "a.example. A 192.0.2.1"))
	over := z.rrsig(t, []dns.RR{sig})
	set := &RRset{Owner: "a.example.", Type: dns.TypeRRSIG, RRs: []dns.RR{sig}, Sigs: []*dns.RRSIG{over}}
	set.canonicalise()
	if _, f := denialCheck().verify(set, z.zone); f == nil || f.Code != dns.ExtendedErrorCodeDNSBogus {
		t.Errorf("%v", f)
	}
}

// V-19: serial arithmetic across the turns of the signed and unsigned 32-bit clock; Expires is the right date on both
// sides.
func TestSerialTimes(t *testing.T) {
	z := newForger(t, "example.")
	set := rrs(t, "www.example. 3600 A 192.0.2.1")
	for _, turn := range []time.Time{
		time.Unix(1<<31, 0).UTC(), // 2038-01-19 03:14:08
		time.Unix(1<<32, 0).UTC(), // 2106-02-07 06:28:16
	} {
		m := replyTo(t, "www.example. A", 0, append(slices.Clone(set), z.rrsig(t, set, func(s *dns.RRSIG) {
			s.Inception, s.Expiration = uint32(turn.Add(-time.Hour).Unix()), uint32(turn.Add(time.Hour).Unix())
		})), nil)
		for after, want := range map[time.Duration]string{
			-time.Hour - 301*time.Second: "Bogus, EDE 8", -time.Hour - 300*time.Second: "Secure",
			-time.Second: "Secure",
			0:            "Secure", time.Second: "Secure", time.Hour: "Secure", time.Hour + time.Second: "Bogus, EDE 7",
			24 * time.Hour: "Bogus, EDE 7",
		} {
			c := denialCheck()
			c.Now = turn.Add(after)
			v := c.Answer(asked("www.example. A"), m.Clone(), zoneMap{"example.": z.zone})
			if got := told(v); got != want || want == "Secure" && !v.Expires.Equal(turn.Add(time.Hour)) {
				t.Errorf("%v after %v: %s until %v, want %s", after, turn, got, v.Expires, want)
			}
		}
	}
}

// V-20: the skew is tolerated before Inception only, and as configured.
func TestClockSkew(t *testing.T) {
	z := newForger(t, "example.")
	set := rrs(t, "www.example. 3600 A 192.0.2.1")
	for _, row := range []struct {
		skew, inception, expiration time.Duration
		want                        string
	}{
		{0, 0, time.Hour, "Secure"}, {0, time.Second, time.Hour, "Bogus, EDE 8"},
		{time.Hour, time.Hour, 2 * time.Hour, "Secure"},
		{time.Hour, time.Hour + time.Second, 2 * time.Hour, "Bogus, EDE 8"},
		{time.Hour, -2 * time.Hour, -time.Second, "Bogus, EDE 7"},
	} {
		c := denialCheck()
		c.Policy.ClockSkew = row.skew
		m := replyTo(t, "www.example. A", 0, append(slices.Clone(set), z.rrsig(t, set, func(s *dns.RRSIG) {
			s.Inception, s.Expiration = at(row.inception), at(row.expiration)
		})), nil)
		if got := told(c.Answer(asked("www.example. A"), m, zoneMap{"example.": z.zone})); got != row.want {
			t.Errorf("%+v: %s", row, got)
		}
	}
}

// Every sentence names the zone, the record, the key and the date.
func TestSignatureSentences(t *testing.T) {
	z := newForger(t, "example.")
	tag := z.dnskey.KeyTag()
	set := rrs(t, "www.example. 3600 MX 1 mx.example.")
	over := fmt.Sprintf("example.: the RRSIG over www.example. MX (key %d) ", tag)
	for _, row := range []struct {
		change edit
		want   string
	}{
		{func(s *dns.RRSIG) { s.Expiration = at(-time.Minute) }, over + "expired 2026-11-20 03:59 UTC"},
		{func(s *dns.RRSIG) { s.Inception = at(time.Hour) },
			over + "becomes valid only 2026-11-20 05:00 UTC; it is 2026-11-20 04:00 UTC here, check this host's clock"},
		{func(s *dns.RRSIG) { s.Expiration = at(-2 * time.Hour) },
			over + "expires 2026-11-20 02:00 UTC before it becomes valid 2026-11-20 03:00 UTC"},
		{func(s *dns.RRSIG) { s.Labels = 3 }, over + "has 3 labels, more than its owner"},
		{func(s *dns.RRSIG) { s.Labels = 0 }, over + "has 0 labels, fewer than its signer"},
		{func(s *dns.RRSIG) { s.Signature = "AAAA" }, over + "does not verify: the signature is wrong"},
		{func(s *dns.RRSIG) { s.KeyTag++ }, strings.Replace(over, fmt.Sprint(tag), fmt.Sprint(tag+1), 1) +
			"is by a key that the zone does not have, or that cannot be used"},
		{func(s *dns.RRSIG) { s.TypeCovered = dns.TypeA },
			"example.: www.example. MX came without an RRSIG of the zone"},
	} {
		sig := z.rrsig(t, set)
		row.change(sig)
		v := denialCheck().Answer(asked("www.example. MX"),
			replyTo(t, "www.example. MX", 0, append(slices.Clone(set), sig), nil),
			zoneMap{"example.": z.zone})
		f := v.Cause
		if f == nil || f.Error() != row.want || f.Zone != "example." || f.Owner != "www.example." ||
			f.Type != dns.TypeMX {
			t.Errorf("%+v, want %q", f, row.want)
		}
	}
}

// collide returns n further keys with the tag and algorithm of the zone's own, none of which made any signature.
func (f forger) collide(t testing.TB, n int) []*Key {
	t.Helper()
	var keys []*Key
	for range n {
		other := newForger(t, f.zone.Name)
		keys = append(keys, &Key{RR: other.dnskey, Tag: f.dnskey.KeyTag(), public: other.zone.Keys[0].public})
	}
	return keys
}

// L-1..L-3, V-24: colliding keys are tried, four for one signature and with four failures for one set.
func TestCollidingKeys(t *testing.T) {
	z := newForger(t, "example.")
	others := z.collide(t, 4)
	set := rrs(t, "www.example. 3600 A 192.0.2.1")
	for _, row := range []struct {
		name string
		keys []*Key
		want string
		cost int
	}{
		{"alone", z.zone.Keys, "Secure", 1},
		{"V-24 second of two", append(slices.Clone(others[:1]), z.zone.Keys...), "Secure", 2},
		{"L-2 fourth of four", append(slices.Clone(others[:3]), z.zone.Keys...), "Secure", 4},
		{"L-2 fifth of five", append(slices.Clone(others), z.zone.Keys...), "Bogus, EDE 6", 4},
	} {
		c := denialCheck()
		zone := &Zone{Name: "example.", Status: Secure, Keys: row.keys}
		m := replyTo(t, "www.example. A", 0, append(slices.Clone(set), z.rrsig(t, set)), nil)
		got := told(c.Answer(asked("www.example. A"), m, zoneMap{"example.": zone}))
		if cost := c.Work().Signatures; got != row.want || cost != row.cost {
			t.Errorf("%s: %s after %d checks, want %s after %d", row.name, got, cost, row.want, row.cost)
		}
	}
}

// 100 colliding keys and 100 RRSIGs cost four checks (L-3), and in as many sets never more than the query has
// (L-1).
func TestKeyTrap(t *testing.T) {
	z := newForger(t, "example.")
	zone := &Zone{Name: "example.", Status: Secure, Keys: slices.Repeat(z.collide(t, 4), 25)}
	trap := func(owner string) []dns.RR {
		set := rrs(t, owner+" 3600 CNAME x"+owner)
		out := slices.Clone(set)
		for i := range 100 {
			out = append(out, spoil(z.rrsig(t, set, func(s *dns.RRSIG) { s.Inception += uint32(i) })))
		}
		return out
	}
	c := denialCheck()
	v := c.Answer(asked("a.example. CNAME"), replyTo(t, "a.example. CNAME", 0, trap("a.example."), nil),
		zoneMap{"example.": zone})
	if cost := c.Work().Signatures; told(v) != "Bogus, EDE 6" || cost != maxFailures || v.Cause.Limit() {
		t.Errorf("%s (%v) after %d checks", told(v), v.Cause, cost)
	}
	for i := range 100 {
		owner := fmt.Sprintf("a%d.example.", i)
		c.Answer(asked(owner+" CNAME"), replyTo(t, owner+" CNAME", 0, trap(owner), nil), zoneMap{"example.": zone})
	}
	if cost := c.Work().Signatures; cost != c.SignatureChecks {
		t.Errorf("%d checks for one query", cost)
	}
	v = c.Answer(asked("b.example. A"), replyTo(t, "b.example. A", 0, z.set(t, "b.example. A 192.0.2.1"), nil),
		zoneMap{"example.": z.zone})
	if told(v) != "Indeterminate, EDE 0" || !errors.Is(v.Cause, LimitError("signature_checks")) ||
		!strings.Contains(v.Cause.Text, "128") {
		t.Errorf("L-12 with nothing left: %s (%v)", told(v), v.Cause)
	}
}

// L-3: a set that fails is given up after four failures or eight checks, whoever is said to have signed it, and keeps
// its own complaint; that is no limit of the query, as another upstream may have a better reply.
func TestGivingUp(t *testing.T) {
	z := newForger(t, "example.")
	set := rrs(t, "www.example. 3600 A 192.0.2.1")
	bad := func(i int) *dns.RRSIG {
		return spoil(z.rrsig(t, set, func(s *dns.RRSIG) { s.Inception -= uint32(i) }))
	}
	for n, want := range map[int]string{0: "Secure", 3: "Secure", 4: "Bogus, EDE 6", 50: "Bogus, EDE 6"} {
		answer := slices.Clone(set)
		for i := range n { // an earlier inception sorts before that of the good one
			answer = append(answer, bad(i+1))
		}
		answer = append(answer, z.rrsig(t, set))
		for range 2 {
			slices.Reverse(answer)
			c := denialCheck()
			v := c.Answer(asked("www.example. A"), replyTo(t, "www.example. A", 0, answer, nil),
				zoneMap{"example.": z.zone})
			if cost := c.Work().Signatures; told(v) != want || v.Cause.Limit() || cost > maxFailures {
				t.Errorf("%d bad ones: %s (%v) after %d checks, want %s", n, told(v), v.Cause, cost, want)
			}
		}
	}
	c := denialCheck()
	sets := reply(t, 0, append(slices.Clone(set), z.rrsig(t, set)), nil).Answer
	c.spentOn(sets[0]).checks = maxChecks
	_, f := c.verify(sets[0], z.zone)
	if f == nil || f.Limit() || !strings.Contains(f.Text, "gave up after 8 signature checks") {
		t.Errorf("L-1: %v", f)
	}
}

// A set judged again costs nothing, neither with the same keys nor when it failed; with keys fetched anew it is judged
// anew on what is left of its budget (L-6, V-14).
func TestJudgedAgain(t *testing.T) {
	z, other := newForger(t, "example."), newForger(t, "example.")
	q := asked("www.example. A")
	for _, row := range []struct {
		m    *Message
		want string
	}{
		{replyTo(t, "www.example. A", 0, z.set(t, "www.example. A 192.0.2.1"), nil), "Secure"},
		{replyTo(t, "www.example. A", 0, rrs(t, "www.example. A 192.0.2.1"), nil), "Bogus, EDE 10"},
	} {
		c := denialCheck()
		for range 3 {
			if got := told(c.Answer(q, row.m, zoneMap{"example.": z.zone})); got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
		}
		if cost := c.Work().Signatures; cost > 1 {
			t.Errorf("%d checks", cost)
		}
	}
	c := denialCheck()
	m := replyTo(t, "www.example. A", 0, z.set(t, "www.example. A 192.0.2.1"), nil)
	stale := told(c.Answer(q, m, zoneMap{"example.": other.zone}))
	fresh := told(c.Answer(q, m, zoneMap{"example.": z.zone}))
	if stale != "Bogus, EDE 9" || fresh != "Secure" {
		t.Errorf("with the keys before a roll %s, after it %s", stale, fresh)
	}
}

// L-7: before each eighth check the judge yields; an error ends the judgement as a limit.
func TestYield(t *testing.T) {
	z := newForger(t, "example.")
	ask := func(c *Check, i int) Verdict {
		name := fmt.Sprintf("a%d.example.", i)
		return c.Answer(asked(name+" A"), replyTo(t, name+" A", 0, z.set(t, name+" A 192.0.2.1"), nil),
			zoneMap{"example.": z.zone})
	}
	yields := 0
	c := denialCheck()
	c.Yield = func() error { yields++; return nil }
	for i := range 20 {
		if v := ask(c, i); told(v) != "Secure" || yields != i/8 {
			t.Errorf("check %d: %s after %d yields", i, told(v), yields)
		}
	}
	c = denialCheck()
	c.Yield = func() error { return errors.New("too late") }
	for i := range 8 {
		ask(c, i)
	}
	for i := range 2 {
		v := ask(c, 8+i)
		if told(v) != "Indeterminate, EDE 0" || !v.Cause.Limit() {
			t.Errorf("%s (%v)", told(v), v.Cause)
		}
	}
}

// L-7: what must not wait is done before each signature check and each hash.
func TestPause(t *testing.T) {
	z := newForger(t, "example.")
	pauses := 0
	c := denialCheck()
	c.Pause = func() { pauses++ }
	for i := range 3 {
		name := fmt.Sprintf("a%d.example.", i)
		c.Answer(asked(name+" A"), replyTo(t, name+" A", 0, z.set(t, name+" A 192.0.2.1"), nil),
			zoneMap{"example.": z.zone})
	}
	if w := c.Work(); w.Signatures != 3 || pauses != 3 {
		t.Errorf("%d pauses with %d signatures", pauses, w.Signatures)
	}
	c.Hash("a.example.", 1, "")
	if pauses != 4 {
		t.Errorf("%d pauses after a hash", pauses)
	}
	records := nsec3Lines("example.", 0, "-", 0, map[string]string{"example.": "NS SOA RRSIG"})
	if got := askOf(t, c, "nxdomain b.example.", records...); got != "Secure" || pauses < 4+c.Work().Hashes-1 {
		t.Errorf("%s: %d pauses with %d hashes", got, pauses, c.Work().Hashes)
	}
}

// Failures and statuses as values.
func TestValues(t *testing.T) {
	var none *Failure
	if name := LimitError("aliases").Error(); name != "aliases: limit reached" {
		t.Errorf("the limit is called %q", name)
	}
	limit := &Failure{Text: "a limit", Err: ErrLimit}
	if none.Limit() || !limit.Limit() || !errors.Is(limit, ErrLimit) || limit.Error() != "a limit" ||
		(&Failure{}).Limit() {
		t.Error("limits are not told from faults")
	}
	order := []Status{Indeterminate, Bogus, Insecure, Secure}
	for i, s := range order {
		for j, o := range order {
			if s.Join(o) != order[min(i, j)] {
				t.Errorf("%v joined with %v is %v", s, o, s.Join(o))
			}
		}
	}
	if fmt.Sprint(order, Status(9)) != "[Indeterminate Bogus Insecure Secure] Indeterminate" {
		t.Error(order, Status(9))
	}
	var zero Verdict
	if zero.Status != Indeterminate || (Zone{}).Status != Indeterminate || (Delegation{}).Cut != Unproven {
		t.Error("a zero value is trusted")
	}
}
