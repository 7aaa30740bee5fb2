package chain

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// signed is a Secure zone with so many keys, in use for an hour.
func signed(t *testing.T, name string, keys int) *dnssec.Zone {
	t.Helper()
	z := secure(name).Zone
	z.Tie = dnssec.Tie{KeyTag: 4711, Algorithm: 15, Digest: 2, Inception: 1 << 31, Expiration: 1<<32 - 1}
	for n := range keys {
		rr := &dns.DNSKEY{
			Hdr:   dns.RR_Header{Name: name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET},
			Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
		}
		if n%2 == 0 {
			rr.Flags = 256
		}
		if _, err := rr.Generate(256); err != nil {
			t.Fatal(err)
		}
		key, err := dnssec.ParseKey(rr)
		if err != nil {
			t.Fatal(err)
		}
		z.Keys = append(z.Keys, key)
	}
	return z
}

// Every place comes out of a Store as it went in, before its zone is parsed anew and after.
func TestPlacesComeBack(t *testing.T) {
	const name = "example.com."
	insecure := &dnssec.Zone{Name: name, Status: dnssec.Insecure, Until: noon.Add(time.Hour)}
	excused := *insecure
	excused.Expires = noon.Add(90 * time.Minute)
	excused.Cause = &dnssec.Failure{
		Kind: dnssec.OfLink, Code: dns.ExtendedErrorCodeUnsupportedDNSKEYAlgorithm, Zone: "com.", Owner: name,
		Type: dns.TypeDS, KeyTag: 65535, Text: "why: " + strings.Repeat("\x00é ", 100),
	}
	for title, p := range map[string]Place{
		"insecure":           Cut{insecure},
		"insecure, a cause":  Cut{&excused},
		"secure, no key":     secure(name),
		"secure, a key":      Cut{signed(t, name, 1)},
		"secure, many keys":  Cut{signed(t, name, 20)},
		"within com.":        Within{Zone: "com.", end: noon.Add(time.Hour)},
		"within the root":    Within{Zone: ".", end: noon.Add(time.Hour)},
		"within, none below": Within{Zone: "com.", Below: true, end: noon.Add(time.Hour)},
		"within its own":     Within{Zone: name, end: noon.Add(time.Hour)},
	} {
		t.Run(title, func(t *testing.T) {
			s := NewStore(1 << 20)
			s.learn(name, p, noon, 24*time.Hour)
			for range 2 {
				if got := s.place(name, noon); !reflect.DeepEqual(got, p) {
					t.Errorf("got %+v, want %+v", got, p)
				}
				s.opened.Remove(name)
			}
		})
	}
}

// L-2: a zone of as many keys as a DNS message has room for is parsed once, too, however many names below it are asked.
func TestManyKeysAreOpenedOnce(t *testing.T) {
	for _, keys := range []int{60, 400} {
		s := NewStore(64 << 20) // as danelaw has it
		s.learn("com.", Cut{signed(t, "com.", keys)}, noon, 24*time.Hour)
		first := s.place("com.", noon).(Cut).Zone
		if o, ok := s.opened.Get("com."); !ok || &o.zone != first { // nobody else need hold it
			t.Errorf("a zone of %d keys is parsed anew each time", keys)
		}
	}
}

// L-15: a zone that somebody holds is parsed once, too, where the least cache has no room for it, and anew when it is
// another (C-16). Nothing is left of it once nobody holds it.
func TestHeldZonesAreShared(t *testing.T) {
	s, old := NewStore(512<<10), Cut{signed(t, "com.", 60)} // as danelaw has it with a cache of 4 MiB
	zone := func() *dnssec.Zone { return s.place("com.", noon).(Cut).Zone }
	s.learn("com.", old, noon, 24*time.Hour)
	first := zone()
	if _, ok := s.opened.Get("com."); ok {
		t.Fatal("there is room for it: the test shows nothing")
	}
	for range 10 {
		if zone() != first {
			t.Fatal("parsed anew for each who asks")
		}
	}
	other := *old.Zone
	other.Keys = other.Keys[1:]
	s.learn("com.", Cut{&other}, noon, 24*time.Hour)
	second := zone()
	if len(second.Keys) != len(other.Keys) || zone() != second {
		t.Errorf("got %d keys, want %d", len(second.Keys), len(other.Keys))
	}
	held := func() int {
		s.shared.mu.Lock()
		defer s.shared.mu.Unlock()
		return len(s.shared.zones)
	}
	for range 3 { // the first goes, the second stays
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if held() != 1 || zone() != second {
		t.Error("the zone that is held was forgotten")
	}
	for end := time.Now().Add(time.Minute); held() > 0; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Now().After(end) {
			t.Fatal("a zone that nobody holds is remembered")
		}
	}
}

// A zone in use is parsed once, and anew when it is another: by its keys, by its times.
func TestOpened(t *testing.T) {
	s, old := NewStore(1<<20), Cut{signed(t, "com.", 2)}
	zone := func() *dnssec.Zone { return s.place("com.", noon).(Cut).Zone }
	s.learn("com.", old, noon, 24*time.Hour)
	first := zone()
	s.mayRefresh("com.", noon)
	s.claim("com.")
	if s.noteAhead("com.", hopeless); zone() != first {
		t.Error("parsed again")
	}
	for title, change := range map[string]func(z *dnssec.Zone){
		"other keys":       func(z *dnssec.Zone) { z.Keys = z.Keys[1:] },
		"a longer time":    func(z *dnssec.Zone) { z.Until = z.Until.Add(time.Second) },
		"later expiration": func(z *dnssec.Zone) { z.Expires = z.Expires.Add(time.Second) },
		"another tie":      func(z *dnssec.Zone) { z.Tie.KeyTag++ },
	} {
		z := *old.Zone
		change(&z)
		s.learn("com.", old, noon, 24*time.Hour)
		stale, _ := s.opened.Get("com.")
		s.learn("com.", Cut{&z}, noon, 24*time.Hour)
		s.opened.Put("com.", stale)
		if got := zone(); !reflect.DeepEqual(*got, z) {
			t.Errorf("%s: got %+v, want %+v", title, *got, z)
		}
	}
}

// Who asks may use the memory of the name again, as the fast path does.
func TestOpenedKeepsItsName(t *testing.T) {
	s := NewStore(1 << 20)
	s.learn("com.", Cut{signed(t, "com.", 2)}, noon, 24*time.Hour)
	s.opened.Remove("com.")
	asked := []byte("com.")
	zone := s.place(unsafe.String(&asked[0], len(asked)), noon).(Cut).Zone
	copy(asked, "net.")
	again := s.place("com.", noon).(Cut).Zone
	if again != zone || zone.Name != "com." || zone.Keys[0].RR.Hdr.Name != "com." {
		t.Errorf("got %+v, then %+v", zone, again)
	}
}

// A place that is not in use takes few octets, its part of the index included.
func TestPlacesAreSmall(t *testing.T) {
	const n, name = 20_000, 20
	key := signed(t, "x.", 1)
	for title, tt := range map[string]struct {
		place func(name string) Place
		most  int64
	}{
		"secure, a P-256 key": {func(name string) Place { z := *key; z.Name = name; return Cut{&z} }, name + 140},
		"insecure": {func(name string) Place {
			return Cut{&dnssec.Zone{Name: name, Status: dnssec.Insecure, Until: noon.Add(time.Hour)}}
		}, name + 60},
		"within": {func(string) Place { return Within{Zone: "example.", end: noon.Add(time.Hour)} }, name + 60},
	} {
		s := NewStore(64 << 20)
		for i := range n {
			at := fmt.Sprintf("domain%06d.example.", i)
			s.learn(at, tt.place(at), noon, time.Hour)
		}
		octets, places := s.packed.Size()
		if places < n-10 || octets/int64(places) > tt.most { // few fall together
			t.Errorf("%s: %d octets for each of %d places, want %d", title, octets/int64(places), places, tt.most)
		}
	}
}

// L-15: a Store takes no more than it may, whatever zones there are, with few keys or with hostile ones, and failures.
func TestStoreBound(t *testing.T) {
	const size = 1 << 20
	s, few, many := NewStore(size), signed(t, "x.", 1), signed(t, "x.", 200)
	for i := range 20_000 {
		name := fmt.Sprintf("n%d.", i)
		z := *few
		if i%100 == 0 {
			z = *many
		}
		z.Name = name
		s.learn(name, Cut{&z}, noon, time.Hour)
		s.learn("host."+name, Within{Zone: name, end: noon.Add(time.Hour)}, noon, time.Hour)
		s.fail("bad."+name, tooMany("bad."+name), noon, s.Epoch())
		if i%1000 > 0 {
			continue
		}
		if octets, _ := s.Size(); octets > size {
			t.Fatalf("%d octets after %d zones, more than %d", octets, i+1, size)
		}
	}
	if _, n := s.Size(); n < 4000 || s.Evicted() == 0 {
		t.Errorf("%d places, %d evicted", n, s.Evicted())
	}
	if p, ok := s.place("n19999.", noon).(Cut); !ok || len(p.Zone.Keys) != 1 {
		t.Errorf("the last zone is %+v", p)
	}
}
