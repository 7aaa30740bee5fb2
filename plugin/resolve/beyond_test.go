package resolve

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/cachedb"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
)

// beyond is a cachedb.Source that anybody may write to. It counts what the resolver says of it.
type beyond struct {
	noMeter
	mu              sync.Mutex
	records         map[cache.Key]cachedb.Record
	taken, rejected int
	slow            time.Duration
}

func newBeyond() *beyond { return &beyond{records: map[cache.Key]cachedb.Record{}} }

func (b *beyond) Name() string { return "beyond" }

func (b *beyond) Find(ctx context.Context, _ time.Time, keys ...cache.Key) (cachedb.Record, bool) {
	if b.slow > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(b.slow):
		}
		return cachedb.Record{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range keys {
		if r, ok := b.records[k]; ok {
			return r, true
		}
	}
	return cachedb.Record{}, false
}

func (b *beyond) Keep(r cachedb.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Wire = bytes.Clone(r.Wire)
	b.records[r.Key] = r
}

func (b *beyond) Forget(name string, _ time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.records {
		if dnssec.IsSubDomain(name, k.Name) {
			delete(b.records, k)
		}
	}
}

func (b *beyond) Recalled(_ string, secure bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if secure {
		b.taken++
	} else {
		b.rejected++
	}
}

// change has each record be what f makes of it.
func (b *beyond) change(f func(cachedb.Record) cachedb.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, r := range b.records {
		b.records[k] = f(r)
	}
}

// counted returns how many answers were taken and how many rejected.
func (b *beyond) counted() (taken, rejected int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken, b.rejected
}

// with has a resolver use a source.
func with(s cachedb.Source) func(*Config) {
	return func(c *Config) {
		c.Beyond = &cachedb.DB{Sources: []cachedb.Source{s}, Now: c.Clock}
		c.Store = NewLastingStore(4 << 20)
		if m, ok := s.(Meter); ok {
			c.Meter = m
		}
	}
}

// beside is another resolver over the same world, whose memory is empty.
func beside(t *testing.T, u *scripted.Upstream, now *world.Clock, change func(*Config)) *Resolver {
	t.Helper()
	c := Config{Exchanger: u, Anchors: u.Tree.Anchors(), Store: NewStore(4 << 20), Clock: now.Now,
		Policy: dnssec.DefaultPolicy(), Retries: 2}
	change(&c)
	r := New(usually(c))
	r.flights.short = func() bool { return false }
	t.Cleanup(r.Close)
	return r
}

// mail are questions of mail, and what is true of them.
var mail = []struct {
	name   string
	qtype  uint16
	status dnssec.Status
	rcode  int
}{
	{"example.com.", dns.TypeMX, dnssec.Secure, dns.RcodeSuccess},
	{"mx.example.com.", dns.TypeA, dnssec.Secure, dns.RcodeSuccess},
	{"mx.example.com.", dns.TypeAAAA, dnssec.Secure, dns.RcodeSuccess},
	{"_25._tcp.mx.example.com.", dns.TypeTLSA, dnssec.Secure, dns.RcodeSuccess},
	{"alias.example.com.", dns.TypeA, dnssec.Secure, dns.RcodeSuccess},
	{"gone.example.com.", dns.TypeA, dnssec.Secure, dns.RcodeNameError},
	{"mx.deep.co.uk.", dns.TypeA, dnssec.Secure, dns.RcodeSuccess},
	{"outward.example.com.", dns.TypeA, dnssec.Insecure, dns.RcodeSuccess},
	{"insecure.com.", dns.TypeMX, dnssec.Insecure, dns.RcodeSuccess},
	{"stripped.com.", dns.TypeMX, dnssec.Bogus, dns.RcodeServerFailure},
	{"nokey.com.", dns.TypeMX, dnssec.Bogus, dns.RcodeServerFailure},
}

const securely = 7 // of mail are so

// askAll asks for all mail.
func askAll(t *testing.T, r *Resolver) {
	t.Helper()
	for _, m := range mail {
		a := ask(r, m.name, m.qtype)
		if a.Status != m.status || a.Rcode != m.rcode {
			t.Errorf("%s %s: %v %s, want %v %s; notes %s", m.name, dns.Type(m.qtype), a.Status,
				dns.RcodeToString[a.Rcode], m.status, dns.RcodeToString[m.rcode], notes(a))
		}
	}
}

// TestBeyondFile: what is Secure is in a cache file, and nothing else (C-18); read from there it answers again without
// a question to any upstream, with what is left of its TTLs, and is judged anew.
func TestBeyondFile(t *testing.T) {
	r, u, now := setup(t, with(new(cachedb.FromFile)))
	askAll(t, r)
	f, err := os.Create(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	for k, e := range r.Store.Lasting(now.Now()) {
		if status := dnssec.Status(e.Status); status != dnssec.Secure || dnssec.IsSubDomain("insecure.com.", k.Name) {
			t.Errorf("%v, %v is kept", k, status)
		}
	}
	none := new(cachedb.FromFile)
	if _, err := cachedb.Write(f, 1<<20, now.Now(), r.Store.Lasting(now.Now()), none.Rest()); err != nil {
		t.Fatal(err)
	}
	file, err := cachedb.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	source := new(cachedb.FromFile)
	if err := source.Replace(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Replace(nil) }) //nolint:errcheck // it was read alone
	u.Forget()
	now.Advance(time.Minute)
	again := beside(t, u, now, with(source))
	for _, m := range mail[:securely] {
		a := ask(again, m.name, m.qtype)
		if expect(t, a, m.status, m.rcode); len(u.Asked()) != 0 {
			t.Fatalf("%s: upstreams were asked for %v", m.name, u.Asked())
		}
		for _, rr := range append(a.Answer, a.Ns...) {
			if ttl := rr.Header().Ttl; ttl > 3600-60 {
				t.Errorf("%v has its whole TTL", rr)
			}
		}
	}
	if sizes := again.Store.Sizes(); sizes.Zones.Entries == 0 || again.Store.verified == nil {
		t.Errorf("%+v: the chain was not judged", sizes)
	}
	askAll(t, again)
	again.Flush("example.com.")
	if u.Forget(); ask(again, "example.com.", dns.TypeMX).Status != dnssec.Secure || u.Count("example.com. MX") != 1 {
		t.Errorf("after flush upstreams were asked for %v (C-12)", u.Asked())
	}
}

// TestBeyondForged: whatever is forged beyond the process, answers are those of upstreams, without an error or a loss
// more, be there no retry (C-18).
func TestBeyondForged(t *testing.T) {
	source := newBeyond()
	r, u, now := setup(t, with(source))
	askAll(t, r)
	honest := map[cache.Key]cachedb.Record{}
	for k, r := range source.records {
		honest[k] = r
	}
	edit := func(r cachedb.Record, f func(*dns.Msg)) cachedb.Record {
		m := new(dns.Msg)
		if err := m.Unpack(r.Wire); err != nil {
			t.Fatal(err)
		}
		f(m)
		r.Wire, _ = m.Pack()
		return r
	}
	other := new(dns.Msg).SetQuestion("example.com.", dns.TypeMX)
	other.Response = true
	other.Answer = []dns.RR{&dns.MX{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeMX, Class: dns.ClassINET,
		Ttl: 3600}, Preference: 1, Mx: "mx.evil.example."}}
	evil, _ := other.Pack()
	for what, forge := range map[string]func(cachedb.Record) cachedb.Record{
		"another answer": func(r cachedb.Record) cachedb.Record { r.Wire = evil; return r },
		"without signatures": func(r cachedb.Record) cachedb.Record {
			return edit(r, func(m *dns.Msg) { m.Answer, m.Ns = scripted.Unsigned(m.Answer), scripted.Unsigned(m.Ns) })
		},
		"nothing there": func(r cachedb.Record) cachedb.Record {
			return edit(r, func(m *dns.Msg) { m.Answer, m.Ns, m.Rcode = nil, nil, dns.RcodeNameError })
		},
		"links alone": func(r cachedb.Record) cachedb.Record {
			if t := r.Key.Type; t == dns.TypeDS || t == dns.TypeDNSKEY {
				r.Wire = evil
			}
			return r
		},
		"answers alone": func(r cachedb.Record) cachedb.Record {
			if t := r.Key.Type; t != dns.TypeDS && t != dns.TypeDNSKEY {
				return edit(r, func(m *dns.Msg) {
					for _, rr := range append(m.Answer, m.Ns...) {
						if sig, ok := rr.(*dns.RRSIG); ok {
							sig.Signature = "AAAA" + sig.Signature[4:]
						}
					}
				})
			}
			return r
		},
		"of another name": func(r cachedb.Record) cachedb.Record {
			r.Wire = honest[cache.Key{Name: "mx.deep.co.uk.", Type: dns.TypeA}].Wire
			return r
		},
		"garbage": func(r cachedb.Record) cachedb.Record { r.Wire = bytes.Repeat([]byte{0xC0}, 60000); return r },
		"from the future": func(r cachedb.Record) cachedb.Record {
			r.Stored = r.Stored.Add(time.Hour)
			return r
		},
	} {
		t.Run(what, func(t *testing.T) {
			forged := newBeyond()
			forged.records = map[cache.Key]cachedb.Record{}
			for k, r := range honest {
				forged.records[k] = r
			}
			forged.change(forge)
			askAll(t, beside(t, u, now, func(c *Config) {
				with(forged)(c)
				c.Retries, c.SignatureChecks = 0, 128
			}))
			taken, rejected := forged.counted()
			// without links the first answer of each domain cannot be judged
			if want := map[string]int{"links alone": securely - 2}[what]; taken != want {
				t.Errorf("%d were taken, %d rejected", taken, rejected)
			}
		})
	}
}

// TestBeyondBudget: what is forged beyond the process spends nothing of what the client's question may: signatures that
// cost all that one may check leave the honest answer enough (L-1).
func TestBeyondBudget(t *testing.T) {
	source := newBeyond()
	r, u, now := setup(t, with(source))
	honest := ask(r, "example.com.", dns.TypeMX)
	const most = 8
	source.change(func(r cachedb.Record) cachedb.Record {
		m := new(dns.Msg)
		if err := m.Unpack(r.Wire); err != nil {
			t.Fatal(err)
		}
		for _, rr := range m.Answer {
			if sig, ok := rr.(*dns.RRSIG); ok {
				for i := range 40 {
					forged := *sig
					forged.Signature = string('A'+rune(i%26)) + string('A'+rune(i/26)) + sig.Signature[2:]
					m.Answer = append(m.Answer, &forged)
				}
			}
		}
		r.Wire, _ = m.Pack()
		return r
	})
	a := ask(beside(t, u, now, func(c *Config) {
		with(source)(c)
		c.SignatureChecks = most
	}), "example.com.", dns.TypeMX)
	if expect(t, a, honest.Status, honest.Rcode); a.Status != dnssec.Secure {
		t.Error("it is not Secure")
	}
}

// TestBeyondInsecure: an old denial of DS, signed as it is, does not have a zone that is signed now count as unsigned,
// nor is anything that was Insecure given back (C-18).
func TestBeyondInsecure(t *testing.T) {
	source := newBeyond()
	_, u, now := setup(t, nil)
	for _, q := range []dns.Question{question("insecure.com.", dns.TypeDS), question("insecure.com.", dns.TypeMX)} {
		m := u.Reply(q).Msg
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		source.Keep(cachedb.Record{Key: keyOf(q), Stored: now.Now(), Ends: now.Now().Add(time.Hour), Wire: wire})
	}
	for _, qtype := range []uint16{dns.TypeDS, dns.TypeDNSKEY} {
		for _, name := range []string{".", "com."} {
			wire, _ := u.Reply(question(name, qtype)).Msg.Pack()
			source.Keep(cachedb.Record{Key: cache.Key{Name: name, Type: qtype}, Stored: now.Now(),
				Ends: now.Now().Add(time.Hour), Wire: wire})
		}
	}
	r := beside(t, u, now, with(source))
	u.Forget()
	if a := ask(r, "insecure.com.", dns.TypeMX); a.Status != dnssec.Insecure || u.Count("insecure.com. MX") != 1 ||
		u.Count("insecure.com. DS") != 1 {
		t.Errorf("%v; upstreams were asked for %v", a.Status, u.Asked())
	}
	if u.Count("com. *") != 0 || u.Count(". *") != 0 {
		t.Errorf("upstreams were asked for %v, though links to com. are held", u.Asked())
	}
}

// TestBeyondSlow: memory that does not answer costs a question a tenth of a second, twice, and no more.
func TestBeyondSlow(t *testing.T) {
	source := newBeyond()
	source.slow = time.Minute
	r, _, _ := setup(t, with(source))
	begun := time.Now()
	expect(t, ask(r, "example.com.", dns.TypeMX), dnssec.Secure, dns.RcodeSuccess)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestBeyondPanics: memory beyond the process that panics is as if it were empty (S-27).
func TestBeyondPanics(t *testing.T) {
	r, _, _ := setup(t, with(panics{newBeyond()}))
	askAll(t, r)
}

type panics struct{ *beyond }

func (panics) Find(context.Context, time.Time, ...cache.Key) (cachedb.Record, bool) {
	panic("on purpose")
}

// TestBeyondPastIt: what is to be asked past all memory is (C-14, T-13): keys of anchors, renewals, explanations.
func TestBeyondPastIt(t *testing.T) {
	source := newBeyond()
	r, u, now := setup(t, with(source))
	askAll(t, r)
	again := beside(t, u, now, with(source))
	u.Forget()
	if err := again.Prime(t.Context()); err != nil || u.Count(". DNSKEY") != 1 {
		t.Errorf("%v; upstreams were asked for %v", err, u.Asked())
	}
	again.Explain(t.Context(), question("example.com.", dns.TypeMX))
	if u.Count("example.com. MX") != 1 {
		t.Errorf("upstreams were asked for %v", u.Asked())
	}
	if _, f := again.Sight(t.Context(), "."); f != nil || u.Count(". DNSKEY") != 2 {
		t.Errorf("%v; upstreams were asked for %v", f, u.Asked())
	}
}

var _ fetch.Exchanger = (*cachedb.DB)(nil)
var _ Beyond = (*cachedb.DB)(nil)
