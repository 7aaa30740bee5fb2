package upstream

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// carrier puts one question to one upstream in its way. Over UDP nothing waits for a reply but what the reader finds by
// its ID, however many questions are out. Over TCP, TLS and HTTPS, with a plugin below, and for what a datagram has not
// settled (detour), a goroutine waits for each (waiting), as what is asked there is asked step by step.
type carrier interface {
	// ask has done called with the reply to q, whatever its RCODE, or with an error: a *fault, or that of a context
	// where the question was given up or its time is over. Another goroutine than the one that asks calls it.
	ask(q query, done func(fetch.Reply, error)) way
	close()
}

// way is a question under way with a carrier.
type way interface {
	// again sends one more copy, if it is known here how and there is use in it; if it is not known the upstream has to
	// be asked anew for that.
	again() (sent, known bool)
	// look takes what has arrived and was not looked at yet.
	look()
	// cancel gives the question up.
	cancel()
}

// upstream is one place to ask, and what is known of it.
type upstream struct {
	name    string            // in logs and metrics
	public  string            // to clients
	hide    *strings.Replacer // takes out of a sentence what may be a credential; nil: there is none
	carrier carrier
	lossy   bool // a question may vanish without a sign: worth sending again while one is outstanding
	health  health
	itself  atomic.Bool // it is danelaw itself: questions would wait for themselves
	meter   Meter
	clock   func() time.Time
}

func newUpstream(name, public string, c carrier, lossy bool, config Config) *upstream {
	return &upstream{
		name: name, public: public, carrier: c, lossy: lossy, meter: config.Meter, clock: config.Clock,
		health: health{changed: func(alive bool, why string) { config.Meter.Alive(name, alive, why) }},
	}
}

// fromAddress returns the upstream at an address.
func (s *Set) fromAddress(a Address, name string, config Config) *upstream {
	switch a.Transport {
	case TLS:
		over := newTLS(a, tlsConfig(config))
		over.pause = config.Pause
		return newUpstream(name, a.public(), waiting{over}, false, config)
	case HTTPS:
		u := newUpstream(name, a.public(), waiting{newWeb(a, tlsConfig(config))}, false, config)
		u.hide = a.hider()
		return u
	default:
		d := newDatagram(a, name, config, &s.reader, &s.schedule)
		u := newUpstream(name, a.public(), d, true, config)
		d.measured = u.health.measured
		return u
	}
}

// attempt is one question at one upstream.
type attempt struct {
	*upstream
	way
	query query
	begun time.Time
	over  atomic.Bool
	done  func(fetch.Reply, *fault)
}

// ask puts q once, and learns from what happens. done is called with a usable reply or with why there is none, by
// another goroutine; not once the attempt is cancelled, nor when its time is over.
func (u *upstream) ask(q query, done func(fetch.Reply, *fault)) *attempt {
	a := &attempt{upstream: u, way: nowhere{}, query: q, done: done}
	if u.itself.Load() && !q.test {
		u.meter.Failed(u.name, Loop)
		a.over.Store(true)
		go done(fetch.Reply{}, faultf(Loop, "is danelaw itself"))
		return a
	}
	u.meter.Asked(u.name)
	a.begun = u.clock()
	if err := guarded(func() { a.way = u.carrier.ask(q, a.ended) }); err != nil {
		go a.ended(fetch.Reply{}, err)
	}
	return a
}

// nowhere is the way of a question that was not put.
type nowhere struct{}

func (nowhere) again() (sent, known bool) { return false, true }
func (nowhere) look()                     {}
func (nowhere) cancel()                   {}

// guarded survives a panic over what came from outside (S-27).
func guarded(work func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &fault{Invalid, "met an internal error of danelaw, please report it",
				fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	work()
	return nil
}

// ended notes what the carrier brought.
func (a *attempt) ended(reply fetch.Reply, err error) {
	if a.over.Swap(true) {
		return
	}
	if reply.Upstream = a.name; err == nil {
		if panicked := guarded(func() { err = usable(a.query.Question, reply.Msg) }); panicked != nil {
			err = panicked
		}
	}
	err = a.discreet(err)
	a.learn(a.query, err, a.begun)
	if f, failed := errors.AsType[*fault](err); err == nil || failed {
		a.done(reply, f)
	}
}

// giveUp ends an attempt that is under way; why is as for givenUp.
func (a *attempt) giveUp(why error) {
	if a.over.Swap(true) {
		return
	}
	a.learn(a.query, why, a.begun)
	a.cancel()
}

// discreet returns an error without the credentials that an upstream may have repeated in it: the path, which a server
// that speaks no HTTP sends back, or a part of it in an EDE.
func (u *upstream) discreet(err error) error {
	if f, ok := errors.AsType[*fault](err); ok && u.hide != nil {
		return &fault{f.reason, u.hide.Replace(f.text), f.err}
	}
	return err
}

// learn draws the conclusions from one attempt.
func (u *upstream) learn(q query, err error, begun time.Time) {
	now := u.clock()
	took := now.Sub(begun)
	f, failed := errors.AsType[*fault](err)
	switch {
	case q.spare && err != nil:
		return
	case err == nil:
		u.replied(took)
		u.meter.Answered(u.name, took)
	case !failed:
		u.givenUp(q, err, took, now)
	case f.reason == Busy: // says nothing about the upstream
	case f.reason == Timeout:
		u.health.missing(now)
	case f.reason == Network:
		u.health.broke(now, f.text)
	default: // a reply all the same: one odd name says nothing about an upstream (S-14)
		u.replied(took)
	}
	if failed {
		u.meter.Failed(u.name, f.reason)
	}
}

// replied notes a reply of any kind. Where copies may be sent each is measured by itself.
func (u *upstream) replied(took time.Duration) {
	u.health.heard()
	if !u.lossy {
		u.health.measured(took)
	}
}

// givenUp notes that a question was answered by another upstream, or that time is up. Copies are not counted by
// themselves. The reply counts as missing if it had been waited for long enough, or if another upstream, asked because
// of this one's silence, was quicker.
func (u *upstream) givenUp(q query, why error, took time.Duration, now time.Time) {
	if q.again {
		return
	}
	if took >= firstCopy || took >= u.health.patience() && why == errBeaten {
		u.health.missing(now)
	}
	if errors.Is(why, context.DeadlineExceeded) {
		u.meter.Failed(u.name, Timeout)
	}
}
