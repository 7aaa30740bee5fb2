package resolve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/test/scripted"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// day is the usual time for which answers may be stale.
const day = 24 * time.Hour

// staleWorld is a resolver that serves stale answers, in virtual time: its clock goes with that of the bubble.
type staleWorld struct {
	*testing.T
	*Resolver
	*scripted.Upstream
	told atomic.Int64 // stale answers, by the meter
}

type staleMeter struct {
	noMeter
	told *atomic.Int64
}

func (m staleMeter) Stale() { m.told.Add(1) }

// inStaleWorld runs a test in a world whose signatures hold for 20 days.
func inStaleWorld(t *testing.T, change func(*Config), test func(w *staleWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &staleWorld{T: t}
		tree := scripted.Usual(time.Now)
		tree.Each(func(p *zones.Plan) {
			p.Config.Inception, p.Config.Expiration = time.Now().Add(-day), time.Now().Add(20*day)
		})
		tree.Plan("example.com.").Text += "\ntxt TXT text\n_25._tcp.mx TLSA 3 1 1 " + sum + "\nfar CNAME mx.deep.co.uk."
		tree.Publish()
		w.Upstream = scripted.New(tree)
		w.Resolver, _, _ = setup(t, func(c *Config) {
			c.Exchanger, c.Anchors, c.Clock = w.Upstream, tree.Anchors(), time.Now
			c.Stale, c.Meter = day, staleMeter{told: &w.told}
			if change != nil {
				change(c)
			}
		})
		test(w)
		w.Resolver.Close()
	})
}

const sum = "0000000000000000000000000000000000000000000000000000000000000000"

// learn asks while all is well, and lets TTLs end.
func (w *staleWorld) learn(name string, qtype uint16) *Answer {
	w.Helper()
	w.Follow(nil)
	a := ask(w.Resolver, name, qtype)
	if a.Status <= dnssec.Bogus || staleCode(a) != 0 {
		w.Fatalf("%v; %s", a.Status, notes(a))
	}
	time.Sleep(2 * time.Hour)
	return a
}

// The ways in which upstreams do not answer.
var (
	wordless = func(ctx context.Context, _ dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
		<-ctx.Done()
		return fetch.Reply{}, context.Cause(ctx), true
	}
	refusing = func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, refusedByAll, true
	}
	unreached = func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
		return fetch.Reply{}, errors.New("network is unreachable"), true
	}
)

// only is a script for the questions that match a pattern, as in [world.Matches].
func only(pattern string, s scripted.Script) scripted.Script {
	return func(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error, bool) {
		if !world.Matches(pattern, q) {
			return fetch.Reply{}, nil, false
		}
		return s(ctx, q, t)
	}
}

// staleCode is the Extended DNS Error of a stale answer; 0 if it is none.
func staleCode(a *Answer) uint16 {
	for _, n := range a.Notes {
		if n.Code == dns.ExtendedErrorCodeStaleAnswer || n.Code == dns.ExtendedErrorCodeStaleNXDOMAINAnswer {
			return n.Code
		}
	}
	return 0
}

// wantStale wants an answer to be stale, after so long, with the records that another had.
func (w *staleWorld) wantStale(a, like *Answer, took, want time.Duration) {
	w.Helper()
	code := dns.ExtendedErrorCodeStaleAnswer
	if like.Rcode == dns.RcodeNameError {
		code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	if a.Status != like.Status || a.Rcode != like.Rcode || staleCode(a) != code || took != want {
		w.Fatalf("%v %d %s after %v, want %v %d, EDE %d, after %v", a.Status, a.Rcode, notes(a), took, like.Status,
			like.Rcode, code, want)
	}
	got, before := slices.Concat(a.Answer, a.Ns), slices.Concat(like.Answer, like.Ns)
	if len(got) != len(before) {
		w.Fatalf("%v, want %v", got, before)
	}
	for i, rr := range got {
		if ttl := rr.Header().Ttl; ttl != 30 {
			w.Errorf("TTL %d, want 30: %v", ttl, rr)
		}
		if !alike(w.T, rr, before[i]) {
			w.Errorf("%v, want %v", rr, before[i])
		}
	}
}

// alike reports whether two records differ by their TTL alone, however they are unpacked.
func alike(t *testing.T, a, b dns.RR) bool {
	var wires [2][]byte
	for i, rr := range []dns.RR{a, b} {
		wires[i] = make([]byte, dns.Len(rr)+1)
		n, err := dns.PackRR(withTTL(rr, 0), wires[i], 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		wires[i] = wires[i][:n]
	}
	return bytes.Equal(wires[0], wires[1])
}

// wantFailure wants SERVFAIL that is not stale.
func (w *staleWorld) wantFailure(a *Answer) {
	w.Helper()
	if a.Status > dnssec.Bogus || a.Rcode != dns.RcodeServerFailure || staleCode(a) != 0 {
		w.Fatalf("%v %d; %s", a.Status, a.Rcode, notes(a))
	}
}

func (w *staleWorld) ask(name string, qtype uint16) (*Answer, time.Duration) {
	begun := time.Now()
	return ask(w.Resolver, name, qtype), time.Since(begun)
}

// C-13: when no upstream answers, however it does not, what was known is told: after 1.8 s of silence, at once where
// the failure is there at once, or remembered; with a TTL of 30 s and EDE 3, or 19 for a name that does not exist; and
// by default not at all.
func TestStaleAnswers(t *testing.T) {
	for _, q := range []struct {
		name  string
		qtype uint16
	}{
		{"example.com.", dns.TypeMX}, {"mx.example.com.", dns.TypeA}, {"alias.example.com.", dns.TypeA},
		{"alias.example.com.", dns.TypeCNAME}, {"far.example.com.", dns.TypeA}, {"txt.example.com.", dns.TypeTXT},
		{"mx.example.com.", dns.TypeTXT}, {"nothing.example.com.", dns.TypeTXT}, {"example.com.", dns.TypeDS},
		{"example.com.", dns.TypeDNSKEY}, {"dangling.example.com.", dns.TypeTXT},
	} {
		for how, script := range map[string]scripted.Script{
			"silent": wordless, "refusing": refusing, "unreached": unreached,
		} {
			t.Run(fmt.Sprint(q.name, dns.Type(q.qtype), " ", how), func(t *testing.T) {
				inStaleWorld(t, nil, func(w *staleWorld) {
					before := w.learn(q.name, q.qtype)
					w.Follow(script)
					wait := time.Duration(0)
					if how == "silent" {
						wait = 1800 * time.Millisecond
					}
					a, took := w.ask(q.name, q.qtype)
					w.wantStale(a, before, took, wait)
					a, took = w.ask(q.name, q.qtype)
					w.wantStale(a, before, took, 0)
					if n := w.told.Load(); n != 2 {
						w.Errorf("counted %d", n)
					}
					if a := w.Cached(question(q.name, q.qtype)); a != nil {
						w.Errorf("the cache alone has %v", a)
					}
				})
				inStaleWorld(t, func(c *Config) { c.Stale = 0 }, func(w *staleWorld) {
					w.learn(q.name, q.qtype)
					w.Follow(script)
					a, _ := w.ask(q.name, q.qtype)
					w.wantFailure(a)
				})
			})
		}
	}
}

// C-13: what decides whether mail is authenticated, or returned, is never stale: TLSA, be there some or none, and
// denials of MX, addresses and aliases, by NODATA, by a name that does not exist, or at the end of an alias; nor are
// denials of DS, nor answers of all types.
func TestNeverStale(t *testing.T) {
	for _, q := range []struct {
		name  string
		qtype uint16
	}{
		{"_25._tcp.mx.example.com.", dns.TypeTLSA}, {"_26._tcp.mx.example.com.", dns.TypeTLSA},
		{"mx.example.com.", dns.TypeTLSA}, {"txt.example.com.", dns.TypeMX}, {"txt.example.com.", dns.TypeA},
		{"txt.example.com.", dns.TypeAAAA}, {"txt.example.com.", dns.TypeCNAME}, {"nothing.example.com.", dns.TypeMX},
		{"nothing.example.com.", dns.TypeA}, {"nothing.example.com.", dns.TypeAAAA},
		{"nothing.example.com.", dns.TypeCNAME}, {"dangling.example.com.", dns.TypeA},
		{"alias.example.com.", dns.TypeMX}, {"insecure.com.", dns.TypeDS}, {"mx.example.com.", dns.TypeDS},
		{"mx.example.com.", dns.TypeANY}, {"_25._tcp.mx.example.com.", dns.TypeRRSIG},
	} {
		t.Run(fmt.Sprint(q.name, dns.Type(q.qtype)), func(t *testing.T) {
			inStaleWorld(t, nil, func(w *staleWorld) {
				w.learn(q.name, q.qtype)
				for _, script := range []scripted.Script{wordless, refusing} {
					w.Follow(script)
					a, _ := w.ask(q.name, q.qtype)
					w.wantFailure(a)
					time.Sleep(time.Minute)
				}
			})
		})
	}
}

// C-13: nothing is told for longer than serve_stale says, nor past the end of a signature that it rests on; as that
// comes near, the TTL is less.
func TestStaleEnds(t *testing.T) {
	inStaleWorld(t, nil, func(w *staleWorld) {
		w.Follow(nil)
		begun, a := time.Now(), ask(w.Resolver, "example.com.", dns.TypeMX)
		life := time.Duration(a.Answer[0].Header().Ttl) * time.Second
		w.Follow(refusing)
		time.Sleep(time.Until(begun.Add(life + day - time.Second)))
		if a, _ := w.ask("example.com.", dns.TypeMX); staleCode(a) == 0 {
			w.Error("not told to its end", notes(a))
		}
		time.Sleep(time.Second)
		a, _ = w.ask("example.com.", dns.TypeMX)
		w.wantFailure(a)
	})
	for _, zone := range []string{"example.com.", "com."} {
		inStaleWorld(t, nil, func(w *staleWorld) {
			ends := time.Now().Add(5 * time.Hour)
			w.Tree.Plan(zone).Config.Expiration = ends
			w.Tree.Publish()
			w.learn("example.com.", dns.TypeMX)
			w.Follow(refusing)
			time.Sleep(time.Until(ends))
			a, _ := w.ask("example.com.", dns.TypeMX)
			w.wantFailure(a)
		})
		inStaleWorld(t, nil, func(w *staleWorld) {
			ends := time.Now().Add(5 * time.Hour)
			w.Tree.Plan(zone).Config.Expiration = ends
			w.Tree.Publish()
			before := w.learn("example.com.", dns.TypeMX)
			w.Follow(refusing)
			a, took := w.ask("example.com.", dns.TypeMX)
			w.wantStale(a, before, took, 0)
			time.Sleep(time.Until(ends.Add(-10 * time.Second)))
			if a, _ := w.ask("example.com.", dns.TypeMX); staleCode(a) == 0 || a.Answer[0].Header().Ttl != 10 {
				w.Errorf("%v %s, 10 s before its signatures end", a.Answer, notes(a))
			}
			time.Sleep(10 * time.Second) // of the 30 s in which it is not tried again
			w.Tree.Plan(zone).Config.Expiration = ends.Add(day)
			w.Tree.Publish()
			w.Follow(nil)
			if a, _ = w.ask("example.com.", dns.TypeMX); a.Status != dnssec.Secure || staleCode(a) != 0 {
				w.Errorf("not tried again, though nothing is told any more: %v %s", a.Status, notes(a))
			}
		})
	}
}

// C-13: while a stale answer is told, what has failed is not tried again for 30 s, and then it is; what the work in the
// background finds is told at once.
func TestStaleIsRefreshed(t *testing.T) {
	inStaleWorld(t, nil, func(w *staleWorld) {
		before := w.learn("example.com.", dns.TypeMX)
		w.Follow(refusing)
		w.Forget()
		a, took := w.ask("example.com.", dns.TypeMX)
		w.wantStale(a, before, took, 0)
		tried := w.Count("example.com. MX")
		if tried == 0 {
			w.Fatal("the upstream was not asked first")
		}
		time.Sleep(29 * time.Second)
		w.Follow(nil)
		if a, took = w.ask("example.com.", dns.TypeMX); w.Count("example.com. MX") != tried {
			w.Error("tried again within 30 s")
		}
		w.wantStale(a, before, took, 0)
		time.Sleep(2 * time.Second)
		if a, _ = w.ask("example.com.", dns.TypeMX); a.Status != dnssec.Secure || staleCode(a) != 0 {
			w.Errorf("%v %s, though the upstream answers", a.Status, notes(a))
		}
	})
	inStaleWorld(t, nil, func(w *staleWorld) {
		before := w.learn("example.com.", dns.TypeMX)
		w.Follow(only("example.com. MX", func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
			time.Sleep(6 * time.Second)
			return fetch.Reply{}, nil, false
		}))
		a, took := w.ask("example.com.", dns.TypeMX)
		w.wantStale(a, before, took, stalePatience)
		a, took = w.ask("example.com.", dns.TypeMX) // joins, and those before him have waited for both
		w.wantStale(a, before, took, 0)
		time.Sleep(5 * time.Second)
		if a, took = w.ask("example.com.", dns.TypeMX); staleCode(a) != 0 || took != 0 {
			w.Errorf("%s after %v, though the answer has come in the background", notes(a), took)
		}
	})
}

// C-13: an answer that comes in less than 1.8 s is the one that is told, stale or not.
func TestFreshIsAwaited(t *testing.T) {
	inStaleWorld(t, nil, func(w *staleWorld) {
		w.learn("example.com.", dns.TypeMX)
		w.Follow(only("example.com. MX", func(context.Context, dns.Question, fetch.Try) (fetch.Reply, error, bool) {
			time.Sleep(1700 * time.Millisecond)
			return fetch.Reply{}, nil, false
		}))
		if a, took := w.ask("example.com.", dns.TypeMX); staleCode(a) != 0 || took < 1700*time.Millisecond {
			w.Errorf("%s after %v", notes(a), took)
		}
		if n := w.told.Load(); n != 0 {
			w.Errorf("counted %d", n)
		}
	})
}

// spoil is the script of an upstream whose answers do not validate.
func (w *staleWorld) spoil(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
	r := w.Reply(q)
	for _, rr := range slices.Concat(r.Msg.Answer, r.Msg.Ns) {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sig.Signature = "AAAA" + sig.Signature[4:]
		}
	}
	return r, nil, true
}

// C-13: what is Bogus is never hidden by what is stale: not when it comes, not while another upstream may still show
// that it is not, and not later either, when there are no replies any more. That holds of the data, of the links of its
// chain, and of what a refresh ahead of its end found.
func TestStaleNeverHidesBogus(t *testing.T) {
	for _, pattern := range []string{"example.com. MX", "example.com. DNSKEY", "example.com. DS"} {
		inStaleWorld(t, nil, func(w *staleWorld) {
			w.learn("example.com.", dns.TypeMX)
			w.Store.places.Flush("example.com.")
			w.Follow(only(pattern, w.spoil))
			a, _ := w.ask("example.com.", dns.TypeMX)
			if w.wantFailure(a); a.Status != dnssec.Bogus {
				w.Errorf("%s: %v", pattern, a.Status)
			}
			time.Sleep(5 * time.Minute) // C-11
			w.Follow(wordless)
			a, _ = w.ask("example.com.", dns.TypeMX)
			w.wantFailure(a)
		})
	}
	inStaleWorld(t, nil, func(w *staleWorld) {
		w.learn("example.com.", dns.TypeMX)
		spoilFirst := func(ctx context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
			if try.N == 0 {
				return w.spoil(ctx, q, try)
			}
			return wordless(ctx, q, try)
		}
		w.Follow(only("example.com. MX", spoilFirst))
		a, _ := w.ask("example.com.", dns.TypeMX)
		w.wantFailure(a)
	})
	inStaleWorld(t, func(c *Config) { c.Prefetch = true }, func(w *staleWorld) {
		a := ask(w.Resolver, "example.com.", dns.TypeMX)
		time.Sleep(time.Duration(a.Answer[0].Header().Ttl)*time.Second - time.Minute)
		w.Follow(only("example.com. MX", w.spoil))
		w.Forget()
		ask(w.Resolver, "example.com.", dns.TypeMX)
		synctest.Wait()
		if w.Count("example.com. MX") == 0 {
			w.Fatal("it was not renewed")
		}
		time.Sleep(time.Hour)
		w.Follow(wordless)
		a, _ = w.ask("example.com.", dns.TypeMX)
		w.wantFailure(a)
	})
}

// C-13: what is newer than a stale answer, be it not to be kept, takes its place.
func TestNewerIsNotStale(t *testing.T) {
	inStaleWorld(t, nil, func(w *staleWorld) {
		w.learn("txt.example.com.", dns.TypeTXT)
		fleeting := func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			return withTTLs(w.Reply(q), 0), nil, true
		}
		w.Follow(only("txt.example.com. TXT", fleeting))
		if a, _ := w.ask("txt.example.com.", dns.TypeTXT); a.Status != dnssec.Secure || staleCode(a) != 0 {
			w.Fatal(notes(a))
		}
		w.Follow(refusing)
		a, _ := w.ask("txt.example.com.", dns.TypeTXT)
		w.wantFailure(a)
	})
	inStaleWorld(t, nil, func(w *staleWorld) { // C-4
		w.learn("txt.example.com.", dns.TypeTXT)
		text := w.Tree.Plan("example.com.").Text
		w.Tree.Plan("example.com.").Text = world.Mail
		w.Tree.Publish()
		gone := w.learn("txt.example.com.", dns.TypeTXT)
		w.Follow(refusing)
		a, took := w.ask("txt.example.com.", dns.TypeTXT)
		w.wantStale(a, gone, took, 0)
		w.Tree.Plan("example.com.").Text = text
		w.Tree.Publish()
		time.Sleep(time.Minute)
		there := w.learn("txt.example.com.", dns.TypeTXT)
		w.Follow(refusing)
		a, took = w.ask("txt.example.com.", dns.TypeTXT)
		w.wantStale(a, there, took, 0)
	})
}

// C-13: Insecure data is told as long as its zones are known to be unsigned: where the proof can be had anew, though
// the answer cannot, even when that comes late; not where it fails, or cannot be had, nor if a zone is signed by now.
func TestStaleInsecure(t *testing.T) {
	const name = "mx.insecure.com."
	inStaleWorld(t, nil, func(w *staleWorld) {
		before := w.learn(name, dns.TypeA)
		time.Sleep(10 * time.Hour)
		w.Follow(only(name+" A", wordless))
		a, took := w.ask(name, dns.TypeA)
		w.wantStale(a, before, took, stalePatience)
	})
	inStaleWorld(t, nil, func(w *staleWorld) {
		before := w.learn(name, dns.TypeA)
		time.Sleep(10 * time.Hour)
		w.Follow(only(name+" A", refusing))
		a, took := w.ask(name, dns.TypeA)
		w.wantStale(a, before, took, 0)
	})
	inStaleWorld(t, nil, func(w *staleWorld) {
		before := w.learn(name, dns.TypeA)
		time.Sleep(10 * time.Hour)
		w.Follow(func(ctx context.Context, q dns.Question, try fetch.Try) (fetch.Reply, error, bool) {
			if q.Name == name {
				return wordless(ctx, q, try)
			}
			time.Sleep(1900 * time.Millisecond)
			return fetch.Reply{}, nil, false
		})
		a, took := w.ask(name, dns.TypeA)
		w.wantStale(a, before, took, 4500*time.Millisecond)
	})
	for how, change := range map[string]func(w *staleWorld){
		"silent":   func(w *staleWorld) { w.Follow(wordless) },
		"refusing": func(w *staleWorld) { w.Follow(refusing) },
		"signed by now": func(w *staleWorld) {
			w.Tree.Plan("insecure.com.").Config.Unsigned = false
			w.Tree.Publish()
			w.Follow(only(name+" A", refusing))
		},
		"a proof that fails": func(w *staleWorld) {
			w.First(only("insecure.com. DS", w.spoil))
			w.First(only(name+" A", refusing))
		},
	} {
		t.Run(how, func(t *testing.T) {
			inStaleWorld(t, nil, func(w *staleWorld) {
				w.learn(name, dns.TypeA)
				time.Sleep(10 * time.Hour)
				change(w)
				a, _ := w.ask(name, dns.TypeA)
				w.wantFailure(a)
			})
		})
	}
}

// C-13, C-12: what is flushed is not stale, nor what a negative trust anchor is set for, or was.
func TestFlushedIsNotStale(t *testing.T) {
	nta := []chain.NegativeAnchor{{Zone: "example.com.", Until: time.Now().Add(1000 * day)}}
	for how, test := range map[string]struct{ before, after func(w *staleWorld) }{
		"flushed":  {func(*staleWorld) {}, func(w *staleWorld) { w.Resolver.Flush("com.") }},
		"distrust": {func(*staleWorld) {}, func(w *staleWorld) { w.Distrust(nta) }},
		"trust":    {func(w *staleWorld) { w.Distrust(nta) }, func(w *staleWorld) { w.Distrust(nil) }},
	} {
		t.Run(how, func(t *testing.T) {
			inStaleWorld(t, nil, func(w *staleWorld) {
				test.before(w)
				w.learn("example.com.", dns.TypeMX)
				test.after(w)
				w.Follow(refusing)
				a, _ := w.ask("example.com.", dns.TypeMX)
				w.wantFailure(a)
			})
		})
	}
}

// C-13: what is stale proves nothing of other names (C-9, C-17), and no chain rests on it.
func TestStaleProvesNothing(t *testing.T) {
	inStaleWorld(t, func(c *Config) { c.Aggressive = reuse.All }, func(w *staleWorld) {
		w.learn("nothing.example.com.", dns.TypeTXT)
		w.Follow(refusing)
		a, took := w.ask("nothing.example.com.", dns.TypeTXT)
		if staleCode(a) == 0 || took != 0 {
			w.Error(notes(a))
		}
		for _, name := range []string{"below.nothing.example.com.", "nothinh.example.com."} {
			a, _ := w.ask(name, dns.TypeTXT)
			w.wantFailure(a)
		}
	})
}

// C-13: for want of an answer is what no upstream has answered, or not in time or with the retries there were; nothing
// that is Bogus, nor what another limit of danelaw's own has ended.
func TestUnanswered(t *testing.T) {
	failure := func(kind dnssec.Kind, err error) *dnssec.Failure { return &dnssec.Failure{Kind: kind, Err: err} }
	for _, test := range []struct {
		status dnssec.Status
		cause  *dnssec.Failure
		want   bool
	}{
		{dnssec.Indeterminate, failure(dnssec.OfNoReply, nil), true},
		{dnssec.Indeterminate, failure(dnssec.OfNoUpstream, errors.New("unreachable")), true},
		{dnssec.Indeterminate, failure(dnssec.OfMissingLink, nil), true},
		{dnssec.Indeterminate, failure(dnssec.OfNoReply, fetch.ErrDeadline), true},
		{dnssec.Indeterminate, failure(dnssec.OfNoReply, errors.Join(fetch.ErrRetries, fetch.ErrShort)), true},
		{dnssec.Bogus, failure(dnssec.OfNoReply, nil), false},
		{dnssec.Bogus, failure(dnssec.OfMissingLink, nil), false},
		{dnssec.Indeterminate, failure(dnssec.OfLink, nil), false},
		{dnssec.Indeterminate, failure(dnssec.OfData, nil), false},
		{dnssec.Indeterminate, failure(dnssec.OfNoReply, fetch.ErrRoom), false},
		{dnssec.Indeterminate, failure(dnssec.OfNoReply, errYielded), false},
		{dnssec.Indeterminate, failure(dnssec.OfNoReply, fetch.ErrPanic), false},
		{dnssec.Secure, nil, false},
	} {
		if got := unanswered(test.status, test.cause); got != test.want {
			t.Errorf("%v %+v: %v", test.status, test.cause, got)
		}
	}
}
