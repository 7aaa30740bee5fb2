package chain

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// yieldAfter is the age at which a question may be put out by a newer one when the table is full (L-13; Unbound's
// jostle-timeout).
const yieldAfter = 200 * time.Millisecond

const (
	errDeadline = dnssec.LimitError("deadline")
	errYielded  = dnssec.LimitError("in_flight")
)

// flight is one client question being worked on, and the clients that wait for it.
type flight struct {
	key     string
	began   time.Time
	waiting int           // under flights.mu
	yields  *list.Element // its place in flights.yielding; nil if it runs to its end or holds no slot
	runs    bool          // it holds a slot of the half that runs to its end

	done   chan struct{}
	mu     sync.Mutex
	work   *query
	cancel context.CancelFunc
	result *Answer

	overdueTold atomic.Bool // as Answer.told, of those whose time was up
}

// flights is the table of client questions in flight (L-13). When it is full, the oldest question of one half that is
// over 200 ms old yields; the other half runs to its end, so that names that time out cannot starve the others.
type flights struct {
	half, waiting int
	mu            sync.Mutex
	byKey         map[string]*flight
	running       int
	yielding      *list.List // oldest first
}

func newFlights(inFlight, waiting int) *flights {
	return &flights{half: (inFlight + 1) / 2, waiting: waiting, byKey: map[string]*flight{}, yielding: list.New()}
}

// refused says which limit keeps a question out.
type refused struct{ limit dnssec.LimitError }

func (e *refused) failure(q dns.Question) *dnssec.Failure {
	return limitFailure(q, e.limit, "too many questions in flight (limit %s)", string(e.limit))
}

// join returns the flight of key. If leads, the caller has to begin it.
func (t *flights) join(key string) (f *flight, leads bool, no *refused) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.byKey[key]; f != nil {
		if f.waiting >= t.waiting {
			return nil, false, &refused{"waiting"}
		}
		f.waiting++
		return f, false, nil
	}
	f = &flight{key: key, began: time.Now(), waiting: 1, done: make(chan struct{})}
	if !t.place(f) {
		return nil, false, &refused{"in_flight"}
	}
	t.byKey[key] = f
	return f, true, nil
}

// ahead returns a new flight of key, which holds no slot and nobody waits for yet; nil if there is one, or the table is half full.
func (t *flights) ahead(key string) *flight {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[key] != nil || t.running+t.yielding.Len() >= t.half {
		return nil
	}
	f := &flight{key: key, began: time.Now(), done: make(chan struct{})}
	t.byKey[key] = f
	return f
}

// place finds a slot for a new flight.
func (t *flights) place(f *flight) bool {
	if t.running < t.half {
		t.running++
		f.runs = true
		return true
	}
	if t.yielding.Len() >= t.half && !t.putOut() {
		return false
	}
	f.yields = t.yielding.PushBack(f)
	return true
}

// putOut makes the oldest yielding flight give up, if it is old enough.
func (t *flights) putOut() bool {
	f := t.yielding.Front().Value.(*flight)
	if time.Since(f.began) < yieldAfter {
		return false
	}
	t.unplace(f)
	delete(t.byKey, f.key)
	f.yield()
	return true
}

func (t *flights) unplace(f *flight) {
	if f.runs {
		t.running--
		f.runs = false
	}
	if f.yields != nil {
		t.yielding.Remove(f.yields)
		f.yields = nil
	}
}

// leave is called by a client that waits no longer.
func (t *flights) leave(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.waiting--
}

// release takes the slot from a flight whose first clients have had their answer: background work holds none.
func (t *flights) release(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unplace(f)
}

// remove forgets a flight that has ended.
func (t *flights) remove(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unplace(f)
	if t.byKey[f.key] == f {
		delete(t.byKey, f.key)
	}
}

// part has those who come now begin anew. Flights that are on their way end for those who wait for them.
func (t *flights) part() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.byKey)
}

// busy reports whether the table is at least half full: then nothing is asked on speculation.
func (t *flights) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running+t.yielding.Len() >= t.half
}

func (f *flight) begin(w *query, cancel context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.work, f.cancel = w, cancel
	if f.result != nil { // put out before it began
		cancel()
	}
}

// finish hands the result to all who wait. Only the first one counts.
func (f *flight) finish(a *Answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.result == nil {
		f.result = a
		close(f.done)
	}
}

// yield ends the flight for want of room.
func (f *flight) yield() {
	f.finish(refusal(dnssec.Indeterminate, &dnssec.Failure{
		Err: errYielded, Text: "gave way to newer questions: too many in flight (limit in_flight)",
	}))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cancel != nil {
		f.cancel()
	}
}

// answer returns the result for one client: a copy, since others may wait for the same.
func (f *flight) answer() *Answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.result.clone()
}

// failed reports whether the flight, which is done, ended by a limit.
func (f *flight) failed(by dnssec.LimitError) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.result.Status == dnssec.Indeterminate && errors.Is(f.result.Notes[0], by)
}

// overdue is what a client is told whose time is up while the work goes on.
func (f *flight) overdue(q dns.Question, after time.Duration) *Answer {
	f.mu.Lock()
	w := f.work
	f.mu.Unlock()
	missing := "the answer"
	if w != nil {
		missing = w.missing()
	}
	a := refusal(dnssec.Indeterminate, &dnssec.Failure{
		Code: dns.ExtendedErrorCodeNoReachableAuthority, Owner: q.Name, Type: q.Qtype, Err: errDeadline,
		Text: fmt.Sprintf("%s %s: still waiting for %s after %v", q.Name, typeName(q.Qtype), missing, after),
	})
	a.told = &f.overdueTold
	return a
}

// limitFailure is the failure of a client question that hit a limit (L-16).
func limitFailure(q dns.Question, l dnssec.LimitError, format string, args ...any) *dnssec.Failure {
	return &dnssec.Failure{
		Code: dns.ExtendedErrorCodeOther, Owner: q.Name, Type: q.Qtype, Err: l,
		Text: fmt.Sprintf("%s %s: ", q.Name, typeName(q.Qtype)) + fmt.Sprintf(format, args...),
	}
}

// expired turns the end of a context into the failure it stands for.
func expired(ctx context.Context, q dns.Question, waitedFor string) *dnssec.Failure {
	err := context.Cause(ctx)
	if !errors.Is(err, dnssec.ErrLimit) {
		err = errDeadline // shut down, or the caller has gone
	}
	return &dnssec.Failure{
		Code: dns.ExtendedErrorCodeNoReachableAuthority, Owner: q.Name, Type: q.Qtype, Err: err,
		Text: fmt.Sprintf("%s %s: gave up waiting for %s", q.Name, typeName(q.Qtype), waitedFor),
	}
}
