package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// parseType reads the name of a type, or TYPE and its number (RFC 3597 section 5).
func parseType(name string) (uint16, error) {
	name = strings.ToUpper(name)
	if t, ok := dns.StringToType[name]; ok {
		return t, nil
	}
	if number, ok := strings.CutPrefix(name, "TYPE"); ok {
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			return uint16(n), nil
		}
	}
	return 0, fmt.Errorf("%q is not a type of DNS records; write one such as MX, or TYPE65 for one without a name",
		name)
}

// tree is the chain of trust of one answer.
type tree struct {
	*resolve.Explanation
	question dns.Question
	now      time.Time // as of which it is judged
}

// The form of `danelaw check --json NAME TYPE`, of which text and page are made too. Names end with a dot, times are
// RFC 3339 in UTC. A field that is not there has nothing to tell.
type (
	chainView struct {
		Name     string         `json:"name"`
		Type     string         `json:"type"`
		Checked  time.Time      `json:"checked"`
		Status   string         `json:"status"`   // Secure, Insecure, Bogus, Indeterminate
		Rcode    string         `json:"rcode"`    // that clients get
		Verdict  string         `json:"verdict"`  // in words
		Failures []*failureView `json:"failures"` // the reasons, with their Extended DNS Errors
		Zones    []*zoneView    `json:"zones"`    // from the anchor down
		Sets     []*setView     `json:"rrsets"`   // of the answer, and of the proof that there is none
	}
	setView struct {
		Owner     string         `json:"owner"`
		Type      string         `json:"type"`
		Status    string         `json:"status"`
		Zone      string         `json:"zone,omitempty"` // whose it is
		How       string         `json:"how"`            // it is tied to it, in words, or what fails
		Records   []string       `json:"records"`        // RDATA in zone-file form; none for the records of a proof
		Signature *signatureView `json:"signature,omitempty"`
	}
)

// newChainView tells what came of a question.
func newChainView(q dns.Question, e *resolve.Explanation, now time.Time) *chainView {
	t := &tree{e, q, now}
	v := &chainView{
		Name: q.Name, Type: dns.Type(q.Qtype).String(), Checked: now.UTC(), Status: e.Answer.Status.String(),
		Verdict: t.verdict(), Rcode: dns.RcodeToString[e.Answer.Rcode], Failures: []*failureView{}, Zones: t.zones(),
		Sets: t.answer(),
	}
	if e.Answer.Status <= dnssec.Bogus {
		v.Rcode = dns.RcodeToString[dns.RcodeServerFailure]
	}
	for _, f := range e.Answer.Notes {
		v.Failures = append(v.Failures, failureOf(f))
	}
	return v
}

// print writes the verdict in one line, and the tree: a line for each zone, below it what it holds.
func (v *chainView) print(to io.Writer) {
	width := widthOf(to)
	fmt.Fprintln(to, wrapped(v.Verdict, 0, width))
	for _, f := range v.Failures {
		fmt.Fprintln(to, wrapped(fmt.Sprintf("%s (EDE %d)", printable.Text(f.Text), f.EDE), 0, width))
	}
	fmt.Fprintln(to)
	var rows []row
	add := func(depth int, what, status, how string) {
		rows = append(rows, row{strings.Repeat("  ", depth) + what, status, how, false})
	}
	for _, z := range v.Zones {
		add(v.depth(z.Name), z.Name, z.Status, z.How)
	}
	for _, s := range v.Sets {
		depth := len(v.Zones) // below the last one that there is, if it is in none
		if s.Zone != "" {
			depth = v.depth(s.Zone) + 1
		}
		add(depth, s.Owner+" "+s.Type, s.Status, s.How)
		for _, r := range s.Records {
			add(depth+1, r, "", "")
		}
	}
	printRows(to, rows, 0, painterFor(to), width)
}

// depth is how many zones of the chain lie above one of them.
func (v *chainView) depth(zone string) (n int) {
	for _, other := range v.Zones {
		if other.Name != zone && dns.IsSubDomain(other.Name, zone) {
			n++
		}
	}
	return n
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

// zones are the zones of the chain, parents first.
func (t *tree) zones() []*zoneView {
	all := []*zoneView{}
	for _, z := range t.Zones {
		view := &zoneView{Name: z.Name, Status: z.Status.String(), Failure: failureOf(z.Cause), How: t.how(z)}
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
func instant(t uint32) string { return near(t, time.Now()).Format("2006-01-02 15:04") }

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
func (t *tree) answer() []*setView {
	all := []*setView{}
	if t.Answer.Status <= dnssec.Bogus {
		cause := t.Answer.Notes[0]
		told := func(z *dnssec.Zone) bool { return z.Cause != nil && z.Cause.Text == cause.Text }
		if !slices.ContainsFunc(t.Zones, told) {
			all = append(all, &setView{
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
				v.Records = append(v.Records, rdata(rr))
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
func (t *tree) set(set []dns.RR) *setView {
	h, home := set[0].Header(), t.home(set)
	v := &setView{
		Owner: h.Name, Type: dns.Type(h.Rrtype).String(), Status: t.Answer.Status.String(), How: "unsigned",
		Records: []string{},
	}
	if home != nil {
		v.Status, v.Zone = home.Status.String(), home.Name
	}
	if sig := signature(set); sig != nil {
		v.How = fmt.Sprintf("key %d %s, %s", sig.KeyTag, algorithm(sig.Algorithm),
			validity(sig.Inception, sig.Expiration))
		ends := near(sig.Expiration, time.Now())
		v.Signature = &signatureView{h.Name, v.Type, dns.CanonicalName(sig.SignerName), sig.KeyTag, ends,
			daysLeft(ends, t.now)}
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

// rdata is what a record holds, in zone-file form.
func rdata(rr dns.RR) string {
	return printable.Text(strings.TrimPrefix(dnssec.Presentation(rr), rr.Header().String()))
}
