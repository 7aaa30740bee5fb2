package upstream

import (
	"context"
	"errors"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/chain"
)

// race is one question put to several upstreams, until the first usable reply.
type race struct {
	query   query
	field   []*upstream // in the order of choice
	last    int         // the index of the one asked last
	running []int       // copies outstanding, by index
	faults  []*fault    // what ended its part, by index
	arrived chan arrival
}

// arrival is the end of one copy.
type arrival struct {
	index int
	reply chain.Reply
	fault *fault
}

// run asks the first at once; the next at once when one fails, each upstream once; and sends a further copy each time
// the patience, doubled up to a second, is over: to the next that is still in the race, or to the same if it is alone, of those
// to the same the third over TCP. If
// there is no usable reply it returns what each did.
func run(ctx context.Context, q query, field []*upstream) (chain.Reply, []outcome) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of those who lose
	r := &race{query: q, field: field, running: make([]int, len(field)), faults: make([]*fault, len(field)), arrived: make(chan arrival)}
	patience := field[0].health.patience()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	r.start(ctx, 0)
	for out := 0; out < len(field); {
		select {
		case a := <-r.arrived:
			if a.fault == nil {
				return a.reply, nil
			}
			if r.faults[a.index] == nil {
				out++
			}
			r.fail(ctx, a)
		case <-timer.C:
			patience = max(patience, min(2*patience, steadyCopies))
			timer.Reset(patience)
			r.copy(ctx)
		case <-ctx.Done():
			return chain.Reply{}, r.outcomes()
		}
	}
	return chain.Reply{}, r.outcomes()
}

// datagramsFirst is how many copies go out to one upstream before one goes over TCP, where the kernel repeats what is lost.
const datagramsFirst = 2

// start sends a copy to the upstream with the given index.
func (r *race) start(ctx context.Context, index int) {
	q := r.query
	q.again = r.running[index] > 0
	if q.spare = r.running[index] == datagramsFirst; q.spare {
		q.tcp = true
	}
	r.last = index
	r.running[index]++
	go func() {
		reply, err := r.field[index].ask(ctx, q)
		f, failed := errors.AsType[*fault](err)
		if err != nil && (!failed || q.spare) {
			return // ctx has ended, and with it the race; or the datagrams may still be answered
		}
		select {
		case r.arrived <- arrival{index, reply, f}:
		case <-ctx.Done():
		}
	}()
}

// fail takes an upstream out, and asks the first that has not been asked.
func (r *race) fail(ctx context.Context, a arrival) {
	r.faults[a.index] = a.fault
	r.running[a.index]--
	for i := range r.field {
		if r.faults[i] == nil && r.running[i] == 0 {
			r.start(ctx, i)
			return
		}
	}
}

// copy sends one more copy to the next, in turn, that is in the race and has use for it.
func (r *race) copy(ctx context.Context) {
	for n := range r.field {
		i := (r.last + 1 + n) % len(r.field)
		if r.faults[i] == nil && r.field[i].wants(r.query, r.running[i]) {
			r.start(ctx, i)
			return
		}
	}
}

// outcomes tells what each upstream that was asked did.
func (r *race) outcomes() []outcome {
	var all []outcome
	for i, u := range r.field {
		if r.faults[i] != nil || r.running[i] > 0 {
			all = append(all, outcome{u.name, r.faults[i]})
		}
	}
	return all
}
