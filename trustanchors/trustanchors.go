// Package trustanchors holds the root zone's trust anchors and reads configured ones.
package trustanchors

import (
	"time"

	"github.com/miekg/dns"
)

// Set is a set of trust anchors by canonical zone name. DNSKEY anchors are kept as their SHA-256 DS.
type Set map[string][]*dns.DS

// Embedded returns the anchors of the root zone that are built in (T-1), as root.ds has them.
func Embedded() Set { panic("unbuilt") }

// Load reads anchors from a file: DS and DNSKEY records in zone-file form, or IANA's root-anchors.xml (RFC 9718, T-12) of which
// the entries valid at now are taken. Unsupported entries (algorithm, digest) are left out and told in warnings; a malformed one, or a
// zone of which none is left, is an error that names file and line (T-15). sha1 says whether algorithms 5 and 7 count as supported.
func Load(file string, now time.Time, sha1 bool) (set Set, warnings []string, err error) {
	panic("unbuilt")
}

// Merge adds the anchors of o to s.
func (s Set) Merge(o Set) { panic("unbuilt") }
