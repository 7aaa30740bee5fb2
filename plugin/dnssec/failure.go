package dnssec

import (
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// ErrLimit says that a failure is the end of a budget (section L of the limits: work, links, sizes) and not a fault of
// the data. Such a failure belongs to the client query that hit it: it is never cached for a link nor handed to a query
// that has budget left (L-6a).
var ErrLimit = errors.New("limit reached")

// LimitError is an [ErrLimit] by the name of the limit, for metrics (L-16).
type LimitError string

// Error names the limit.
func (l LimitError) Error() string { return string(l) + ": " + ErrLimit.Error() }

// Unwrap returns [ErrLimit].
func (l LimitError) Unwrap() error { return ErrLimit }

// Kind says what a Failure is of, for those who decide by it what to do next.
type Kind uint8

// The kinds of failures. A limit is told by [Failure.Limit] beside them.
const (
	OfData        Kind = iota // of the data asked for
	OfNoReply                 // no upstream gave a usable reply
	OfLink                    // a link of the chain of trust does not validate
	OfMissingLink             // a link of the chain of trust could not be had
	OfDistrust                // none: a negative trust anchor keeps the data from being validated (T-18)
	OfSignature               // of a signature over the data asked for, or over its denial
	OfNoUpstream              // as OfNoReply, and none is reached at all: the fault lies on this side of them
)

// Failure says in one sentence why data is not Secure, and carries the Extended DNS Error of it (RFC 8914). The same
// value feeds the EDE option, the log, the metric label and the check command.
type Failure struct {
	Kind   Kind
	Anchor bool   // it is of a link that hangs from a trust anchor and no other
	Code   uint16 // EDE INFO-CODE
	Zone   string // the zone that judged or is at fault; canonical FQDN, "" if unknown
	Owner  string // the owner of the RRset at fault, "" if none
	Type   uint16 // its type, 0 if none
	KeyTag uint16 // the key tag concerned, 0 if none
	Text   string // a whole sentence, without trailing full stop: zone, record, key tag and date as far as they apply
	Err    error  // what it wraps, e.g. a LimitError; may be nil
}

// Says returns a failure like f whose sentence is made of format and args.
func (f Failure) Says(format string, args ...any) *Failure {
	f.Text = fmt.Sprintf(format, args...)
	return &f
}

// limited is what a failure by the limit of that name is, but for its sentence.
func limited(by LimitError, owner string, t uint16) Failure {
	return Failure{Code: dns.ExtendedErrorCodeOther, Owner: owner, Type: t, Err: by}
}

// Error returns the sentence.
func (f *Failure) Error() string { return f.Text }

// Unwrap returns the wrapped error, for errors.Is.
func (f *Failure) Unwrap() error { return f.Err }

// Missing reports whether f is for want of an answer, or of time to judge it, and not a fault of the data.
func (f *Failure) Missing() bool { return f.NoReply() || f.Kind == OfMissingLink || f.Limit() }

// NoReply reports whether no upstream gave a usable reply.
func (f *Failure) NoReply() bool { return f.Kind == OfNoReply || f.Kind == OfNoUpstream }

// Limit reports whether f is the end of a budget and not a fault of the data (L-6a). A nil f is not.
func (f *Failure) Limit() bool { return f != nil && errors.Is(f.Err, ErrLimit) }
