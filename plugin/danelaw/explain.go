package danelaw

import (
	"context"
	"fmt"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// longestName is the length in octets of the longest name there is (RFC 1035 section 2.3.4).
const longestName = 255

// Explain asks q, past the cache of answers, and tells the chain of trust that its answer rests on. The error is for
// names that are not validated at all: private and special ones, and those that cannot be asked for.
func (h *Handler) Explain(ctx context.Context, q dns.Question) (*resolve.Explanation, error) {
	q.Name = dns.CanonicalName(q.Name)
	if h.names.private.cover(q.Name) {
		return nil, fmt.Errorf("%s is private: it is passed to the plugins below danelaw as it is, and never validated",
			q.Name)
	}
	if _, ok := h.names.special(q); ok {
		return nil, fmt.Errorf("%s is a special name: danelaw answers it itself, without asking anybody", q.Name)
	}
	if tooLong(q.Name) {
		return nil, fmt.Errorf("%s has more than the %d octets that a name can have: it cannot be asked for", q.Name,
			longestName)
	}
	return h.resolving.Explain(ctx, q), nil
}

// tooLong reports whether a name cannot be asked for.
func tooLong(name string) bool {
	_, err := dns.PackDomainName(name, make([]byte, longestName), 0, nil, false)
	return err != nil
}

// Unvalidated is what there is to tell of a name for which [Handler.Explain] has an error: of a special one the answer
// that clients get, of another nothing but the error.
func (h *Handler) Unvalidated(q dns.Question, err error) *resolve.Explanation {
	q.Name = dns.CanonicalName(q.Name)
	if re, ok := h.names.special(q); ok && !h.names.private.cover(q.Name) {
		return &resolve.Explanation{Answer: &resolve.Answer{Status: dnssec.Insecure, Rcode: re.rcode, Answer: re.answer,
			Ns: re.ns}}
	}
	note := &dnssec.Failure{Owner: q.Name, Type: q.Qtype, Text: err.Error()}
	return &resolve.Explanation{Answer: &resolve.Answer{Rcode: dns.RcodeServerFailure, Notes: []*dnssec.Failure{note}}}
}
