package cache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// noon is when these tests begin.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func after(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// message packs the records, in zone-file form, into an answer to a question for name, compressed.
func message(t testing.TB, name string, records ...string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, dns.TypeMX)
	m.Response, m.Compress = true, true
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return pack(t, m)
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func unpack(t testing.TB, wire []byte) *dns.Msg {
	t.Helper()
	m := &dns.Msg{Compress: true}
	if err := m.Unpack(wire); err != nil {
		t.Fatalf("%v in % x", err, wire)
	}
	return m
}

// aged is what wire, as the DNS library packs it, is to look like after so many seconds.
func aged(t testing.TB, wire []byte, seconds int) []byte {
	t.Helper()
	m := unpack(t, wire)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(h.Ttl, uint32(seconds))
			}
		}
	}
	return pack(t, m)
}

// txt is a message of at least so many octets whose TTL is an hour.
func txt(t testing.TB, name string, octets int) []byte {
	t.Helper()
	var text strings.Builder
	for text.Len() < octets {
		fmt.Fprintf(&text, " %q", strings.Repeat(string(rune('a'+rand.N(26))), 1+rand.N(250)))
	}
	return message(t, name, name+" 3600 IN TXT x"+text.String())
}

// L-15, C-7, C-8, C-18: random use by a clock that goes to and fro never exceeds the bound, and gives back only what
// was put last, alive and with exact TTLs.
func TestCacheAgainstModel(t *testing.T) {
	for _, size := range []int64{16 << 10, 100 << 10, 4 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			c, model, hits := New(size), map[Key]Entry{}, 0
			now := noon
			var got Entry
			for range 5000 {
				now = now.Add(time.Duration(rand.N(40)-15) * time.Second)
				k := Key{Name: fmt.Sprintf("host%d.example.", rand.N(100)), Type: uint16(rand.N(3))}
				want := model[k]
				// The model cannot foresee what had to make room; all else it knows.
				found := c.Get(k, now, &got)
				if found {
					hits++
					checkEntry(t, &got, want, now)
				}
				switch e := randomEntry(t, k.Name, now); {
				case rand.N(20) == 0:
					c.Remove(k)
					delete(model, k)
				case !found || e.Status >= want.Status || e.Proven:
					c.Put(k, &e, now)
					model[k] = e
				default:
					c.Put(k, &e, now) // the better one stays
				}
				if octets, entries := c.Size(); octets > size || entries > len(model) {
					t.Fatalf("holds %d octets and %d entries of %d, %d", octets, entries, size, len(model))
				}
			}
			if hits < 50 {
				t.Errorf("%d hits show nothing", hits)
			}
		})
	}
}

func randomEntry(t *testing.T, name string, now time.Time) Entry {
	e := Entry{
		Status: uint8(rand.N(2)), Proven: rand.N(2) == 0, Stored: now.Truncate(time.Second),
		Life:  time.Duration(1+rand.N(600)) * time.Second,
		Wire:  txt(t, name, rand.N(1200)),
		Notes: bytes.Repeat([]byte{byte(rand.N(256))}, rand.N(200)),
	}
	if rand.N(2) == 0 {
		e.Expires = e.Stored.Add(time.Duration(1+rand.N(600)) * time.Second)
	}
	return e
}

func checkEntry(t *testing.T, got *Entry, want Entry, now time.Time) {
	t.Helper()
	age := now.Sub(want.Stored)
	if want.Wire == nil || age < 0 || age >= want.Life || !want.Expires.IsZero() && !now.Before(want.Expires) {
		t.Fatalf("at %v got what is not alive: %+v", now, want)
	}
	if !bytes.Equal(got.Wire, aged(t, want.Wire, int(age/time.Second))) {
		t.Fatalf("got message\n%v, want after %v\n%v", unpack(t, got.Wire), age, unpack(t, want.Wire))
	}
	if !bytes.Equal(got.Notes, want.Notes) || got.Status != want.Status || got.Proven || got.Life != want.Life ||
		!got.Stored.Equal(want.Stored) || !got.Expires.Equal(want.Expires) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// C-8: a live entry gives way to one as good, to a better one and to a fresh proof only; a dead one to any.
func TestBetterStays(t *testing.T) {
	const insecure, secure = 2, 3
	for _, tt := range []struct {
		name     string
		old, new Entry
		at       int
		replaced bool
	}{
		{"Secure after Insecure", Entry{Status: insecure}, Entry{Status: secure}, 1, true},
		{"Insecure after Secure", Entry{Status: secure}, Entry{Status: insecure}, 1, false},
		{"Insecure, proven, after Secure", Entry{Status: secure}, Entry{Status: insecure, Proven: true}, 1, true},
		{"Secure after Insecure, proven", Entry{Status: insecure, Proven: true}, Entry{Status: secure}, 1, true},
		{"newer Secure", Entry{Status: secure}, Entry{Status: secure}, 1, true},
		{"newer Insecure", Entry{Status: insecure}, Entry{Status: insecure}, 1, true},
		{"Insecure in the last second of Secure", Entry{Status: secure}, Entry{Status: insecure}, 59, false},
		{"Insecure after the end of Secure", Entry{Status: secure}, Entry{Status: insecure}, 60, true},
		{"Insecure after the expiry of Secure", Entry{Status: secure, Expires: after(30)}, Entry{Status: insecure}, 30,
			true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, k := New(64<<10), Key{Name: "example.", Type: dns.TypeMX}
			tt.old.Stored, tt.old.Life = noon, time.Minute
			tt.new.Stored, tt.new.Life = after(tt.at), time.Minute
			tt.old.Wire = message(t, "example.", "example. 60 IN MX 1 old.example.")
			tt.new.Wire = message(t, "example.", "example. 60 IN MX 1 new.example.")
			c.Put(k, &tt.old, noon)
			c.Put(k, &tt.new, after(tt.at))
			var got Entry
			if !c.Get(k, after(tt.at), &got) {
				t.Fatal("nothing there")
			}
			if replaced := bytes.Equal(got.Wire, tt.new.Wire); replaced != tt.replaced {
				t.Errorf("replaced: %v, want %v", replaced, tt.replaced)
			}
		})
	}
}

// C-1, C-2, C-7, C-18: when an entry is alive, and what is left of its TTL of 100 s then.
func TestLife(t *testing.T) {
	for _, tt := range []struct {
		name    string
		life    int
		expires time.Time
		at      time.Time
		alive   bool
		ttl     uint32
	}{
		{"at once", 100, time.Time{}, noon, true, 100},
		{"in the same second", 100, time.Time{}, noon.Add(999 * time.Millisecond), true, 100},
		{"after a second", 100, time.Time{}, after(1), true, 99},
		{"last second", 100, time.Time{}, after(99), true, 1},
		{"end of life", 100, time.Time{}, after(100), false, 0},
		{"long after", 100, time.Time{}, after(1 << 33), false, 0},
		{"life beyond the TTL", 200, time.Time{}, after(150), true, 0},
		{"life short of the TTL", 50, time.Time{}, after(49), true, 51},
		{"end of the shorter life", 50, time.Time{}, after(50), false, 0},
		{"longest TTL there is", 1<<32 + 7, time.Time{}, after(1<<32 - 2), true, 0},
		{"before the signature expires", 100, after(40), after(39), true, 61},
		{"when the signature expires", 100, after(40), after(40), false, 0},
		{"signature outlives it", 100, after(140), after(100), false, 0},
		{"stored in the future", 100, time.Time{}, after(-1), false, 0},
		{"stored in the next second", 100, time.Time{}, noon.Add(-time.Millisecond), false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, k := New(64<<10), Key{Name: "example.", Type: dns.TypeMX}
			e := Entry{
				Stored: noon, Life: time.Duration(tt.life) * time.Second, Expires: tt.expires,
				Wire: message(t, "example.", "example. 100 IN MX 1 mx.example."),
			}
			c.Put(k, &e, noon)
			var got Entry
			if alive := c.Get(k, tt.at, &got); alive != tt.alive {
				t.Fatalf("alive: %v, want %v", alive, tt.alive)
			}
			if !tt.alive {
				return
			}
			if ttl := unpack(t, got.Wire).Answer[0].Header().Ttl; ttl != tt.ttl {
				t.Errorf("TTL %d, want %d", ttl, tt.ttl)
			}
		})
	}
}

// C-7, C-18: what is not alive when it is put is not stored, and does not harm what is.
func TestPutOfTheDead(t *testing.T) {
	for name, e := range map[string]Entry{
		"no life":              {Stored: noon},
		"negative life":        {Stored: noon, Life: -time.Second},
		"less than a second":   {Stored: noon, Life: 999 * time.Millisecond},
		"expired":              {Stored: noon, Life: time.Minute, Expires: noon},
		"expired long ago":     {Stored: noon, Life: time.Minute, Expires: time.Unix(0, 0)},
		"stored in the future": {Stored: after(1), Life: time.Minute},
		"ended":                {Stored: after(-60), Life: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			c, k := New(64<<10), Key{Name: "example.", Type: dns.TypeMX}
			good := Entry{Stored: noon, Life: time.Minute,
				Wire: message(t, "example.", "example. 60 IN MX 1 mx.example.")}
			c.Put(k, &good, noon)
			e.Wire = message(t, "example.", "example. 60 IN MX 1 dead.example.")
			c.Put(k, &e, noon)
			c.Put(Key{Name: "other."}, &e, noon)
			var got Entry
			if !c.Get(k, noon, &got) || !bytes.Equal(got.Wire, good.Wire) {
				t.Errorf("got %v", unpack(t, got.Wire))
			}
			if _, entries := c.Size(); entries != 1 {
				t.Errorf("%d entries, want 1", entries)
			}
		})
	}
}

// An entry that is met after its end makes room at once; one from the future is left alone, it may only be that another
// goroutine read the clock later.
func TestTheDeadAreBuried(t *testing.T) {
	for at, want := range map[time.Time]int{after(60): 0, after(59): 1, after(-1): 1} {
		c, k := New(64<<10), Key{Name: "example."}
		c.Put(k, &Entry{Stored: noon, Life: time.Minute, Wire: txt(t, "example.", 1)}, noon)
		c.Get(k, at, new(Entry))
		if _, entries := c.Size(); entries != want {
			t.Errorf("%v: %d entries, want %d", at, entries, want)
		}
	}
}

// C-7: TTLs are found behind compressed names, in all sections and beside OPT, which has none (RFC 6891 section 6.1.3).
func TestEveryTTLCountsDown(t *testing.T) {
	m := unpack(t, message(t, "mail.example.",
		"mail.example. 300 IN CNAME mx.mail.example.",
		"mx.mail.example. 200 IN MX 10 a.mx.mail.example.",
		`mx.mail.example. 2147483648 IN TXT "\000\000\000\192\012" "text"`,
		"mx.mail.example. 200 IN RRSIG MX 13 3 3600 20260701000000 20260601000000 1 example. AAAA"))
	for _, text := range []string{
		"example. 90 IN SOA ns.example. root.example. 1 2 3 4 5",
		"a.example. 30 IN NSEC mx.example. A NSEC",
		"A.example. 29 IN NSEC3 1 0 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Ns = append(m.Ns, rr)
	}
	m.SetEdns0(1232, true) // its DO bit lies where a TTL would
	m.Extra = append(m.Extra, &dns.A{Hdr: dns.RR_Header{Name: "a.mx.mail.example.", Rrtype: dns.TypeA, Class: 1,
		Ttl: 61}, A: []byte{192, 0, 2, 1}})
	wire := pack(t, m)
	c, k := New(64<<10), Key{Name: "mail.example."}
	c.Put(k, &Entry{Stored: noon, Life: time.Hour, Wire: wire}, noon)
	for _, seconds := range []int{0, 1, 29, 30, 31, 90, 200, 1000} {
		var got Entry
		if !c.Get(k, after(seconds), &got) {
			t.Fatal("nothing there")
		}
		if !bytes.Equal(got.Wire, aged(t, wire, seconds)) {
			t.Errorf("after %d s: %v", seconds, unpack(t, got.Wire))
		}
	}
}

// What is no DNS message is not stored.
func TestMalformed(t *testing.T) {
	good := message(t, "example.", "example. 60 IN MX 1 mx.example.")
	put := func(change func([]byte) []byte) []byte { return change(bytes.Clone(good)) }
	set := func(i int, v byte) []byte {
		return put(func(b []byte) []byte { b[i] = v; return b })
	}
	huge := unpack(t, txt(t, "example.", 40000))
	huge.Ns = huge.Answer
	for name, wire := range map[string][]byte{
		"nothing":              nil,
		"half a header":        good[:11],
		"header alone":         good[:12],
		"question cut":         good[:20],
		"record cut in RDATA":  good[:len(good)-1],
		"record cut in TTL":    good[:len(good)-12],
		"an octet too many":    append(bytes.Clone(good), 0),
		"a question too many":  set(5, 2),
		"a record too many":    set(9, 1),
		"a record too few":     set(7, 0),
		"65535 records":        put(func(b []byte) []byte { b[10], b[11] = 0xff, 0xff; return b }),
		"label of 64 octets":   set(12, 0x40),
		"label of type 10":     set(12, 0x80),
		"label over the end":   set(12, 63),
		"pointer over the end": append(put(func(b []byte) []byte { b[9] = 1; return b }), 0xc0),
		"over 65535 octets":    pack(t, huge),
	} {
		c := New(1 << 20)
		c.Put(Key{Name: "example."}, &Entry{Stored: noon, Life: time.Hour, Wire: wire}, noon)
		if _, entries := c.Size(); entries != 0 {
			t.Errorf("%s: stored", name)
		}
	}
	for what, e := range map[string]struct {
		k Key
		e Entry
	}{
		"name":  {Key{Name: strings.Repeat("x", 1<<16)}, Entry{Wire: good}},
		"notes": {Key{}, Entry{Wire: good, Notes: make([]byte, 1<<16)}},
	} {
		c := New(1 << 20)
		e.e.Stored, e.e.Life = noon, time.Hour
		c.Put(e.k, &e.e, noon)
		if _, entries := c.Size(); entries != 0 {
			t.Errorf("%s of 65536 octets: stored", what)
		}
	}
}

// Two keys that hash alike are never taken for each other.
func TestHashCollision(t *testing.T) {
	c := New(64 << 10)
	c.hash = func(Key) uint64 { return 1 }
	entry := func(name string, status uint8) *Entry {
		return &Entry{Status: status, Stored: noon, Life: time.Minute, Wire: txt(t, name, 100)}
	}
	keys := []Key{{Name: "a.example.", Type: 1}, {Name: "b.example.", Type: 1}, {Name: "a.example.", Type: 2},
		{Name: "a.example.com.", Type: 1}, {Name: strings.Repeat("a.", 120), Type: 1}}
	for i, k := range keys {
		c.Put(k, entry(k.Name, uint8(10-i)), noon) // of another key, better ones too give way
		for j, other := range keys {
			var got Entry
			if found := c.Get(other, noon, &got); found != (i == j) {
				t.Errorf("after put of %v, found %v: %v", k, other, found)
			}
			if i != j {
				c.Remove(other)
			}
		}
		if _, entries := c.Size(); entries != 1 {
			t.Errorf("%d entries, want 1", entries)
		}
	}
}

// A full cache keeps working: the newest and the much used are there, the oldest are gone.
func TestFullCacheForgetsTheOldest(t *testing.T) {
	const size, n = 200 << 10, 5000
	c, hot := New(size), Key{Name: "hot.example."}
	key := func(i int) Key { return Key{Name: fmt.Sprintf("n%d.example.", i)} }
	e := Entry{Stored: noon, Life: time.Hour, Wire: txt(t, "n.example.", 300)}
	c.Put(hot, &e, noon)
	var got Entry
	for i := range n {
		c.Put(key(i), &e, noon)
		for range 20 { // until room is needed again, thousands of hits
			c.Get(hot, noon, &got)
		}
	}
	octets, entries := c.Size()
	if octets < size*9/10 || entries < 150 {
		t.Errorf("a full cache holds %d octets, %d entries", octets, entries)
	}
	if !c.Get(hot, noon, &got) {
		t.Error("the one in constant use is gone")
	}
	for i := range n {
		if there := c.Get(key(i), noon, &got); there != (i > n-entries) {
			t.Fatalf("entry %d of %d is there: %v, with %d entries in all", i, n, there, entries)
		}
	}
}

// L-15: neither answers that grow nor such as shrink keep a full cache from holding its fill.
func TestSizesMayChange(t *testing.T) {
	const size = 1 << 20
	c := New(size)
	for _, tt := range []struct{ octets, least int }{{20, 800}, {4000, 100}, {20, 800}, {60000, 5}, {20, 800}} {
		e := Entry{Stored: noon, Life: time.Hour, Wire: txt(t, "n.example.", tt.octets)}
		for i := range 20000 {
			c.Put(Key{Name: fmt.Sprint(tt.octets, i)}, &e, noon)
		}
		if octets, entries := c.Size(); octets > size || entries < tt.least {
			t.Errorf("of answers of %d octets: %d entries, %d octets held", tt.octets, entries, octets)
		}
	}
}

// The bound holds for caches too small for anything, too; what is larger than a shard may hold is not stored.
func TestTooLarge(t *testing.T) {
	e := Entry{Stored: noon, Life: time.Hour, Wire: txt(t, "example.", 30000)}
	for _, size := range []int64{-1, 0, 1, 300, 1000, 30000} {
		c := New(size)
		c.Put(Key{Name: "example."}, &e, noon)
		if octets, entries := c.Size(); entries != 0 || octets != 0 {
			t.Errorf("a cache of %d octets holds %d octets, %d entries", size, octets, entries)
		}
	}
	for size := range int64(2000) {
		c := New(size)
		for _, name := range []string{"a.", "b.", "c."} {
			c.Put(Key{Name: name}, &Entry{Stored: noon, Life: time.Hour, Wire: message(t, name)}, noon)
		}
		if octets, _ := c.Size(); octets > size {
			t.Errorf("a cache of %d octets holds %d", size, octets)
		}
	}
}

// Many at once: what one finds is whole and of its key. The race detector watches.
func TestConcurrentUse(t *testing.T) {
	const size = 1 << 20
	c := New(size)
	wires := make([][]byte, 500)
	for i := range wires {
		wires[i] = txt(t, fmt.Sprintf("n%d.example.", i), 2000)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var got Entry
			for range 3000 {
				i := rand.N(len(wires))
				k, age := Key{Name: fmt.Sprintf("n%d.example.", i), Type: 1}, rand.N(70)
				if c.Get(k, after(age), &got) && !bytes.Equal(got.Wire[40:], wires[i][40:]) { // from behind the TTL
					t.Errorf("%v: got %d octets that are not those put", k, len(got.Wire))
				}
				switch rand.N(10) {
				case 0:
					c.Remove(k)
				case 1, 2, 3:
					c.Put(k, &Entry{Stored: noon, Life: time.Minute, Wire: wires[i]}, noon)
				}
				if octets, _ := c.Size(); octets > size {
					t.Errorf("holds %d octets", octets)
				}
			}
		})
	}
	wg.Wait()
}

// C-14: one may renew an entry, and again only when what was put since ends later.
func TestClaim(t *testing.T) {
	c, k := New(64<<10), Key{Name: "example.", Type: dns.TypeMX}
	put := func(stored, life int) {
		c.Put(k, &Entry{Stored: after(stored), Life: time.Duration(life) * time.Second, Wire: txt(t, "example.", 100)},
			after(stored))
	}
	want := func(at int, may bool) {
		t.Helper()
		var e Entry
		if c.Get(k, after(at), &e); e.Claimed == may {
			t.Errorf("after %d s: claimed is %v", at, e.Claimed)
		}
		if got := c.Claim(k, after(at)); got != may {
			t.Errorf("after %d s: may is %v", at, got)
		}
	}
	if c.Claim(k, noon) {
		t.Error("claimed what is not there")
	}
	put(0, 100)
	want(90, true)
	want(91, false)
	put(92, 8) // as a source that counts down has it
	want(92, false)
	put(93, 9) // with rounding
	want(93, false)
	put(94, 100)
	want(184, true)
	if c.Claim(k, after(194)) {
		t.Error("claimed what has ended")
	}
	put(200, 1)
	want(200, true)
}

// The hot path allocates nothing once the buffers of the Entry are large enough.
func TestGetAllocatesNothing(t *testing.T) {
	c, k := New(64<<10), Key{Name: "example.", Type: dns.TypeMX}
	c.Put(k, &Entry{Stored: noon, Life: time.Hour, Wire: txt(t, "example.", 400), Notes: make([]byte, 50)}, noon)
	var got Entry
	c.Get(k, noon, &got)
	if n := testing.AllocsPerRun(1000, func() { c.Get(k, after(1), &got) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzPut: arbitrary octets never make it panic, and what is stored differs in TTLs only when it comes back.
func FuzzPut(f *testing.F) {
	f.Add([]byte{})
	f.Add(message(f, "example.", "example. 60 IN MX 1 mx.example.", "mx.example. 60 IN A 192.0.2.1"))
	f.Add(txt(f, "example.", 500))
	m := unpack(f, message(f, "example.", "example. 60 IN MX 1 mx.example."))
	f.Add(pack(f, m.SetEdns0(1232, true)))
	f.Fuzz(func(t *testing.T, wire []byte) {
		c, k := New(128<<10), Key{Name: "example."}
		c.Put(k, &Entry{Stored: noon, Life: time.Hour, Wire: wire, Notes: []byte("note")}, noon)
		var fresh, old Entry
		if !c.Get(k, noon, &fresh) {
			return
		}
		if !bytes.Equal(fresh.Wire, wire) {
			t.Fatalf("got % x, want % x", fresh.Wire, wire)
		}
		var before, after dns.Msg
		if before.Unpack(wire) != nil {
			return // the DNS library looks into RDATA, too
		}
		wire = aged(t, wire, 0) // as the library packs it: no name is pointed to where a TTL is
		if new(dns.Msg).Unpack(wire) != nil {
			return // the library cannot read all that it packs: not an SOA that came without RDATA
		}
		c.Put(k, &Entry{Stored: noon, Life: time.Hour, Wire: wire}, noon)
		c.Get(k, noon.Add(7*time.Second), &old)
		if err := after.Unpack(old.Wire); err != nil {
			t.Fatal(err)
		}
		if got, want := after.String(), unpack(t, aged(t, wire, 7)).String(); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	})
}
