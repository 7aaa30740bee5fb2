package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"iter"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"printable": printable.Text}).Parse(pageText))

// page is what the template makes a page of.
type page struct {
	Title   string
	Written time.Time
	Domains []*pageDomain
	Errors  []result
	Summary string // if there are several domains
}

type pageDomain struct {
	*view
	Headline, Tone, Told string
	Failing              bool
	Rows                 []row
	Drawing              *drawing
}

// writePage writes one page about all domains.
func writePage(file string, results []result) error {
	p := &page{Title: "danelaw check", Written: time.Now().UTC()}
	count, unwanted := map[string]int{}, 0
	for _, r := range results {
		if r.err != nil {
			p.Errors = append(p.Errors, r)
			count["unknown"]++
			unwanted++
			continue
		}
		p.Domains = append(p.Domains, newPageDomain(r.view))
		count[r.view.Decision]++
		if !r.view.Wanted {
			unwanted++
		}
	}
	if len(results) == 1 {
		p.Title = results[0].domain + " - danelaw check"
	} else {
		p.Summary = summary(count, len(results), unwanted)
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("the page cannot be written: %w", err)
	}
	return nil
}

func newPageDomain(v *view) *pageDomain {
	return &pageDomain{
		view: v, Headline: headlines[v.Decision], Tone: toneNames[tones[v.Decision]], Told: v.told(),
		Failing: v.Culprit != nil || tones[v.Decision] == bad, Rows: v.rows(), Drawing: draw(v),
	}
}

// drawing is the chain of trust as a tree of boxes, top down, each below what vouches for it. Lengths are in units of the picture.
type drawing struct {
	Boxes         []*box
	Width, Height int
	Words         string // what it shows, for those who do not see it
}

// box is one of them.
type box struct {
	Titles     []string // one, in lines
	Word, Tone string
	Lines      []string
	X, Y, W, H int
	Path       string // the line from the box above, none for the first

	records  bool // it has TLSA records
	children []*box
	parent   *box
}

// The measures of a drawing.
const (
	drawingWidth = 960
	indent       = 30
	lineHeight   = 17
	boxPadding   = 9
	boxGap       = 12
	letterWidth  = 6.6 // of the small letters, rather too wide
	titleWidth   = 9   // of those of titles
	wordWidth    = 120 // of a status
)

// draw draws a domain: zones below zones, in them MX and hosts, below those their TLSA records and certificates.
func draw(v *view) *drawing {
	zones := map[string]*box{}
	var roots []*box
	for _, z := range v.Zones { // parents before children
		b := newBox("zone "+z.Name, z.Status, z.How)
		if z.Name == "." {
			b.Titles[0] = "the root"
		}
		if above := closest(zones, z.Name); above != nil {
			above.add(b)
		} else {
			roots = append(roots, b)
		}
		zones[z.Name] = b
	}
	hang := func(name string, b *box) {
		if above := closest(zones, name); above != nil {
			above.add(b)
		} else {
			roots = append(roots, b)
		}
	}
	hang(v.Domain, boxOf(&v.MX, "no MX: the domain is its own mail host"))
	for _, h := range v.Hosts {
		for name, b := range h.boxes() {
			hang(name, b)
		}
	}
	d := &drawing{Width: drawingWidth}
	for _, b := range roots {
		d.place(b, 0)
	}
	return d
}

func newBox(title, status string, lines ...string) *box {
	return &box{Titles: []string{title}, Word: status, Tone: toneNames[tones[status]], Lines: lines}
}

// boxOf is the box of a lookup.
func boxOf(l *lookupView, none string) *box {
	r := l.row("", none)
	return newBox(l.Name+" "+l.Type, r.Word, r.Text)
}

func (b *box) add(child *box) {
	child.parent = b
	b.children = append(b.children, child)
}

// closest is the box of the deepest zone at or above a name.
func closest(zones map[string]*box, name string) *box {
	for at, end := 0, false; !end; at, end = dns.NextLabel(name, at) {
		if b := zones[name[at:]]; b != nil {
			return b
		}
	}
	return zones["."]
}

// boxes yields those of a host with the names where they belong: one, or for an alias that and its target. TLSA records are below
// the name that they are for.
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
		for _, b := range above.children {
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
	worst := "Secure"
	for _, data := range []bool{true, false} {
		found := false
		for _, l := range h.Addresses {
			if (len(l.Records) > 0) == data {
				found = true
				worst = worse(worst, l.Status)
			}
		}
		if found {
			break
		}
	}
	return worst
}

// worse returns the one of two statuses that is to be trusted less.
func worse(a, b string) string {
	order := []string{"Indeterminate", "Bogus", "Insecure", "Secure"}
	return order[min(slices.Index(order, a), slices.Index(order, b))]
}

// place gives a box and all below it their places, further down than all before.
func (d *drawing) place(b *box, depth int) {
	b.X, b.Y = depth*indent+1, d.Height+1
	b.W = drawingWidth - b.X - 1
	var lines []string
	for _, l := range b.Lines {
		lines = append(lines, wrap(printable.Text(l), int(float64(b.W-2*boxPadding-10)/letterWidth))...)
	}
	b.Lines = lines
	b.Titles = wrap(printable.Text(strings.Join(b.Titles, " ")), (b.W-2*boxPadding-wordWidth)/titleWidth)
	b.H = (len(b.Titles)+len(lines))*lineHeight + 2*boxPadding
	d.Height = b.Y + b.H + boxGap
	d.Boxes = append(d.Boxes, b)
	d.Words += fmt.Sprintf("%s: %s. %s ", strings.Join(b.Titles, " "), b.Word, strings.Join(b.Lines, " "))
	if above := b.parent; above != nil {
		begin := above.Y + above.H
		if i := slices.Index(above.children, b); i > 0 { // the line down to the one before is there
			begin = above.children[i-1].Y + above.children[i-1].H/2
		}
		b.Path = fmt.Sprintf("M%d %dV%dH%d", above.X+indent/2, begin, b.Y+b.H/2, b.X)
	}
	for _, child := range b.children {
		d.place(child, depth+1)
	}
}

// wrap breaks a text into lines of so many letters at most, at spaces where there are any.
func wrap(text string, most int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		for utf8.RuneCountInString(word) > most {
			cut := []rune(word)
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, string(cut[:most])), string(cut[most:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= most:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// The template's words for places in a box.

// TextX is where its texts begin.
func (b *box) TextX() int { return b.X + boxPadding + 8 }

// TitleY is the base line of its title.
func (b *box) TitleY() int { return b.Y + boxPadding + 13 }

// WordX is where its status ends.
func (b *box) WordX() int { return b.X + b.W - boxPadding - 4 }

// LineY is the base line of its n-th line below that of its title.
func (b *box) LineY(n int) int { return b.TitleY() + n*lineHeight }

// Below is which line comes n lines after its title.
func (b *box) Below(n int) int { return len(b.Titles) + n }

// Mark is the sign for its tone, for those who do not see colours.
func (b *box) Mark() string {
	return map[string]string{"good": "✓", "plain": "–", "bad": "✗"}[b.Tone]
}
