package chain

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// mark is what is known of one name: whether it is a zone cut, and which zone it then is the apex of.
type mark struct {
	cut   dnssec.Cut   // never Unproven
	zone  *dnssec.Zone // of a SignedCut or InsecureCut; Secure or Insecure
	above string       // of NoCut and NoCutBelow: the apex of the zone it lies in
	since time.Time    // when they were learned
	until time.Time    // when the links must be fetched anew; use does not extend it (C-16)
	tried time.Time    // when they were last fetched past the cache (V-14)
	flat  bool         // the zone signs names below its apex itself, so cuts there are rare (warm)

	claimed bool // somebody fetches the links again, or has and got none that live longer (C-14)
}

// unanchored is the zone of all names that no anchor covers (V-1a).
var unanchored = &dnssec.Zone{Status: dnssec.Insecure}

// walkAll walks to all names at once.
func (w *query) walkAll(names []string) {
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() { w.find(name) })
	}
	all.Wait()
}

// find walks to name and notes the zone for the judge.
func (w *query) find(name string) {
	m := w.guarded(name, func() mark { return mark{zone: w.zone(name)} })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found[name] = m.zone
}

// zone returns the zone that name lies in: from the deepest known zone it climbs to where a cut is likely, then goes
// down label by label (V-6, V-6a), and stops at the first zone that is not Secure (V-1).
func (w *query) zone(name string) *dnssec.Zone {
	zone, at, ends := w.known(name)
	if ends {
		return zone
	}
	if cut := w.likelyCut(at, name); cut != "" {
		if m, ok := w.climb(zone, cut); ok {
			zone, at, ends = w.enter(m), cut, m.ends()
		}
	}
	for at != name && !ends && zone.Status == dnssec.Secure {
		at = dnssec.Toward(at, name)
		m := w.link(zone, at)
		if m.failed() {
			m, at = w.past(zone, m, at, name)
		}
		zone, ends = w.enter(m), m.ends()
	}
	return zone
}

// past finds a cut below a name whose links cannot be had, if that is none: servers that fail on DS of empty names are no
// obstacle where the zone above has signed what lies further down. As deep as speculation goes is deep enough.
func (w *query) past(zone *dnssec.Zone, failed mark, at, name string) (mark, string) {
	below := at
	for range warmCuts {
		if below == name || failed.zone.Cause.Limit() {
			break
		}
		below = dnssec.Toward(below, name)
		if m, ok := w.climb(zone, below); ok && !m.failed() {
			return m, below
		}
	}
	return failed, at
}

// ends reports whether m decides for all names below it too.
func (m mark) ends() bool {
	return m.cut == dnssec.NoCutBelow || m.zone != nil && m.zone.Status != dnssec.Secure
}

// enter returns the zone below a name of mark m: that of a cut, else the zone it lies in as it is known now.
func (w *query) enter(m mark) *dnssec.Zone {
	if m.zone != nil {
		return m.zone
	}
	return w.zone(m.above)
}

// known returns the deepest zone known on the way to name and the name down to which that holds; ends if it decides for
// name.
func (w *query) known(name string) (zone *dnssec.Zone, at string, ends bool) {
	anchor, ok := w.anchor(name)
	if !ok {
		return unanchored, name, true
	}
	if z := w.negative(anchor); z != nil {
		return z, name, true
	}
	for at = name; ; at = dnssec.Parent(at) {
		m, ok := w.mark(at)
		if ok {
			w.r.renewLinks(at, m)
		} else if at == anchor {
			m, ok = w.link(nil, at), true
		}
		if ok {
			zone = w.enter(m)
			return zone, at, at == name || m.ends() || zone.Status != dnssec.Secure
		}
	}
}

// likelyCut returns the deepest name below at, down to name, where a cut is likely; "" if there is none.
func (w *query) likelyCut(at, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ; name != at; name = dnssec.Parent(name) {
		if w.likely[name] {
			return name
		}
	}
	return ""
}

// climb judges the DS of cut by the zone whose signature or SOA is on the reply, with no question for the labels
// between (V-6a). It answers only what it can prove; else the way down finds out.
func (w *query) climb(base *dnssec.Zone, cut string) (m mark, proven bool) {
	got, f := w.fetch(question(cut, dns.TypeDS), fetch.RoleLink)
	if f != nil {
		return mark{}, false
	}
	signers, apex := dnssec.Hint(cut, got.Message)
	for _, signer := range slices.Concat(signers, []string{apex}) {
		if signer == "" || signer == cut || !dns.IsSubDomain(base.Name, signer) || !dns.IsSubDomain(signer, cut) {
			continue // a signer above the deepest known Secure zone proves nothing (V-8)
		}
		above := base
		if signer != base.Name {
			w.expect(signer)
			above = w.zone(signer)
		}
		switch above.Status {
		case dnssec.Secure:
		case dnssec.Insecure:
			return mark{cut: dnssec.InsecureCut, zone: above}, true
		default:
			continue // a false hint costs questions and no more
		}
		if w.delegation(above, cut, got).Cut != dnssec.Unproven {
			return w.link(above, cut), true
		}
	}
	return mark{}, false
}

// expect notes that name is likely to be a zone cut.
func (w *query) expect(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.likely[name] = true
}

// delegation judges a DS reply; a limit makes it Unproven.
func (w *query) delegation(above *dnssec.Zone, name string, got *fetch.Grouped) (d dnssec.Delegation) {
	if f := w.judge(func(c *dnssec.Check) { d = c.Delegation(above, name, got.Message) }); f != nil {
		return dnssec.Delegation{Name: name, Cause: f}
	}
	return d
}

// mark returns what is known of name and still holds.
func (w *query) mark(name string) (mark, bool) {
	if m, ok := w.noted(name); ok {
		return m, true
	}
	return w.r.Store.mark(name, w.r.now())
}

// learn keeps m for name, in this query and beyond, if it was proven.
func (w *query) learn(name string, m mark) mark {
	if m.failed() {
		return m
	}
	now := w.r.now()
	if most := now.Add(w.r.MaxTTL); m.until.After(most) {
		m.until = most
	}
	m.since = now.Truncate(time.Second) // whoever looks at the clock a moment earlier may use it too
	w.note(name, m)
	w.r.Store.failures.drop(linkKey(name))
	w.r.Store.setMark(name, m)
	return m
}

// note keeps m for this query, however short it lives.
func (w *query) note(name string, m mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.marks[name] = m
	w.fresh = w.fresh || m.cut == dnssec.InsecureCut
}

// noted returns what was learned of name in this query and not from the cache.
func (w *query) noted(name string) (mark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.marks[name]
	return m, ok
}

// chain returns every zone found on the way to those that the verdict rests on, parents before children.
func (w *query) chain() []*dnssec.Zone {
	w.mu.Lock()
	names := make([]string, 0, len(w.found))
	for _, z := range w.found {
		names = append(names, z.Name)
	}
	w.mu.Unlock()
	zones := map[string]*dnssec.Zone{}
	for _, name := range names {
		w.collect(zones, name)
	}
	var chain []*dnssec.Zone
	for _, z := range zones {
		chain = append(chain, z)
	}
	slices.SortFunc(chain, func(a, b *dnssec.Zone) int {
		return dnssec.Compare(a.Name, b.Name)
	})
	return chain
}

// collect adds the zones from name up to its anchor.
func (w *query) collect(zones map[string]*dnssec.Zone, name string) {
	anchor, ok := w.anchor(name)
	if z := w.negative(anchor); z != nil {
		zones[anchor] = z
		return
	}
	for least := dnssec.Indeterminate; ok; name = dnssec.Parent(name) {
		w.mu.Lock()
		z := w.found[name]
		w.mu.Unlock()
		if z == nil || z.Name != name {
			m, _ := w.mark(name)
			z = m.zone
		}
		if z != nil && z.Status >= least { // a Secure zone is not below an Insecure name: its DS needed no proof about that (V-62)
			zones[z.Name], least = z, z.Status
		}
		if name == anchor {
			return
		}
	}
}

func question(name string, qtype uint16) dns.Question {
	return dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
}

// isReverse reports whether name is in the reverse trees, where cuts are not at every label.
func isReverse(name string) bool {
	return strings.HasSuffix(name, ".in-addr.arpa.") || strings.HasSuffix(name, ".ip6.arpa.")
}
