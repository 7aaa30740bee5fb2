package resolve

import (
	"container/list"
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// What work in flight takes of the process's memory, in octets, as measured with thousands of questions that nobody
// answers (L-15).
const (
	clientOctets = 8 << 10  // a client that waits, its message and goroutine
	flightOctets = 12 << 10 // a question being worked on
)

// OctetsPerQuestion is what a client question takes at least while an upstream is waited for.
const OctetsPerQuestion = clientOctets + flightOctets + fetch.QuestionOctets

// yieldAfter is the age at which a question may be displaced by a newer one when the table is full (L-13; Unbound's
// jostle-timeout).
const yieldAfter = 200 * time.Millisecond

const (
	errYielded = dnssec.LimitError("in_flight")
	// errProcessors is that of processors that cannot keep up.
	errProcessors = dnssec.LimitError("processors")
)

// flight is one client question being worked on, and the clients that wait for it.
type flight struct {
	seat
	key   cache.Key
	began time.Time
	// forNobody: it began ahead of clients, and spends a budget that is not theirs.
	forNobody bool

	done    chan struct{}
	mu      sync.Mutex
	work    *fetch.Account
	cancel  context.CancelCauseFunc
	timer   *time.Timer // of limit; nil once the work has ended
	result  *Answer     // does not change once done is closed
	awaited []*waiter   // by whom, till then

	overdueTold atomic.Bool // as Answer.told, of those whose time was up
}

// seat is what a flight takes of the table. It is guarded by flights.mu.
type seat struct {
	zone    string           // whose names it is counted with
	client  string           // who asked it first
	octets  int64            // of the room
	waiting int              // clients; under the lock of its shelf
	yields  *list.Element    // its place in flights.yielding; nil if it runs to its end or holds no slot
	runs    bool             // it holds a slot of the half that runs to its end
	late    *list.Element    // its place in flights.background
	beside  [2]*list.Element // its places among those of its zone and of its client; nil if it holds no slot
}

// keyOf is what identical questions have in common.
func keyOf(q dns.Question) cache.Key { return cache.Key{Name: q.Name, Type: q.Qtype} }

// flights is the table of client questions in flight (L-13). When it is full, a zone that fills it yields first to
// others, and else a client; then the oldest question of one half that is over 200 ms old; the other half runs to its
// end, so that names that time out cannot starve the others. What goes on in the background for nobody yields before
// all of them.
type flights struct {
	half, waiting int
	room          *fetch.Room
	short         func() bool // reports whether processors are what is short
	shelves       *shelves
	mu            sync.Mutex   // comes after that of a shelf, and guards what follows
	slots         atomic.Int64 // taken: running and yielding
	running       int
	yielding      *list.List // oldest first
	background    *list.List // those that hold no slot any more, oldest first
	zones         crowds
	clients       crowds
}

func newFlights(inFlight, waiting int, room *fetch.Room, short func() bool) *flights {
	return &flights{
		half: (inFlight + 1) / 2, waiting: waiting, room: room, short: short,
		shelves: newShelves(), yielding: list.New(), background: list.New(), zones: newCrowds(),
		clients: newCrowds(),
	}
}

// shelves have the flights by their questions, each a part of them: few wait for the same lock.
type shelves struct {
	seed maphash.Seed
	all  [16]shelf
}

type shelf struct {
	mu    sync.Mutex
	byKey map[cache.Key]*flight
}

func newShelves() *shelves {
	s := &shelves{seed: maphash.MakeSeed()}
	for i := range s.all {
		s.all[i].byKey = map[cache.Key]*flight{}
	}
	return s
}

func (s *shelves) of(key cache.Key) *shelf {
	return &s.all[maphash.String(s.seed, key.Name)%uint64(len(s.all))]
}

// at returns the flight of key; nil if there is none, or it has given way to others. mu is held.
func (s *shelf) at(key cache.Key) *flight {
	f := s.byKey[key]
	if f == nil || f.ended() {
		return nil
	}
	return f
}

// remove forgets a flight, if no other has its key by now.
func (s *shelf) remove(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[f.key] == f {
		delete(s.byKey, f.key)
	}
}

// refused says which limit keeps a question out.
type refused struct{ limit dnssec.LimitError }

func (e *refused) failure(q dns.Question) *dnssec.Failure {
	what := "too many questions in flight"
	switch e.limit {
	case fetch.ErrRoom:
		what = "no memory is left for questions in flight"
	case errProcessors:
		what = "more questions come for names of this zone than can be validated"
	}
	return fetch.Limit(q, e.limit, "%s (limit %s)", what, string(e.limit))
}

// join returns the flight of key for a client. If leads, the caller has to begin it. zone says whose names a new one is
// counted with.
func (t *flights) join(key cache.Key, client string, zone func() string) (f *flight, leads bool, no *refused) {
	s := t.shelves.of(key)
	if f, no = t.joinOther(s, key); f != nil || no != nil {
		return f, false, no
	}
	own := &flight{
		key: key, began: time.Now(), seat: seat{zone: zone(), client: client, waiting: 1}, done: make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, no = t.other(s, key); f != nil || no != nil { // it has come meanwhile
		return f, false, no
	}
	if no = t.place(own); no != nil {
		return nil, false, no
	}
	s.byKey[key] = own
	return own, true, nil
}

func (t *flights) joinOther(s *shelf, key cache.Key) (*flight, *refused) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.other(s, key)
}

// other returns the flight of key for one more client; nil if there is none. The shelf's mu is held.
func (t *flights) other(s *shelf, key cache.Key) (*flight, *refused) {
	f := s.at(key)
	if f == nil {
		return nil, nil
	}
	switch {
	case f.waiting >= t.waiting:
		return nil, &refused{"waiting"}
	case !t.room.Take(clientOctets, false):
		return nil, &refused{fetch.ErrRoom}
	}
	f.waiting++
	f.sought()
	return f, nil
}

// ahead returns a new flight of key, which holds no slot and nobody waits for yet; nil if there is one, or half of the
// table or of the room is taken.
func (t *flights) ahead(key cache.Key) *flight {
	s := t.shelves.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at(key) != nil || t.busy() || !t.room.Take(flightOctets, false) {
		return nil
	}
	f := &flight{
		key: key, forNobody: true, began: time.Now(), seat: seat{octets: flightOctets}, done: make(chan struct{}),
	}
	s.byKey[key] = f
	return f
}

// behind reports whether processors, which are short, cannot keep up with the questions of a zone: it gets no further
// place then. What is put off is in vain when its client has gone, and keeps all others waiting.
func (t *flights) behind(zone string) bool {
	l := t.zones.all[zone]
	return l != nil && l.Len() >= leastCrowd && time.Since(l.Front().Value.(*flight).began) >= behindAfter && t.short()
}

// refusing returns what keeps a question out that would take a new place; nil if nothing does, or it is not known yet.
// Nothing is done for it, and where neither slots nor processors can be short nothing is even looked at.
func (t *flights) refusing(key cache.Key, client, zone func() string) *refused {
	taken := t.slots.Load()
	if taken < min(leastCrowd, int64(2*t.half)) || taken < int64(2*t.half) && !t.short() || t.known(key) {
		return nil
	}
	s := seat{zone: zone(), client: client()}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, no := t.slotFor(&s)
	return no
}

// known reports whether there is a flight of key.
func (t *flights) known(key cache.Key) bool {
	s := t.shelves.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at(key) != nil
}

// slotFor returns the flight whose slot a new one gets; nil if one is free. What keeps it out, whatever room there is,
// are processors that cannot keep up with its zone, or a full table in which nobody yields to it. mu is held.
func (t *flights) slotFor(s *seat) (yields *flight, no *refused) {
	if t.behind(s.zone) {
		return nil, &refused{errProcessors}
	}
	if t.slots.Load() < int64(2*t.half) {
		return nil, nil
	}
	if yields = t.victim(s); yields == nil {
		return nil, &refused{errYielded}
	}
	return yields, nil
}

// place finds a slot, and room, for a new flight and its client.
func (t *flights) place(f *flight) *refused {
	t.mu.Lock()
	defer t.mu.Unlock()
	yields, no := t.slotFor(&f.seat)
	if no != nil {
		return no
	}
	if yields != nil || !t.room.Take(clientOctets+flightOctets, false) {
		if !t.makeWay(f, yields) {
			return &refused{fetch.ErrRoom}
		}
	}
	f.octets = flightOctets
	if t.running < t.half {
		t.running++
		f.runs = true
	} else {
		f.yields = t.yielding.PushBack(f)
	}
	t.slots.Add(1)
	f.beside = [2]*list.Element{t.zones.add(f.zone, f), t.clients.add(f.client, f)}
	return nil
}

// makeWay has others yield to a new flight, one of them its slot if that is given, and takes their room, which they
// leave a moment later; it is false if there is none. What goes on in the background yields first, but holds no slot.
func (t *flights) makeWay(f, yields *flight) bool {
	late := t.background.Front()
	if late != nil {
		t.end(late.Value.(*flight))
	} else if yields == nil {
		yields = t.victim(&f.seat)
	}
	if yields == nil && late == nil || !t.room.Take(clientOctets+flightOctets, true) {
		return false
	}
	if yields != nil {
		t.evict(yields)
	}
	return true
}

// victim returns the flight that yields to a new one; nil if that has to do without. When processors are what is short
// no work is thrown away for more of the same; when upstreams are silent, those that have waited the longest are the
// least likely to be answered.
func (t *flights) victim(to *seat) *flight {
	crowd, short := t.crowd(to), t.short()
	switch {
	case crowd != nil && short:
		return crowd.Back().Value.(*flight)
	case crowd != nil:
		return crowd.Front().Value.(*flight)
	case short || t.yielding.Len() == 0:
		return nil
	}
	if f := t.yielding.Front().Value.(*flight); time.Since(f.began) >= yieldAfter {
		return f
	}
	return nil
}

const (
	// behindAfter is how long the oldest question of a zone takes when processors are short before they cannot keep up.
	behindAfter = 250 * time.Millisecond
	// crowdShare is the part of the table that one zone, or one client, may take before it yields first.
	crowdShare = 4
	// leastCrowd are the least that do so.
	leastCrowd = 16
)

// crowd returns the flights that yield to a new one: those of the zone that fills the table, or else of the client that
// does; nil if there is none, or it is one of as many.
func (t *flights) crowd(to *seat) *list.List {
	least := max(leastCrowd, 2*t.half/crowdShare)
	for _, c := range []struct {
		crowds
		own string
	}{{t.zones, to.zone}, {t.clients, to.client}} {
		if most := c.largest(); most != nil && most.Len() >= least {
			if own := c.all[c.own]; own != nil && own.Len() == most.Len() {
				return nil
			}
			return most
		}
	}
	return nil
}

// crowds are flights that hold a slot by what they have in common, oldest first. Those of leastCrowd are found at once,
// however many there are: random names may be a crowd each.
type crowds struct{ all, large map[string]*list.List }

func newCrowds() crowds { return crowds{map[string]*list.List{}, map[string]*list.List{}} }

func (c crowds) add(of string, f *flight) *list.Element {
	l := c.all[of]
	if l == nil {
		l = list.New()
		c.all[of] = l
	}
	e := l.PushBack(f)
	if l.Len() == leastCrowd {
		c.large[of] = l
	}
	return e
}

func (c crowds) remove(of string, e *list.Element) {
	l := c.all[of]
	if l.Remove(e); l.Len() == leastCrowd-1 {
		delete(c.large, of)
	}
	if l.Len() == 0 {
		delete(c.all, of)
	}
}

// largest is the largest crowd; nil if none has leastCrowd.
func (c crowds) largest() (most *list.List) {
	for _, l := range c.large {
		if most == nil || l.Len() > most.Len() {
			most = l
		}
	}
	return most
}

// evict makes a flight give up: nobody finds it any more. What it has taken is given back when it has ended.
func (t *flights) evict(f *flight) {
	t.unplace(f)
	f.yield()
}

// end has a flight in the background end as if its time were over.
func (t *flights) end(f *flight) {
	t.background.Remove(f.late)
	f.late = nil
	f.stop(fetch.ErrDeadline)
}

func (t *flights) unplace(f *flight) {
	if f.runs || f.yields != nil {
		t.slots.Add(-1)
	}
	if f.runs {
		t.running--
		f.runs = false
	}
	if f.yields != nil {
		t.yielding.Remove(f.yields)
		f.yields = nil
	}
	if f.beside[0] != nil {
		t.zones.remove(f.zone, f.beside[0])
		t.clients.remove(f.client, f.beside[1])
		f.beside = [2]*list.Element{}
	}
}

// leave is called by a client that waits no longer, and reports whether nobody does now.
func (t *flights) leave(f *flight) (last bool) {
	s := t.shelves.of(f.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.waiting--
	t.room.Give(clientOctets)
	return f.waiting == 0
}

// release takes the slot from a flight whose first clients have had their answer, or have all gone. It goes on in the
// background, which is a luxury (L-10): not when half of the table or of the room is taken, or processors are short.
func (t *flights) release(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unplace(f)
	if f.octets == 0 || f.late != nil { // it has ended, or goes on there already
		return
	}
	f.late = t.background.PushBack(f)
	for t.background.Len() > 0 && t.busy() {
		t.end(t.background.Front().Value.(*flight))
	}
}

// remove forgets a flight that has ended.
func (t *flights) remove(f *flight) {
	t.shelves.of(f.key).remove(f)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unplace(f)
	if f.late != nil {
		t.background.Remove(f.late)
		f.late = nil
	}
	t.room.Give(f.octets)
	f.octets = 0
}

// detach lets questions that come from now on begin new flights. Those who wait for an old one still get its answer.
func (t *flights) detach() {
	for i := range t.shelves.all {
		s := &t.shelves.all[i]
		s.mu.Lock()
		clear(s.byKey)
		s.mu.Unlock()
	}
}

// busy reports whether half of the table or of the room is taken, or processors are short: then nothing is asked on
// speculation, and luxuries would take something from those who need it.
func (t *flights) busy() bool {
	return t.slots.Load() >= int64(t.half) || t.room.Half() || t.short()
}

func (f *flight) begin(w *fetch.Account, cancel context.CancelCauseFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.work, f.cancel = w, cancel
	if f.result != nil { // displaced before it began
		cancel(nil)
	}
}

// limit has after called when the flight has gone on for a time, and ends it when the rest is over too.
func (f *flight) limit(first, rest time.Duration, after func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	over := false // the first time
	f.timer = time.AfterFunc(first, func() {
		if over {
			f.stop(fetch.ErrDeadline)
			return
		}
		over = true
		after()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.timer != nil {
			f.timer.Reset(rest)
		}
	})
}

// unlimited undoes limit.
func (f *flight) unlimited() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timer.Stop()
	f.timer = nil
}

// finish hands the result to all who wait. Only the first one counts.
func (f *flight) finish(a *Answer) {
	for _, w := range f.end(a) {
		w.ended(f)
	}
}

// end sets the result and returns who has waited for it.
func (f *flight) end(a *Answer) (awaited []*waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.result == nil {
		f.result = a
		close(f.done)
		awaited, f.awaited = f.awaited, nil
	}
	return awaited
}

// ended reports whether the result is there.
func (f *flight) ended() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// await has a waiter told of the result, at once if it is there.
func (f *flight) await(w *waiter) {
	f.mu.Lock()
	there := f.result != nil
	if !there {
		f.awaited = append(f.awaited, w)
	}
	f.mu.Unlock()
	if there {
		w.ended(f)
	}
}

// forget undoes await.
func (f *flight) forget(w *waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.awaited, w); i >= 0 {
		f.awaited = slices.Delete(f.awaited, i, i+1)
	}
}

// yield ends the flight for want of room. The table is locked.
func (f *flight) yield() {
	awaited := f.end(refusal(dnssec.Indeterminate, &dnssec.Failure{
		Err: errYielded, Text: "gave way to newer questions: too many in flight (limit in_flight)",
	}))
	for _, w := range awaited {
		go w.ended(f)
	}
	f.stop(nil)
}

// sought tells the work that a client has come for it.
func (f *flight) sought() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.work != nil {
		f.work.Sought()
	}
}

// stop ends the work.
func (f *flight) stop(cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cancel != nil {
		f.cancel(cause)
	}
}

// handsOn reports whether the outcome of the flight, which is done, is for all who wait for it, and not for its first
// client alone: the end of a budget is not (L-6a).
func (f *flight) handsOn() bool {
	failure := f.result.failure
	return !failure.Limit() || !f.forNobody && !errors.Is(failure, fetch.ErrDeadline)
}

// yielded reports whether the flight, which is done, gave way to others.
func (f *flight) yielded() bool {
	return f.result.failure.Limit() && errors.Is(f.result.failure, errYielded)
}

// doubtful reports whether what has come so far may turn out to be Bogus.
func (f *flight) doubtful() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.work != nil && f.work.Doubtful()
}

// overdue is what a client is told whose time is up while the work goes on.
func (f *flight) overdue(q dns.Question, after time.Duration) *Answer {
	f.mu.Lock()
	w := f.work
	f.mu.Unlock()
	missing, got := "the answer", (*dns.Msg)(nil)
	if w != nil {
		missing, got = w.Missing(), w.Reply(q)
	}
	failure := fetch.Limit(q, fetch.ErrDeadline, "still waiting for %s after %v", missing, after)
	failure.Code = dns.ExtendedErrorCodeNoReachableAuthority
	a := refusal(dnssec.Indeterminate, failure)
	a.told, a.Unvalidated = &f.overdueTold, got
	return a
}
