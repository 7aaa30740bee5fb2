package danelaw

import "testing"

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
