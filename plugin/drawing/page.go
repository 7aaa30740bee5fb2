// Package drawing shows what was judged to people: the chain of trust of an answer in words, as `danelaw check` prints
// it, and as a tree of boxes on a page of HTML, of which each is below what vouches for it.
package drawing

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// Style is the style sheet of pages: light, dark, on a phone and on paper.
//
//go:embed style.css
var Style string

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"printable": printable.Text, "style": func() template.CSS { return template.CSS(Style) },
}).Parse(pageText))

// Page is what a page is made of.
type Page struct {
	Title   string
	Heading string
	Back    string // where a link above the heading leads; "" for none
	Written time.Time
	Domains []*Domain
	Errors  []Unchecked
	Summary string // if there are several domains
}

// Unchecked is a domain that cannot be checked, and why.
type Unchecked struct{ Domain, Error string }

// Domain is a domain, or a name and a type.
type Domain struct {
	Domain         string
	Headline, Told string
	Tone           Tone
	Failing        bool
	Word           string // the decision, for the summary
	Rows           []Row
	Tree           []*Box
}

// ID is where links to it lead.
func (d *Domain) ID() string { return "d-" + d.Domain }

// Row is a line of the table: what, a status or decision, and the rest. That of a heading is not aligned with others.
type Row struct {
	What, Word, Text string
	Heading          bool
}

// Empty reports whether the row is there to part others.
func (r Row) Empty() bool { return r == Row{} }

// Indented reports whether the row belongs to the heading above.
func (r Row) Indented() bool { return r.What == "" || r.What[0] == ' ' }

// Tone is how its word is to be taken, for style sheets.
func (r Row) Tone() Tone { return tones[r.Word] }

// Page is a page about one answer.
func (v *Chain) Page() *Page {
	tone := tones[v.Status]
	d := &Domain{Domain: v.Name + " " + v.Type, Headline: v.Status, Tone: tone, Tree: v.Draw(), Failing: tone == Bad}
	var told []string
	for _, f := range v.Failures {
		told = append(told, fmt.Sprintf("%s (EDE %d)", f.Text, f.EDE))
	}
	d.Told = strings.Join(told, " ")
	return &Page{Title: d.Domain + " - danelaw check", Heading: "danelaw check", Written: time.Now().UTC(),
		Domains: []*Domain{d}}
}

// Write writes the page.
func (p *Page) Write(to io.Writer) error { return pageTemplate.Execute(to, p) }
