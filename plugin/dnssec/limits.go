package dnssec

import (
	"crypto/sha256"
	"time"
)

// Policy is what an operator may choose about judgement. The zero value is not useful: start from [DefaultPolicy].
type Policy struct {
	SHA1            bool          // verify algorithms 5 and 7; otherwise they count as unsupported (V-36)
	NSEC3Iterations int           // above it a denial is Insecure (V-61); 0..150
	ClockSkew       time.Duration // tolerated before Inception (V-20); 0..3600 s
}

// DefaultPolicy returns danelaw's defaults.
func DefaultPolicy() Policy {
	return Policy{NSEC3Iterations: 50, ClockSkew: 300 * time.Second}
}

// Check judges for one client query and counts the work of that query: its budgets are spent by everything
// judged with it, links and answers, first tries and retries alike (L-6). It is not safe for concurrent use.
type Check struct {
	Now    time.Time
	Policy Policy
	// SignatureChecks is how many signature verifications this query may spend in all; 128 by default (L-1).
	SignatureChecks int
	// Verified, if not nil, remembers signatures that hold. Those it knows are not verified once more; budgets and
	// verdicts are the same with and without it.
	Verified Verified
	// Yield is called before each 8th signature check, so that one query does not hold a processor (L-7); an error from
	// it ends the judgement as a limit. Nil means never to yield.
	Yield func() error
	// Pause, if not nil, is called before each signature check and each hash: what must not wait is done meanwhile.
	Pause func()
	// Border, if not nil, reports whether an alias leads to where another is to be asked: what a reply says beyond it
	// does not count, and the question is asked on there (V-65).
	Border func(owner, target string) bool

	work   work   // signatures and aliases
	hashes hashes // NSEC3
}

// pause lets others do what must not wait.
func (c *Check) pause() {
	if c.Pause != nil {
		c.Pause()
	}
}

// Verified remembers verifications that succeeded, by the SHA-256 of public key, signature and signed data. A signature
// that holds does so for ever: its validity period is looked at each time. It is safe for concurrent use, and may
// forget.
type Verified interface {
	Has(verification [sha256.Size]byte) bool
	Add(verification [sha256.Size]byte)
}
