package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
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
	// socketsPerQuestion is how many sockets one question holds at most, whatever the number of upstreams.
	socketsPerQuestion = 2
)

// race is one question put to several upstreams, until the first usable reply.
type race struct {
	query   query
	runners []*runner // in the order of choice
	copies  int       // to each, at most
	demand  int       // that these meet
	last    int       // the index of the one asked last
	sockets []int     // the indexes of those that hold one, the oldest first
	arrived chan arrival
}

// runner is the part of one upstream in a race.
type runner struct {
	*upstream
	sent     int // how often it was asked
	vain     int // of these met a closed door
	running  int // attempts outstanding
	attempts sync.WaitGroup
	fault    *fault // what ended its part
	repeater
	round  int // how often it had to give up its socket
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// arrival is the end of one attempt.
type arrival struct {
	index, round int
	reply        fetch.Reply
	fault        *fault
	vain         bool // it has not been heard: TCP was refused to a copy, and the datagrams may still be answered
}

// errBeaten ends an attempt because another one was quicker, or needed its socket.
var errBeaten = errors.New("another was quicker")

// run asks the first upstream at once, and the next one as soon as one fails. After each of the times of copyAfter it
// sends a further copy: to the next upstream that is still in the race, or to the same one if it is alone; of the
// copies to one upstream the third goes over TCP. Copies to one upstream go out from the same socket, and only while
// somebody waits for the reply. If there is no usable reply, run returns what each upstream did.
func run(ctx context.Context, q query, field []*upstream) (fetch.Reply, []outcome) {
	r := newRace(q, field)
	defer r.end()
	patience := field[0].health.patience()
	timer, copies := time.NewTimer(copyAfter(0, patience)), 0
	defer timer.Stop()
	for r.start(ctx, 0); r.running(); {
		select {
		case a := <-r.arrived:
			if a.fault == nil {
				return a.reply, nil
			}
			r.fail(ctx, a)
		case <-timer.C:
			if demand := q.wanted(); demand > 0 { // else who comes next shall not wait for longer than who came first
				r.meet(demand)
				r.copy(ctx)
				copies++
			}
			timer.Reset(copyAfter(copies, patience))
		case <-ctx.Done():
			return fetch.Reply{}, r.outcomes()
		}
	}
	return fetch.Reply{}, r.outcomes()
}

func newRace(q query, field []*upstream) *race {
	r := &race{query: q, copies: mostCopies, demand: 1, arrived: make(chan arrival)}
	for _, u := range field {
		r.runners = append(r.runners, &runner{upstream: u})
	}
	if udpSockets.half() {
		r.copies = busyCopies
	}
	return r
}

// end cancels those who lose.
func (r *race) end() {
	for _, u := range r.runners {
		if u.cancel != nil {
			u.cancel(errBeaten)
		}
	}
}

// running reports whether a reply may still come.
func (r *race) running() bool {
	return slices.ContainsFunc(r.runners, func(u *runner) bool { return u.fault == nil && u.running > 0 })
}

// start asks the upstream with the given index, which is not being asked.
func (r *race) start(ctx context.Context, index int) {
	u := r.runners[index]
	if u.lossy && !r.query.tcp {
		r.makeRoom()
		r.sockets = append(r.sockets, index)
	}
	u.ctx, u.cancel = context.WithCancelCause(ctx)
	q := r.query
	q.repeater = &u.repeater
	u.repeater.set(nil)
	r.attempt(index, q)
}

// makeRoom has the upstream that was waited for the longest give up its socket, if there are the most.
func (r *race) makeRoom() {
	if len(r.sockets) < socketsPerQuestion {
		return
	}
	u := r.runners[r.sockets[0]]
	r.sockets = r.sockets[1:]
	u.cancel(errBeaten)
	u.attempts.Wait() // until it is closed: they heed the end of their context
	u.running = 0
	u.round++
}

// attempt puts q to an upstream.
func (r *race) attempt(index int, q query) {
	u := r.runners[index]
	r.last = index
	u.sent++
	u.running++
	ctx, round, asked := u.ctx, u.round, u.upstream
	u.attempts.Go(func() {
		reply, err := asked.ask(ctx, q)
		f, failed := errors.AsType[*fault](err)
		vain := q.spare && errors.Is(err, syscall.ECONNREFUSED)
		if err != nil && (!failed || q.spare && !vain) {
			return // ctx has ended, and with it the attempt; or a datagram may still be answered
		}
		select {
		case r.arrived <- arrival{index, round, reply, f, vain}:
		case <-ctx.Done():
		}
	})
}

// fail takes an upstream out, and asks the first that is not being asked. That TCP is refused takes no upstream out.
func (r *race) fail(ctx context.Context, a arrival) {
	failed := r.runners[a.index]
	if a.round != failed.round {
		return
	}
	failed.running--
	if a.vain {
		failed.vain++
		return
	}
	failed.fault = a.fault
	r.sockets = slices.DeleteFunc(r.sockets, func(i int) bool { return i == a.index })
	for i := range r.runners {
		if u := r.runners[i]; u.fault == nil && u.running == 0 && u.sent < r.copies {
			r.start(ctx, i)
			return
		}
	}
}

// meet allows one more copy for those who have come late, all together.
func (r *race) meet(demand int) {
	if demand > r.demand {
		r.demand = demand
		r.copies++
	}
}

// copy sends one more copy to the next, in turn, that is in the race and has use for it.
func (r *race) copy(ctx context.Context) {
	for n := range r.runners {
		i := (r.last + 1 + n) % len(r.runners)
		switch u := r.runners[i]; {
		case u.fault != nil || u.sent-u.vain >= r.copies:
		case u.sent == 0:
			r.start(ctx, i)
			return
		case u.running > 0 && u.lossy && !r.query.tcp:
			r.again(i)
			return
		}
	}
}

// again asks an upstream once more that is being asked.
func (r *race) again(index int) {
	u := r.runners[index]
	q := r.query
	q.again = true
	if q.spare = u.sent == datagramsFirst; q.spare {
		q.tcp = true
		r.attempt(index, q)
		return
	}
	switch sent, known := u.repeat(); {
	case !known:
		r.attempt(index, q)
	default:
		r.last = index
		u.sent++
		if sent {
			u.meter.Asked(u.name)
		}
	}
}

// outcomes tells what each upstream that was asked did.
func (r *race) outcomes() []outcome {
	var all []outcome
	for _, u := range r.runners {
		if u.sent > 0 {
			all = append(all, outcome{u.public, u.fault})
		}
	}
	return all
}
