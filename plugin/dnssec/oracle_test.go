package dnssec

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// world is a small zone whose truths are read from its names alone, without a denial record: the oracle of the proofs.
type world struct {
	apex  string
	types map[string][]uint16 // of each owner, without RRSIG and NSEC; nothing stands below a delegation or a DNAME
}

// view is what one chain of denial records knows of a world: opt-out leaves unsigned delegations out.
type view struct {
	world
	chain   []*RRset
	names   map[string]bool          // the names that exist for it, empty non-terminals included
	flagged func(absent string) bool // whether the record that covers this name has the opt-out flag
}

var oracleLabels = []string{"a", "b", "c", "*", "B\\000", "aa"}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// below returns a random name of 1 to depth labels below apex.
func below(r *rand.Rand, apex string, depth int) string {
	name := strings.TrimPrefix(apex, ".")
	for range 1 + r.IntN(depth) {
		name = strings.ToLower(pick(r, oracleLabels...)) + "." + name
	}
	return name
}

// labelsOf, parentOf, ancestors and sortKey are the oracle's own arithmetic of names: nothing of it is shared with the
// judge.
func labelsOf(name string) []string { return dns.SplitDomainName(name) }

func parentOf(name string) string {
	if labels := labelsOf(name); len(labels) > 1 {
		return strings.Join(labels[1:], ".") + "."
	}
	return "."
}

// ancestors are the strict ancestors of name within the zone, nearest first.
func (w *world) ancestors(name string) []string {
	var up []string
	for name != w.apex {
		name = parentOf(name)
		up = append(up, name)
	}
	return up
}

// sortKey orders names as RFC 4034 section 6.1 does when compared as a string: no label of these worlds holds octets 0
// and 1 in a row.
func sortKey(name string) string {
	var key strings.Builder
	labels := labelsOf(name)
	slices.Reverse(labels)
	for _, label := range labels {
		label = strings.ReplaceAll(label, "\\000", "\x00\x02") // an octet 0 sorts after the end of a label
		key.WriteString(label + "\x00\x01")
	}
	return key.String()
}

func randomWorld(r *rand.Rand) world {
	w := world{pick(r, ".", "z.", "b.a."), map[string][]uint16{}}
	for range r.IntN(6) { // at depth 3 no chain has more than maxDenialRecords
		name := below(r, w.apex, 3)
		w.types[name] = randomTypes(r, strings.HasPrefix(name, "*."))
	}
	w.types[w.apex] = []uint16{dns.TypeNS, dns.TypeSOA}
	switch r.IntN(8) {
	case 0:
		w.types[w.apex] = append(w.types[w.apex], dns.TypeDNAME) // leaves little to ask
	case 1:
		w.types[w.apex] = append(w.types[w.apex], dns.TypeMX)
	}
	maps.DeleteFunc(w.types, func(name string, _ []uint16) bool { return w.hidden(name) })
	return w
}

// randomTypes returns what a name has. A wildcard has neither NS nor DNAME: RFC 4592 sections 4.2 and 4.4 leave open
// what that would mean.
func randomTypes(r *rand.Rand, wild bool) []uint16 {
	switch kind := r.IntN(8); {
	case kind == 0:
		return []uint16{dns.TypeCNAME}
	case kind == 1 && !wild:
		return []uint16{dns.TypeDNAME}
	case kind == 2 && !wild:
		return []uint16{dns.TypeA, dns.TypeDNAME}
	case kind == 3 && !wild:
		return []uint16{dns.TypeNS, dns.TypeDS}
	case kind <= 5 && !wild:
		return []uint16{dns.TypeNS}
	}
	return pick(r, []uint16{dns.TypeA}, []uint16{dns.TypeMX, dns.TypeTLSA}, []uint16{dns.TypeA, dns.TypeMX, 1234})
}

func (w *world) cut(name string) bool {
	t := w.types[name]
	return name != w.apex && slices.Contains(t, dns.TypeNS)
}

// hidden says that name lies below a delegation or a DNAME, so that nothing about it is this zone's to say.
func (w *world) hidden(name string) bool {
	return slices.ContainsFunc(w.ancestors(name), func(a string) bool {
		return w.cut(a) || slices.Contains(w.types[a], dns.TypeDNAME)
	})
}

// within returns the names with their empty non-terminals.
func (w *world) within(owners map[string][]uint16) map[string]bool {
	names := map[string]bool{}
	for name := range owners {
		names[name] = true
		for _, a := range w.ancestors(name) {
			names[a] = true
		}
	}
	return names
}

// nsecView makes the NSEC chain of the world.
func (w world) nsecView() view {
	owners := slices.SortedFunc(maps.Keys(w.types), func(a, b string) int {
		return strings.Compare(sortKey(a), sortKey(b))
	})
	v := view{world: w, names: w.within(w.types), flagged: func(string) bool { return false }}
	for i, owner := range owners {
		types := append(slices.Clone(w.types[owner]), dns.TypeRRSIG, dns.TypeNSEC)
		slices.Sort(types)
		v.chain = append(v.chain, validated(w.apex, &dns.NSEC{
			Hdr:        dns.RR_Header{Name: owner, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 3600},
			NextDomain: owners[(i+1)%len(owners)], TypeBitMap: types,
		}))
	}
	return v
}

// nsec3View makes an NSEC3 chain of the world with random parameters. With opt-out some unsigned delegations are left
// out, and the empty non-terminals that are there for them alone may be; each record that spans one has the flag,
// others may. The parameters never equal those of a chain without opt-out, as within one parameter set there is only
// one chain.
func (w world) nsec3View(r *rand.Rand, optOut bool) view {
	iterations, salt := uint16(r.IntN(3)), hex.EncodeToString([]byte(pick(r, "", "s")))
	if optOut {
		salt += "00ff"
	}
	hash := func(name string) string { return strings.ToLower(dns.HashName(name, dns.SHA1, iterations, salt)) }
	kept := maps.Clone(w.types)
	maps.DeleteFunc(kept, func(name string, types []uint16) bool {
		return optOut && w.cut(name) && len(types) == 1 && r.IntN(3) > 0
	})
	v := view{world: w, names: w.within(kept)}
	var left []string // out of the chain
	for _, name := range slices.Sorted(maps.Keys(w.within(w.types))) {
		_, owner := w.types[name]
		switch {
		case v.names[name]:
		case owner, r.IntN(2) == 0 && !strings.HasPrefix(name, "*."):
			left = append(left, hash(name))
		default:
			v.names[name] = true
			for _, a := range w.ancestors(name) {
				v.names[a] = true
			}
		}
	}
	byHash := map[string]string{}
	for name := range v.names {
		byHash[hash(name)] = name
	}
	// A name may have been put back as an ancestor of another after it was left out.
	left = slices.DeleteFunc(left, func(h string) bool { _, back := byHash[h]; return back })

	hashes := slices.Sorted(maps.Keys(byHash))
	flags := map[string]uint8{}
	last := func(h string) string { // the owner of the record that covers h
		i, _ := slices.BinarySearch(hashes, h)
		return hashes[(i+len(hashes)-1)%len(hashes)]
	}
	for _, h := range hashes {
		if optOut && r.IntN(2) == 0 {
			flags[h] = 1
		}
	}
	for _, h := range left {
		flags[last(h)] = 1
	}
	v.flagged = func(absent string) bool { return flags[last(hash(absent))] == 1 }
	for i, h := range hashes {
		types := slices.Clone(w.types[byHash[h]])
		if len(types) > 0 && !slices.Equal(types, []uint16{dns.TypeNS}) {
			types = append(types, dns.TypeRRSIG)
			slices.Sort(types)
		}
		v.chain = append(v.chain, validated(w.apex, &dns.NSEC3{
			Hdr: dns.RR_Header{Name: h + "." + strings.TrimPrefix(w.apex, "."), Rrtype: dns.TypeNSEC3,
				Class: dns.ClassINET, Ttl: 3600},
			Hash: dns.SHA1, Flags: flags[h], Iterations: iterations, SaltLength: uint8(len(salt) / 2), Salt: salt,
			HashLength: 20, NextDomain: hashes[(i+1)%len(hashes)], TypeBitMap: types,
		}))
	}
	return v
}

// truth is what the whole chain of a view proves about a question, in the words of ask: "" if nothing.
func (v *view) truth(kind, name string, qtype uint16, labels int) string {
	hidden := slices.ContainsFunc(v.ancestors(name), func(a string) bool {
		return v.names[a] && (v.cut(a) || slices.Contains(v.types[a], dns.TypeDNAME))
	})
	if hidden {
		return ""
	}
	var wild string
	soundness := "Secure"
	if !v.names[name] {
		closer, encloser := name, parentOf(name)
		for !v.names[encloser] {
			closer, encloser = encloser, parentOf(encloser)
		}
		wild = "*." + strings.TrimPrefix(encloser, ".")
		if v.flagged(closer) {
			soundness = "Insecure"
		}
		if kind == "expansion" && len(labelsOf(encloser)) != labels {
			return ""
		}
	}
	switch kind {
	case "nodata":
		return v.nodataTruth(name, wild, qtype, soundness)
	case "nxdomain":
		return v.unless(wild == "" || v.names[wild], soundness)
	case "expansion":
		return v.unless(wild == "", soundness)
	}
	nodata := v.nodataTruth(name, wild, dns.TypeDS, soundness)
	switch {
	case nodata == "Insecure", nodata == "Secure" && v.cut(name):
		return nodata + ", insecure cut"
	case nodata == "Secure":
		return "Secure, no cut"
	case wild != "" && !v.names[wild]:
		return "Secure, no cut below"
	}
	return ""
}

func (v *view) nodataTruth(name, wild string, qtype uint16, soundness string) string {
	switch {
	case wild == "":
		return v.unless(!v.noData(name, qtype), "Secure")
	case v.names[wild] && v.noData(wild, qtype):
		return soundness
	}
	// opt-out: whatever is asked, an unsigned delegation may be there
	return v.unless(soundness == "Secure", "Insecure")
}

func (v *view) unless(not bool, answer string) string {
	if not {
		return ""
	}
	return answer
}

// noData says that the name, which exists, answers a question for qtype with no data.
func (v *view) noData(name string, qtype uint16) bool {
	types := v.types[name]
	switch {
	case qtype == dns.TypeANY:
		return len(types) == 0
	case slices.Contains(types, qtype) || slices.Contains(types, dns.TypeCNAME):
		return false
	case v.cut(name):
		return qtype == dns.TypeDS // all else is the child's
	}
	return name != v.apex || qtype != dns.TypeDS || name == "." // the DS of an apex is the parent's
}

// question is one that may be put to a view; its words are those of ask.
type question struct {
	kind, name string
	qtype      uint16
	labels     int
}

func (q question) String() string {
	switch q.kind {
	case "nodata":
		return fmt.Sprint("nodata ", q.name, " ", dns.TypeToString[q.qtype])
	case "expansion":
		return fmt.Sprint("expansion ", q.name, " ", q.labels)
	}
	return q.kind + " " + q.name
}

// randomQuestion asks about any name near those of the world. For an expansion the wildcard that the signature names
// exists: its own signature says so.
func (w *world) randomQuestion(r *rand.Rand) question {
	q := question{kind: pick(r, "nodata", "nodata", "nxdomain", "expansion", "nods"), name: below(r, w.apex, 4)}
	if r.IntN(3) == 0 {
		q.name = pick(r, slices.Sorted(maps.Keys(w.types))...)
	}
	q.qtype = pick(r, dns.TypeA, dns.TypeMX, dns.TypeTLSA, dns.TypeDS, dns.TypeCNAME, dns.TypeANY, dns.TypeNS)
	if q.kind == "expansion" {
		var up []string
		for _, a := range w.ancestors(q.name) {
			if _, ok := w.types["*."+strings.TrimPrefix(a, ".")]; ok {
				up = append(up, a)
			}
		}
		if len(up) == 0 {
			q.kind = "nxdomain"
		} else {
			q.labels = len(labelsOf(pick(r, up...)))
		}
	}
	if q.kind == "nods" && q.name == w.apex {
		q.kind = "nodata"
	}
	return q
}

// judge asks q and returns the answer as truth puts it.
func judge(w *world, q question, sets []*RRset) (string, proof) {
	got, p := ask(denialCheck(), admitted(w.apex, sets...), q.String())
	if p.status < Insecure {
		return "", p
	}
	return got, p
}

// checkView holds the judge against one question: the whole chain proves what is true, a part of it the same or
// nothing, in any order, and what a proof rests on is all that it needs and no more.
func checkView(t *testing.T, r *rand.Rand, v *view, q question) {
	want := v.truth(q.kind, q.name, q.qtype, q.labels)
	sets := slices.Clone(v.chain)
	r.Shuffle(len(sets), func(i, j int) { sets[i], sets[j] = sets[j], sets[i] })
	got, p := judge(&v.world, q, sets)
	if got != want {
		t.Fatalf("%s in %s: %q, the truth is %q\n%s", q, v.apex, got, want, v)
	}
	if got != "" {
		checkMinimal(t, v, q, got, p.used)
	}
	part := slices.DeleteFunc(sets, func(*RRset) bool { return r.IntN(3) == 0 })
	if got, _ := judge(&v.world, q, part); got != "" && got != want {
		t.Fatalf("%s in %s: a part of the chain proves %q, the truth is %q\n%s", q, v.apex, got, want, v)
	}
}

func checkMinimal(t *testing.T, v *view, q question, want string, used []*RRset) {
	if got, _ := judge(&v.world, q, used); got != want {
		t.Fatalf("%s in %s: what proves %q proves %q alone\n%s", q, v.apex, want, got, v)
	}
	if !strings.HasPrefix(want, "Secure") {
		return // opt-out would do without the wildcard, but RFC 5155 section 8.7 asks clients to want it
	}
	for i := range used {
		rest := slices.Delete(slices.Clone(used), i, i+1)
		if got, _ := judge(&v.world, q, rest); got == want {
			t.Fatalf("%s in %s: %s is served but not needed\n%s", q, v.apex, used[i].RRs[0], v)
		}
	}
}

// checkMixed holds it against parts of two chains together, of either kind (V-50g, V-60): what they prove, one of them
// does.
func checkMixed(t *testing.T, r *rand.Rand, a, b *view, q question) {
	mixed := slices.DeleteFunc(slices.Concat(a.chain, b.chain), func(*RRset) bool { return r.IntN(3) == 0 })
	got, _ := judge(&a.world, q, mixed)
	truths := []string{a.truth(q.kind, q.name, q.qtype, q.labels), b.truth(q.kind, q.name, q.qtype, q.labels)}
	if got != "" && !slices.Contains(truths, got) {
		t.Fatalf("%s in %s: mixed %q, the truths are %q\n%s\n%s", q, a.apex, got, truths, a, b)
	}
}

func (v *view) String() string {
	var s strings.Builder
	for _, name := range slices.Sorted(maps.Keys(v.names)) {
		fmt.Fprintf(&s, "%s", name)
		for _, t := range v.types[name] {
			fmt.Fprintf(&s, " %s", dns.Type(t))
		}
		fmt.Fprintln(&s)
	}
	for _, set := range v.chain {
		fmt.Fprintln(&s, set.RRs[0])
	}
	return s.String()
}

// runOracle builds one world from the seed and asks it the number of questions.
func runOracle(t *testing.T, seed uint64, questions int) {
	r := rand.New(rand.NewPCG(seed, 4035))
	w := randomWorld(r)
	views := []view{w.nsecView(), w.nsec3View(r, false), w.nsec3View(r, true)}
	for range questions {
		q := w.randomQuestion(r)
		for i := range views {
			checkView(t, r, &views[i], q)
		}
		i := r.IntN(len(views))
		checkMixed(t, r, &views[i], &views[(i+1)%len(views)], q)
	}
}

// Whatever is proven is true, and what is true is proven: several thousand random zones with wildcards, empty
// non-terminals, delegations, DNAMEs and opt-out, under random questions (V-46..V-63).
func TestDenialOracle(t *testing.T) {
	for seed := range uint64(3000) {
		runOracle(t, seed, 8)
	}
}

// The oracle itself is tried: each kind of answer occurs often among its worlds, so that none of them goes untested.
func TestOracleReach(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 4035))
		w := randomWorld(r)
		for i, v := range []view{w.nsecView(), w.nsec3View(r, true)} {
			for range 8 {
				q := w.randomQuestion(r)
				seen[fmt.Sprint(i, " ", q.kind, " ", v.truth(q.kind, q.name, q.qtype, q.labels))]++
			}
		}
	}
	for _, want := range []string{
		"0 nodata Secure", "0 nodata ", "0 nxdomain Secure", "0 nxdomain ", "0 expansion Secure", "0 expansion ",
		"0 nods Secure, insecure cut", "0 nods Secure, no cut", "0 nods Secure, no cut below", "0 nods ",
		"1 nodata Secure", "1 nodata Insecure", "1 nodata ", "1 nxdomain Secure", "1 nxdomain Insecure", "1 nxdomain ",
		"1 expansion Secure", "1 expansion Insecure", "1 expansion ", "1 nods Secure, insecure cut",
		"1 nods Insecure, insecure cut", "1 nods Secure, no cut", "1 nods Secure, no cut below", "1 nods ",
	} {
		if seen[want] < 5 {
			t.Errorf("%q occurs %d times", want, seen[want])
		}
	}
}

// FuzzDenial puts random records beside each other: never a panic, the same verdict in every order, and nothing Secure
// about a name outside of the zone. The same input seeds a world of the oracle.
func FuzzDenial(f *testing.F) {
	f.Add(uint64(1), "a.z.", []byte("z.|1a.z.\x00\x04\x00\x00\x22\x01"))
	f.Add(uint64(2), "*.b.a.", []byte{})
	f.Fuzz(func(t *testing.T, seed uint64, name string, raw []byte) {
		runOracle(t, seed, 2)
		name = dns.CanonicalName(name)
		if _, ok := dns.IsDomainName(name); !ok {
			return
		}
		var wire [300]byte
		n, err := dns.PackDomainName(name, wire[:], 0, nil, false)
		if err != nil {
			return
		}
		if name, _, err = dns.UnpackDomainName(wire[:n], 0); err != nil {
			return
		}
		name = dns.CanonicalName(name)
		r := rand.New(rand.NewPCG(seed, 5155))
		sets := randomRecords(r, "z.", name, raw)
		for _, kind := range []string{"nodata", "nxdomain", "expansion", "nods"} {
			q := question{kind: kind, name: name, qtype: pick(r, dns.TypeA, dns.TypeDS, dns.TypeANY), labels: r.IntN(3)}
			e := admitted("z.", sets...)
			want, wp := ask(denialCheck(), e, q.String())
			if wp.status >= Insecure && !dns.IsSubDomain("z.", name) {
				t.Fatalf("%s: %s", q, want)
			}
			slices.Reverse(sets)
			got, gp := ask(denialCheck(), admitted("z.", sets...), q.String())
			if got != want || !slices.Equal(gp.used, wp.used) {
				t.Fatalf("%s: %s by %v, reversed %s by %v", q, want, wp.used, got, gp.used)
			}
		}
	})
}

// randomRecords cuts raw into the RDATA of NSEC and NSEC3 records, whose owners are at, around and far from name.
// Owners are distinct within a type, as Group makes them.
func randomRecords(r *rand.Rand, apex, name string, raw []byte) []*RRset {
	var sets []*RRset
	taken := map[string]bool{}
	for len(raw) > 0 && len(sets) < 24 {
		rdata := raw[:min(len(raw), 2+r.IntN(60))]
		raw = raw[len(rdata):]
		rr := randomRecord(r, apex, name, rdata)
		if rr == nil {
			continue
		}
		set := validated(apex, rr)
		set.Sigs[0].Labels = uint8(r.IntN(4))
		if key := fmt.Sprint(set.Type, set.Owner); !taken[key] {
			taken[key] = true
			sets = append(sets, set)
		}
	}
	return sets
}

func randomRecord(r *rand.Rand, apex, name string, rdata []byte) dns.RR {
	hashed := func(n string) string { return strings.ToLower(dns.HashName(n, dns.SHA1, uint16(r.IntN(2)), "")) }
	owner := pick(r, apex, name, "a."+name, "*."+apex, "b."+apex, hashed(name)+"."+apex, hashed(apex)+"."+apex)
	if r.IntN(2) == 0 {
		rdata = slices.Concat([]byte(pick(r, "\x01z\x00", "\x01a\x01z\x00", "\x02zz\x01z\x00", "\x01z\x01a\x01z\x00")),
			rdata)
	}
	hdr := dns.RR_Header{Name: owner, Rrtype: pick(r, dns.TypeNSEC, dns.TypeNSEC3), Class: dns.ClassINET, Ttl: 60,
		Rdlength: uint16(len(rdata))}
	rr, _, err := dns.UnpackRRWithHeader(hdr, rdata, 0)
	if err != nil || rr == nil {
		return nil
	}
	return rr
}
