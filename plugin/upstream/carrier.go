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

// carrier puts one question to one upstream in its way.
type carrier interface {
	// ask returns the reply to q, whatever its RCODE. The error is a *fault, or that of ctx.
	ask(ctx context.Context, q query) (fetch.Reply, error)
	close()
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
func fromAddress(a Address, name string, config Config) *upstream {
	switch a.Transport {
	case TLS:
		return newUpstream(name, a.public(), newTLS(a, tlsConfig(config)), false, config)
	case HTTPS:
		u := newUpstream(name, a.public(), newWeb(a, tlsConfig(config)), false, config)
		u.hide = a.hider()
		return u
	default:
		d := newDatagram(a, name, config)
		u := newUpstream(name, a.public(), d, true, config)
		d.measured = u.health.measured
		return u
	}
}

// ask puts q once, and learns from what happens. It returns usable replies only; the error is a *fault, or that of ctx.
func (u *upstream) ask(ctx context.Context, q query) (fetch.Reply, error) {
	if u.itself.Load() && !q.test {
		u.meter.Failed(u.name, Loop)
		return fetch.Reply{}, faultf(Loop, "is danelaw itself")
	}
	u.meter.Asked(u.name)
	begun := u.clock()
	reply, err := u.carry(ctx, q)
	if reply.Upstream = u.name; err == nil {
		err = usable(q.Question, reply.Msg)
	}
	err = u.discreet(err)
	u.learn(ctx, q, err, begun)
	return reply, err
}

// discreet returns an error without the credentials that an upstream may have repeated in it: the path, which a server
// that speaks no HTTP sends back, or a part of it in an EDE.
func (u *upstream) discreet(err error) error {
	if f, ok := errors.AsType[*fault](err); ok && u.hide != nil {
		return &fault{f.reason, u.hide.Replace(f.text), f.err}
	}
	return err
}

// carry survives a panic over what came from outside (S-27).
func (u *upstream) carry(ctx context.Context, q query) (reply fetch.Reply, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &fault{Invalid, "met an internal error of danelaw, please report it",
				fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return u.carrier.ask(ctx, q)
}

// learn draws the conclusions from one attempt.
func (u *upstream) learn(ctx context.Context, q query, err error, begun time.Time) {
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
		u.givenUp(ctx, q, err, took, now)
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
func (u *upstream) givenUp(ctx context.Context, q query, err error, took time.Duration, now time.Time) {
	if q.again {
		return
	}
	if took >= firstCopy || took >= u.health.patience() && context.Cause(ctx) == errBeaten {
		u.health.missing(now)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		u.meter.Failed(u.name, Timeout)
	}
}
