package main

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/drawing"
)

// newPage is a page about all domains.
func newPage(results []result) *drawing.Page {
	p := &drawing.Page{Title: "danelaw check", Heading: "danelaw check", Written: time.Now().UTC()}
	for _, r := range results {
		if r.err != nil {
			p.Errors = append(p.Errors, drawing.Unchecked{Domain: r.domain, Error: r.Error()})
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

// writePage makes a page and writes it, if there is a file for it.
func writePage(file string, made func() *drawing.Page) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	if err := made().Write(&b); err != nil {
		return err
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("the page cannot be written: %w", err)
	}
	return nil
}

func newPageDomain(r result) *drawing.Domain {
	v := r.view
	headline, tone := v.headline()
	return &drawing.Domain{
		Domain: v.Domain, Headline: headline, Tone: tone, Told: v.told(), Word: r.word(),
		Failing: v.Culprit != nil || tone == drawing.Bad, Rows: v.rows(), Tree: v.draw(),
	}
}

// draw draws a domain: zones below zones, in them MX and hosts, below those their TLSA records and certificates.
func (v *view) draw() []*drawing.Box {
	f := drawing.Plant(v.Zones)
	f.Hang(v.Domain, boxOf(&v.MX, "no MX: the domain is its own mail host"))
	for _, h := range v.Hosts {
		for name, b := range h.boxes() {
			f.Hang(name, b)
		}
	}
	return f.Roots
}

// boxOf is the box of a lookup.
func boxOf(l *lookupView, none string) *drawing.Box {
	r := l.row("", none)
	return drawing.NewBox(l.Name+" "+l.Type, r.Word, r.Text)
}

// boxes yields those of a host with the names where they belong: one, or for an alias that and its target. TLSA records
// are below the name that they are for.
func (h *hostView) boxes() iter.Seq2[string, *drawing.Box] {
	b, end := drawing.NewBox("mail host "+h.Name, h.status()), h.Name
	addresses := b
	if h.Alias != nil {
		b, end = drawing.NewBox("mail host "+h.Name, h.Alias.Status, "an alias of "+h.Alias.Target), h.Alias.Target
		addresses = drawing.NewBox(h.Alias.Target+", of which "+h.Name+" is an alias", h.status())
	}
	for i := range h.Addresses {
		r := h.Addresses[i].row(h.Addresses[i].Type, "none")
		addresses.Lines = append(addresses.Lines, r.What+" "+r.Text)
	}
	for i := range h.TLSA {
		if t := &h.TLSA[i]; t.Base == h.Name {
			b.Add(t.box())
		} else {
			addresses.Add(t.box())
		}
	}
	for i := range h.SMTP {
		h.last(b, addresses).Add(h.SMTP[i].box())
	}
	return func(yield func(string, *drawing.Box) bool) {
		if yield(h.Name, b) && addresses != b {
			yield(end, addresses)
		}
	}
}

// last is the box that a certificate belongs below: the TLSA records that it is compared with, else its host.
func (h *hostView) last(host, addresses *drawing.Box) *drawing.Box {
	for _, above := range []*drawing.Box{addresses, host} {
		for _, b := range above.Children {
			if b.Records {
				return b
			}
		}
	}
	return addresses
}

// box is that of a TLSA lookup.
func (t *tlsaView) box() *drawing.Box {
	b := drawing.NewBox(t.Name+" TLSA", t.Status)
	for _, r := range t.rows() {
		b.Lines = append(b.Lines, r.Text)
	}
	if b.Records = len(t.Parts) > 0; !b.Records && t.Failure == nil {
		b.Tone = drawing.Plain // it is proven that there is nothing to hold on to
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
