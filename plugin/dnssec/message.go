package dnssec

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/miekg/dns"
)

// maxRRs is how many records an RRset may have (L-11): a real SPF host has over 260 TXT records.
const maxRRs = 1024

// RRset is all records of one owner, class IN and type in one section of a reply, with the RRSIGs that cover them.
type RRset struct {
	Owner string // canonical: lower-case FQDN in miekg's presentation form
	Type  uint16
	RRs   []dns.RR     // duplicates removed, in canonical order (V-26, V-30); owner case as received
	Sigs  []*dns.RRSIG // RRSIGs with this owner and Type Covered, duplicates removed, in canonical order
	// TTL is the smallest received TTL of the set, and after a successful verification also at most the TTL of the
	// RRSIG and its Original TTL (V-21, C-1). Seconds.
	TTL uint32

	rdata   [][]byte // canonical RDATA of each record
	sigdata [][]byte // and of each RRSIG
	judged  judged
}

// String names s in a sentence.
func (s *RRset) String() string { return s.Owner + " " + dns.Type(s.Type).String() }

// Message is a reply sorted into RRsets, in order of first appearance. The additional section is not kept: nothing in
// it ever answers a question (C-8).
type Message struct {
	Rcode     int
	Answer    []*RRset
	Authority []*RRset
}

// Group sorts m into RRsets; it must not run while another goroutine uses m. Records of a class other than IN, and such
// as cannot be packed, are dropped. RRSIGs that cover nothing present become an RRset of type RRSIG if the question
// asks for RRSIG or ANY. The error is a *Failure of code 0 that wraps [ErrLimit] when m has more than 1024 records in
// one RRset (L-11).
func Group(m *dns.Msg) (*Message, error) {
	keep := len(m.Question) == 1 && (m.Question[0].Qtype == dns.TypeRRSIG || m.Question[0].Qtype == dns.TypeANY)
	answer, err := section(m.Answer, keep)
	if err != nil {
		return nil, err
	}
	authority, err := section(m.Ns, false)
	if err != nil {
		return nil, err
	}
	return &Message{Rcode: m.Rcode, Answer: answer, Authority: authority}, nil
}

// Clone returns m for another [Check] to judge. Records are shared, and judging does not change them; what it does
// change, the TTLs of sets, is the clone's own.
func (m *Message) Clone() *Message {
	return &Message{Rcode: m.Rcode, Answer: cloneSets(m.Answer), Authority: cloneSets(m.Authority)}
}

func cloneSets(sets []*RRset) []*RRset {
	all := make([]RRset, len(sets))
	clones := make([]*RRset, len(sets))
	for i, set := range sets {
		all[i] = *set
		all[i].judged = judged{}
		clones[i] = &all[i]
	}
	return clones
}

// setKey names one RRset of a section. The NSEC of a child's apex and that of its parent have one owner, and are two
// sets.
type setKey struct {
	owner string
	rtype uint16
	apex  bool // an NSEC with the bit of SOA
}

func keyOf(rr dns.RR) setKey {
	key := setKey{owner: Canonical(rr.Header().Name), rtype: rr.Header().Rrtype}
	if key.rtype == dns.TypeNSEC {
		nsec, ok := Typed(rr).(*dns.NSEC)
		key.apex = ok && slices.Contains(nsec.TypeBitMap, dns.TypeSOA)
	}
	return key
}

// sets are those of one section, in order of first appearance.
type sets struct {
	all   []*RRset
	keys  []setKey
	byKey map[setKey]*RRset // nil as long as they are few
	spare []single          // memory for more
}

// single is an RRset with memory for one record and one signature, as most have.
type single struct {
	RRset
	rr             [1]dns.RR
	sig            [1]*dns.RRSIG
	rdata, sigdata [1][]byte
}

// newSets has memory for as many sets as those records make, if all records of a set stand together.
func newSets(rrs []dns.RR) *sets {
	n, before := 0, (*dns.RR_Header)(nil)
	for _, rr := range rrs {
		h := rr.Header()
		if h.Rrtype == dns.TypeRRSIG {
			continue
		}
		if before == nil || h.Rrtype != before.Rrtype || h.Name != before.Name {
			n++
		}
		before = h
	}
	return &sets{all: make([]*RRset, 0, n), keys: make([]setKey, 0, n), spare: make([]single, n)}
}

// fewSets are found without a map as soon as with one.
const fewSets = 12

func (s *sets) find(key setKey) *RRset {
	if s.byKey != nil {
		return s.byKey[key]
	}
	if i := slices.Index(s.keys, key); i >= 0 {
		return s.all[i]
	}
	return nil
}

// add adds a record to its set.
func (s *sets) add(rr dns.RR) {
	key := keyOf(rr)
	set := s.find(key)
	if set == nil {
		set = s.new()
		set.Owner, set.Type, set.TTL = key.owner, key.rtype, rr.Header().Ttl
		s.all, s.keys = append(s.all, set), append(s.keys, key)
		s.note(key, set)
	}
	set.RRs = append(set.RRs, rr)
	set.TTL = min(set.TTL, rr.Header().Ttl)
}

// new returns a set without anything.
func (s *sets) new() *RRset {
	if len(s.spare) == 0 {
		return new(RRset)
	}
	one := &s.spare[0]
	s.spare = s.spare[1:]
	one.RRs, one.Sigs = one.rr[:0], one.sig[:0]
	one.RRset.rdata, one.RRset.sigdata = one.rdata[:0], one.sigdata[:0]
	return &one.RRset
}

// note keeps a new set for find.
func (s *sets) note(key setKey, set *RRset) {
	switch {
	case s.byKey != nil:
		s.byKey[key] = set
	case len(s.all) > fewSets:
		s.byKey = make(map[setKey]*RRset, 2*fewSets)
		for i, key := range s.keys {
			s.byKey[key] = s.all[i]
		}
	}
}

// section sorts one section.
func section(rrs []dns.RR, keepSigs bool) ([]*RRset, error) {
	s := newSets(rrs)
	for _, rr := range rrs {
		if h := rr.Header(); h.Class == dns.ClassINET && h.Rrtype != dns.TypeRRSIG && h.Rrtype != dns.TypeOPT {
			s.add(rr)
		}
	}
	for _, rr := range rrs {
		sig, ok := rr.(*dns.RRSIG)
		if ok && sig.Hdr.Class == dns.ClassINET && !s.attach(sig) && keepSigs {
			s.add(rr)
		}
	}
	all := slices.DeleteFunc(s.all, func(s *RRset) bool { return !s.canonicalise() })
	return all, tooLarge(all)
}

// attach gives an RRSIG to the sets that it may cover, and reports whether there are any.
func (s *sets) attach(sig *dns.RRSIG) bool {
	found := false
	for _, apex := range []bool{false, true} {
		set := s.find(setKey{Canonical(sig.Hdr.Name), sig.TypeCovered, apex})
		if set != nil && sig.TypeCovered != dns.TypeRRSIG { // which nothing covers (V-25)
			set.Sigs = append(set.Sigs, sig)
			found = true
		}
	}
	return found
}

// tooLarge returns the failure of L-11, if any of sets is over the limit.
func tooLarge(sets []*RRset) error {
	for _, set := range sets {
		if len(set.RRs) > maxRRs {
			return limited("rrset_records", set.Owner, set.Type).Says(
				"%s: %d records in one RRset, more than the %d allowed", set, len(set.RRs), maxRRs)
		}
	}
	return nil
}

// canonicalise puts records and signatures in canonical order, without duplicates and without what cannot be packed,
// and reports whether anything is left.
func (s *RRset) canonicalise() bool {
	s.RRs, s.rdata = sortRRs(s.RRs, s.rdata)
	s.Sigs, s.sigdata = sortRRs(s.Sigs, s.sigdata)
	return len(s.RRs) > 0
}

// sortRRs orders records by their canonical RDATA (V-30) and removes duplicates (V-26): the one with the smallest TTL
// stays, whichever came first (L-3). A single one has its RDATA in the memory given.
func sortRRs[R dns.RR](rrs []R, memory [][]byte) ([]R, [][]byte) {
	if len(rrs) == 1 {
		if rdata := canonicalRDATA(rrs[0]); rdata != nil {
			return rrs, append(memory[:0], rdata)
		}
		return nil, nil
	}
	type packed struct {
		rr    R
		rdata []byte
	}
	all := make([]packed, 0, len(rrs))
	for _, rr := range rrs {
		if rdata := canonicalRDATA(rr); rdata != nil {
			all = append(all, packed{rr, rdata})
		}
	}
	slices.SortStableFunc(all, func(a, b packed) int {
		return cmp.Or(bytes.Compare(a.rdata, b.rdata), cmp.Compare(a.rr.Header().Ttl, b.rr.Header().Ttl))
	})
	all = slices.CompactFunc(all, func(a, b packed) bool { return bytes.Equal(a.rdata, b.rdata) })
	sorted, rdatas := make([]R, len(all)), make([][]byte, len(all))
	for i, p := range all {
		sorted[i], rdatas[i] = p.rr, p.rdata
	}
	return sorted, rdatas
}
