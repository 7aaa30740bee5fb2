package chain

import (
	"fmt"
	"maps"
	"testing"
)

// Names have what was last set, be they few or many, and are yielded once.
func TestNames(t *testing.T) {
	var n names[int]
	want := map[string]int{}
	for i := range 3 * fewNames {
		name := fmt.Sprint("name", i)
		if got := n.at(name); got != 0 {
			t.Fatalf("%s is %d before it is set", name, got)
		}
		for _, value := range []int{i + 1, i + 2} {
			n.set(name, value)
			want[name] = value
		}
		if got := maps.Collect(n.all); !maps.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
		for name, value := range want {
			if got := n.at(name); got != value {
				t.Fatalf("%s is %d, want %d", name, got, value)
			}
		}
		for range n.all {
			break
		}
	}
}
