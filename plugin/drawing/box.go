package drawing

import (
	"cmp"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Box is one of a tree, in which each is below what vouches for it.
type Box struct {
	Title    string
	Word     string // a status
	Tone     Tone
	Lines    []string
	Children []*Box
	Records  bool // it has TLSA records
}

// Forest is a tree of zones into which other boxes are hung.
type Forest struct {
	Roots []*Box
	zones map[string]*Box
}

// Plant makes the tree of zones, which come parents first.
func Plant(zones []*Zone) *Forest {
	f := &Forest{zones: map[string]*Box{}}
	for _, z := range zones {
		b := NewBox("zone "+z.Name, z.Status, z.How)
		if z.Name == "." {
			b.Title = "the root"
		}
		f.Hang(z.Name, b)
		f.zones[z.Name] = b
	}
	return f
}

// Hang puts a box below the zone that a name lies in.
func (f *Forest) Hang(name string, b *Box) {
	for at := range dnssec.Ancestors(name) {
		if above := f.zones[at]; above != nil {
			above.Add(b)
			return
		}
	}
	f.Roots = append(f.Roots, b)
}

// Draw draws one answer: zones below zones, in them its RRsets.
func (v *Chain) Draw() []*Box {
	f := Plant(v.Zones)
	for _, s := range v.Sets {
		lines := append([]string{s.How}, s.Records...)
		f.Hang(cmp.Or(s.Zone, s.Owner), NewBox(s.Owner+" "+s.Type, s.Status, lines...))
	}
	return f.Roots
}

// NewBox is a box for what has a status.
func NewBox(title, status string, lines ...string) *Box {
	return &Box{Title: title, Word: status, Tone: tones[status], Lines: lines}
}

// Add puts a box below b.
func (b *Box) Add(child *Box) { b.Children = append(b.Children, child) }

// Sign is the sign for its tone, for those who do not see colours.
func (b *Box) Sign() string {
	return map[Tone]string{Good: "✓", Plain: "–", Bad: "✗"}[b.Tone]
}
