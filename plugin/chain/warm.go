package chain

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// warmCuts is how many unknown cuts below the deepest known zone are asked for: speculation must not become an amplifier (L-9).
const warmCuts = 2

// warm asks for the links of the chain that are not cached, at the same moment as for the answer. It only fills a cache:
// what it asks can never change a verdict.
func (w *query) warm(q dns.Question) { w.askAhead(w.speculate(q)) }

// warmTo does so for the zones that a reply rests on, all at once: the walk, which knows what the links say, asks for one after the
// other.
func (w *query) warmTo(names []string) {
	for _, name := range names {
		w.askAhead(w.toward(name))
	}
}

// askAhead asks for links as far as speculation may.
func (w *query) askAhead(links []dns.Question) {
	for _, link := range links {
		if w.r.flights.busy() || !w.account.Speculate(link) {
			return
		}
	}
}

// toward lists the links on the way to a zone. Where a reply hints at its cut, that is asked for, with the first one on the way; what lies
// between, the signer of its DS will tell (V-6a).
func (w *query) toward(zone string) (links []dns.Question) {
	at, m, ok := w.deepest(zone)
	switch {
	case !ok || m.ends() || at == zone:
		return nil
	case w.likelyCut(at, zone) != zone:
		return w.speculate(question(zone, dns.TypeA))
	}
	for _, cut := range slices.Compact([]string{zone, dnssec.Toward(at, zone)}) {
		links = append(links, question(cut, dns.TypeDS), question(cut, dns.TypeDNSKEY))
	}
	return links
}

// speculate lists the links worth asking for.
func (w *query) speculate(q dns.Question) (links []dns.Question) {
	name := q.Name
	if q.Qtype == dns.TypeDS {
		name = dnssec.Parent(name)
	}
	name = withoutUnderscore(name)
	at, m, ok := w.deepest(name)
	if !ok || m.ends() || m.flat || isReverse(name) {
		return nil
	}
	if m.zone == nil && m.above == "" {
		links = append(links, question(at, dns.TypeDNSKEY)) // an anchor whose keys are not known yet
	}
	for range warmCuts {
		if at == name {
			break
		}
		at = dnssec.Toward(at, name)
		links = append(links, question(at, dns.TypeDS), question(at, dns.TypeDNSKEY))
	}
	return links
}

// deepest returns the deepest name at or above name of which something is known, down to the anchor, of which the mark
// is empty if nothing is.
func (w *query) deepest(name string) (at string, m mark, ok bool) {
	anchor, ok := w.anchor(name)
	if !ok || w.negative(anchor) != nil {
		return "", mark{}, false
	}
	for at = name; ; at = dnssec.Parent(at) {
		if m, ok := w.mark(at); ok {
			return at, w.apexOf(m), true
		}
		if at == anchor {
			return at, mark{}, true
		}
	}
}

// apexOf returns the mark of the zone that a no-cut lies in, else m itself.
func (w *query) apexOf(m mark) mark {
	if m.cut == dnssec.NoCut {
		if apex, ok := w.mark(m.above); ok {
			return apex
		}
	}
	return m
}

// withoutUnderscore returns the longest ancestor-or-self of name that has no label beginning with an underscore: nobody
// delegates at or below such labels.
func withoutUnderscore(name string) string {
	rest := name
	for at := range dnssec.Ancestors(name) {
		if strings.HasPrefix(at, "_") {
			rest = dnssec.Parent(at)
		}
	}
	return rest
}
