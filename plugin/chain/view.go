package chain

import (
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// view is what one client query knows of names, as it has it and all others have learned it. Nobody is asked.
type view struct {
	ground
	generation uint64 // with which it began
	epoch      uint64 // of failures, likewise
	stored     bool   // it rests on what no upstream was asked for

	mu       sync.Mutex
	learned  names[Place] // by this query; the store may hold it shorter
	likely   names[bool]  // names where a zone cut is likely (V-6a)
	insecure bool         // an insecure delegation was proven by this query (C-8)
}

func (c *Chain) newView() *view {
	return &view{generation: c.Store.generation.now.Load(), epoch: c.Store.Epoch(), ground: c.ground()}
}

// ground is what a client query begins with.
type ground struct {
	chain    *Chain
	anchors  map[string][]*dns.DS
	negative negativeAnchors
}

func (c *Chain) ground() ground {
	return ground{chain: c, anchors: c.Trusted(), negative: *c.negative.Load()}
}

// unanchored is the zone of all names that no anchor covers (V-1a).
var unanchored = &dnssec.Zone{Status: dnssec.Insecure}

// Keep calls f, which remembers what this query has found, if all that it began with holds, and until f returns. It
// reports whether that is so: else the finding is for those alone who wait for it (C-12, T-8).
func (v *view) Keep(f func()) (kept bool) { return v.chain.Store.generation.keep(v.generation, f) }

// Epoch is the Store's when this query began: a failure of it counts no longer in another.
func (v *view) Epoch() uint64 { return v.epoch }

// InsecureProven reports whether an insecure delegation was proven in this walk, and not known before (C-8).
func (v *view) InsecureProven() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.insecure
}

// Anchor implements dnssec.Zones. Where no anchor covers name no zone is Secure, and any bound will do (V-1a).
func (v *view) Anchor(name string) string {
	if zone, ok := v.anchor(name, v.chain.Now()); ok {
		return zone
	}
	return "."
}

// Known returns the deepest zone known on the way to name; nil if there is none. Nobody is asked.
func (v *view) Known(name string) *dnssec.Zone {
	zone, _, _ := v.deepest(name)
	return zone
}

// deepest is ground.deepest of all that this query knows.
func (v *view) deepest(name string) (zone *dnssec.Zone, at string, ends bool) {
	return v.ground.deepest(name, v.place)
}

// deepest returns the deepest zone known on the way to name, by the places that are known of names, and the name down
// to which that is known; ends if it decides for name. If none is known, that is nil and the anchor.
func (g ground) deepest(
	name string, place func(name string, now time.Time) Place,
) (zone *dnssec.Zone, at string, ends bool) {
	now := g.chain.Now()
	anchor, ok := g.anchor(name, now)
	if !ok {
		return unanchored, name, true
	}
	if z := g.negative.at(anchor, now); z != nil {
		return z, name, true
	}
	for at := range dnssec.Ancestors(name) {
		switch p := place(at, now).(type) {
		case Cut:
			return p.Zone, at, at == name || p.Zone.Status != dnssec.Secure
		case Within:
			if apex, ok := place(p.Zone, now).(Cut); ok {
				return apex.Zone, at, at == name || p.Below || apex.Zone.Status != dnssec.Secure
			}
		}
		if at == anchor {
			break
		}
	}
	return nil, anchor, false
}

// Hint takes from a reply where zone cuts are likely: the signers of signed data, the owner of SOA or NS of unsigned
// (V-6a). Hints choose questions, proofs decide.
func (v *view) Hint(reply *dnssec.Message) {
	for _, sets := range [][]*dnssec.RRset{reply.Answer, reply.Authority} {
		for _, set := range sets {
			for _, sig := range set.Sigs {
				v.expect(dnssec.Canonical(sig.SignerName))
			}
			if len(set.Sigs) == 0 && (set.Type == dns.TypeSOA || set.Type == dns.TypeNS) {
				v.expect(set.Owner)
			}
		}
	}
}

// Learn takes from a verdict what it has shown of DS on the way to the names that it needs (V-49, V-50h). It counts
// only by the deepest zone known above (V-8).
func (v *view) Learn(shown []dnssec.Shown) {
	for _, s := range shown {
		above, at, ends := v.deepest(s.Name)
		switch {
		case ends || at == s.Name || above == nil || above.Name != s.Above.Name:
		case s.Cut == dnssec.InsecureCut:
			v.learn(s.Name, Cut{dnssec.InsecureZone(s.Delegation)})
		default:
			v.note(s.Name, Within{Zone: above.Name})
		}
	}
}

// expect notes that name is likely to be a zone cut.
func (v *view) expect(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.likely.set(name, true)
}

// likelyCut returns the deepest name below at, down to name, where a cut is likely; "" if there is none.
func (v *view) likelyCut(at, name string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	for ; name != at; name = dnssec.Parent(name) {
		if v.likely.at(name) {
			return name
		}
	}
	return ""
}

// place returns what is known of name and still holds; nil if nothing is.
func (v *view) place(name string, now time.Time) Place {
	if p := v.learnedOf(name); p != nil {
		return p
	}
	return v.chain.Store.place(name, now)
}

// learnedOf returns what was learned of name in this walk and not from the store; nil if nothing was.
func (v *view) learnedOf(name string) Place {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.learned.at(name)
}

// learn keeps what was proven of name, in this walk and beyond. That a zone is Insecure is not learned of memory beyond
// the process: an old denial of its DS would let unsigned data pass for as long as it is signed (C-18).
func (v *view) learn(name string, p Place) Place {
	if _, failed := p.(Failed); !failed {
		v.note(name, p)
		if cut, ok := p.(Cut); v.stored && ok && cut.Zone.Status == dnssec.Insecure {
			return p
		}
		v.Keep(func() { v.chain.Store.learn(name, p, v.chain.Now(), v.chain.MaxTTL) })
	}
	return p
}

// note keeps what was proven of name for this walk, however short it lives.
func (v *view) note(name string, p Place) {
	if _, failed := p.(Failed); failed || p == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.learned.set(name, p)
	cut, ok := p.(Cut)
	v.insecure = v.insecure || ok && cut.Zone.Status == dnssec.Insecure
}
