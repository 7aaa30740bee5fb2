package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/printable"
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
	return 0, fmt.Errorf("%q is not a type of DNS records; write one such as MX, or TYPE65 for one without a name", name)
}

// tree draws the chain of trust of one answer: a line for each zone, below it what it holds.
type tree struct {
	*chain.Explanation
	question dns.Question
	rows     *tabwriter.Writer
}

// printChain prints the verdict on q in one line, and the tree.
func printChain(to io.Writer, q dns.Question, e *chain.Explanation) error {
	var out bytes.Buffer
	t := &tree{e, q, tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)}
	for _, z := range e.Zones {
		t.zone(z)
	}
	t.answer()
	t.rows.Flush()
	_, err := fmt.Fprintf(to, "%s\n\n%s", t.verdict(), paddingAtEnd.ReplaceAll(out.Bytes(), nil))
	return err
}

// paddingAtEnd is what the tabwriter puts behind lines whose last cells are empty.
var paddingAtEnd = regexp.MustCompile(`(?m) +$`)

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
	for _, f := range a.Notes {
		line += fmt.Sprintf("\n%s (EDE %d)", printable.Text(f.Text), f.Code)
	}
	return line
}

// hasData reports whether the answer holds what was asked for.
func (t *tree) hasData() bool {
	return slices.ContainsFunc(t.Answer.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == t.question.Qtype || t.question.Qtype == dns.TypeANY
	})
}

// row prints one line.
func (t *tree) row(depth int, what string, status dnssec.Status, how string) {
	fmt.Fprintf(t.rows, "%s%s\t%s\t%s\n", strings.Repeat("  ", depth), printable.Text(what), status, printable.Text(how))
}

// zone prints the line of a zone.
func (t *tree) zone(z *dnssec.Zone) { t.row(t.depth(z), z.Name, z.Status, t.how(z)) }

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
	if t.depth(z) == 0 {
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

// depth is how many zones of the chain lie above z.
func (t *tree) depth(z *dnssec.Zone) (n int) {
	for _, other := range t.Zones {
		if other.Name != z.Name && dns.IsSubDomain(other.Name, z.Name) {
			n++
		}
	}
	return n
}

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

// answer prints the lines of the answer, or of the proof that there is none, or of the failure unless it is a zone's.
func (t *tree) answer() {
	if t.Answer.Status <= dnssec.Bogus {
		cause := t.Answer.Notes[0]
		told := func(z *dnssec.Zone) bool { return z.Cause == cause }
		if !slices.ContainsFunc(t.Zones, told) {
			t.row(len(t.Zones), describe(t.question), t.Answer.Status, cause.Text)
		}
		return
	}
	for _, set := range sets(t.Answer.Answer) {
		depth := t.set(set)
		for _, rr := range set {
			if rr.Header().Rrtype != dns.TypeRRSIG {
				fmt.Fprintf(t.rows, "%s%s\t\t\n", strings.Repeat("  ", depth+1), rdata(rr))
			}
		}
	}
	for _, set := range sets(t.Answer.Ns) {
		if kind := set[0].Header().Rrtype; kind == dns.TypeNSEC || kind == dns.TypeNSEC3 {
			t.set(set)
		}
	}
}

// set prints the line of an RRset and returns its depth.
func (t *tree) set(set []dns.RR) int {
	h, home := set[0].Header(), t.home(set)
	depth, status := 0, t.Answer.Status
	if home != nil {
		depth, status = t.depth(home)+1, home.Status
	}
	how := "unsigned"
	if sig := signature(set); sig != nil {
		how = fmt.Sprintf("key %d %s, %s", sig.KeyTag, algorithm(sig.Algorithm), validity(sig.Inception, sig.Expiration))
	}
	t.row(depth, h.Name+" "+dns.Type(h.Rrtype).String(), status, how)
	return depth
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
	return printable.Text(strings.TrimPrefix(rr.String(), rr.Header().String()))
}

func describe(q dns.Question) string { return q.Name + " " + dns.Type(q.Qtype).String() }
