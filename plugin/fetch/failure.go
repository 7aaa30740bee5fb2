package fetch

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// The limits that end what waits for upstreams, or for a processor (L-16).
const (
	ErrDeadline = dnssec.LimitError("deadline") // L-10
	ErrRoom     = dnssec.LimitError("memory")   // L-15
	ErrRetries  = dnssec.LimitError("retries")  // L-9
)

// ErrShort is in what failed while there was another try, but no retry left for it (L-9). That is no limit to whoever
// judges; what became of the client's question for it is [ErrRetries] (L-6a).
var ErrShort = errors.New("no retry is left")

// With returns a failure that wraps err too.
func With(f *dnssec.Failure, err error) *dnssec.Failure {
	c := *f
	c.Err = errors.Join(err, f.Err)
	return &c
}

// Limit is the failure of a client question that hit a limit (L-16); format tells of it what comes behind the question.
func Limit(q dns.Question, l dnssec.LimitError, format string, args ...any) *dnssec.Failure {
	return &dnssec.Failure{
		Code: dns.ExtendedErrorCodeOther, Owner: q.Name, Type: q.Qtype, Err: l,
		Text: Describe(q) + ": " + fmt.Sprintf(format, args...),
	}
}

// Unanswered is what a failure to get a reply to q is, but for its sentence; err may be nil.
func Unanswered(q dns.Question, err error) dnssec.Failure {
	code := dns.ExtendedErrorCodeNoReachableAuthority
	return dnssec.Failure{Kind: dnssec.OfNoReply, Code: code, Owner: q.Name, Type: q.Qtype, Err: err}
}

// Expired turns the end of a context into the failure it stands for.
func Expired(ctx context.Context, q dns.Question, waitedFor string) *dnssec.Failure {
	err := context.Cause(ctx)
	if !errors.Is(err, dnssec.ErrLimit) {
		err = ErrDeadline // shut down, or the caller has gone
	}
	return Unanswered(q, err).Says("%s: gave up waiting for %s", Describe(q), waitedFor)
}

// AsFailure makes of any error the failure to get a reply; one that is no failure already is a network error.
func AsFailure(q dns.Question, err error) *dnssec.Failure {
	if f, ok := errors.AsType[*dnssec.Failure](err); ok && f.NoReply() {
		return f
	} else if ok {
		noReply := *f
		noReply.Kind = dnssec.OfNoReply
		return &noReply
	}
	f := Unanswered(q, err)
	f.Kind, f.Code = dnssec.OfNoUpstream, dns.ExtendedErrorCodeNetworkError
	return f.Says("%s could not be asked: %v", Describe(q), err)
}

// Describe names a question for a sentence.
func Describe(q dns.Question) string { return q.Name + " " + dns.Type(q.Qtype).String() }

// ErrPanic is wrapped by the failure of a question that ran into a fault of danelaw's own (S-27). The error around it
// holds the stack, for the log.
const ErrPanic = dnssec.LimitError("panic")

// Panic is the failure of a client query that ran into a fault of danelaw's own. It is called where that is recovered.
func Panic(q dns.Question, panicked any) *dnssec.Failure {
	f := Limit(q, ErrPanic, "internal error, please report it")
	f.Err = fmt.Errorf("%w: %v\n%s", ErrPanic, panicked, debug.Stack())
	return f
}
