package danelaw

import (
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// names are those that are not simply asked for.
type names struct {
	private zoneSet // passed to the plugins below
	local   zoneSet // configured in another way: no special names (S-18)
}

func namesOf(c Config) names {
	n := names{zoneSet{}, c.routed(slices.Collect(maps.Keys(c.Anchors))...)}
	n.private.add(c.Private...)
	delete(n.local, ".")
	return n
}

// elsewhere reports whether the canonical name may be one that is not simply asked for.
func (n names) elsewhere(name string) bool {
	if n.private.cover(name) {
		return true
	}
	if !slices.Contains(specialEnds, lastLabel(name)) {
		return false
	}
	_, special := closest(specials, name)
	return special
}

// specialEnds are the last labels of special names, so that most names are seen to be none at once.
var specialEnds = func() (ends []string) {
	for zone := range specials {
		ends = append(ends, lastLabel(zone))
	}
	slices.Sort(ends)
	return slices.Compact(ends)
}()

// lastLabel is that of a canonical name; "" for the root.
func lastLabel(name string) string {
	name = name[:len(name)-1]
	return name[strings.LastIndexByte(name, '.')+1:]
}

// zoneSet is a set of canonical zone names.
type zoneSet map[string]bool

func (z zoneSet) add(names ...string) {
	for _, name := range names {
		z[name] = true
	}
}

// cover reports whether the canonical name is one of the zones or lies in one.
func (z zoneSet) cover(name string) bool {
	_, ok := z.closest(name)
	return ok
}

// closest returns the deepest of the zones that holds the canonical name.
func (z zoneSet) closest(name string) (string, bool) { return closest(z, name) }

func closest[T any](zones map[string]T, name string) (string, bool) {
	if len(zones) == 0 {
		return "", false
	}
	for at := range dnssec.Ancestors(name) {
		if _, ok := zones[at]; ok {
			return at, true
		}
	}
	return "", false
}

// specialTTL is how long a local answer may be kept (RFC 6303 section 3).
const specialTTL = 10800

// kind says what is answered for a special zone.
type kind uint8

const (
	nothing   kind = iota // no name exists, nor the zone itself
	empty                 // an empty zone: its apex exists
	noData                // every name exists and has no data
	localhost             // every name has the loopback addresses
)

// specials are the names that are answered here (S-18); asked upstream they would leak, fail or take seconds.
var specials = specialZones()

func specialZones() map[string]kind {
	zones := map[string]kind{
		"localhost.": localhost, // RFC 6761 section 6.3
		"invalid.":   nothing,   // RFC 6761 section 6.4
		"test.":      nothing,   // RFC 6761 section 6.2
		"onion.":     nothing,   // RFC 7686 section 2
		"local.":     nothing,   // RFC 6762 section 22.1
		"alt.":       nothing,   // RFC 9476 section 3.2

		"home.arpa.":     empty,  // RFC 8375 section 4
		"service.arpa.":  empty,  // RFC 9665 section 10.1
		"resolver.arpa.": noData, // RFC 9462 section 4: the sign that there is no designated resolver
	}
	for _, reverse := range reverseZones() {
		zones[reverse] = empty
	}
	return zones
}

// reverseZones are those of RFC 6303 section 4 and RFC 7793.
func reverseZones() []string {
	zones, _ := parseZones([]string{ // which are sound
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "255.255.255.255/32", "100.64.0.0/10",
		"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", // documentation
		"fd00::/8", "fe80::/10", strings.Repeat("0.", 32) + "ip6.arpa.", loopback6,
	})
	return zones
}

const loopback4 = "1.0.0.127.in-addr.arpa."

var loopback6 = "1." + strings.Repeat("0.", 31) + "ip6.arpa."

// special answers q if its name is special and not configured. Such an answer is local: not validated, never AD (S-19).
func (n names) special(q dns.Question) (reply, bool) {
	zone, ok := closest(specials, q.Name)
	if !ok || n.local.cover(q.Name) {
		return reply{}, false
	}
	if q.Qtype == dns.TypeDS && q.Name == zone && dns.IsSubDomain("arpa.", zone) {
		return reply{}, false // its insecurity is provable upstream (S-19, RFC 8375 section 4)
	}
	kind := specials[zone]
	re := reply{verdict: local, answer: specialRecords(q, zone, kind)}
	if len(re.answer) > 0 {
		return re, true
	}
	if !specialExists(q.Name, zone, kind) {
		re.rcode = dns.RcodeNameError
	}
	re.ns = []dns.RR{soa(zone)}
	return re, true
}

func specialExists(name, zone string, k kind) bool {
	return k == noData || k == localhost || k == empty && name == zone ||
		dns.IsSubDomain(name, loopback4) // it, and the empty non-terminals above
}

// specialRecords are the records that exist (S-20, RFC 6303 section 3).
func specialRecords(q dns.Question, zone string, k kind) []dns.RR {
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: specialTTL}
	apex := q.Name == zone && k != nothing
	switch {
	case q.Qtype == dns.TypeA && k == localhost:
		return []dns.RR{&dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)}}
	case q.Qtype == dns.TypeAAAA && k == localhost:
		return []dns.RR{&dns.AAAA{Hdr: head, AAAA: net.IPv6loopback}}
	case q.Qtype == dns.TypePTR && (q.Name == loopback4 || q.Name == loopback6):
		return []dns.RR{&dns.PTR{Hdr: head, Ptr: "localhost."}}
	case q.Qtype == dns.TypeSOA && apex:
		return []dns.RR{soa(zone)}
	case q.Qtype == dns.TypeNS && apex && k == empty:
		return []dns.RR{&dns.NS{Hdr: head, Ns: zone}}
	}
	return nil
}

// soa is that of RFC 6303 section 3.
func soa(zone string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: specialTTL},
		Ns:  zone, Mbox: "nobody.invalid.", Serial: 1, Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: specialTTL,
	}
}
