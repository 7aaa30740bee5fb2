package danelaw

import (
	"testing"

	"github.com/miekg/dns"
)

// A CoreDNS that is built in another way than the one in go.mod is no panic: danelaw leaves reading to it, or answers
// from the cache through it, and says so.
func TestHidden(t *testing.T) {
	of := &struct{ zones map[string]int }{map[string]int{"example.": 1}}
	for _, world := range []struct {
		name string
		like any
		ok   bool
	}{
		{"zones", map[string]int{}, true},
		{"zones", map[string]string{}, false},
		{"registry", map[string]int{}, false},
	} {
		if _, ok := hidden(of, world.name, world.like); ok != world.ok {
			t.Errorf("%s like %T: %v, want %v", world.name, world.like, ok, world.ok)
		}
	}
}

// TestOwner: which block a question is for, as CoreDNS chooses it. Where that is none whose hits may pass, or CoreDNS
// looks at such a one on its way, it is none.
func TestOwner(t *testing.T) {
	root, above, deep := new(passing), new(passing), new(passing)
	for _, world := range []struct {
		zones map[string]*passing
		name  string
		qtype uint16
		want  *passing
	}{
		{map[string]*passing{".": root}, "a.example.", dns.TypeDS, root},
		{map[string]*passing{".": nil}, "a.example.", dns.TypeMX, nil},
		{map[string]*passing{"example.": above}, "a.example.", dns.TypeMX, above},
		{map[string]*passing{"example.": above}, "a.other.", dns.TypeMX, nil},
		{map[string]*passing{".": root, "example.": above, "a.example.": deep}, "a.example.", dns.TypeMX, deep},
		{map[string]*passing{".": root, "example.": above, "a.example.": deep}, "a.example.", dns.TypeDS, above},
		{map[string]*passing{".": root, "example.": above, "a.example.": deep}, "b.a.example.", dns.TypeDS, above},
		{map[string]*passing{".": root, "a.example.": deep}, "a.example.", dns.TypeDS, deep},
		{map[string]*passing{".": root, "a.example.": deep}, "example.", dns.TypeDS, root},
		{map[string]*passing{".": root, "a.example.": deep}, ".", dns.TypeDS, root},
		{map[string]*passing{".": nil, "a.example.": deep}, "a.example.", dns.TypeDS, deep},
		{map[string]*passing{".": root, "example.": nil, "a.example.": deep}, "a.example.", dns.TypeDS, nil},
		{map[string]*passing{".": root, "example.": above, "a.example.": nil}, "a.example.", dns.TypeDS, nil},
	} {
		served := told{zones: world.zones}
		served.sole()
		if got := served.owner(world.name, world.qtype); got != world.want {
			t.Errorf("of %v, %s %s is for %p, not %p", world.zones, world.name, dns.Type(world.qtype), got, world.want)
		}
	}
}
