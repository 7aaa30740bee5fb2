package resolve

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/cachedb"
	"github.com/danelaw-dns/danelaw/test/world"
)

// inFile writes what a Store would have outlive the process to a cache file.
func inFile(t *testing.T, s *Store) (source *cachedb.FromFile, records int) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	written, err := cachedb.Write(f, 1<<20, now, s.Lasting(now), new(cachedb.FromFile).Rest())
	if err != nil {
		t.Fatal(err)
	}
	file, err := cachedb.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	source = new(cachedb.FromFile)
	if err := source.Replace(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Replace(nil) }) //nolint:errcheck // it was read alone
	return source, written.Records
}

// staleBeside is another resolver of that world, with memory beyond the process and none of its own.
func (w *staleWorld) staleBeside(s cachedb.Source) *Resolver {
	return beside(w.T, w.Upstream, world.NewClock(time.Now()), func(c *Config) {
		c.Clock, c.Stale = time.Now, day
		with(s)(c)
	})
}

// TestStaleBesideFile: what is stale is told past its TTL by whoever remembers it, but it is not written to a cache
// file, told or not; and a file from before its TTL ended does not give it back, neither as fresh nor as stale (C-13,
// C-18).
func TestStaleBesideFile(t *testing.T) {
	inStaleWorld(t, with(new(cachedb.FromFile)), func(w *staleWorld) {
		like := ask(w.Resolver, "example.com.", dns.TypeMX)
		file, records := inFile(w.T, w.Resolver.Store)
		if records < 3 || ask(w.staleBeside(file), "example.com.", dns.TypeMX).Status != like.Status {
			w.Fatalf("%d records are written of what is fresh", records)
		}
		w.Follow(refusing)
		if a := ask(w.staleBeside(file), "example.com.", dns.TypeMX); a.Status != like.Status || staleCode(a) != 0 {
			w.Fatalf("%v by the file alone; %s", a.Status, notes(a))
		}
		time.Sleep(2 * time.Hour)
		for range 2 {
			if _, records := inFile(w.T, w.Resolver.Store); records > 0 {
				w.Errorf("%d records are written of what has ended", records)
			}
			a, took := w.ask("example.com.", dns.TypeMX)
			w.wantStale(a, like, took, 0)
		}
		w.wantFailure(ask(w.staleBeside(file), "example.com.", dns.TypeMX))
	})
}

// TestStaleBesideShared: what is stale is not offered to a shared cache when it is told; and what lies there past its
// TTL is not taken, neither as fresh nor in the place of what is stale (C-13, C-18).
func TestStaleBesideShared(t *testing.T) {
	source := newBeyond()
	inStaleWorld(t, with(source), func(w *staleWorld) {
		like := ask(w.Resolver, "example.com.", dns.TypeMX)
		kept := maps.Clone(source.records)
		if len(kept) < 3 {
			w.Fatalf("%d records are kept of what is fresh", len(kept))
		}
		time.Sleep(2 * time.Hour)
		w.Follow(refusing)
		for range 2 { // with what was kept, then without
			taken, _ := source.counted()
			a, took := w.ask("example.com.", dns.TypeMX)
			w.wantStale(a, like, took, 0)
			if now, _ := source.counted(); now != taken {
				w.Error("a record past its TTL was taken")
			}
			source.mu.Lock()
			source.records = map[cache.Key]cachedb.Record{}
			source.mu.Unlock()
			time.Sleep(time.Minute)
		}
		if source.mu.Lock(); len(source.records) > 0 {
			w.Errorf("%v are kept of what is stale", source.records)
		}
		source.records = kept
		source.mu.Unlock()
		w.wantFailure(ask(w.staleBeside(source), "example.com.", dns.TypeMX))
	})
}
