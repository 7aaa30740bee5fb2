package resolve

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// newTable returns a table with room for all, and processors enough.
func newTable(inFlight, waiting int) *flights {
	return newFlights(inFlight, waiting, fetch.NewRoom(1<<40), func() bool { return false })
}

// named is the key of some question.
func named(name string) cache.Key { return cache.Key{Name: name} }

// noZone is for flights of which it does not matter.
func noZone() string { return "" }

func of(zone string) func() string { return func() string { return zone } }

// fill has n questions of a zone join.
func fill(t *testing.T, table *flights, zone string, n int) (all []*flight) {
	t.Helper()
	for i := range n {
		f, _, no := table.join(named(fmt.Sprint(zone, i)), "", of(zone))
		if no != nil {
			t.Fatalf("question %d of %s: %v", i, zone, no.limit)
		}
		all = append(all, f)
	}
	return all
}

// ended tells how many have been displaced.
func ended(all []*flight) (n int) {
	for _, f := range all {
		select {
		case <-f.done:
			n++
		default:
		}
	}
	return n
}

// L-13: a zone that fills the table yields to questions of others, however young its own are and whichever half they
// are in: the ones that have waited the longest while upstreams are silent, the youngest while processors are short.
// Others do not yield to it.
func TestCrowdYieldsFirst(t *testing.T) {
	for _, short := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			table := newTable(40, 10)
			quiet := fill(t, table, "mail.example.", 4)
			crowd := fill(t, table, "flood.example.", 36)
			table.short = func() bool { return short }
			limit := map[bool]dnssec.LimitError{false: "in_flight", true: errProcessors}[short]
			if short {
				time.Sleep(behindAfter)
			}
			if _, _, no := table.join(named("one more"), "", of("flood.example.")); no == nil || no.limit != limit {
				t.Errorf("short %v: the zone that fills the table got one place more: %v", short, no)
			}
			late := fill(t, table, "late.example.", 5)
			if ended(quiet) != 0 || ended(late) != 0 || ended(crowd) != 5 {
				t.Errorf("short %v: %d, %d and %d of the crowd were displaced", short, ended(quiet), ended(late),
					ended(crowd))
			}
			yielded := crowd[:5]
			if short {
				yielded = crowd[31:]
			}
			if ended(yielded) != 5 {
				t.Errorf("short %v: others than the five expected were displaced", short)
			}
			time.Sleep(yieldAfter)
			_, _, no := table.join(named("one more"), "", of("flood.example."))
			if (no == nil) == short {
				t.Errorf("short %v: an old question yields to one of the crowd: %v", short, no == nil)
			}
			if ended(quiet)+ended(late) > 1 { // the oldest of the yielding half may be anybody's
				t.Errorf("short %v: %d of others were displaced", short, ended(quiet)+ended(late))
			}
		})
	}
}

// L-13: what keeps a question out is known without anything being done for it: the table is as it was, and whoever
// tries to join is told the same. Others may join.
func TestRefusing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chance := rand.New(rand.NewPCG(13, 0))
		refusals := map[dnssec.LimitError]int{}
		for range 300 {
			table := newTable(1+chance.IntN(60), 10)
			for i := range 150 {
				short := chance.IntN(3) == 0
				table.short = func() bool { return short }
				zone := of([]string{"flood.example.", fmt.Sprint(i, ".example.")}[chance.IntN(2)])
				client := fmt.Sprint(chance.IntN(3))
				key := named(fmt.Sprint("question", chance.IntN(200)))
				before, known := table.slots.Load(), table.known(key)
				says := table.refusing(key, func() string { return client }, zone)
				if table.slots.Load() != before || table.known(key) != known {
					t.Fatal("something was done for the question")
				}
				_, _, no := table.join(key, client, zone)
				if says != nil && (no == nil || no.limit != says.limit) {
					t.Fatalf("%v would keep it out, and joining says %v", says.limit, no)
				}
				if says == nil && no != nil && no.limit != "waiting" {
					t.Fatalf("nothing would keep it out, and joining says %v", no.limit)
				}
				if says != nil {
					refusals[says.limit]++
				}
				time.Sleep(time.Duration(chance.IntN(20)) * time.Millisecond)
			}
		}
		if refusals[errYielded] < 100 || refusals[errProcessors] < 100 {
			t.Errorf("too few for a test: %v", refusals)
		}
	})
}

// L-10: work in the background ends, as if its time were over, when half of the table is taken, and yields before
// anything else.
func TestBackgroundYieldsFirst(t *testing.T) {
	table := newTable(40, 10)
	causes := map[int]error{}
	begun := func(i int, f *flight) *flight {
		f.begin(nil, func(err error) { causes[i] = err })
		return f
	}
	for i, f := range fill(t, table, "a.", 12) {
		table.release(begun(i, f))
	}
	if table.background.Len() != 12 || len(causes) != 0 {
		t.Fatalf("%d in the background; ended: %v", table.background.Len(), causes)
	}
	fill(t, table, "b.", 40)
	if len(causes) != 0 {
		t.Fatalf("%d ended though there was room", len(causes))
	}
	if one := fill(t, table, "c.", 1); len(causes) != 1 || !errors.Is(causes[0], fetch.ErrDeadline) || ended(one) != 0 {
		t.Errorf("ended: %v", causes)
	}
	f := table.find(named("b.1"))
	table.release(begun(99, f))
	if table.background.Len() != 0 || len(causes) != 13 || !errors.Is(causes[99], fetch.ErrDeadline) {
		t.Errorf("%d go on in the background of a full table", table.background.Len())
	}
	table.remove(f)
	table.release(f) // its timer was late
	if table.background.Len() != 0 {
		t.Error("what has ended goes on in the background")
	}
}

// L-13: what goes on in the background holds no slot, and so makes no place in a full table, in which there are never
// more questions than it has slots; it makes room where that is what is short.
func TestBackgroundLeavesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const questions = 12
		table := newTable(questions, 10)
		for _, f := range fill(t, table, "a.", 2) {
			table.release(f)
		}
		all := fill(t, table, "b.", questions)
		if f, _, no := table.join(named("one more"), "", of("c.")); no == nil || no.limit != "in_flight" || f != nil {
			t.Errorf("one more than there are slots got in: %v", no)
		}
		time.Sleep(yieldAfter)
		one := fill(t, table, "c.", 1)
		if n := int(table.slots.Load()); n != questions || ended(all) != 1 || ended(one) != 0 {
			t.Errorf("%d questions, %d and %d of them displaced", n, ended(all), ended(one))
		}
	})
	table := newFlights(40, 10, fetch.NewRoom(8*(clientOctets+flightOctets)), func() bool { return false })
	table.release(fill(t, table, "a.", 1)[0])
	all := fill(t, table, "b.", 7)
	if table.background.Len() != 0 || ended(all) != 0 {
		t.Errorf("%d go on in the background, %d were displaced", table.background.Len(), ended(all))
	}
}

// L-15: clients that wait, questions being worked on, questions to upstreams and their replies take room, and give all
// of it back.
func TestRoomIsTakenAndGivenBack(t *testing.T) {
	room := fetch.NewRoom(1 << 20)
	r, u, _ := setup(t, func(c *Config) { c.Room = room })
	outstanding, release := hold(u)
	done := make(chan *Answer)
	const clients = 3
	for range clients {
		go func() { done <- ask(r, "example.com.", dns.TypeMX) }()
	}
	least := func() int64 { return clients*clientOctets + flightOctets + outstanding.Load()*fetch.QuestionOctets }
	eventually(t, "room to be taken", func() bool { return outstanding.Load() > 1 && !fits(room, 1<<20, least()-1) })
	release()
	for range clients {
		expect(t, <-done, dnssec.Secure, dns.RcodeSuccess)
	}
	eventually(t, "all room to be given back", func() bool { return fits(room, 1<<20, 0) })
}

// fits reports whether no more than so many octets of a room's are taken.
func fits(room *fetch.Room, all, taken int64) bool {
	if !room.Take(all-taken, true) {
		return false
	}
	room.Give(all - taken)
	return true
}

// quiet waits until nothing is asked any more: what was asked ahead may not have been needed.
func quiet(t *testing.T, r *Resolver) {
	t.Helper()
	eventually(t, "nothing to be asked", func() bool { return fits(r.Room, int64(r.InFlight)*2*OctetsPerQuestion, 0) })
}

// L-12, L-16: without room a question is refused, by a limit that says so.
func TestNoRoom(t *testing.T) {
	for octets, text := range map[int64]string{
		clientOctets:                          "for questions in flight",
		(clientOctets + flightOctets) * 8 / 7: "for questions to upstreams",
		1 << 20:                               "for replies of upstreams",
	} {
		meter := &limits{hits: map[string]int{}}
		r, u, _ := setup(t, func(c *Config) { c.Room, c.Meter = fetch.NewRoom(octets+8), meter })
		u.Follow(func(_ context.Context, q dns.Question, _ fetch.Try) (fetch.Reply, error, bool) {
			reply := u.Reply(q)
			reply.Size = (256 << 10) - 1
			return reply, nil, true
		})
		a := r.Resolve(context.Background(), question("example.com.", dns.TypeMX))
		if expect(t, a, dnssec.Indeterminate, dns.RcodeServerFailure); !errors.Is(a.Notes[0], fetch.ErrRoom) ||
			!strings.Contains(a.Notes[0].Text, text) {
			t.Errorf("%d octets: %v, want %q", octets, a.Notes[0], text)
		}
		eventually(t, "all room to be given back", func() bool { return fits(r.Room, octets+8, 0) })
		if meter.hits["memory"] != 1 || len(meter.hits) != 1 {
			t.Errorf("%d octets: counted %v", octets, meter.hits)
		}
	}
}

// L-13: names are counted with the deepest zone known, but not with a registry's.
func TestCrowdOf(t *testing.T) {
	r, _, _ := setup(t, nil)
	for _, known := range []bool{false, true} {
		for name, want := range map[string]string{
			".": ".", "com.": "com.", "a.b.example.com.": "example.com.", "example.com.": "example.com.",
			"x.other.com.": "other.com.",
		} {
			if got := r.crowdOf(name); got != want {
				t.Errorf("known %v: %s is counted with %s, want %s", known, name, got, want)
			}
		}
		ask(r, "example.com.", dns.TypeMX)
	}
}

// L-7, L-13: while processors are short a zone gets few places, however empty the table is; other zones get theirs.
// Nothing goes on for nobody and nothing is asked ahead.
func TestProcessorsAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := false
		table := newTable(1000, 10)
		table.short = func() bool { return short }
		all := fill(t, table, "flood.example.", leastCrowd)
		late, _, _ := table.join(named("late"), "", noZone)
		table.release(late)
		if table.busy() || table.background.Len() != 1 {
			t.Fatal("busy with few questions")
		}
		short = true
		time.Sleep(behindAfter - time.Nanosecond)
		if _, _, no := table.join(named("while all are young"), "", of("flood.example.")); no != nil {
			t.Errorf("no place while all are young: %v", no)
		}
		time.Sleep(time.Nanosecond)
		if _, _, no := table.join(named("one more"), "", of("flood.example.")); no == nil || no.limit != errProcessors {
			t.Errorf("the zone got one place more: %v", no)
		}
		if f, leads, _ := table.join(named("flood.example.0"), "", noZone); leads || f != all[0] {
			t.Error("a question that is being worked on was not joined")
		}
		fill(t, table, "other.example.", leastCrowd)
		table.release(all[1])
		if !table.busy() || table.background.Len() != 0 || ended(all) != 0 {
			t.Errorf("busy %v, %d in the background, %d displaced", table.busy(), table.background.Len(), ended(all))
		}
		for _, f := range all[2:] {
			table.remove(f)
		}
		if _, _, no := table.join(named("few"), "", of("flood.example.")); no != nil {
			t.Errorf("no place beside a few that are old: %v", no)
		}
		short = false
		if fill(t, table, "flood.example.", 2*leastCrowd); table.behind("flood.example.") {
			t.Error("behind with processors enough")
		}
	})
}

// L-13: where no zone does, a client that fills the table with names of many zones yields to others, and they do not
// yield to it. A zone that does yields before a client: its other questions are worth as much as anybody's.
func TestClientYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := newTable(40, 10)
		var greedy []*flight
		for i := range 40 {
			f, _, no := table.join(named(fmt.Sprint("greedy", i)), "192.0.2.1", of(fmt.Sprint("zone", i)))
			if no != nil {
				t.Fatal(no.limit)
			}
			greedy = append(greedy, f)
		}
		if _, _, no := table.join(named("one more"), "192.0.2.1", of("another")); no == nil || no.limit != "in_flight" {
			t.Errorf("the client that fills the table got one place more: %v", no)
		}
		modest, _, no := table.join(named("modest"), "192.0.2.2", of("zone1"))
		if no != nil || ended(greedy[:1]) != 1 || ended(greedy) != 1 {
			t.Fatalf("%v; %d of the client's were displaced", no, ended(greedy))
		}
		for _, f := range greedy[1:31] {
			table.remove(f)
		}
		fill(t, table, "flood.example.", 30) // of another client
		table.join(named("mail"), "192.0.2.1", of("mail.example."))
		if ended(greedy) != 1 || ended([]*flight{modest}) != 0 || table.zones.all["flood.example."].Len() != 29 {
			t.Errorf("%d of the client's were displaced, %d are left of the zone", ended(greedy),
				table.zones.all["flood.example."].Len())
		}
	})
}

// Crowds are found from sixteen on, however many smaller ones there are, and while they are that large.
func TestLargestCrowd(t *testing.T) {
	all := newCrowds()
	var crowd []*list.Element
	for i := range leastCrowd {
		if most := all.largest(); most != nil {
			t.Fatalf("a crowd of %d", most.Len())
		}
		all.add(fmt.Sprint("single", i), &flight{})
		crowd = append(crowd, all.add("crowd", &flight{}))
	}
	larger := all.add("larger", &flight{})
	for range leastCrowd {
		all.add("larger", &flight{})
	}
	if most := all.largest(); most != all.all["larger"] || most.Len() != leastCrowd+1 {
		t.Errorf("the largest is %v", most)
	}
	all.remove("larger", larger)
	all.remove("larger", all.all["larger"].Front())
	if most := all.largest(); most != all.all["crowd"] {
		t.Errorf("the largest is %v", most)
	}
	for _, e := range crowd {
		all.remove("crowd", e)
	}
	if most := all.largest(); most != nil || all.all["crowd"] != nil {
		t.Errorf("nothing is left, but %v", most)
	}
}

// Whether luxuries may be had is found out without the lock of the table: all questions ask that often, and the reader
// of the sockets waits for that lock.
func TestBusyTakesNoLock(t *testing.T) {
	table := newTable(40, 10)
	all := fill(t, table, "a.", 20)
	table.mu.Lock()
	said := make(chan bool)
	go func() { said <- table.busy() }()
	select {
	case busy := <-said:
		if !busy {
			t.Error("half of the table is taken")
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for the lock")
	}
	table.mu.Unlock()
	table.remove(all[0])
	if table.remove(all[0]); table.busy() || table.slots.Load() != 19 {
		t.Errorf("busy with %d slots taken", table.slots.Load())
	}
}

// A client is told apart by what the caller says of it.
func TestWithClient(t *testing.T) {
	r, u, _ := setup(t, nil)
	outstanding, release := hold(u)
	defer release()
	go r.Resolve(WithClient(context.Background(), "192.0.2.1"), question("example.com.", dns.TypeMX))
	eventually(t, "the question is asked", func() bool { return outstanding.Load() > 0 })
	r.flights.mu.Lock()
	defer r.flights.mu.Unlock()
	if r.flights.clients.all["192.0.2.1"].Len() != 1 || len(r.flights.clients.all) != 1 {
		t.Errorf("%v", r.flights.clients.all)
	}
}

// A question that has been put as often as it may be is put once more for a client that comes later, not for one that
// came at once or whose place is taken by nobody.
func TestDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, u, _ := setup(t, nil)
		var demand func() int
		u.Follow(func(ctx context.Context, q dns.Question, t fetch.Try) (fetch.Reply, error, bool) {
			if q.Name == "example.com." && q.Qtype == dns.TypeMX && t.N == 0 {
				demand = t.Demand
				<-ctx.Done()
				return fetch.Reply{}, ctx.Err(), true
			}
			return fetch.Reply{}, nil, false
		})
		come := func(want int) {
			t.Helper()
			go ask(r, "example.com.", dns.TypeMX)
			if synctest.Wait(); demand() != want {
				t.Errorf("demand is %d, want %d", demand(), want)
			}
		}
		come(1)
		come(1)
		time.Sleep(2500*time.Millisecond - time.Nanosecond)
		come(1)
		time.Sleep(time.Nanosecond)
		come(2)
		come(3)
		time.Sleep(background)
		if synctest.Wait(); demand() != 0 {
			t.Errorf("demand is %d with nobody who waits", demand())
		}
	})
}
