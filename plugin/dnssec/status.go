// Package dnssec is danelaw's judge: it says whether DNS data is Secure, Insecure, Bogus or Indeterminate (RFC 4033
// section 5, RFC 4035 section 4.3) from the records it is given and nothing else. It does no I/O, reads no clock and
// starts no goroutine: time, policy and budgets are arguments, so that the same evidence always earns the same verdict,
// in whatever order it arrived.
//
// A caller groups a reply with [Group], asks a [Check] to judge delegations from the trust anchor down
// ([Check.Delegation], [Check.Apex]) and then the answer itself ([Check.Answer]), which names the zones it still needs.
package dnssec

// Status is the security status of data or of a zone. The zero value is never trusted; only Secure ever earns AD.
type Status uint8

// The order is that of trust: the status of a whole is the minimum of its parts.
const (
	Indeterminate Status = iota // an anchor covers it, but its chain could not be had or judged
	Bogus                       // it ought to validate and does not
	Insecure                    // proven to lie below an unsigned delegation, or under no anchor
	Secure                      // validated from a trust anchor down
)

// Join returns the weaker of the two, which is the status of data that rests on both.
func (s Status) Join(o Status) Status { return min(s, o) }

// String returns the field's name for the status.
func (s Status) String() string {
	if s > Secure {
		s = Indeterminate
	}
	return [...]string{"Indeterminate", "Bogus", "Insecure", "Secure"}[s]
}
