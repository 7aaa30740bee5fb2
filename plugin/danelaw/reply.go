package danelaw

import (
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// verdict labels replies in metrics.
type verdict string

const (
	secure        verdict = "secure"
	insecure      verdict = "insecure"
	bogus         verdict = "bogus"
	indeterminate verdict = "indeterminate"
	local         verdict = "local"   // a special name (S-18)
	passed        verdict = "private" // left to the plugins below
	denied        verdict = "refused" // the client, the type, or RD=0
	invalid       verdict = "invalid" // no query that can be answered
)

// reply is what a client is told, whatever its transport.
type reply struct {
	verdict    verdict
	rcode      int
	answer, ns []dns.RR // with RRSIGs and proofs
	secure     bool     // worth AD
	truncated  bool     // ask again over TCP
	notes      []*dnssec.Failure
}

// refused is the reply to what danelaw does not answer.
func refused(ede uint16, format string, args ...any) reply {
	why := &dnssec.Failure{Code: ede, Text: fmt.Sprintf(format, args...)}
	return reply{verdict: denied, rcode: dns.RcodeRefused, notes: []*dnssec.Failure{why}}
}

// crash is the reply to a query that ran into a fault of danelaw's own (S-27).
func crash(q *query) reply {
	return reply{verdict: indeterminate, rcode: dns.RcodeServerFailure, notes: []*dnssec.Failure{{
		Code: dns.ExtendedErrorCodeOther, Text: q.String() + ": internal error, please report it",
	}}}
}

// unsupported answers the queries that are no question for data.
func unsupported(q *query) (reply, bool) {
	question := q.Question[0]
	switch {
	case q.Opcode != dns.OpcodeQuery: // S-22; NOTIFY, CoreDNS answers the others
		return reply{verdict: invalid, rcode: dns.RcodeNotImplemented}, true
	case question.Qclass != dns.ClassINET: // V-15; CoreDNS lets them through when a plugin such as chaos is loaded
		return refused(dns.ExtendedErrorCodeNotSupported, "class %s is not served", dns.Class(question.Qclass)), true
	case question.Qtype == dns.TypeNXNAME: // V-69b
		return reply{verdict: invalid, rcode: dns.RcodeFormatError, notes: []*dnssec.Failure{{
			Code: dns.ExtendedErrorCodeInvalidQueryType, Text: "NXNAME is no type that can be asked for",
		}}}, true
	case meta(question.Qtype): // V-71
		return refused(dns.ExtendedErrorCodeNotSupported, "type %s is not served", dns.Type(question.Qtype)), true
	case question.Qtype == dns.TypeANY && q.udp && !q.client.IsLoopback(): // V-70, S-17: no amplifier
		return reply{verdict: denied, truncated: true}, true
	}
	return reply{}, false
}

// meta reports whether t is no type of data. Type 0 is the one that stands for all types of a name in the cache (C-4):
// a denial of it must not become one of everything.
func meta(t uint16) bool {
	return t == dns.TypeNone || t == dns.TypeOPT || t >= dns.TypeTKEY && t <= dns.TypeMAILA
}

// answer turns what the resolver found into a reply.
func (h *Handler) answer(q *query, a *resolve.Answer) reply {
	re := reply{verdict: verdicts[a.Status], rcode: a.Rcode, answer: a.Answer, ns: a.Ns, notes: a.Notes}
	if slices.ContainsFunc(a.Notes, func(f *dnssec.Failure) bool { return f.Kind == dnssec.OfDistrust }) {
		h.meter.distrusted.Inc()
	}
	if a.Status > dnssec.Bogus {
		re.secure = a.Status == dnssec.Secure && len(a.Answer)+len(a.Ns) > 0 // V-77
		return re
	}
	re.rcode, re.answer, re.ns = dns.RcodeServerFailure, nil, nil // D-16, whatever came
	notes := h.readiness.explain(a.Notes)
	if re.notes = notes; a.Cached { // C-12
		re.notes = slices.Insert(notes, min(2, len(notes)), &dnssec.Failure{Code: dns.ExtendedErrorCodeCachedError})
	}
	if raw := a.Unvalidated; raw != nil && q.CheckingDisabled && !h.config.IgnoreCD { // V-76
		re.rcode, re.answer, re.ns = raw.Rcode, raw.Answer, raw.Ns
	}
	if re.rcode == dns.RcodeServerFailure {
		h.logFailure(q.asker(), a, notes)
	}
	return re
}

var verdicts = [...]verdict{
	dnssec.Secure: secure, dnssec.Insecure: insecure, dnssec.Bogus: bogus, dnssec.Indeterminate: indeterminate,
}

// unauthenticated clears AD in what the plugins below write for a private name (S-21).
type unauthenticated struct{ dns.ResponseWriter }

// WriteMsg implements dns.ResponseWriter. The message may be shared with the plugin that wrote it.
func (w unauthenticated) WriteMsg(m *dns.Msg) error {
	plain := *m
	plain.AuthenticatedData = false
	return w.ResponseWriter.WriteMsg(&plain)
}

// Write implements dns.ResponseWriter.
func (w unauthenticated) Write(wire []byte) (int, error) {
	const flags, ad = 3, 0x20
	if len(wire) > flags {
		wire = slices.Clone(wire)
		wire[flags] &^= ad
	}
	return w.ResponseWriter.Write(wire)
}
