package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// Reason says in one word why an attempt at an upstream brought nothing usable. It labels metrics.
type Reason string

// The reasons.
const (
	Timeout Reason = "timeout" // no reply in time
	Network Reason = "network" // a socket, TLS or HTTP error
	Refusal Reason = "rcode"   // an RCODE or HTTP status that is no answer (S-14), or a referral
	Invalid Reason = "invalid" // a reply that cannot be read, or to another question
	Loop    Reason = "loop"    // it is danelaw itself
	Busy    Reason = "busy"    // our own bound on questions outstanding, or this host's on sockets (L-16)
)

// code is the Extended DNS Error for a reason (S-15).
func (r Reason) code() uint16 {
	switch r {
	case Network:
		return dns.ExtendedErrorCodeNetworkError
	case Invalid:
		return dns.ExtendedErrorCodeInvalidData
	case Busy:
		return dns.ExtendedErrorCodeOther
	default:
		return dns.ExtendedErrorCodeNoReachableAuthority
	}
}

// fault is why an attempt at one upstream brought nothing usable.
type fault struct {
	reason Reason
	text   string // what the upstream did: the end of a sentence that begins with its name
	err    error  // may be nil
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.err }

func faultf(r Reason, format string, args ...any) *fault {
	return &fault{reason: r, text: fmt.Sprintf(format, args...)}
}

// unreachable makes a fault of an error on the way to an upstream; text says what could not be done.
func unreachable(text string, err error) *fault {
	told := text + ": " + concise(err)
	switch {
	case isAny(err, syscall.EMFILE, syscall.ENFILE):
		return &fault{Busy, told, errors.Join(err, errFiles)}
	case isAny(err, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRINUSE):
		// this host has run out of ports or memory for sockets, which is no fault of an upstream
		return &fault{Busy, told, errors.Join(err, errOutstanding)}
	case isAny(err, os.ErrDeadlineExceeded, context.DeadlineExceeded):
		return &fault{Timeout, text + ": no reply", err}
	}
	return &fault{Network, told, err}
}

// isAny reports whether err is one of some.
func isAny(err error, some ...error) bool {
	return slices.ContainsFunc(some, func(one error) bool { return errors.Is(err, one) })
}

// concise leaves out what net's errors say of addresses: the sentence names the upstream already. What it cites may be
// the server's own words, from its certificate for one, and must be text all the same (S-15).
func concise(err error) string {
	if isAny(err, io.EOF, io.ErrUnexpectedEOF) {
		return "connection closed"
	}
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
		return sys.Err.Error()
	}
	return printable.Short(err.Error())
}

// ErrUpstream is wrapped by every failure of [Set.Exchange]: what failed is the way to the data, not the data. Beside
// it stand the errors met on that way, [dnssec.ErrLimit] among them if a bound of ours was hit.
var ErrUpstream = errors.New("no usable reply from upstream")

// outcome is what one upstream did in the end.
type outcome struct {
	upstream string
	fault    *fault // nil: nothing came
}

func (o outcome) did() *fault {
	if o.fault == nil {
		return faultf(Timeout, "sent no reply in time")
	}
	return o.fault
}

// failure makes one failure of what each upstream asked did.
func failure(q dns.Question, outcomes []outcome) *dnssec.Failure {
	texts := make([]string, len(outcomes))
	codes := make([]uint16, len(outcomes))
	errs := []error{ErrUpstream}
	for i, o := range outcomes {
		did := o.did()
		texts[i], codes[i] = o.upstream+" "+did.text, did.reason.code()
		errs = append(errs, did.err)
	}
	f := fetch.Unanswered(q, errors.Join(errs...))
	if codes = slices.Compact(codes); len(codes) == 1 {
		f.Code = codes[0]
	}
	if len(outcomes) > 0 && !slices.ContainsFunc(outcomes, func(o outcome) bool { return o.did().reason != Network }) {
		f.Kind = dnssec.OfNoUpstream
	}
	return f.Says("%s: %s", fetch.Describe(q), strings.Join(texts, "; "))
}
