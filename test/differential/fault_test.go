package differential

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// breaker is one kind of fault.
type breaker struct {
	plan  func(*zones.Plan, Fault)     // changes the plan of its zone
	apply func(*Case, *tree, Fault)    // changes the signed zone, or its replies
	aim   func(*rand.Rand, *Zone) goal // picks the RRset that it is about; nil: it is about any
	// harmless faults change no verdict.
	harmless bool
	// fatal faults make the RRset that they are about Bogus, if its zone is signed.
	fatal bool
	// lies is set if the keys of the zone sign something that is not true of it.
	lies      bool
	needsTwin bool
}

// goal is the owner, relative to the tree, and the type of an RRset.
type goal struct {
	owner string
	t     uint16
}

// breakers are all kinds of faults, by name.
var breakers = map[string]*breaker{
	"signature": {apply: edited(corrupt), aim: someSet, fatal: true},
	"key":       {apply: edited(corruptKey), aim: keys, fatal: true},
	"ds-digest": {plan: withDS(func(ds *dns.DS, n uint64) { ds.Digest = flipHex(ds.Digest, n) }),
		aim: keys, fatal: true},
	"ds-tag": {plan: withDS(func(ds *dns.DS, n uint64) { ds.KeyTag ^= 1 << (n % 16) }), aim: keys,
		fatal: true, lies: true},
	"ds-algorithm":  {plan: withDS(otherAlgorithm), lies: true},
	"ds-length":     {plan: withDS(func(ds *dns.DS, _ uint64) { ds.Digest = ds.Digest[2:] }), lies: true},
	"labels":        {apply: edited(changeLabels), aim: someSet},
	"labels-signed": {apply: editedIn(signLabels), aim: someSet},
	"expired":       {apply: editedIn(resigned(-30, -2)), aim: someSet, fatal: true},
	"future":        {apply: editedIn(resigned(2, 30)), aim: someSet, fatal: true},
	"backwards":     {apply: editedIn(resigned(5, -5)), aim: someSet, fatal: true},
	"expired-zone":  {plan: times(-30, -2), aim: keys, fatal: true},
	"future-zone":   {plan: times(2, 30), aim: keys, fatal: true},
	"bitmap":        {apply: denials(changeBitmap), lies: true},
	"bitmap-raw":    {apply: denials(changeBitmapRaw)},
	"garbage-next":  {apply: denials(shorten), lies: true},
	"half-denial":   {apply: replies(halfDenial)},
	"no-authority": {apply: replies(func(_ *tree, _ *zones.Zone, _ Fault, _ dns.Question,
		m *dns.Msg) {
		m.Ns = nil
	})},
	"no-answer": {apply: replies(func(_ *tree, _ *zones.Zone, _ Fault, _ dns.Question,
		m *dns.Msg) {
		m.Answer = nil
	})},
	"no-signatures": {apply: replies(without(dns.TypeRRSIG))},
	"no-denial":     {apply: replies(without(dns.TypeNSEC, dns.TypeNSEC3))},
	"no-soa":        {apply: replies(without(dns.TypeSOA)), aim: someDenial, harmless: true},
	"foreign-proof": {apply: foreignProof},
	"other-proof":   {apply: replies(otherProof)},
	"parent-proof":  {apply: parentProof},
	"collated":      {apply: collated, harmless: true},
	"child-proof":   {apply: childProof, aim: delegationOf},
	"child-ds":      {apply: childDS, aim: delegationOf},
	"parent-signed": {apply: parentSigned, aim: someSet, lies: true},
	"duplicate":     {apply: replies(duplicate), harmless: true},
	"shuffle":       {apply: replies(shuffle), harmless: true},
	"ttl":           {apply: replies(raiseTTL), harmless: true},
	"case":          {apply: replies(upperCase), harmless: true},
	"case-next":     {apply: replies(upperNext)},
	"extra":         {apply: replies(extra)},
	"extra-in-set":  {apply: edited(addMember), aim: someSet, fatal: true},
	"garbage-rrsig": {apply: edited(garbage), aim: someSet, harmless: true},
	"rcode":         {apply: replies(otherRcode)},
	"mixed":         {apply: replies(mixedProof), needsTwin: true},
	"mixed-whole":   {apply: wholeTwin, needsTwin: true, harmless: true},
	"revoked":       {plan: withKeys(func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE }), lies: true},
	"no-zone-bit": {plan: withKeys(func(k *dns.DNSKEY) { k.Flags &^= dns.ZONE }), aim: keys,
		fatal: true, lies: true},
	"wrong-protocol": {plan: withKeys(func(k *dns.DNSKEY) { k.Protocol = 2 }), aim: keys, fatal: true, lies: true},
}

func keys(_ *rand.Rand, z *Zone) goal { return goal{z.Name, dns.TypeDNSKEY} }

func delegationOf(_ *rand.Rand, z *Zone) goal { return goal{z.Name, dns.TypeDS} }

// someSet picks one of the signed RRsets of a zone.
func someSet(r *rand.Rand, z *Zone) goal {
	goals := []goal{{z.Name, dns.TypeSOA}, {z.Name, dns.TypeNS}, {join("ns", z.Name), dns.TypeA}}
	for _, record := range z.Records {
		words := strings.Fields(record)
		if z.Denial == "compact" && strings.HasPrefix(words[0], "*") {
			continue // it is signed again for each name that is expanded from it
		}
		owner := z.Name
		if words[0] != top {
			owner = join(words[0], z.Name)
		}
		goals = append(goals, goal{owner, dns.StringToType[words[1]]})
	}
	return goals[r.IntN(len(goals))]
}

// someDenial picks a type that every zone denies at its top.
func someDenial(_ *rand.Rand, z *Zone) goal { return goal{z.Name, dns.TypeTLSA} }

func times(from, to int) func(*zones.Plan, Fault) {
	return func(p *zones.Plan, _ Fault) {
		p.Fault.Signing = func(c *zones.Config) { c.Inception, c.Expiration = inDays(from), inDays(to) }
	}
}

func inDays(n int) time.Time { return time.Now().Add(time.Duration(n) * 24 * time.Hour) }

// withDS changes each DS of the zone.
func withDS(change func(*dns.DS, uint64)) func(*zones.Plan, Fault) {
	return func(p *zones.Plan, f Fault) {
		before := p.Fault.DS
		p.Fault.DS = func(all []*dns.DS) []*dns.DS {
			if before != nil {
				all = before(all)
			}
			for _, ds := range all {
				change(ds, f.N)
			}
			return all
		}
	}
}

// withKeys changes the fields of a zone's keys, before they sign and before the DS are made.
func withKeys(change func(*dns.DNSKEY)) func(*zones.Plan, Fault) {
	return func(p *zones.Plan, _ Fault) {
		for _, k := range p.Config.Keys {
			change(k.DNSKEY)
		}
	}
}

func otherAlgorithm(ds *dns.DS, n uint64) {
	others := slices.DeleteFunc([]uint8{8, 10, 13, 14, 15, 16, 23, 5}, func(a uint8) bool { return a == ds.Algorithm })
	ds.Algorithm = others[n%uint64(len(others))]
}

func flipHex(digest string, n uint64) string {
	raw, err := hex.DecodeString(digest)
	if err != nil {
		panic(err) // the lab made it
	}
	raw[n%uint64(len(raw))] ^= 1 << (n >> 8 % 8)
	return hex.EncodeToString(raw)
}

func flipBase64(text string, n uint64) string {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		panic("no base64: " + text) // the lab made it
	}
	raw[n%uint64(len(raw))] ^= 1 << (n >> 8 % 8)
	return base64.StdEncoding.EncodeToString(raw)
}

// edited changes one RRset of a signed zone, and its signatures.
func edited(change func(rrs, sigs []dns.RR, f Fault) (newRRs, newSigs []dns.RR)) func(*Case, *tree, Fault) {
	return func(_ *Case, tr *tree, f Fault) {
		tr.zone(f.Zone).Edit(under(tr.name, f.Owner), f.Type, func(rrs, sigs []dns.RR) (_, _ []dns.RR) {
			return change(rrs, sigs, f)
		})
	}
}

// editedIn changes the signatures of one RRset, for which it may use the keys of the zone.
func editedIn(change func(z *zones.Zone, rrs, sigs []dns.RR, f Fault) (newSigs []dns.RR)) func(*Case, *tree, Fault) {
	return func(_ *Case, tr *tree, f Fault) {
		z := tr.zone(f.Zone)
		z.Edit(under(tr.name, f.Owner), f.Type, func(rrs, sigs []dns.RR) (_, _ []dns.RR) {
			if len(sigs) == 0 { // of another zone
				return rrs, sigs
			}
			return rrs, change(z, rrs, sigs, f)
		})
	}
}

func corrupt(rrs, sigs []dns.RR, f Fault) (_, _ []dns.RR) {
	for _, rr := range sigs {
		sig := rr.(*dns.RRSIG)
		sig.Signature = flipBase64(sig.Signature, f.N)
	}
	return rrs, sigs
}

func corruptKey(rrs, sigs []dns.RR, f Fault) (_, _ []dns.RR) {
	var changed []dns.RR
	for _, rr := range rrs {
		k := dns.Copy(rr).(*dns.DNSKEY)
		k.PublicKey = flipBase64(k.PublicKey, f.N)
		changed = append(changed, k)
	}
	return changed, sigs
}

// changeLabels changes the Labels field of a signature: one more, one less, or 0.
func changeLabels(rrs, sigs []dns.RR, f Fault) (_, _ []dns.RR) {
	for _, rr := range sigs {
		sig := rr.(*dns.RRSIG)
		switch f.N % 3 {
		case 0:
			sig.Labels++
		case 1:
			sig.Labels--
		default:
			sig.Labels = 0
		}
	}
	return rrs, sigs
}

// addMember adds an unsigned record to an RRset.
func addMember(rrs, sigs []dns.RR, _ Fault) (_, _ []dns.RR) {
	more := dns.Copy(rrs[0])
	switch rr := more.(type) {
	case *dns.A:
		rr.A = []byte{198, 51, 100, 66}
	case *dns.AAAA:
		rr.AAAA[15] ^= 0xff
	case *dns.MX:
		rr.Preference++
	case *dns.TLSA:
		rr.Certificate = flipHex(rr.Certificate, 0)
	case *dns.NS:
		rr.Ns = "evil." + rr.Hdr.Name
	case *dns.TXT:
		rr.Txt = []string{"unsigned"}
	case *dns.CNAME:
		rr.Target = "evil." + rr.Hdr.Name
	case *dns.DNAME:
		rr.Target = "evil." + rr.Hdr.Name
	case *dns.SOA:
		rr.Serial++
	default:
		panic("nothing to add to " + rrs[0].String())
	}
	return append(slices.Clone(rrs), more), sigs
}

// garbage puts a signature that does not verify before those that do.
func garbage(rrs, sigs []dns.RR, f Fault) (_, _ []dns.RR) {
	if len(sigs) == 0 {
		return rrs, sigs
	}
	bad := dns.Copy(sigs[0]).(*dns.RRSIG)
	switch f.N % 4 {
	case 0:
		bad.Signature = flipBase64(bad.Signature, f.N>>3)
	case 1:
		bad.KeyTag ^= 0x1234
	case 2:
		bad.Labels = uint8(dns.CountLabel(bad.Hdr.Name)) + 1
	default:
		bad.Expiration = uint32(inDays(-3).Unix())
	}
	return rrs, append([]dns.RR{bad}, sigs...)
}

// sign returns signatures by the keys of a zone over records, made as if their owner were another.
func sign(z *zones.Zone, rrs []dns.RR, as string, from, to int) []dns.RR {
	h := rrs[0].Header()
	sigs := world.Sign(renamed(rrs, as), inDays(from), inDays(to), z.Signers(h.Rrtype)...)
	return renamed(sigs, h.Name)
}

func renamed(rrs []dns.RR, owner string) (all []dns.RR) {
	for _, rr := range rrs {
		rr = dns.Copy(rr)
		rr.Header().Name = owner
		all = append(all, rr)
	}
	return all
}

func resigned(from, to int) func(*zones.Zone, []dns.RR, []dns.RR, Fault) []dns.RR {
	return func(z *zones.Zone, rrs, _ []dns.RR, _ Fault) []dns.RR {
		return sign(z, rrs, rrs[0].Header().Name, from, to)
	}
}

// signLabels signs an RRset as if it were expanded from a wildcard: the one below the parent of its owner, or one above
// the zone.
func signLabels(z *zones.Zone, rrs, sigs []dns.RR, f Fault) []dns.RR {
	owner := rrs[0].Header().Name
	ancestors := dns.CountLabel(owner) - 1
	if f.N%2 == 1 {
		ancestors = dns.CountLabel(z.Name) - 1
	}
	if ancestors < 1 {
		return sigs // the library signs nothing for a wildcard at the root
	}
	starts := dns.Split(owner)
	wild := "*." + owner[starts[len(starts)-ancestors]:]
	return sign(z, rrs, wild, -10, 10)
}

// replies changes the zone's replies to the questions that the fault is about.
func replies(change func(*tree, *zones.Zone, Fault, dns.Question, *dns.Msg)) func(*Case, *tree, Fault) {
	return func(_ *Case, tr *tree, f Fault) {
		z := tr.zone(f.Zone)
		z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
			if f.concerns(tr, q) {
				change(tr, z, f, q, m)
			}
			return m
		})
	}
}

func (f Fault) concerns(tr *tree, q dns.Question) bool {
	return (f.Type == 0 || f.Type == q.Qtype) && (f.Owner == "" || under(tr.name, f.Owner) == dns.CanonicalName(q.Name))
}

// denials changes one NSEC or NSEC3 record of each reply; it is always the same one for the same question.
func denials(change func(z *zones.Zone, f Fault, q dns.Question, rr dns.RR) (newSigs []dns.RR)) func(*Case, *tree,
	Fault) {
	return replies(func(_ *tree, z *zones.Zone, f Fault, q dns.Question, m *dns.Msg) {
		var at []int
		for i, rr := range m.Ns {
			if isDenial(rr) {
				at = append(at, i)
			}
		}
		if len(at) == 0 {
			return
		}
		rr := m.Ns[at[f.N%uint64(len(at))]]
		sigs := change(z, f, q, rr)
		if sigs == nil {
			return
		}
		m.Ns = slices.DeleteFunc(m.Ns, func(r dns.RR) bool { return covers(r, rr) })
		m.Ns = append(m.Ns, sigs...)
	})
}

func isDenial(rr dns.RR) bool {
	t := rr.Header().Rrtype
	return t == dns.TypeNSEC || t == dns.TypeNSEC3
}

// covers reports whether r is a signature over the RRset of rr.
func covers(r, rr dns.RR) bool {
	sig, ok := r.(*dns.RRSIG)
	return ok && sig.TypeCovered == rr.Header().Rrtype && sig.Hdr.Name == rr.Header().Name
}

// bitmapOf returns the type bit map of an NSEC or NSEC3 record.
func bitmapOf(rr dns.RR) *[]uint16 {
	switch rr := rr.(type) {
	case *dns.NSEC:
		return &rr.TypeBitMap
	case *dns.NSEC3:
		return &rr.TypeBitMap
	}
	panic("no denial: " + rr.String())
}

// toggleType adds a type to a bit map, or removes it if it is there.
func toggleType(rr dns.RR, t uint16) {
	types := bitmapOf(rr)
	if i, there := slices.BinarySearch(*types, t); there {
		*types = slices.Delete(slices.Clone(*types), i, i+1)
	} else {
		*types = slices.Insert(slices.Clone(*types), i, t)
	}
}

// toggles returns the type whose bit is changed in replies to questions for t.
func (f Fault) toggles(t uint16) uint16 {
	types := []uint16{t, dns.TypeCNAME, dns.TypeNS, dns.TypeSOA, dns.TypeDNAME, dns.TypeDS}
	return types[(f.N>>8)%uint64(len(types))]
}

func changeBitmap(z *zones.Zone, f Fault, q dns.Question, rr dns.RR) []dns.RR {
	toggleType(rr, f.toggles(q.Qtype))
	return sign(z, []dns.RR{rr}, rr.Header().Name, -10, 10)
}

func changeBitmapRaw(_ *zones.Zone, f Fault, q dns.Question, rr dns.RR) []dns.RR {
	types := []uint16{q.Qtype, dns.TypeTXT, dns.TypeNS, dns.TypeDS}
	toggleType(rr, types[(f.N>>8)%uint64(len(types))])
	return nil
}

// shorten changes the next name of an NSEC or NSEC3 record so that it covers no name.
func shorten(z *zones.Zone, _ Fault, _ dns.Question, rr dns.RR) []dns.RR {
	switch rr := rr.(type) {
	case *dns.NSEC:
		rr.NextDomain = `\000.` + rr.Hdr.Name
	case *dns.NSEC3:
		owner, _, _ := strings.Cut(rr.Hdr.Name, ".")
		rr.NextDomain = strings.ToUpper(owner[:31]) + nextDigit(owner[31])
	}
	return sign(z, []dns.RR{rr}, rr.Header().Name, -10, 10)
}

// nextDigit returns the digit after another in base32hex, and 0 after the last.
func nextDigit(c byte) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
	return string(digits[(strings.IndexByte(digits, strings.ToUpper(string(c))[0])+1)%len(digits)])
}

func without(types ...uint16) func(*tree, *zones.Zone, Fault, dns.Question, *dns.Msg) {
	lost := func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return slices.Contains(types, rr.Header().Rrtype) || ok && slices.Contains(types, sig.TypeCovered)
	}
	return func(_ *tree, _ *zones.Zone, _ Fault, q dns.Question, m *dns.Msg) {
		if !slices.Contains(types, q.Qtype) {
			m.Answer, m.Ns = slices.DeleteFunc(m.Answer, lost), slices.DeleteFunc(m.Ns, lost)
		}
	}
}

// halfDenial removes one NSEC or NSEC3 record from a reply.
func halfDenial(_ *tree, _ *zones.Zone, f Fault, _ dns.Question, m *dns.Msg) {
	var all []dns.RR
	for _, rr := range m.Ns {
		if isDenial(rr) {
			all = append(all, rr)
		}
	}
	if len(all) == 0 {
		return
	}
	gone := all[f.N%uint64(len(all))]
	m.Ns = slices.DeleteFunc(m.Ns, func(rr dns.RR) bool { return rr == gone || covers(rr, gone) })
}

// deny makes m a denial with the given authority section.
func deny(m *dns.Msg, f Fault, ns []dns.RR) {
	m.Answer, m.Ns, m.Rcode = nil, nil, dns.RcodeSuccess
	if f.N>>16&1 == 1 {
		m.Rcode = dns.RcodeNameError
	}
	for _, rr := range ns {
		m.Ns = append(m.Ns, dns.Copy(rr))
	}
}

// replaceDenial replaces the NSEC and NSEC3 records of m by those among records. The SOA stays.
func replaceDenial(m *dns.Msg, records []dns.RR) {
	other := func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return !isDenial(rr) && !(ok && (sig.TypeCovered == dns.TypeNSEC || sig.TypeCovered == dns.TypeNSEC3))
	}
	m.Ns = slices.DeleteFunc(m.Ns, func(rr dns.RR) bool { return !other(rr) })
	for _, rr := range records {
		if !other(rr) {
			m.Ns = append(m.Ns, dns.Copy(rr))
		}
	}
}

// proof returns what a zone proves about a name. A zone with compact denial makes a record for any name, but not for
// one below a delegation: there it gets the name of the delegation.
func (c *Case) proof(tr *tree, zone, name string) []dns.RR {
	for _, z := range c.Zones {
		if at := under(tr.name, z.Name); zone != z.Name && inside(zone, z.Name) && c.zone(zone).Denial == "compact" &&
			dns.IsSubDomain(at, name) {
			name = at
		}
	}
	return tr.zone(zone).Proof(name)
}

// foreignProof answers with a denial by another zone of the tree.
func foreignProof(c *Case, tr *tree, f Fault) {
	others := slices.DeleteFunc(slices.Clone(c.Zones), func(z Zone) bool { return z.Name == f.Zone || z.Unsigned })
	if len(others) == 0 {
		return
	}
	from := others[f.N%uint64(len(others))].Name
	other := tr.zone(from)
	replies(func(_ *tree, _ *zones.Zone, f Fault, q dns.Question, m *dns.Msg) {
		name := "nope." + other.Name
		if f.N>>8&1 == 1 {
			name = other.Name
		}
		if dns.IsSubDomain(other.Name, q.Name) && f.N>>9&1 == 1 {
			name = q.Name // a zone above denies a name below its own delegation
		}
		if f.N>>10&1 == 1 {
			deny(m, f, c.proof(tr, from, name))
		} else if len(m.Answer) == 0 {
			replaceDenial(m, c.proof(tr, from, name))
		}
	})(c, tr, f)
}

// otherProof answers with the zone's denial of another name.
func otherProof(tr *tree, z *zones.Zone, f Fault, q dns.Question, m *dns.Msg) {
	names := []string{"zzz." + z.Name, z.Name, "www." + z.Name, "ns." + z.Name, "x.ns." + z.Name,
		"*." + z.Name, "0." + q.Name}
	name := names[f.N%uint64(len(names))]
	if _, ok := dns.IsDomainName(name); !ok {
		return
	}
	if f.N>>8&1 == 1 {
		deny(m, f, z.Proof(name))
	} else if len(m.Answer) == 0 {
		replaceDenial(m, z.Proof(name))
	}
}

// parentProof answers with what the zone above proves about the delegation, or about the name asked.
func parentProof(c *Case, tr *tree, f Fault) {
	above := c.above(f.Zone)
	replies(func(tr *tree, z *zones.Zone, f Fault, q dns.Question, m *dns.Msg) {
		name := z.Name
		if f.N&1 == 1 {
			name = q.Name
		}
		if above == nil {
			deny(m, f, tr.Zone(".").Proof(name))
		} else {
			deny(m, f, c.proof(tr, above.Name, name))
		}
	})(c, tr, f)
}

// collated adds the denial of the zone's DS by the zone above to each denial, as a recursor does that puts all it has
// into a reply.
func collated(c *Case, tr *tree, f Fault) {
	proof := parentOf(c, tr, f.Zone).Proof(under(tr.name, f.Zone))
	replies(func(_ *tree, _ *zones.Zone, _ Fault, _ dns.Question, m *dns.Msg) {
		for _, rr := range proof {
			if sig, ok := rr.(*dns.RRSIG); len(m.Answer) == 0 &&
				(isDenial(rr) || ok && sig.TypeCovered != dns.TypeSOA) {
				m.Ns = append(m.Ns, dns.Copy(rr))
			}
		}
	})(c, tr, f)
}

func parentOf(c *Case, tr *tree, name string) *zones.Zone {
	if above := c.above(name); above != nil {
		return tr.zone(above.Name)
	}
	return tr.Zone(".")
}

// atDelegation changes the replies of the zone above to questions for the DS of a zone.
func atDelegation(c *Case, tr *tree, f Fault, change func(parent, child *zones.Zone, m *dns.Msg)) {
	parent, child := parentOf(c, tr, f.Zone), tr.zone(f.Zone)
	parent.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if q.Qtype == dns.TypeDS && dns.CanonicalName(q.Name) == child.Name {
			change(parent, child, m)
		}
		return m
	})
}

// childProof denies the DS of a zone with the denial record at that zone's own apex.
func childProof(c *Case, tr *tree, f Fault) {
	atDelegation(c, tr, f, func(_, child *zones.Zone, m *dns.Msg) { deny(m, Fault{}, child.Proof(child.Name)) })
}

// childDS answers for the DS of a zone with records that the zone itself has signed.
func childDS(c *Case, tr *tree, f Fault) {
	atDelegation(c, tr, f, func(_, child *zones.Zone, m *dns.Msg) {
		ds := child.DS(dns.SHA256)
		if len(ds) == 0 {
			return
		}
		m.Ns, m.Rcode, m.Answer = nil, dns.RcodeSuccess, nil
		for _, rr := range ds {
			rr.Hdr.Ttl = 3600
			m.Answer = append(m.Answer, rr)
		}
		m.Answer = append(m.Answer, sign(child, m.Answer, child.Name, -10, 10)...)
	})
}

// parentSigned adds a signature by the zone above to an RRset, or replaces the zone's own signatures by it.
func parentSigned(c *Case, tr *tree, f Fault) {
	parent := parentOf(c, tr, f.Zone)
	if len(parent.Keys) == 0 {
		return
	}
	tr.zone(f.Zone).Edit(under(tr.name, f.Owner), f.Type, func(rrs, sigs []dns.RR) (_, _ []dns.RR) {
		if len(sigs) == 0 {
			return rrs, sigs
		}
		theirs := sign(parent, rrs, rrs[0].Header().Name, -10, 10)
		if f.N%2 == 0 {
			theirs = append(theirs, sigs...)
		}
		return rrs, theirs
	})
}

func duplicate(_ *tree, _ *zones.Zone, _ Fault, _ dns.Question, m *dns.Msg) {
	for _, section := range []*[]dns.RR{&m.Answer, &m.Ns} {
		for _, rr := range slices.Clone(*section) {
			*section = append(*section, dns.Copy(rr))
		}
	}
}

func shuffle(_ *tree, _ *zones.Zone, f Fault, _ dns.Question, m *dns.Msg) {
	r := rand.New(rand.NewPCG(f.N, 0))
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		r.Shuffle(len(section), func(i, j int) { section[i], section[j] = section[j], section[i] })
	}
}

// raiseTTL raises TTLs above those that were signed: by the same amount in an RRset, or by different ones.
func raiseTTL(_ *tree, _ *zones.Zone, f Fault, _ dns.Question, m *dns.Msg) {
	for i, rr := range slices.Concat(m.Answer, m.Ns) {
		rr.Header().Ttl += 100000 + uint32(f.N%2)*uint32(i)
	}
}

// upperCase writes names in capitals where a signature does not depend on it (RFC 4034 section 6.2).
func upperCase(_ *tree, _ *zones.Zone, f Fault, _ dns.Question, m *dns.Msg) {
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		if f.N&1 == 0 {
			rr.Header().Name = strings.ToUpper(rr.Header().Name)
		}
		if f.N&2 == 0 {
			upperData(rr)
		}
	}
}

func upperData(rr dns.RR) {
	for _, name := range embedded(rr) {
		*name = strings.ToUpper(*name)
	}
}

// embedded returns the names in the RDATA of a record that are signed in lower case.
func embedded(rr dns.RR) []*string {
	switch rr := rr.(type) {
	case *dns.MX:
		return []*string{&rr.Mx}
	case *dns.NS:
		return []*string{&rr.Ns}
	case *dns.CNAME:
		return []*string{&rr.Target}
	case *dns.DNAME:
		return []*string{&rr.Target}
	case *dns.SOA:
		return []*string{&rr.Ns, &rr.Mbox}
	case *dns.RRSIG:
		return []*string{&rr.SignerName}
	}
	return nil
}

// upperNext writes the next name of NSEC in capitals, so that its signature no longer verifies (RFC 6840 section 5.1).
func upperNext(_ *tree, _ *zones.Zone, _ Fault, _ dns.Question, m *dns.Msg) {
	for _, rr := range m.Ns {
		if nsec, ok := rr.(*dns.NSEC); ok {
			nsec.NextDomain = strings.ToUpper(nsec.NextDomain)
		}
	}
}

// extra adds an unsigned RRset to a reply.
func extra(_ *tree, z *zones.Zone, f Fault, q dns.Question, m *dns.Msg) {
	switch address := record("extra." + z.Name + " 3600 A 198.51.100.66"); f.N % 5 {
	case 0:
		m.Answer = append(m.Answer, address)
	case 1:
		m.Ns = append(m.Ns, record(z.Name+" 3600 NS extra."+z.Name))
	case 2:
		m.Ns = append(m.Ns, address)
	case 3:
		m.Answer = append(m.Answer, record(q.Name+" 3600 SPF unsigned"))
	default:
		m.Answer = append([]dns.RR{record(q.Name + " 3600 CNAME extra." + z.Name)}, m.Answer...)
	}
}

func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// otherRcode swaps NOERROR and NXDOMAIN in a denial.
func otherRcode(_ *tree, _ *zones.Zone, _ Fault, _ dns.Question, m *dns.Msg) {
	switch {
	case len(m.Answer) > 0:
	case m.Rcode == dns.RcodeSuccess:
		m.Rcode = dns.RcodeNameError
	default:
		m.Rcode = dns.RcodeSuccess
	}
}

// mixedProof makes a denial of the first NSEC and the further NSEC3 records, or the reverse.
func mixedProof(tr *tree, z *zones.Zone, f Fault, q dns.Question, m *dns.Msg) {
	own, other := groups(z.Proof(q.Name)), groups(tr.twins[f.Zone].Proof(q.Name))
	if len(m.Answer) > 0 || len(own) < 2 || len(other) < 2 {
		return
	}
	if f.N%2 == 1 {
		own, other = other, own
	}
	replaceDenial(m, slices.Concat(own[0], slices.Concat(other[1:]...)))
}

// wholeTwin adds the whole proof of the other kind of denial. It leaves out zones of which the two kinds prove
// different things: with opt-out or too many iterations, and with compact denial, which makes NODATA of a name error.
func wholeTwin(c *Case, tr *tree, f Fault) {
	if z := c.zone(f.Zone); z.provesLess() || z.Denial == "compact" {
		return
	}
	replies(func(tr *tree, z *zones.Zone, f Fault, q dns.Question, m *dns.Msg) {
		own, other := z.Proof(q.Name), tr.twins[f.Zone].Proof(q.Name)
		if f.N%2 == 1 {
			own, other = other, own
		}
		if len(m.Answer) == 0 {
			replaceDenial(m, slices.Concat(own, other))
		}
	})(c, tr, f)
}

// groups returns the NSEC and NSEC3 records of a proof, each with its signatures.
func groups(proof []dns.RR) (all [][]dns.RR) {
	for _, rr := range proof {
		if isDenial(rr) {
			group := []dns.RR{rr}
			for _, sig := range proof {
				if covers(sig, rr) {
					group = append(group, sig)
				}
			}
			all = append(all, group)
		}
	}
	return all
}
