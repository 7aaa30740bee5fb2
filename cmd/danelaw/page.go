package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"printable": printable.Text}).Parse(
	pageText))

// page is what the template makes a page of.
type page struct {
	Title   string
	Written time.Time
	Domains []*pageDomain
	Errors  []result
	Summary string // if there are several domains
}

// pageDomain is a domain, or a name and a type.
type pageDomain struct {
	Domain               string
	Headline, Tone, Told string
	Failing              bool
	Word                 string // the decision, for the summary
	Rows                 []row
	Tree                 []*box
}

// ID is where links to it lead.
func (d *pageDomain) ID() string { return "d-" + d.Domain }

// newPage is a page about all domains.
func newPage(results []result) *page {
	p := &page{Title: "danelaw check", Written: time.Now().UTC()}
	for _, r := range results {
		if r.err != nil {
			p.Errors = append(p.Errors, r)
		} else {
			p.Domains = append(p.Domains, newPageDomain(r))
		}
	}
	if len(results) == 1 {
		p.Title = results[0].domain + " - danelaw check"
	} else {
		p.Summary = summary(results)
	}
	return p
}

// newChainPage is a page about one answer.
func newChainPage(v *chainView) *page {
	d := &pageDomain{Domain: v.Name + " " + v.Type, Headline: v.Status, Tone: toneNames[tones[v.Status]],
		Tree: v.draw(), Failing: tones[v.Status] == bad}
	for _, f := range v.Failures {
		d.Told += fmt.Sprintf("%s (EDE %d) ", f.Text, f.EDE)
	}
	return &page{Title: d.Domain + " - danelaw check", Written: time.Now().UTC(), Domains: []*pageDomain{d}}
}

// writePage makes a page and writes it, if there is a file for it.
func writePage(file string, made func() *page) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, made()); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("the page cannot be written: %w", err)
	}
	return nil
}

func newPageDomain(r result) *pageDomain {
	v := r.view
	headline, tone := v.headline()
	return &pageDomain{
		Domain: v.Domain, Headline: headline, Tone: toneNames[tone], Told: v.told(), Word: r.word(),
		Failing: v.Culprit != nil || tone == bad, Rows: v.rows(), Tree: v.draw(),
	}
}

// box is one of a tree, in which each is below what vouches for it.
type box struct {
	Title, Word, Tone string
	Lines             []string
	Children          []*box

	records bool // it has TLSA records
}

// forest is a tree of zones into which other boxes are hung.
type forest struct {
	zones map[string]*box
	roots []*box
}

// plant makes the tree of zones, which come parents first.
func plant(zones []*zoneView) *forest {
	f := &forest{zones: map[string]*box{}}
	for _, z := range zones {
		b := newBox("zone "+z.Name, z.Status, z.How)
		if z.Name == "." {
			b.Title = "the root"
		}
		f.hang(z.Name, b)
		f.zones[z.Name] = b
	}
	return f
}

// hang puts a box below the zone that a name lies in.
func (f *forest) hang(name string, b *box) {
	for at := range dnssec.Ancestors(name) {
		if above := f.zones[at]; above != nil {
			above.add(b)
			return
		}
	}
	f.roots = append(f.roots, b)
}

// draw draws one answer: zones below zones, in them its RRsets.
func (v *chainView) draw() []*box {
	f := plant(v.Zones)
	for _, s := range v.Sets {
		lines := append([]string{s.How}, s.Records...)
		f.hang(cmp.Or(s.Zone, s.Owner), newBox(s.Owner+" "+s.Type, s.Status, lines...))
	}
	return f.roots
}

// draw draws a domain: zones below zones, in them MX and hosts, below those their TLSA records and certificates.
func (v *view) draw() []*box {
	f := plant(v.Zones)
	f.hang(v.Domain, boxOf(&v.MX, "no MX: the domain is its own mail host"))
	for _, h := range v.Hosts {
		for name, b := range h.boxes() {
			f.hang(name, b)
		}
	}
	return f.roots
}

func newBox(title, status string, lines ...string) *box {
	return &box{Title: title, Word: status, Tone: toneNames[tones[status]], Lines: lines}
}

// boxOf is the box of a lookup.
func boxOf(l *lookupView, none string) *box {
	r := l.row("", none)
	return newBox(l.Name+" "+l.Type, r.Word, r.Text)
}

func (b *box) add(child *box) {
	b.Children = append(b.Children, child)
}

// boxes yields those of a host with the names where they belong: one, or for an alias that and its target. TLSA records
// are below the name that they are for.
func (h *hostView) boxes() iter.Seq2[string, *box] {
	b, end := newBox("mail host "+h.Name, h.status()), h.Name
	addresses := b
	if h.Alias != nil {
		b, end = newBox("mail host "+h.Name, h.Alias.Status, "an alias of "+h.Alias.Target), h.Alias.Target
		addresses = newBox(h.Alias.Target+", of which "+h.Name+" is an alias", h.status())
	}
	for i := range h.Addresses {
		r := h.Addresses[i].row(h.Addresses[i].Type, "none")
		addresses.Lines = append(addresses.Lines, r.What+" "+r.Text)
	}
	for i := range h.TLSA {
		if t := &h.TLSA[i]; t.Base == h.Name {
			b.add(t.box())
		} else {
			addresses.add(t.box())
		}
	}
	for i := range h.SMTP {
		h.last(b, addresses).add(h.SMTP[i].box())
	}
	return func(yield func(string, *box) bool) {
		if yield(h.Name, b) && addresses != b {
			yield(end, addresses)
		}
	}
}

// last is the box that a certificate belongs below: the TLSA records that it is compared with, else its host.
func (h *hostView) last(host, addresses *box) *box {
	for _, above := range []*box{addresses, host} {
		for _, b := range above.Children {
			if b.records {
				return b
			}
		}
	}
	return addresses
}

// box is that of a TLSA lookup.
func (t *tlsaView) box() *box {
	b := newBox(t.Name+" TLSA", t.Status)
	for _, r := range t.rows() {
		b.Lines = append(b.Lines, r.Text)
	}
	if b.records = len(t.Parts) > 0; !b.records && t.Failure == nil {
		b.Tone = toneNames[plain] // it is proven that there is nothing to hold on to
	}
	return b
}

// status is that of the addresses of a host: of those there are, else of what failed.
func (h *hostView) status() string {
	empty := func(l lookupView) bool { return len(l.Records) == 0 }
	all := slices.DeleteFunc(slices.Clone(h.Addresses), empty)
	if len(all) == 0 {
		all = h.Addresses
	}
	worst := "Secure"
	for _, l := range all {
		worst = worse(worst, l.Status)
	}
	return worst
}

// worse returns the one of two statuses that is to be trusted less.
func worse(a, b string) string {
	order := []string{"Indeterminate", "Bogus", "Insecure", "Secure"}
	return order[min(slices.Index(order, a), slices.Index(order, b))]
}

// Sign is the sign for its tone, for those who do not see colours.
func (b *box) Sign() string {
	return map[string]string{"good": "✓", "plain": "–", "bad": "✗"}[b.Tone]
}
