package drawing

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// tree is the chain of trust of one answer.
type tree struct {
	*resolve.Explanation
	question dns.Question
	now      time.Time // as of which it is judged
}

// The form of `danelaw check --json NAME TYPE`, of which text and page are made too. Names end with a dot, times are
// RFC 3339 in UTC. A field that is not there has nothing to tell.
type (
	// Chain is the chain of trust of one answer.
	Chain struct {
		Name     string     `json:"name"`
		Type     string     `json:"type"`
		Checked  time.Time  `json:"checked"`
		Status   string     `json:"status"`   // Secure, Insecure, Bogus, Indeterminate
		Rcode    string     `json:"rcode"`    // that clients get
		Verdict  string     `json:"verdict"`  // in words
		Failures []*Failure `json:"failures"` // the reasons, with their Extended DNS Errors
		Zones    []*Zone    `json:"zones"`    // from the anchor down
		Sets     []*Set     `json:"rrsets"`   // of the answer, and of the proof that there is none
	}
	// Failure is a failure of DNSSEC or of a lookup.
	Failure struct {
		Text   string `json:"text"` // one sentence
		EDE    uint16 `json:"ede"`  // RFC 8914
		Zone   string `json:"zone,omitempty"`
		Owner  string `json:"owner,omitempty"`
		Type   string `json:"type,omitempty"`
		KeyTag uint16 `json:"key_tag,omitempty"`
	}
	// Signature is one that the answer rests on.
	Signature struct {
		Owner    string    `json:"owner"`
		Type     string    `json:"type"`
		Signer   string    `json:"signer"`
		KeyTag   uint16    `json:"key_tag"`
		Expires  time.Time `json:"expires"`
		DaysLeft int       `json:"days_left"`
	}
	// Zone is a zone of the chain.
	Zone struct {
		Name    string   `json:"name"`
		Status  string   `json:"status"`
		Failure *Failure `json:"failure,omitempty"` // why it is not Secure
		KeyTag  uint16   `json:"key_tag,omitempty"` // of the key that the DS or trust anchor is for
		How     string   `json:"how"`               // it hangs from the one above, in words
	}
	// Set is an RRset.
	Set struct {
		Owner     string     `json:"owner"`
		Type      string     `json:"type"`
		Status    string     `json:"status"`
		Zone      string     `json:"zone,omitempty"` // whose it is
		How       string     `json:"how"`            // it is tied to it, in words, or what fails
		Records   []string   `json:"records"`        // RDATA in zone-file form; none for the records of a proof
		Signature *Signature `json:"signature,omitempty"`
	}
)

// NewChain tells what came of a question.
func NewChain(q dns.Question, e *resolve.Explanation, now time.Time) *Chain {
	t := &tree{e, q, now}
	v := &Chain{
		Name: q.Name, Type: dns.Type(q.Qtype).String(), Checked: now.UTC(), Status: e.Answer.Status.String(),
		Verdict: t.verdict(), Rcode: dns.RcodeToString[e.Answer.Rcode], Failures: []*Failure{}, Zones: t.zones(),
		Sets: t.answer(),
	}
	if e.Answer.Status <= dnssec.Bogus {
		v.Rcode = dns.RcodeToString[dns.RcodeServerFailure]
	}
	for _, f := range e.Answer.Notes {
		v.Failures = append(v.Failures, FailureOf(f))
	}
	return v
}

// verdict is the line that says it all.
func (t *tree) verdict() string {
	a := t.Answer
	line := fmt.Sprintf("%s %s: %s", t.question.Name, dns.Type(t.question.Qtype), a.Status)
	switch {
	case a.Status <= dnssec.Bogus:
		line += ", clients get SERVFAIL"
	case a.Rcode == dns.RcodeSuccess && !t.hasData():
		line += ", there is no such record"
	case a.Rcode != dns.RcodeSuccess:
		line += ", " + dns.RcodeToString[a.Rcode]
	}
	return line
}

// hasData reports whether the answer holds what was asked for.
func (t *tree) hasData() bool {
	return slices.ContainsFunc(t.Answer.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == t.question.Qtype || t.question.Qtype == dns.TypeANY
	})
}

// Zones tells of the zones of chains, which come parents first.
func Zones(zones []*dnssec.Zone) []*Zone {
	return (&tree{Explanation: &resolve.Explanation{Zones: zones}}).zones()
}

// zones are the zones of the chain, parents first.
func (t *tree) zones() []*Zone {
	all := []*Zone{}
	for _, z := range t.Zones {
		view := &Zone{Name: z.Name, Status: z.Status.String(), Failure: FailureOf(z.Cause), How: t.how(z)}
		if z.Status == dnssec.Secure {
			view.KeyTag = z.Tie.KeyTag
		}
		all = append(all, view)
	}
	return all
}

// how says why a zone has its status.
func (t *tree) how(z *dnssec.Zone) string {
	switch {
	case z.Cause != nil:
		return z.Cause.Text
	case z.Status == dnssec.Secure:
		return t.tie(z)
	case z.Status == dnssec.Insecure:
		return "unsigned: the zone above proves that there is no DS"
	}
	return ""
}

// tie says by what a zone is tied to the one above.
func (t *tree) tie(z *dnssec.Zone) string {
	by := "DS"
	if !slices.ContainsFunc(t.Zones, func(o *dnssec.Zone) bool {
		return o.Name != z.Name && dns.IsSubDomain(o.Name, z.Name)
	}) {
		by = "trust anchor"
	}
	return fmt.Sprintf("%s %d (%s), key %d %s, %s", by, z.Tie.KeyTag, dns.HashToString[z.Tie.Digest], z.Tie.KeyTag,
		algorithm(z.Tie.Algorithm), validity(z.Tie.Inception, z.Tie.Expiration))
}

func algorithm(number uint8) string {
	if name, ok := dns.AlgorithmToString[number]; ok {
		return name
	}
	return fmt.Sprintf("algorithm %d", number)
}

// validity is a period as RRSIGs have it, in UTC.
func validity(inception, expiration uint32) string {
	return "signed " + instant(inception) + " to " + instant(expiration) + " UTC"
}

// instant is the time that 32 bits mean, in UTC.
func instant(t uint32) string { return dnssec.Near(time.Now(), t).Format("2006-01-02 15:04") }

// home is the zone of the chain that holds a set: that of its signer, else the deepest one above its owner.
func (t *tree) home(set []dns.RR) *dnssec.Zone {
	var home *dnssec.Zone
	signer := ""
	if sig := signature(set); sig != nil {
		signer = dns.CanonicalName(sig.SignerName)
	}
	for _, z := range t.Zones { // parents before children
		if z.Name == signer {
			return z
		}
		if dns.IsSubDomain(z.Name, dns.CanonicalName(set[0].Header().Name)) {
			home = z
		}
	}
	return home
}

// signature returns the first RRSIG of a set.
func signature(set []dns.RR) *dns.RRSIG {
	for _, rr := range set {
		if sig, ok := rr.(*dns.RRSIG); ok {
			return sig
		}
	}
	return nil
}

// answer lists the RRsets of the answer, or of the proof that there is none. For a failure it has one entry, unless a
// zone tells of it already.
func (t *tree) answer() []*Set {
	all := []*Set{}
	if t.Answer.Status <= dnssec.Bogus {
		cause := t.Answer.Notes[0]
		told := func(z *dnssec.Zone) bool { return z.Cause != nil && z.Cause.Text == cause.Text }
		if !slices.ContainsFunc(t.Zones, told) {
			all = append(all, &Set{
				Owner: t.question.Name, Type: dns.Type(t.question.Qtype).String(), Status: t.Answer.Status.String(),
				How: cause.Text, Records: []string{},
			})
		}
		return all
	}
	for _, set := range sets(t.Answer.Answer) {
		v := t.set(set)
		for _, rr := range set {
			if rr.Header().Rrtype != dns.TypeRRSIG {
				v.Records = append(v.Records, Rdata(rr))
			}
		}
		all = append(all, v)
	}
	for _, set := range sets(t.Answer.Ns) {
		if kind := set[0].Header().Rrtype; kind == dns.TypeNSEC || kind == dns.TypeNSEC3 {
			all = append(all, t.set(set))
		}
	}
	return all
}

// set tells of an RRset, without its records.
func (t *tree) set(set []dns.RR) *Set {
	h, home := set[0].Header(), t.home(set)
	v := &Set{
		Owner: h.Name, Type: dns.Type(h.Rrtype).String(), Status: t.Answer.Status.String(), How: "unsigned",
		Records: []string{},
	}
	if home != nil {
		v.Status, v.Zone = home.Status.String(), home.Name
	}
	if sig := signature(set); sig != nil {
		v.How = fmt.Sprintf("key %d %s, %s", sig.KeyTag, algorithm(sig.Algorithm),
			validity(sig.Inception, sig.Expiration))
		ends := dnssec.Near(time.Now(), sig.Expiration)
		v.Signature = &Signature{h.Name, v.Type, dns.CanonicalName(sig.SignerName), sig.KeyTag, ends,
			DaysLeft(ends, t.now)}
	}
	return v
}

// sets sorts a section into RRsets with their signatures, which follow the records.
func sets(section []dns.RR) (all [][]dns.RR) {
	for _, rr := range section {
		h := rr.Header()
		n := len(all) - 1
		_, isSig := rr.(*dns.RRSIG)
		if n >= 0 && all[n][0].Header().Name == h.Name && (isSig || all[n][0].Header().Rrtype == h.Rrtype) {
			all[n] = append(all[n], rr)
		} else {
			all = append(all, []dns.RR{rr})
		}
	}
	return all
}

// Rdata is what a record holds, in zone-file form.
func Rdata(rr dns.RR) string {
	return printable.Text(strings.TrimPrefix(dnssec.Presentation(rr), rr.Header().String()))
}

// FailureOf is a failure for readers; nil stays nil.
func FailureOf(f *dnssec.Failure) *Failure {
	if f == nil {
		return nil
	}
	v := &Failure{Text: printable.Text(f.Text), EDE: f.Code, Zone: f.Zone, Owner: f.Owner, KeyTag: f.KeyTag}
	if f.Type != 0 {
		v.Type = dns.Type(f.Type).String()
	}
	return v
}

// DaysLeft are the whole days until an end; of one that has passed they are negative, the day that has begun counted.
func DaysLeft(end, now time.Time) int { return int(math.Floor(end.Sub(now).Hours() / 24)) }
