package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

const (
	// datagramsFirst is how many copies go out to one upstream before one goes over TCP, where the kernel repeats what
	// is lost.
	datagramsFirst = 2
	// mostCopies is how often a question is put to one upstream at most. What has not arrived by then was not lost by
	// chance, and while upstreams are silent copies are most of the work. For a client that comes later one more may go
	// out.
	mostCopies = 4
	busyCopies = 2 // when half of the sockets are open
	// copiesForTCP are those that may go out besides to an upstream that refuses TCP, and steadyLoss is the time
	// between them: else one question in eight would be lost where a datagram in three is.
	copiesForTCP = 4
	steadyLoss   = 400 * time.Millisecond
	// mostInstead is how many questions at a time may have them: where more go unanswered it is not the way that loses
	// them, and more of the same helps nobody.
	mostInstead = 64
	// socketsPerQuestion is how many sockets one question holds at most, whatever the number of upstreams.
	socketsPerQuestion = 2
)

// race is one question put to several upstreams, until the first usable reply. It has no goroutine: all that happens to
// it, in whatever goroutine, is an event.
type race struct {
	query    query
	schedule *schedule
	insteads *atomic.Int64                // races that send more because TCP is refused
	due      due                          // the next copy, or the end
	done     func(fetch.Reply, []outcome) // is called once
	mu       sync.Mutex                   // guards what follows
	reserve  []*upstream                  // are asked when the field has failed
	earlier  []outcome                    // of those who were asked before the field
	over     bool
	told     func() // what is to be told once mu is free
	field
}

// field is those who are asked.
type field struct {
	runners  []*runner // in the order of choice
	patience time.Duration
	most     int       // copies to each
	instead  int       // further copies where TCP is refused
	refused  bool      // that is so of one of them, and more is sent
	demand   int       // that these meet
	copied   int       // copies after the first
	last     int       // the index of the one asked last
	sockets  []*runner // those that hold one, the oldest first
}

// runner is the part of one upstream in a race.
type runner struct {
	*upstream
	sent     int // how often it was asked
	vain     int // of these met a closed door
	running  int // attempts outstanding
	attempts []*attempt
	streamed bool   // the question has gone on over TCP
	fault    *fault // what ended its part
	round    int    // how often it had to give up its socket
}

// errBeaten ends an attempt because another one was quicker, or needed its socket.
var errBeaten = errors.New("another was quicker")

// race asks the first upstream at once, and the next one as soon as one fails. After each of the times of copyAfter it
// sends a further copy: to the next upstream that is still in the race, or to the same one if it is alone; of the
// copies to one upstream the third goes over TCP. Copies to one upstream go out from the same socket, and only while
// somebody waits for the reply. The reserve is asked when all others have failed. done is called, by another goroutine,
// with the first usable reply, or with one without a message and what each upstream did.
func (s *Set) race(q query, first, reserve []*upstream, done func(fetch.Reply, []outcome)) *race {
	r := &race{query: q, schedule: &s.schedule, insteads: &s.insteads, reserve: reserve, done: done}
	r.due.ring = r.ring
	r.apart(func() { r.enter(first) })
	return r
}

// cancel gives the question up.
func (r *race) cancel() { r.apart(func() { r.end(fetch.Reply{}, context.Canceled) }) }

// event has something happen to the race, if it is not over, and tells what came of it.
func (r *race) event(happens func()) {
	if tell := r.happen(happens); tell != nil {
		tell()
	}
}

// apart is an event for those to whom nothing may be told at once.
func (r *race) apart(happens func()) {
	if tell := r.happen(happens); tell != nil {
		go tell()
	}
}

func (r *race) happen(happens func()) (tell func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	if err := guarded(happens); err != nil {
		r.fail(err)
	}
	return r.told
}

// enter puts the question to a field.
func (r *race) enter(upstreams []*upstream) {
	r.field = field{patience: upstreams[0].health.patience(), most: mostCopies, instead: copiesForTCP, demand: 1}
	for _, u := range upstreams {
		r.runners = append(r.runners, &runner{upstream: u})
	}
	if udpSockets.half() {
		r.most, r.instead = busyCopies, 0
	}
	r.start(0)
	r.rest(time.Now())
}

// rest waits for what is due next. Copies of questions that were asked in one moment do not all go out in one: what was
// lost because a queue was full would be lost again.
func (r *race) rest(now time.Time) {
	after := copyAfter(r.copied, r.patience)
	if r.refused {
		after = min(after, max(r.patience, steadyLoss))
	}
	at := now.Add(after + rand.N(after/16))
	if end := r.query.until; !end.IsZero() && end.Before(at) {
		at = end
	}
	r.schedule.set(&r.due, at)
}

// ring is an event when a copy may be due, or the time is over. What has arrived while this machine was busy was not
// lost.
func (r *race) ring() {
	for _, a := range r.underWay() {
		a.look()
	}
	r.event(func() {
		now := time.Now()
		switch {
		case r.schedule.over():
			r.fail(errClosed)
		case !r.query.until.IsZero() && !now.Before(r.query.until):
			r.end(fetch.Reply{}, context.DeadlineExceeded)
		default:
			if demand := r.query.wanted(); demand > 0 { // else who comes next shall not wait for longer than the first
				r.meet(demand)
				r.copy()
				r.copied++
			}
			r.rest(now)
		}
	})
}

// underWay returns the attempts that are.
func (r *race) underWay() (all []*attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.runners {
		all = append(all, u.attempts...)
	}
	return all
}

// end ends the race with a reply, or with none; those who have not replied are told why.
func (r *race) end(reply fetch.Reply, why error) {
	r.over = true
	r.schedule.drop(&r.due)
	outcomes := r.outcomes()
	r.leave(r.insteads, why)
	r.told = func() { r.done(reply, outcomes) }
}

// fail ends the race with what befell all who are in it.
func (r *race) fail(err error) {
	f, _ := errors.AsType[*fault](err)
	for _, u := range r.runners {
		if u.fault == nil {
			u.fault = f
		}
	}
	r.end(fetch.Reply{}, context.Canceled)
}

// giveUp ends all attempts at an upstream.
func (u *runner) giveUp(why error) {
	for _, a := range u.attempts {
		a.giveUp(why)
	}
	u.attempts = nil
}

// running reports whether a reply may still come.
func (r *race) running() bool {
	return slices.ContainsFunc(r.runners, func(u *runner) bool { return u.fault == nil && u.running > 0 })
}

// start asks the upstream with the given index, which is not being asked.
func (r *race) start(index int) {
	u := r.runners[index]
	if u.lossy && !r.query.tcp {
		r.makeRoom()
		r.sockets = append(r.sockets, u)
	}
	r.attempt(index, r.query)
}

// makeRoom has the upstream that was waited for the longest give up its socket, if there are the most.
func (r *race) makeRoom() {
	if len(r.sockets) < socketsPerQuestion {
		return
	}
	u := r.sockets[0]
	r.sockets = r.sockets[1:]
	u.giveUp(errBeaten)
	u.running = 0
	u.round++
}

// attempt puts q to an upstream.
func (r *race) attempt(index int, q query) {
	u := r.runners[index]
	r.last = index
	u.sent++
	u.running++
	round := u.round
	u.attempts = append(u.attempts, u.ask(q, func(reply fetch.Reply, f *fault) {
		r.event(func() {
			if round == u.round {
				r.arrive(u, q, reply, f)
			}
		})
	}))
}

// arrive takes the outcome of an attempt. Without a reply the upstream is out, and the first that is not being asked is
// asked; where there is none, the reserve. That a copy over TCP fails takes no upstream out: a datagram may still be
// answered.
func (r *race) arrive(u *runner, q query, reply fetch.Reply, f *fault) {
	switch {
	case f == nil:
		r.end(reply, errBeaten)
		return
	case !q.spare:
		u.running--
		u.fault = f
		r.sockets = slices.DeleteFunc(r.sockets, func(s *runner) bool { return s == u })
		r.next()
	case errors.Is(f, syscall.ECONNREFUSED): // it has not been heard
		u.running--
		u.vain++
		if r.replacesTCP(r.insteads) {
			r.rest(time.Now())
		}
	}
	if r.over || r.running() {
		return
	}
	if len(r.reserve) == 0 {
		r.end(fetch.Reply{}, errBeaten)
		return
	}
	r.earlier = r.outcomes()
	r.leave(r.insteads, errBeaten)
	reserve := r.reserve
	r.reserve = nil
	r.enter(reserve)
}

// replacesTCP begins to send more datagrams, unless too many questions do.
func (f *field) replacesTCP(insteads *atomic.Int64) bool {
	if f.refused || f.instead == 0 {
		return false
	}
	if insteads.Add(1) > mostInstead {
		insteads.Add(-1)
		f.instead = 0
		return false
	}
	f.refused = true
	return true
}

// leave ends the part of a field.
func (f *field) leave(insteads *atomic.Int64, why error) {
	for _, u := range f.runners {
		u.giveUp(why)
	}
	if f.refused {
		insteads.Add(-1)
	}
}

// next asks the first that is not being asked.
func (r *race) next() {
	for i, u := range r.runners {
		if u.fault == nil && u.running == 0 && u.sent < r.most {
			r.start(i)
			return
		}
	}
}

// meet allows one more copy for those who have come late, all together.
func (r *race) meet(demand int) {
	if demand > r.demand {
		r.demand = demand
		r.most++
	}
}

// copy sends one more copy to the next, in turn, that is in the race and has use for it.
func (r *race) copy() {
	for n := range r.runners {
		i := (r.last + 1 + n) % len(r.runners)
		switch u := r.runners[i]; {
		case u.fault != nil || u.sent >= u.most(&r.field):
		case u.sent == 0:
			r.start(i)
			return
		case u.running > 0 && u.lossy && !r.query.tcp:
			r.again(i)
			return
		}
	}
}

// most returns how often an upstream may be asked, what it has not heard included.
func (u *runner) most(r *field) int {
	if u.vain == 0 {
		return r.most
	}
	return r.most + u.vain + r.instead
}

// again asks an upstream once more that is being asked.
func (r *race) again(index int) {
	u := r.runners[index]
	q := r.query
	q.again = true
	if q.spare = u.sent == datagramsFirst; q.spare {
		q.tcp, q.apart = true, u.streamed
		r.attempt(index, q)
		return
	}
	switch sent, known := u.attempts[0].again(); {
	case !known:
		r.attempt(index, q)
	default:
		r.last = index
		u.sent++
		if u.streamed = !sent; sent {
			u.meter.Asked(u.name)
		}
	}
}

// outcomes tells what each upstream that was asked did.
func (r *race) outcomes() []outcome {
	all := r.earlier
	for _, u := range r.runners {
		if u.sent > 0 {
			all = append(all, outcome{u.public, u.fault})
		}
	}
	return all
}
