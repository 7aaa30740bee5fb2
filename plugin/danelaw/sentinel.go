package danelaw

import (
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// The beginnings of labels by which clients ask which keys the root is trusted by (RFC 8509 section 3).
const (
	isTA  = "root-key-sentinel-is-ta-"
	notTA = "root-key-sentinel-not-ta-"
)

// sentinel reads the first label of a canonical name as a statement about the trust anchors of the root.
func sentinel(name string) (tag uint16, is, ok bool) {
	label, _, _ := strings.Cut(name, ".")
	digits, is := strings.CutPrefix(label, isTA)
	if !is {
		if digits, ok = strings.CutPrefix(label, notTA); !ok {
			return 0, false, false
		}
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return uint16(n), is, err == nil && len(digits) == 5
}

// sentinels reports whether a question is one of RFC 8509.
func sentinels(q dns.Question) bool {
	_, _, ok := sentinel(q.Name)
	return ok && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA)
}

// untrueOf reports whether an answer is withheld, as its name says something of the root's trust anchors that is not so
// (T-17).
func (q *query) untrueOf(root []*dns.DS, a *resolve.Answer) bool {
	if !sentinels(q.question()) || a.Status != dnssec.Secure || q.CheckingDisabled {
		return false
	}
	tag, is, _ := sentinel(q.name())
	return is != slices.ContainsFunc(root, func(ds *dns.DS) bool { return ds.KeyTag == tag })
}

// untrue is the reply to such a question. It says of nobody's data that it is wrong.
func untrue(q *query) reply {
	return reply{verdict: secure, rcode: dns.RcodeServerFailure, notes: []*dnssec.Failure{{
		Code: dns.ExtendedErrorCodeOther,
		Text: q.name() + " says something of the root's trust anchors that is not so here (RFC 8509)",
	}}}
}
