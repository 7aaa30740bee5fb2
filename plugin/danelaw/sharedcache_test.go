package danelaw

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/redis/go-redis/v9"

	"github.com/danelaw-dns/danelaw/plugin/cachedb"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
)

const sharedURL = "redis://user@192.0.2.1:6380/3"

// theShared is what sharedURL reads as; options are compared by their address.
var theShared = &SharedCache{url: sharedURL, options: must(cachedb.ParseURL(sharedURL))}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// aRedis is a redis of Debian's on a Unix socket, with a password.
type aRedis struct {
	t       *testing.T
	dir     string
	more    []string // of its command line
	process *exec.Cmd
}

const redisPassword = "of-the-tests"

func (r *aRedis) socket() string { return filepath.Join(r.dir, "s") }

func (r *aRedis) start() {
	r.t.Helper()
	r.process = exec.Command("redis-server", append([]string{"--port", "0", "--unixsocket", r.socket(), "--save", "",
		"--dir", r.dir, "--requirepass", redisPassword}, r.more...)...)
	if err := r.process.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "redis to answer", func() bool { return r.client().Ping(r.t.Context()).Err() == nil })
}

func (r *aRedis) stop() {
	if r.process != nil {
		r.process.Process.Kill() //nolint:errcheck // it may have gone
		r.process.Wait()         //nolint:errcheck // it was killed
	}
	r.process = nil
}

func (r *aRedis) client() *redis.Client {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: r.socket(), Password: redisPassword})
	r.t.Cleanup(func() { c.Close() })
	return c
}

// sharing is a configuration with that redis.
func (r *aRedis) sharing(upstream string) Config {
	c := config(r.t, upstream)
	c.SharedCache = &SharedCache{
		url: "unix://" + r.socket(), options: must(cachedb.ParseURL("unix://" + r.socket())),
		password: filepath.Join(r.dir, "password"),
	}
	return c
}

// TestSharedCache: what one danelaw has found Secure another has from a redis without any upstream. Under load the
// redis is stopped, started, and filled with forged answers: no answer is another, and none is lost (C-18).
func TestSharedCache(t *testing.T) {
	needs.Tools(t, "redis-server")
	book := logged(t)
	r := &aRedis{t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(r.dir, "password"), []byte(redisPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(r.stop)
	questions := map[dns.Question]dnssec.Status{
		dnssec.Question("good.dane.", dns.TypeMX):                dnssec.Secure,
		dnssec.Question("mx1.good.dane.", dns.TypeA):             dnssec.Secure,
		dnssec.Question("_25._tcp.mx1.good.dane.", dns.TypeTLSA): dnssec.Secure,
		dnssec.Question("unsigned.dane.", dns.TypeMX):            dnssec.Insecure,
	}
	all := func(h *Handler, but dnssec.Status) {
		t.Helper()
		for q, want := range questions {
			if a := h.Resolver().Resolve(t.Context(), q); a.Status != want && want != but {
				t.Errorf("%s %s: %v, want %v", q.Name, dns.Type(q.Qtype), a.Status, want)
			}
		}
	}
	one := open(t, r.sharing(lab().Addr()))
	all(one, dnssec.Bogus)
	keys := func() []string { return r.client().Keys(t.Context(), "*").Val() }
	eventually(t, "records to be kept", func() bool { return len(keys()) >= 8 })
	for _, k := range keys() {
		if !strings.HasPrefix(k, "danelaw:1:") || strings.Contains(k, "unsigned.dane.") ||
			r.client().TTL(t.Context(), k).Val() <= 0 {
			t.Errorf("%s is there, for %v", k, r.client().TTL(t.Context(), k).Val())
		}
	}
	alone := r.sharing(fmt.Sprintf("127.0.0.1:%d", ports.Closed(t)))
	two := open(t, alone)
	if all(two, dnssec.Insecure); metric(t, "recalled_total", "block", alone.Block, "from", "shared_cache") == 0 {
		t.Error("nothing came from the redis")
	}

	var running sync.WaitGroup
	var ended atomic.Bool
	var asked atomic.Int64
	for range 4 {
		running.Go(func() {
			for !ended.Load() {
				h := must(New(r.sharing(lab().Addr())))
				all(h, dnssec.Bogus)
				h.Close()
				asked.Add(1)
			}
		})
	}
	some := func() {
		from := asked.Load()
		eventually(t, "questions to be answered", func() bool { return asked.Load() >= from+8 })
	}
	some()
	r.stop()
	some()
	r.start()
	some()
	for _, value := range []string{"", "garbage", strings.Repeat("x", 1<<20), string(make([]byte, 200))} {
		forge(t, r.client(), keys(), value)
		some()
	}
	records := r.client()
	for i, k := range keys() { // each has the record of another, with its own key
		if other := records.Get(t.Context(), keys()[(i+1)%len(keys())]).Val(); len(other) > 19 {
			records.Set(t.Context(), k, other, time.Hour)
		}
	}
	some()
	ended.Store(true)
	running.Wait()
	if strings.Contains(book.String(), redisPassword) {
		t.Error("the log tells the password")
	}
}

func forge(t *testing.T, c *redis.Client, keys []string, value string) {
	t.Helper()
	for _, k := range keys {
		c.Set(t.Context(), k, value, time.Hour)
	}
}
