package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKeys: a scan sees every key with its notes, once, whatever lies around it.
func TestKeys(t *testing.T) {
	c := New(4 << 20)
	var want []string
	for i := range 500 {
		k := Key{Name: fmt.Sprintf("n%d.example.", i), Type: uint16(i)}
		records := make([]string, 1+i%40) // messages small and large
		for n := range records {
			records[n] = fmt.Sprintf("%s 60 IN MX %d mail%d.example.", k.Name, n, n)
		}
		c.Put(k, &Entry{Stored: noon, Life: time.Minute, Wire: message(t, k.Name, records...),
			Notes: []byte(fmt.Sprint("note ", i))}, noon)
		want = append(want, fmt.Sprintf("%s %d note %d", k.Name, k.Type, i))
	}
	var got []string
	matched := c.Keys(func(k Key, e *Entry) bool {
		got = append(got, fmt.Sprintf("%s %d %s", k.Name, k.Type, e.Notes))
		return k.Type%2 == 0
	})
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d keys seen, %d are there", len(got), len(want))
	}
	for _, k := range matched {
		c.Remove(k)
	}
	if _, n := c.Size(); len(matched) != 250 || n != 250 {
		t.Errorf("%d matched, %d are left", len(matched), n)
	}
}

// TestTableKeys: so does one of a table.
func TestTableKeys(t *testing.T) {
	table := NewTable(1<<20, func(string) int64 { return 10 })
	for i := range 500 {
		table.Put(fmt.Sprint("key ", i), "value")
	}
	got := table.Keys(func(key, _ string) bool { return strings.HasSuffix(key, "7") })
	if len(got) != 50 {
		t.Errorf("%d keys", len(got))
	}
}
