package dnssec

import "errors"

// ErrLimit marks a failure as the end of a budget (section L of the limits: work, links, sizes) and not as a fault of
// the data. Such a failure belongs to the client query that hit it: it is never cached for a link nor handed to a query
// that has budget left (L-6a).
var ErrLimit = errors.New("limit reached")

// LimitError is an [ErrLimit] by the name of the limit, for metrics (L-16).
type LimitError string

// Error names the limit.
func (l LimitError) Error() string { return string(l) + ": " + ErrLimit.Error() }

// Unwrap returns [ErrLimit].
func (l LimitError) Unwrap() error { return ErrLimit }

// Failure says in one sentence why data is not Secure, and carries the Extended DNS Error of it (RFC 8914). The same
// value feeds the EDE option, the log, the metric label and the check command.
type Failure struct {
	Code   uint16 // EDE INFO-CODE
	Zone   string // the zone that judged or is at fault; canonical FQDN, "" if unknown
	Owner  string // the owner of the RRset at fault, "" if none
	Type   uint16 // its type, 0 if none
	KeyTag uint16 // the key tag concerned, 0 if none
	Text   string // a whole sentence, without trailing full stop: zone, record, key tag and date as far as they apply
	Err    error  // what it wraps, e.g. a LimitError; may be nil
}

// Error returns the sentence.
func (f *Failure) Error() string { return f.Text }

// Unwrap returns the wrapped error, for errors.Is.
func (f *Failure) Unwrap() error { return f.Err }

// Limit reports whether f is the end of a budget and not a fault of the data (L-6a). A nil f is not.
func (f *Failure) Limit() bool { return f != nil && errors.Is(f.Err, ErrLimit) }
