package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// usualTTL is the TTL of TLSA records of which nothing is known: an hour, as RFC 7671 section 8 wants it short.
const usualTTL = 3600

// The form of `danelaw tlsa --json`, of which the text is made too. Names end with a dot, times are RFC 3339 in UTC. A
// field that is not there has nothing to tell.
type (
	plannedJSON struct {
		Host         string             `json:"host"`
		Base         string             `json:"base"`  // the TLSA base domain
		Name         string             `json:"name"`  // where senders look
		Owner        string             `json:"owner"` // where the records belong: name, or what it is an alias of
		Certificates []*plannedCertJSON `json:"certificates"`
		Published    *publishedJSON     `json:"published,omitempty"` // if it was asked for
		Steps        []string           `json:"steps,omitempty"`     // of a rollover
		Wait         int64              `json:"wait_seconds,omitempty"`
		Good         bool               `json:"good"` // whether the exit code is 0
	}
	plannedCertJSON struct {
		From   string     `json:"from"`
		Next   bool       `json:"next,omitempty"`
		Ends   *time.Time `json:"ends,omitempty"`
		Record string     `json:"record"` // in zone-file form
		// why senders refuse it by this record alone, or what is odd about its file or host
		Warning string `json:"warning,omitempty"`
		Good    bool   `json:"covered,omitempty"` // a published record is good for it
	}
	publishedJSON struct {
		TTL     uint32                `json:"ttl"`
		Records []publishedRecordJSON `json:"records"`
	}
	publishedRecordJSON struct {
		Record  string `json:"record"`
		Usable  bool   `json:"usable"`
		Matches string `json:"matches,omitempty"` // whose it is
		Text    string `json:"text"`
	}
)

// planned is the form that is printed as JSON, and what the text has in a shorter form.
type planned struct {
	plannedJSON
	briefs []string // of the published records
}

// report makes what is to be told.
func (p *tlsaPlan) report(check bool) (*planned, error) {
	out := &planned{plannedJSON: plannedJSON{Host: p.host, Base: p.base, Name: mail.TLSAName(p.base, p.port),
		Good: true}}
	out.Owner = cmp.Or(p.set.owner, out.Name)
	for i, id := range slices.Concat(p.current, p.next) {
		r, err := p.record(id)
		if err != nil {
			return nil, err
		}
		c := &plannedCertJSON{From: id.String(), Next: i >= len(p.current), Record: p.line(r),
			Warning: p.warning(id, r)}
		if len(id.chain) > 0 {
			c.Ends = new(id.chain[0].NotAfter.UTC())
		}
		out.Certificates = append(out.Certificates, c)
	}
	if p.set.secure {
		p.compare(out)
	}
	if len(p.next) > 0 {
		p.steps(out)
	}
	if !check {
		out.Published, out.Good = nil, true
	}
	return out, nil
}

// warning is why senders would not take a certificate by the record that is made of it, or what is odd about its file.
func (p *tlsaPlan) warning(id *identity, r *dns.TLSA) string {
	if id.turned {
		return id.from + ": its first certificate is an authority's, and servers show the first as their own: put " +
			"the host's own first"
	}
	if len(id.chain) == 0 && p.kind.Usage == mail.DANETA {
		return id.from + ": for -usage 2 it has to be the key of an authority whose certificate the host presents; " +
			"with the host's own senders refuse it"
	}
	if len(id.chain) == 0 || id.note == "" && len(id.chain) == 1 && id.chain[0].IsCA {
		return ""
	}
	if _, err := mail.Verify([]*dns.TLSA{r}, id.chain, []string{p.base}, time.Now()); err != nil {
		return fmt.Sprintf("with this record alone senders refuse %s: %v", id, err)
	}
	if id.note != "" {
		return fmt.Sprintf("%s: %s", id.from, id.note)
	}
	return ""
}

// compare tells what of the published records matches what, and which certificates have no record.
func (p *tlsaPlan) compare(out *planned) {
	out.Published = &publishedJSON{TTL: p.set.ttl, Records: []publishedRecordJSON{}}
	usable, unusable := mail.Usable(p.set.records)
	for _, r := range usable {
		told := publishedRecordJSON{Record: r.String(), Usable: true, Text: "matches nothing given here"}
		for i, id := range slices.Concat(p.current, p.next) {
			c := out.Certificates[i]
			matched, refused := p.compareOne(r, id)
			switch {
			case matched:
				told.Matches, told.Text = c.From, "is that of "+c.From
				c.Good = true
			case refused != nil:
				told.Text = fmt.Sprintf("is that of the authority of %s, which senders refuse: %v", c.From, refused)
			}
		}
		out.Published.Records, out.briefs = append(out.Published.Records, told), append(out.briefs, mail.Brief(r))
	}
	for _, u := range unusable {
		out.briefs = append(out.briefs, mail.Brief(u.Record))
		out.Published.Records = append(out.Published.Records,
			publishedRecordJSON{Record: u.Record.String(), Text: "is unusable: " + u.Why})
	}
	out.Good = !slices.ContainsFunc(out.Certificates, func(c *plannedCertJSON) bool { return !c.Good }) &&
		!slices.ContainsFunc(p.set.records, mail.Crashes)
}

// steps are those of a rollover (RFC 7671 section 8.1).
func (p *tlsaPlan) steps(out *planned) {
	stale := 0
	if out.Published != nil {
		for _, r := range out.Published.Records {
			if r.Matches == "" {
				stale++
			}
		}
	}
	switch same := p.sameRecords(out); {
	case p.set.secure && out.Good:
		out.Steps = []string{"All of these records are published: the next certificate can be used at any time."}
		if stale > 0 {
			out.Steps = append(out.Steps, fmt.Sprintf("Remove %s that match nothing given here, once nothing uses "+
				"them.", counted(stale, "published record")))
		}
	case same && !p.set.secure:
		out.Steps = []string{"The record stays the same: if it is published, as --check tells, the next certificate " +
			"can be used at any time."}
	default:
		p.rollover(out)
	}
}

// sameRecords reports whether the next certificates have no record but those of today's.
func (p *tlsaPlan) sameRecords(out *planned) bool {
	return !slices.ContainsFunc(out.Certificates[len(p.current):], func(n *plannedCertJSON) bool {
		return !slices.ContainsFunc(out.Certificates[:len(p.current)],
			func(c *plannedCertJSON) bool { return c.Record == n.Record })
	})
}

// rollover are the steps where something has to be published. What caches hold of the old set they hold for its TTL.
func (p *tlsaPlan) rollover(out *planned) {
	ttl, how := uint32(usualTTL), "assumed, --ttl or --check tells another"
	switch {
	case p.set.ttl > 0:
		ttl, how = p.set.ttl, "that of the published records"
		if out.Owner != out.Name {
			how = "the longest of the published records and of the alias that leads to them"
		}
	case p.ttl != nil:
		ttl, how = *p.ttl, "that of --ttl"
	}
	wait := 2 * time.Duration(ttl) * time.Second
	out.Wait = int64(wait / time.Second)
	out.Steps = []string{
		fmt.Sprintf("At %s publish all of these records now.", out.Owner),
		fmt.Sprintf("Wait %v, twice the TTL (%d s, %s): until the nameservers all have them, and no "+
			"cache has the old set.", wait, ttl, how),
		fmt.Sprintf("Have the host use the next certificate. danelaw tlsa --smtp %s --check must find it.",
			strings.TrimSuffix(p.host, ".")),
		"Remove the records of what is not used any more.",
	}
}

// print writes the records with comments, as zone files have them; warnings go to another place.
func (out *planned) print(text, warnings io.Writer) {
	out.aliases(text)
	seen := map[string]bool{}
	for _, c := range out.Certificates {
		out.certificate(text, c, seen)
		if c.Warning != "" {
			fmt.Fprintln(warnings, "danelaw:", c.Warning)
		}
	}
	if len(out.Steps) > 0 {
		fmt.Fprintln(text, ";")
	}
	for i, step := range out.Steps {
		if len(out.Steps) > 1 {
			step = fmt.Sprintf("%d. %s", i+1, step)
		}
		fmt.Fprintf(text, "; %s\n", step)
	}
	if out.Published != nil {
		out.printPublished(text)
	}
}

// aliases tells where the records are sought, and belong, if that is not where the name of the host would have one
// look.
func (out *planned) aliases(text io.Writer) {
	if out.Base != out.Host {
		fmt.Fprintf(text, "; %s is an alias: senders take %s for the base of its TLSA records (RFC "+
			"7672 section 2.2.2)\n", out.Host, out.Base)
	}
	if out.Owner != out.Name {
		fmt.Fprintf(text, "; %s is an alias of %s, where the records belong\n", out.Name, out.Owner)
	}
}

func (out *planned) certificate(text io.Writer, c *plannedCertJSON, seen map[string]bool) {
	when, ends := "", ""
	if c.Next {
		when = "next: "
	}
	if c.Ends != nil {
		ends = ", valid to " + c.Ends.Format("2006-01-02 15:04 UTC")
	}
	record := c.Record
	if seen[record] {
		record = "; has the same record"
	}
	fmt.Fprintf(text, "; %s%s%s\n%s\n", when, c.From, ends, record)
	seen[c.Record] = true
}

func (out *planned) printPublished(text io.Writer) {
	fmt.Fprintf(text, "\nPublished at %s, Secure: %s\n", out.Name, counted(len(out.Published.Records), "record"))
	for i, r := range out.Published.Records {
		fmt.Fprintf(text, "  %s %s\n", out.briefs[i], r.Text)
	}
	for _, c := range out.Certificates {
		if !c.Good {
			fmt.Fprintf(text, "No published record is good for %s\n", c.From)
		}
	}
}
