package dnssec

import "github.com/miekg/dns"

// RRset is all records of one owner, class IN and type in one section of a reply, with the RRSIGs that cover them.
type RRset struct {
	Owner string // canonical: lower-case FQDN in miekg's presentation form
	Type  uint16
	RRs   []dns.RR     // duplicates removed, in canonical order (V-26, V-30); owner case as received
	Sigs  []*dns.RRSIG // RRSIGs with this owner and Type Covered; none is judged yet
	// TTL is the smallest received TTL of the set, and after a successful verification also at most the TTL of the
	// RRSIG and its Original TTL (V-21, C-1). Seconds.
	TTL uint32
}

// Message is a reply sorted into RRsets, in order of first appearance. The additional section is not kept: nothing in it
// ever answers a question (C-8).
type Message struct {
	Rcode     int
	Answer    []*RRset
	Authority []*RRset
}

// Group sorts m into RRsets. Records of a class other than IN are dropped. The error is a *Failure of code 0 that wraps
// [ErrLimit] when m has more than 1024 records in one RRset (L-11). RRSIGs that cover nothing present become an RRset of type RRSIG
// only if the question asks for RRSIG or ANY; an empty RRset is no RRset.
func Group(m *dns.Msg) (*Message, error) { panic("unbuilt") }
