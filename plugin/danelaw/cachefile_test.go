package danelaw

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/cachedb"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// asksMX asks a danelaw for the MX of a domain and returns whether that was Secure.
func asksMX(t *testing.T, c *coreDNS, domain string) bool {
	t.Helper()
	r := ask(t, c.udp, domain, dns.TypeMX, withDO)
	return r.Rcode == dns.RcodeSuccess && r.AuthenticatedData && len(r.Answer) > 0
}

// TestCacheFile: what a danelaw has found Secure answers the next one, which has no upstream at all; a reload goes on
// with the file; nobody else may read it.
func TestCacheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache")
	port := fmt.Sprintf(".:%d", ports.Closed(t))
	asking := func(upstream string) string {
		return blockOf(port, optionsFor(t, upstream, "cache_file "+file), "")
	}
	c := startCoreDNS(t, asking(lab().Addr()))
	if !asksMX(t, c, "good.dane.") {
		t.Fatal("not Secure by an upstream that answers")
	}
	if err := c.reload(asking(lab().Addr())); err != nil {
		t.Fatal(err)
	}
	c.stop()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || info.Size() < 1000 {
		t.Fatalf("%v, %v", info, err)
	}
	dead := startCoreDNS(t, asking(fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))))
	if !asksMX(t, dead, "good.dane.") {
		t.Error("not Secure by the file")
	}
	block := dead.block()
	if n := metric(t, "recalled_total", "block", block, "from", "cache_file", "result", "secure"); n < 1 {
		t.Errorf("the metric tells of %v answers from the file", n)
	}
	if n := metric(t, "cache_file_records", "block", block); n < 3 {
		t.Errorf("the metric tells of %v records", n)
	}
	dead.stop()
	if again := startCoreDNS(t, asking(fmt.Sprintf("127.0.0.1:%d", ports.Closed(t)))); !asksMX(t, again, "good.dane.") {
		t.Error("not Secure by the file that was written from the file")
	}
}

// block is the name of the only server block.
func (c *coreDNS) block() string {
	for name := range process.newest() {
		return name
	}
	return ""
}

// TestCacheFileRest: what nobody has asked for yet is in the next file too.
func TestCacheFileRest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache")
	options := func(upstream string) Config {
		c := config(t, upstream)
		c.CacheFile = file
		return c
	}
	one := open(t, options(lab().Addr()))
	one.Start()
	questions := []dns.Question{
		dnssec.Question("good.dane.", dns.TypeMX), dnssec.Question("mx1.good.dane.", dns.TypeA),
	}
	for _, q := range questions {
		one.Resolver().Resolve(t.Context(), q)
	}
	one.Close()
	for _, q := range questions {
		h := open(t, options(fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))))
		h.Start()
		if a := h.Resolver().Resolve(t.Context(), q); a.Status != dnssec.Secure {
			t.Errorf("%v: %v, %v", q, a.Status, a.Notes[0].Text)
		}
		h.Close()
	}
}

// TestCacheFileRefused: a file that is no cache file is not overwritten: danelaw does not start; so is one that others
// may write, or one that two server blocks name. What is damaged begins empty; what is newer stays as it is.
func TestCacheFileRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cache")
	begin := func(content string, mode os.FileMode) error {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		c := config(t)
		c.CacheFile = file
		h, err := New(c)
		if err == nil {
			h.Start()
			h.Resolver().Resolve(t.Context(), dnssec.Question("good.dane.", dns.TypeMX))
			h.Close()
		}
		return err
	}
	const newer = "danelaw cache\n\x00\x02 of another form"
	for _, c := range []struct {
		what, content string
		mode          os.FileMode
		err           string
		kept          bool
	}{
		{"foreign", "nameserver 127.0.0.1\n", 0o600,
			"it is no cache file of danelaw: name a file that may be overwritten", true},
		{"writable", "", 0o666, "chmod go-w", true}, {"newer", newer, 0o600, "", true},
		{"damaged", "danelaw cache\n\x00\x01", 0o600, "", false}, {"empty", "", 0o600, "", false},
	} {
		err := begin(c.content, c.mode)
		if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) ||
			!strings.Contains(err.Error(), "cache_file "+file)) {
			t.Errorf("%s: %v", c.what, err)
		}
		if now, _ := os.ReadFile(file); (string(now) == c.content) != c.kept {
			t.Errorf("%s: the file is %.40q", c.what, now)
		}
	}
	port := ports.Closed(t)
	options := optionsFor(t, lab().Addr(), "cache_file "+file)
	two := blockOf(fmt.Sprintf("a.example:%d", port), options, "") +
		blockOf(fmt.Sprintf("b.example:%d", port), options, "")
	if c, err := startable(t, two); err == nil || !strings.Contains(err.Error(), "another server block has it") {
		t.Errorf("%v, %v", c, err)
	}
}

// TestCacheFileUnwritable: a file that cannot be written is told once, and by the metric, and costs no answer.
func TestCacheFileUnwritable(t *testing.T) {
	book := logged(t)
	dir := filepath.Join(t.TempDir(), "state")
	c := config(t)
	c.CacheFile = filepath.Join(dir, "cache")
	h := open(t, c)
	h.Start()
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // where the directory was to be
		t.Fatal(err)
	}
	for range 3 {
		h.cacheFile.save()
	}
	if n := strings.Count(book.String(), "cannot be written"); n != 1 || !h.cacheFile.unsaved() ||
		metric(t, "state_unsaved", "block", c.Block) != 1 {
		t.Errorf("told %d times:\n%s", n, book)
	}
	if a := h.Resolver().Resolve(t.Context(), dnssec.Question("good.dane.", dns.TypeMX)); a.Status != dnssec.Secure {
		t.Error(a.Status)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if h.cacheFile.save(); h.cacheFile.unsaved() || !strings.Contains(book.String(), "is written again") {
		t.Errorf("not written again:\n%s", book)
	}
}

// TestCacheFileAtOnce: a file of 100,000 records keeps no start waiting, as it is not read then.
func TestCacheFileAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache")
	c := config(t)
	c.CacheFile, c.CacheSize = file, 256<<20
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	many := func(yield func(cache.Key, *cache.Entry) bool) {
		e := &cache.Entry{Stored: time.Now(), Life: time.Hour, Wire: pack(t, newMsg("good.dane.", dns.TypeMX))}
		for i := range 100_000 {
			if !yield(cache.Key{Name: fmt.Sprintf("%d.example.", i), Type: dns.TypeMX}, e) {
				return
			}
		}
	}
	_, err = cachedb.Write(f, 1<<30, time.Now(), many, new(cachedb.FromFile).Rest())
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	h := open(t, c)
	h.Start()
	if took := time.Since(begun); took > time.Second || h.cacheFile.Records() != 100_000 {
		t.Errorf("%v for %d records", took, h.cacheFile.Records())
	}
}
