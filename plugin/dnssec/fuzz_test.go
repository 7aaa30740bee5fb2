package dnssec

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// fuzzReplies are whole replies of the tree, as messages, which seed the fuzz tests: answers, wildcards, aliases,
// denials of both kinds, referrals' DS and DNSKEY, each with everything that makes it Secure.
func fuzzReplies(t testing.TB, w tree) []*dns.Msg {
	ex := func(lines ...string) []dns.RR { return w.example.each(t, lines...) }
	soa := "example. 300 SOA a. b. 1 2 3 4 60"
	nsec := ex("example. 300 NSEC c.example. NS SOA RRSIG NSEC", "c.example. 300 NSEC example. NS DS RRSIG NSEC", soa)
	nsec3 := ex(append(nsec3Lines("example.", 1, "ab", 0, map[string]string{"example.": "NS SOA RRSIG",
		"a.example.": "A RRSIG"}),
		soa)...)
	optOut := ex(append(nsec3Lines("example.", 1, "ab", 1, map[string]string{"example.": "NS SOA RRSIG"}), soa)...)
	wild := renamed("b.example.", w.example.set(t, "*.example. 60 TXT x"))
	mx := w.example.set(t, "a.example. 3600 MX 10 Mx.example.", "a.example. 1800 MX 20 b.example.")
	two := rrs(t, "c.example. 300 A 192.0.2.1")
	m := func(question string, rcode int, answer, authority []dns.RR) *dns.Msg {
		return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Rcode: rcode}, Question: []dns.Question{asked(question)},
			Answer: answer, Ns: authority}
	}
	return []*dns.Msg{
		m("a.example. MX", 0, mx, ex("example. 60 NS a.example.")),
		m("b.example. TXT", 0, wild, nsec),
		m("b.example. TXT", 0, wild, nsec3),
		m("b.example. TXT", 0, wild, optOut),
		m("a.example. A", nxdomain, nil, nsec3),
		m("b.example. A", nxdomain, nil, nsec),
		m("b.example. A", nxdomain, nil, nsec3),
		m("b.example. A", 0, nil, join(nsec, nsec3, optOut)),
		m("c.example. DS", 0, ex("c.example. 300 DS 1 13 2 "+
			"ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"), nil),
		m("c.example. DS", 0, nil, ex("c.example. 300 NSEC d.example. NS RRSIG NSEC")),
		m("c.example. A", 0, append(two, w.example.rrsig(t, two), w.child.rrsig(t, two)), nil),
		m("example. DNSKEY", 0, w.example.set(t, w.example.dnskey.String()), nil),
		m("x.example. A", 0, join(ex("x.example. 60 CNAME a.d.example.", "d.example. 30 DNAME c.example."),
			rrs(t, "a.d.example. 10 CNAME a.c.example."), w.child.set(t, "a.c.example. 300 A 192.0.2.1")), nil),
		m("x.example. A", nxdomain, ex("x.example. 60 CNAME b.example."), nsec),
		m("x.example. AAAA", 0, renamed("x.example.", w.example.set(t, "*.example. 60 CNAME c.example.")),
			join(nsec, w.child.each(t, "c.example. 60 NSEC a.c.example. NS SOA RRSIG NSEC",
				"c.example. 60 SOA a. b. 1 2 3 4 5"))),
		m("a.example. ANY", 0, join(mx, ex("a.example. 60 A 192.0.2.1", "a.example. 60 TXT x y")), nil),
		m("a.example. RRSIG", 0, mx[2:], nil),
		m("u.example. A", 0, rrs(t, "u.example. 60 A 192.0.2.1", "u.example. 60 CNAME a.example."),
			rrs(t, "u.example. 5 SOA a. b. 1 2 3 4 5")),
		m(". DS", 0, nil, w.root.each(t, ". 60 NSEC aaa. NS SOA RRSIG NSEC", ". 60 SOA a. b. 1 2 3 4 5")),
	}
}

// wires are the replies as octets.
func wires(t testing.TB, replies []*dns.Msg) [][]byte {
	var out [][]byte
	for _, m := range replies {
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, wire)
	}
	return out
}

// judgeAll puts a message to every door of the judge and returns what came out, in words.
func judgeAll(w tree, m *dns.Msg) []string {
	grouped, err := Group(m)
	if err != nil {
		return []string{err.Error()}
	}
	q := m.Question[0]
	name := dns.CanonicalName(q.Name)
	c := denialCheck()
	var out []string
	v := c.Answer(q, grouped.Clone(), w.zones)
	out = append(out, fmt.Sprintf("answer: %s, %v, TTL %d, until %v, %q", told(v), v.Cause, v.TTL, v.Expires, v.Last))
	if w := c.Work(); w.Signatures > c.SignatureChecks || w.Hashes > maxHashes {
		panic("over the budget")
	}
	for _, f := range []forger{w.root, w.example} {
		if name != f.zone.Name && dns.IsSubDomain(f.zone.Name, name) {
			d := denialCheck().Delegation(f.zone, name, grouped.Clone())
			out = append(out, fmt.Sprintf("delegation: %s, %v, until %v, %v", toldCut(d), d.Cause, d.Until, d.Expires))
		}
	}
	for _, f := range []forger{w.example, w.child} {
		z := denialCheck().Apex(DefaultPolicy().Anchor(f.zone.Name, []*dns.DS{f.dnskey.ToDS(dns.SHA256)}),
			grouped.Clone())
		out = append(out, fmt.Sprintf("apex: %s, %v, until %v, %v", toldZone(z), z.Cause, z.Until, z.Expires))
	}
	signers, apex := Hint(name, grouped)
	return append(out, fmt.Sprint("hint: ", signers, apex))
}

// unpacked reads octets as a message that the judge may be given: one question of class IN.
func unpacked(wire []byte) *dns.Msg {
	m := new(dns.Msg)
	if Unpack(m, wire) != nil || len(m.Question) != 1 {
		return nil
	}
	return m
}

// contents is what a set says, without its owner, which a wildcard changes.
func contents(set *RRset) string { return fmt.Sprintf("%d %x", set.Type, set.rdata) }

// honest are the contents of all sets that the zones of the tree have signed in the replies.
func honest(t testing.TB, replies []*dns.Msg) map[string]bool {
	known := map[string]bool{}
	for _, m := range replies {
		grouped, err := Group(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range slices.Concat(grouped.Answer, grouped.Authority) {
			if len(set.Sigs) > 0 {
				known[contents(set)] = true
			}
		}
	}
	return known
}

// FuzzMessages puts arbitrary messages to the judge, whose zones have their keys: never a panic, never more work than
// the budgets allow, and nothing is Secure in them that these zones did not sign, whatever octet of a reply was
// changed. Keys are parsed from the messages, too.
func FuzzMessages(f *testing.F) {
	w := newTree(f)
	replies := fuzzReplies(f, w)
	known := honest(f, replies)
	for _, wire := range wires(f, replies) {
		f.Add(wire)
		for at := 12; at < len(wire); at += 9 { // behind the header, a change here and there
			changed := bytes.Clone(wire)
			changed[at] ^= 1
			f.Add(changed)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := unpacked(wire)
		if m == nil {
			return
		}
		judgeAll(w, m)
		grouped, err := Group(m)
		if err != nil {
			return
		}
		v := denialCheck().Answer(m.Question[0], grouped, w.zones)
		for _, set := range slices.Concat(v.Answer, v.Authority) {
			if v.Status == Secure && len(set.Sigs) > 0 && !known[contents(set)] {
				t.Errorf("Secure, but not signed: %s %s\n%v", set.Owner, set.RRs, m)
			}
		}
		for _, rr := range slices.Concat(m.Answer, m.Ns) {
			if key, ok := rr.(*dns.DNSKEY); ok {
				if parsed, err := ParseKey(key); err == nil && parsed.public.verify(wire, wire) {
					t.Errorf("a key of the message verifies: %v", key)
				}
			}
		}
	})
}

// FuzzKeys parses arbitrary public keys of every algorithm and lets them verify: never a panic.
func FuzzKeys(f *testing.F) {
	for _, line := range []string{keyP256, keyP384, key3613, key9713, key9033, key3740, key20326} {
		key := dnskey(f, line)
		f.Add(key.Algorithm, []byte(key.PublicKey), []byte("signature"))
	}
	f.Add(uint8(8), rsaOctets([]byte{1, 0, 0, 0, 1}, bytes.Repeat([]byte{0xff}, 64)), bytes.Repeat([]byte{1}, 64))
	f.Add(uint8(8), rsaOctets([]byte{3}, bytes.Repeat([]byte{0xff}, 128)), make([]byte, 128))
	f.Fuzz(func(_ *testing.T, algorithm uint8, octets, signature []byte) {
		for _, key := range []string{string(octets), toBase64(octets)} {
			if parsed, err := ParseKey(&dns.DNSKEY{Algorithm: algorithm, PublicKey: key}); err == nil {
				parsed.public.verify([]byte("data"), signature)
			}
		}
	})
}

// trial is one set with its signature and its key in canonical octets, so that any octet can be changed.
type trial struct {
	algorithm            uint8
	data, signature, key []byte
}

// verifies says whether the trial holds with these parts.
func (tr trial) verifies(data, signature, key []byte) bool {
	public, err := parsePublic(tr.algorithm, key)
	return err == nil && public.verify(data, signature)
}

// FuzzChangedOctet changes one octet of the canonical signed data, of the signature or of the key: it never verifies
// any more.
func FuzzChangedOctet(f *testing.F) {
	trials := changeTrials(f)
	for i := range trials {
		for where := range uint16(3) {
			f.Add(uint8(i), uint8(where), uint16(0), uint8(1))
			f.Add(uint8(i), uint8(where), uint16(7*where+20), uint8(0x80))
		}
	}
	f.Fuzz(func(t *testing.T, which, where uint8, at uint16, by uint8) {
		tr := trials[int(which)%len(trials)]
		if by == 0 {
			return
		}
		parts := [][]byte{bytes.Clone(tr.data), bytes.Clone(tr.signature), bytes.Clone(tr.key)}
		if !tr.verifies(parts[0], parts[1], parts[2]) {
			t.Fatal("does not verify unchanged")
		}
		part := parts[int(where)%3]
		part[int(at)%len(part)] ^= by
		if tr.verifies(parts[0], parts[1], parts[2]) {
			t.Errorf("algorithm %d: verifies with octet %d of part %d changed by %#x", tr.algorithm,
				int(at)%len(part), where%3, by)
		}
	})
}

func changeTrials(t testing.TB) []trial {
	set := reply(t, 0, rrs(t, "www.example. 3600 MX 1 a.example.", "www.example. 3600 MX 2 b.example."), nil).Answer[0]
	var out []trial
	for _, algorithm := range []uint8{8, 13, 14, 15, 16} {
		key := newKey(t, "example.", algorithm)
		sig := signedBy(t, key, set.RRs...)[len(set.RRs)].(*dns.RRSIG)
		out = append(out, trial{algorithm, signedOver(set, sig), fromBase64(t, sig.Signature),
			fromBase64(t, key.DNSKEY.PublicKey)})
	}
	return out
}

// FuzzOrder shuffles and doubles the records of a reply that is good, or is out of order in a way that only a liar's
// is: neither the verdict nor its cause, its life or its hints depend on the order in which they came (L-3).
func FuzzOrder(f *testing.F) {
	w := newTree(f)
	replies := fuzzReplies(f, w)
	for seed := range uint64(1500) {
		f.Add(uint8(seed), uint8(seed/uint64(len(replies))%6), seed)
	}
	f.Fuzz(func(t *testing.T, which, changes uint8, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := replies[int(which)%len(replies)].Copy()
		for range changes % 8 {
			change(r, m, replies)
		}
		again := m.Copy()
		want := judgeAll(w, m)
		again.Answer, again.Ns = shuffled(r, again.Answer), shuffled(r, again.Ns)
		if got := judgeAll(w, again); !slices.Equal(got, want) {
			t.Errorf("%v\nas it came:\n%q\nin another order:\n%q\n%v", m, want, got, again)
		}
	})
}

// change does one thing to a reply.
func change(r *rand.Rand, m *dns.Msg, replies []*dns.Msg) {
	section := pick(r, &m.Answer, &m.Ns)
	if len(*section) == 0 {
		section = &m.Answer
	}
	if len(*section) == 0 {
		return
	}
	i := r.IntN(len(*section))
	rr := (*section)[i]
	sig, signed := rr.(*dns.RRSIG)
	switch kind := r.IntN(12); {
	case kind == 0:
		*section = slices.Delete(*section, i, i+1)
	case kind == 1:
		rr.Header().Ttl = r.Uint32() >> r.IntN(32)
	case kind == 2: // the same again with another TTL
		twin := dns.Copy(rr)
		twin.Header().Ttl = uint32(r.IntN(100))
		*section = append(*section, twin)
	case kind == 3:
		other := replies[r.IntN(len(replies))].Copy()
		m.Answer, m.Ns = append(m.Answer, other.Answer...), append(m.Ns, other.Ns...)
	case kind == 4:
		m.Rcode = pick(r, 0, nxdomain)
	case kind == 5:
		m.Question[0].Qtype = pick(r, dns.TypeA, dns.TypeMX, dns.TypeDS, dns.TypeANY, dns.TypeCNAME, dns.TypeRRSIG)
	case kind == 6:
		rr.Header().Name = pick(r, "a.example.", "b.example.", "X.example.", "example.", "c.example.",
			"u.example.", ".")
	case !signed:
	case kind == 7:
		twin := *sig
		*section = append(*section, spoil(&twin))
	case kind == 8:
		sig.Labels = uint8(r.IntN(4))
	case kind == 9:
		sig.SignerName = pick(r, ".", "example.", "C.example.", "u.example.", "test.")
	case kind == 10:
		sig.Expiration = at(-1)
	case kind == 11:
		sig.KeyTag += uint16(r.IntN(2))
	}
}

// shuffled returns the records in a random order, some of them twice.
func shuffled(r *rand.Rand, records []dns.RR) []dns.RR {
	out := slices.Clone(records)
	for _, rr := range records {
		if r.IntN(3) == 0 {
			out = append(out, dns.Copy(rr))
		}
	}
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
