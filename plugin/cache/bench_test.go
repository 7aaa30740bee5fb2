package cache

import (
	"encoding/base64"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// typical is a signed answer of some 400 octets, as mail lookups get them.
func typical(t testing.TB) Entry {
	rsa2048 := base64.StdEncoding.EncodeToString(make([]byte, 256))
	wire := message(t, "mail.example.",
		"mail.example. 3600 IN MX 10 mx1.mail.example.",
		"mail.example. 3600 IN MX 20 mx2.mail.example.",
		"mail.example. 3600 IN MX 30 backup.example.org.",
		"mail.example. 3600 IN RRSIG MX 8 2 3600 20260701000000 20260601000000 1 mail.example. "+rsa2048)
	return Entry{Status: 3, Stored: noon, Life: time.Hour, Expires: after(86400), Wire: wire}
}

func fill(c *Cache, e *Entry, from, to int) {
	for i := from; i < to; i++ {
		c.Put(Key{Name: fmt.Sprintf("mail.n%07d.example.", i), Type: dns.TypeMX}, e, noon)
	}
}

// Neither answers nor their index lie in Go's heap, many replacements later, too.
func TestNothingInTheHeap(t *testing.T) {
	e, before := typical(t), heap()
	c := New(64 << 20)
	fill(c, &e, 0, 400_000)
	_, n := c.Size()
	each := float64(int64(heap())-int64(before)) / float64(n)
	runtime.KeepAlive(c)
	if !inHeap && each > 1 {
		t.Errorf("an entry takes %.1f octets of heap", each)
	}
}

// L-15: an answer takes its octets in memory and some 40 more, and its part of the index.
func TestAnswerTakesLittleMore(t *testing.T) {
	const answers, bare = 100_000, 93
	wire := message(t, "mail.example.", "mail.example. 3600 IN MX 10 mx.mail.example.",
		"mail.example. 3600 IN RRSIG MX 13 2 3600 20260701000000 20260601000000 1 mail.example. "+
			base64.StdEncoding.EncodeToString(make([]byte, 212-bare)))
	e := Entry{Status: 3, Stored: noon, Life: time.Hour, Expires: after(86400), Wire: wire}
	c := New(answers * 600)
	keyOf := func(i int) Key { return Key{Name: fmt.Sprintf("mail.n%06d.example.", i), Type: dns.TypeMX} }
	for i := range answers {
		c.Put(keyOf(i), &e, noon)
	}
	k := keyOf(answers / 2)
	s, hash := c.shard(k)
	r, _ := s.of(hash, k)
	ttls, _ := ttlOffsets(wire)
	if len(k.Name) != 21 || len(wire) != 212 || len(ttls) != 2 {
		t.Fatalf("the answer is not the one that is meant: %d, %d, %d", len(k.Name), len(wire), len(ttls))
	}
	most := 40 + len(k.Name) + len(wire) + len(e.Notes) + 2*len(ttls) + alignment - 1
	if int(r.size) > most {
		t.Errorf("an answer takes %d octets, want %d at most", r.size, most)
	}
	octets, n := c.Size()
	if each := octets / int64(n); each > int64(most)+24 {
		t.Errorf("each of %d takes %d octets with its part of the index, want %d at most", n, each, most+24)
	}
}

func TestTableIsCharged(t *testing.T) {
	table, before := NewTable(64<<20, func(int) int64 { return 8 }), heap()
	for i := range 400_000 {
		table.Put(fmt.Sprintf("zone%07d.example.org.", i), i)
	}
	octets, n := table.Size()
	each, charged := float64(heap()-before)/float64(n), float64(octets)/float64(n)
	runtime.KeepAlive(table)
	if each*heapGrowth/100 > charged {
		t.Errorf("an entry takes %.0f octets of heap, %.0f are charged for %.0f", each, charged, charged*100/heapGrowth)
	}
}

// heap returns the octets that live in Go's heap.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkGetHit(b *testing.B) {
	const entries = 100_000
	c, e := New(256<<20), typical(b)
	fill(c, &e, 0, entries)
	keys := make([]Key, entries)
	for i := range keys {
		keys[i] = Key{Name: fmt.Sprintf("mail.n%07d.example.", i), Type: dns.TypeMX}
	}
	var misses atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var got Entry
		for i := 0; pb.Next(); i = (i + 7919) % entries {
			if !c.Get(keys[i], after(60), &got) {
				misses.Add(1)
			}
		}
	})
	if n := misses.Load(); n > int64(b.N/1000) { // a few are lost to others of the same hash
		b.Errorf("%d of %d missed", n, b.N)
	}
}

func BenchmarkPut(b *testing.B) {
	c, e := New(64<<20), typical(b)
	b.ReportAllocs()
	for i := range b.N {
		c.Put(Key{Name: fmt.Sprintf("mail.n%07d.example.", i), Type: dns.TypeMX}, &e, noon)
	}
}

// BenchmarkMemory fills a cache with a million answers and tells what each takes of the process's resident memory
// (Linux): when it is filled, and when it has since lived through the replacement of them all.
func BenchmarkMemory(b *testing.B) {
	const answers = 1_000_000
	e := typical(b)
	for range b.N {
		before := resident()
		c := New(answers * 820)
		report := func(unit string) {
			_, n := c.Size()
			b.ReportMetric(float64(resident()-before)/float64(n), unit)
		}
		fill(c, &e, 0, answers)
		report("RSS/answer")
		fill(c, &e, answers, 2*answers)
		report("RSS/answer,churned")
		octets, n := c.Size()
		b.ReportMetric(float64(octets)/float64(n), "charged/answer")
		b.ReportMetric(float64(n), "answers")
		b.ReportMetric(float64(len(e.Wire)), "wire")
		runtime.KeepAlive(c)
	}
}

// resident returns the octets of memory that the process holds.
func resident() int64 {
	var size, pages int64
	statm, _ := os.ReadFile("/proc/self/statm")
	fmt.Sscan(string(statm), &size, &pages)
	return pages * int64(os.Getpagesize())
}
