package cachedb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// message is an answer with one address.
func message(t testing.TB, name string, ttl uint32) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.Id, m.Response = 0, true
	m.Answer = []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: []byte{192, 0, 2, 1},
	}}
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// entries are so many answers that live for an hour.
func entries(t testing.TB, n int) map[cache.Key]*cache.Entry {
	t.Helper()
	all := map[cache.Key]*cache.Entry{}
	for i := range n {
		name := fmt.Sprintf("host%d.example.", i)
		all[cache.Key{Name: name, Type: dns.TypeA}] = &cache.Entry{
			Stored: noon, Life: time.Hour, Wire: message(t, name, 3600),
		}
	}
	return all
}

// written is the path of a cache file with so many answers.
func written(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cache")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Write(f, 1<<20, noon, maps.All(entries(t, n)), (&FromFile{}).Rest())
	if err != nil || w.Records != n || f.Close() != nil {
		t.Fatalf("%+v, %v", w, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != w.Octets {
		t.Fatalf("%d octets, told are %d; %v", info.Size(), w.Octets, err)
	}
	return path
}

// inMemory is a file in memory.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

func opened(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return Open(f)
}

// source is a Source of the file at a path.
func source(t testing.TB, path string) *FromFile {
	t.Helper()
	f, err := opened(path)
	if err != nil {
		t.Fatal(err)
	}
	s := new(FromFile)
	if err := s.Replace(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Replace(nil) }) //nolint:errcheck // it was read alone
	return s
}

func held(s *FromFile, n int) (found int) {
	for i := range n {
		k := cache.Key{Name: fmt.Sprintf("host%d.example.", i), Type: dns.TypeA}
		if r, ok := s.Find(context.Background(), noon, k); ok && r.Key == k && r.alive(noon) {
			found++
		}
	}
	return found
}

// TestFile: what is written is found again, and nothing else.
func TestFile(t *testing.T) {
	const n = 1000
	s := source(t, written(t, n))
	if found := held(s, n); found != n || s.Records() != n {
		t.Errorf("%d of %d records are found, %d are told", found, n, s.Records())
	}
	for _, k := range []cache.Key{
		{Name: "host1.example.", Type: dns.TypeMX}, {Name: "other.example.", Type: dns.TypeA},
	} {
		if r, ok := s.Find(t.Context(), noon, k); ok {
			t.Errorf("%v: %v is found", k, r)
		}
	}
}

// TestFileDamaged: whichever octet of a file is another, or missing, all that is found is as it was written.
func TestFileDamaged(t *testing.T) {
	const n = 3
	path := written(t, n)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := map[cache.Key][]byte{}
	for k, e := range entries(t, n) {
		good[k] = e.Wire
	}
	look := func(what string, content []byte) (found int) {
		f, err := Open(inMemory{bytes.NewReader(content)})
		if err != nil {
			return 0
		}
		s := &FromFile{file: f}
		defer s.Replace(nil) //nolint:errcheck // it was read alone
		for k, wire := range good {
			r, ok := s.Find(t.Context(), noon, k)
			if found++; !ok {
				found--
			} else if !bytes.Equal(r.Wire, wire) || !r.Stored.Equal(noon) || !r.Ends.Equal(noon.Add(time.Hour)) {
				t.Errorf("%s: %v is %v", what, k, r)
			}
		}
		for r := range s.Rest() {
			if !bytes.Equal(r.Wire, good[r.Key]) {
				t.Errorf("%s: the rest has %v", what, r)
			}
		}
		return found
	}
	if found := look("whole", whole); found != n {
		t.Fatalf("%d records are found in what is whole", found)
	}
	for i := range whole {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(whole)
			bad[i] ^= bit
			if found := look(fmt.Sprintf("octet %d", i), bad); i >= headerSize && found < n-2 {
				t.Errorf("with octet %d another %d records are found", i, found)
			}
		}
		look(fmt.Sprintf("up to octet %d", i), whole[:i])
	}
}

// TestFileForms: what is no cache file, or is newer, is told apart from what is damaged; an empty one has no records.
func TestFileForms(t *testing.T) {
	path := written(t, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(whole)
	newer[len(magic)+1]++
	for what, c := range map[string]struct {
		content []byte
		err     error
	}{
		"empty": {nil, nil}, "another": {[]byte("root:x:0:0:root:/root:/bin/bash\n"), ErrForeign},
		"short and another": {[]byte("{}"), ErrForeign}, "newer": {newer, ErrVersion}, "cut": {whole[:20], ErrDamaged},
	} {
		if err := os.WriteFile(path, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := opened(path)
		if !errors.Is(err, c.err) || err == nil && f.Records() != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRest: a file that is written again has what is fresh, and of the one before what is alive, not forgotten, and not
// among the fresh; and it has no more octets than it may.
func TestRest(t *testing.T) {
	s := source(t, written(t, 100))
	s.Forget("host7.example.", noon)
	fresh := map[cache.Key]*cache.Entry{{Name: "host3.example.", Type: dns.TypeA}: {
		Stored: noon, Life: time.Minute, Wire: message(t, "host3.example.", 60),
	}}
	again := func(most int64, now time.Time) (*FromFile, Written) {
		path := filepath.Join(t.TempDir(), "cache")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w, err := Write(f, most, now, maps.All(fresh), s.Rest())
		if err != nil {
			t.Fatal(err)
		}
		return source(t, path), w
	}
	next, w := again(1<<20, noon)
	r, ok := next.Find(t.Context(), noon, cache.Key{Name: "host3.example.", Type: dns.TypeA})
	if !ok || w.Records != 99 || held(next, 100) != 99 || r.Ends.Sub(r.Stored) != time.Minute {
		t.Errorf("%+v; %d are found; %v", w, held(next, 100), r)
	}
	if _, w := again(1<<20, noon.Add(time.Hour)); w.Records != 1 {
		t.Errorf("%+v, though all but one has ended", w)
	}
	if next, w := again(2000, noon); w.Octets > 2000 || w.Records < 10 || held(next, 100) != w.Records {
		t.Errorf("%+v of at most 2000 octets", w)
	}
}

// TestForgotten: what was stored before a name was forgotten does not come back, nor what denies the name (C-12); what
// was stored later does. With too many names all is forgotten.
func TestForgotten(t *testing.T) {
	var f forgotten
	f.add("a.example.", noon)
	for _, c := range []struct {
		name   string
		qtype  uint16
		stored time.Time
		is     bool
	}{
		{"a.example.", dns.TypeA, noon, true}, {"b.a.example.", dns.TypeA, noon.Add(-time.Hour), true},
		{"a.example.", dns.TypeA, noon.Add(time.Second), false}, {"example.", dns.TypeA, noon, false},
		{"example.", nameError, noon, true}, {"b.example.", nameError, noon, false},
	} {
		r := Record{Key: cache.Key{Name: c.name, Type: c.qtype}, Stored: c.stored}
		if got := f.has(r); got != c.is {
			t.Errorf("%+v: %v", c, got)
		}
	}
	for i := range mostForgotten {
		f.add(fmt.Sprintf("%d.example.", i), noon)
	}
	if !f.has(Record{Key: cache.Key{Name: "other.", Type: dns.TypeA}, Stored: noon}) || len(f.names) > mostForgotten {
		t.Errorf("%d names", len(f.names))
	}
}

// TestAlive: a record from the future, past its end, or with an end that no TTL has, is not used (C-18).
func TestAlive(t *testing.T) {
	for _, c := range []struct {
		stored, ends time.Duration
		alive        bool
	}{
		{0, time.Second, true}, {-time.Hour, time.Second, true}, {time.Second, time.Hour, false},
		{-time.Hour, 0, false},
		{0, maxLife, true}, {0, maxLife + time.Second, false}, {-maxLife, time.Second, false},
	} {
		if r := (Record{Stored: noon.Add(c.stored), Ends: noon.Add(c.ends)}); r.alive(noon) != c.alive {
			t.Errorf("%+v: %v", c, r.alive(noon))
		}
	}
}

// TestReply: a record is a reply to the question with what is left of its TTLs; what is no reply is none.
func TestReply(t *testing.T) {
	q := dns.Question{Name: "a.example.", Qtype: dns.TypeA, Qclass: dns.ClassINET}
	wire := message(t, "a.example.", 100)
	r := Record{Stored: noon, Ends: noon.Add(time.Hour), Wire: wire}
	for after, left := range map[time.Duration]uint32{0: 100, 40 * time.Second: 60, time.Minute * 30: 0} {
		if m := r.reply(q, noon.Add(after)); m == nil || m.Answer[0].Header().Ttl != left || m.Question[0] != q {
			t.Errorf("after %v it is %v", after, m)
		}
	}
	query, truncated, refused := bytes.Clone(wire), bytes.Clone(wire), bytes.Clone(wire)
	query[2] &^= 0x80
	truncated[2] |= 2
	refused[3] |= dns.RcodeRefused
	for what, wire := range map[string][]byte{
		"query": query, "truncated": truncated, "refused": refused, "cut": wire[:len(wire)-1], "nothing": nil,
	} {
		if r.Wire = wire; r.reply(q, noon) != nil {
			t.Errorf("%s: a reply", what)
		}
	}
}

// FuzzFile: whatever a file holds, reading it ends without a panic, and finds no record under another key.
func FuzzFile(f *testing.F) {
	whole, err := os.ReadFile(written(f, 2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:headerSize])
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Open(inMemory{bytes.NewReader(content)})
		if err != nil {
			return
		}
		s := &FromFile{file: file}
		defer s.Replace(nil) //nolint:errcheck // it was read alone
		k := cache.Key{Name: "host1.example.", Type: dns.TypeA}
		if r, ok := s.Find(t.Context(), noon, k); ok {
			if r.Key != k {
				t.Errorf("%v is found under %v", r.Key, k)
			}
			r.reply(dns.Question{Name: k.Name, Qtype: k.Type, Qclass: dns.ClassINET}, noon)
		}
		n := 0
		for range s.Rest() {
			if n++; n > len(content) {
				t.Fatal("it does not end")
			}
		}
	})
}
