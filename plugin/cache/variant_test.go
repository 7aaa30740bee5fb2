package cache

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// withVariant is a cache with an answer of 100 s and its variant.
func withVariant(t *testing.T) (c *Cache, k Key) {
	t.Helper()
	c, k = New(64<<10), Key{Name: "example.", Type: dns.TypeMX}
	c.Put(k, &Entry{Status: 3, Flags: 5, Stored: noon, Life: 100 * time.Second, Expires: after(90),
		Notes: []byte("note"),
		Wire:  message(t, k.Name, "example. 120 IN MX 1 mx.example.", "example. 120 IN TXT signature")}, noon)
	putVariant(t, c, k)
	return c, k
}

func got(t *testing.T, c *Cache, k Key, at time.Time) *Entry {
	t.Helper()
	var e Entry
	if !c.Get(k, at, &e) {
		t.Fatalf("%v is not there", k)
	}
	return &e
}

func putVariant(t *testing.T, c *Cache, k Key) {
	t.Helper()
	e := got(t, c, k, noon)
	e.Wire = message(t, k.Name, "example. 120 IN MX 1 mx.example.")
	c.Put(k.variant(), e, noon)
}

// V-75: a variant has all but the message of its answer: life, end, status, notes. Its TTLs count down as that's do.
func TestVariant(t *testing.T) {
	c, k := withVariant(t)
	for _, at := range []int{0, 1, 89} {
		e, of := got(t, c, k.variant(), after(at)), got(t, c, k, after(at))
		want := aged(t, message(t, k.Name, "example. 120 IN MX 1 mx.example."), at)
		if !bytes.Equal(e.Wire[2:], want[2:]) { // but for the ID
			t.Errorf("after %d s: %v", at, unpack(t, e.Wire))
		}
		if e.Wire, of.Wire = nil, nil; fmt.Sprintf("%+v", e) != fmt.Sprintf("%+v", of) {
			t.Errorf("after %d s: %+v, of %+v", at, e, of)
		}
	}
	if c.Get(k.variant(), after(90), new(Entry)) {
		t.Error("it outlives the signatures (C-1)")
	}
}

// A variant goes with its answer, and is no answer of its own.
func TestVariantGoes(t *testing.T) {
	for name, change := range map[string]func(*Cache, Key){
		"removed": func(c *Cache, k Key) { c.Remove(k) },
		"replaced": func(c *Cache, k Key) {
			c.Put(k, &Entry{Status: 3, Stored: after(1), Life: time.Minute, Wire: message(t, k.Name)}, after(1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, k := withVariant(t)
			old := got(t, c, k, noon)
			if keys := c.Keys(func(Key, *Entry) bool { return true }); len(keys) != 1 || keys[0] != k {
				t.Errorf("keys %v", keys)
			}
			change(c, k)
			if c.Get(k.variant(), after(1), new(Entry)) {
				t.Error("it is still there")
			}
			c.Put(k.variant(), old, after(1)) // as somebody does who began before the change
			if c.Get(k.variant(), after(1), new(Entry)) {
				t.Error("one of the old answer was stored")
			}
		})
	}
}

// C-14: who renews an answer renews its variant, be that there already or not.
func TestVariantIsClaimed(t *testing.T) {
	c, k := withVariant(t)
	if !c.Claim(k, noon) || !got(t, c, k.variant(), noon).Claimed {
		t.Error("not claimed with its answer")
	}
	c, k = New(64<<10), Key{Name: "example.", Type: dns.TypeMX}
	c.Put(k, &Entry{Stored: noon, Life: time.Minute, Wire: message(t, k.Name)}, noon)
	c.Claim(k, noon)
	putVariant(t, c, k)
	if !got(t, c, k.variant(), noon).Claimed {
		t.Error("not claimed after its answer")
	}
}

// What is renewed again and again takes no more memory.
func TestRenewalTakesNoMore(t *testing.T) {
	c, k := New(4<<20), Key{Name: "example."}
	e := Entry{Stored: noon, Life: time.Minute, Wire: txt(t, "example.", 400)}
	c.Put(k, &e, noon)
	before, _ := c.Size()
	for range 1000 {
		c.Put(k, &e, noon)
	}
	if octets, n := c.Size(); octets != before || n != 1 {
		t.Errorf("%d octets, then %d, for %d entries", before, octets, n)
	}
}

// A scan puts out what is not used; of what is, each entry that comes spares some.
func TestUsedIsSpared(t *testing.T) {
	c := New(200 << 10)
	e := Entry{Stored: noon, Life: time.Hour, Wire: txt(t, "n.example.", 300)}
	key := func(of string, i int) Key { return Key{Name: fmt.Sprintf("%s%d.example.", of, i)} }
	const used = 50
	for i := range used {
		c.Put(key("used", i), &e, noon)
	}
	for i := range 3000 {
		c.Put(key("scan", i), &e, noon)
		c.Get(key("used", i%used), noon, new(Entry))
	}
	for i := range used {
		if !c.Get(key("used", i), noon, new(Entry)) {
			t.Errorf("%d is gone", i)
		}
	}
	for i := range 3000 { // all are used: still there is room for what comes
		c.Put(key("new", i), &e, noon)
		if !c.Get(key("new", i), noon, new(Entry)) {
			t.Fatalf("%d was not stored", i)
		}
	}
}
