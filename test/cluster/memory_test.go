//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// group is a control group with a limit on memory, of version 2 or 1.
type group struct{ dir, peak, events string }

// newGroup makes one with a limit in MiB.
func newGroup(t *testing.T, limit int) group {
	t.Helper()
	const all = "/sys/fs/cgroup"
	name, bound := fmt.Sprintf("danelaw-test-%d", time.Now().UnixNano()), "memory.max"
	g := group{filepath.Join(all, name), "memory.peak", "memory.events"}
	if exists(all + "/memory/memory.limit_in_bytes") {
		bound = "memory.limit_in_bytes"
		g = group{filepath.Join(all, "memory", name), "memory.max_usage_in_bytes", "memory.oom_control"}
	} else if err := os.WriteFile(all+"/cgroup.subtree_control", []byte("+memory"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for end := time.Now().Add(patience); os.Remove(g.dir) != nil && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond) // its last process is being reaped
		}
	})
	write(t, filepath.Join(g.dir, bound), strconv.Itoa(limit<<20))
	return g
}

// enter is the beginning of a command line that runs the rest of it in the group.
func (g group) enter() []string {
	return []string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}
}

// took returns the most octets that the group had, and how many processes the kernel has killed there.
func (g group) took(t *testing.T) (most int64, killed int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, g.peak))
	if err != nil {
		t.Fatal(err)
	}
	if most, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(filepath.Join(g.dir, g.events)); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if n, is := strings.CutPrefix(line, "oom_kill "); is {
			killed, err = strconv.Atoi(strings.TrimSpace(n))
			return most, killed
		}
	}
	t.Fatalf("no oom_kill in %s", text)
	return 0, 0
}

// flood asks random names, as many as are answered.
type flood struct{ ask func() *universe.Question }

// Lines implements [load.Script].
func (flood) Lines() int { return 2000 }

// Next implements [load.Script].
func (f flood) Next(int) *universe.Question { return f.ask() }

// TestMemory: under the limit that the chart sets, with the GOMEMLIMIT that it sets, danelaw lives through mail to
// domains never seen, more of them than its cache holds, and through what attackers ask beside it. The kernel kills
// nothing, and mail is answered.
func TestMemory(t *testing.T) {
	suite.Needs(t)
	network(t)
	const count = 4000
	o := newOutside(t, count)
	what := read(t, o.values(values{"cache": "4MiB"})) // a size that the test can fill
	limit := mib(t, what.Resources.Limits.Memory, "Mi")
	g := newGroup(t, limit)
	r := newPod(t, 0)
	r.start(what, g.enter()...)
	at := netip.MustParseAddrPort(r.address + ":1053")
	deliveries := func() (all [][]universe.Question) {
		for i := range count {
			q, err := o.Delivery(i)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, q)
		}
		return all
	}
	mail := deliveries()
	one := func(what string) {
		result, err := load.Run(t.Context(), at, &load.Deliveries{Domains: mail, AtOnce: 200})
		if err != nil || result.Wrong+result.Failed+result.Lost > 0 {
			t.Errorf("%s: %d replies, %d wrong, %d failed, %d lost: %s (%v)", what, result.Replies, result.Wrong,
				result.Failed, result.Lost, result.Example, err)
		}
		most, killed := g.took(t)
		t.Logf("%s: %.0f replies/s, the group had %d MiB of %d", what,
			float64(result.Replies)/result.Elapsed.Seconds(), most>>20, limit)
		if killed > 0 {
			t.Fatalf("%s: the kernel has killed it", what)
		}
	}
	one("domains never seen")
	if sum(t, r.scrape(), "coredns_danelaw_cache_evictions_total") == 0 {
		t.Error("the cache is not full: the test shows too little")
	}
	for _, trap := range []string{"signed", "bogus", "keytrap", "nsec3", "many", "silent"} {
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := load.Run(ctx, at, flood{universe.Flood(trap, rand.New(rand.NewPCG(1, 1)))})
		if stop(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", trap, err)
		}
		most, killed := g.took(t)
		if t.Logf("%s: the group had %d MiB", trap, most>>20); killed > 0 {
			t.Fatalf("%s: the kernel has killed it", trap)
		}
	}
	before := 0.
	r.eventually("the floods are over", func() bool {
		time.Sleep(time.Second)
		replies := sum(t, r.scrape(), "coredns_danelaw_responses_total")
		over := replies == before
		before = replies
		return over && r.probe(8053, "/health")
	})
	one("mail after the floods")
	select {
	case <-r.ended:
		t.Error("it has ended")
	default:
	}
}
