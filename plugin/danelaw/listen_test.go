package danelaw

import "testing"

// TestConnectionsFor: clients hold three eighths of the files that a process may open, so that questions to upstreams
// keep theirs, and no more than memory is promised for, even where nobody knows how many files there may be (L-15).
func TestConnectionsFor(t *testing.T) {
	for _, world := range []struct{ files, want int }{
		{0, 1000}, {128, 48}, {1024, 384}, {2664, 999}, {2672, 1000}, {1 << 20, 1000},
	} {
		if got := connectionsFor(world.files); got != world.want {
			t.Errorf("of %d files %d connections, want %d", world.files, got, world.want)
		}
	}
}
