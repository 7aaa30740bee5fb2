package dnssec

import (
	"time"

	"github.com/miekg/dns"
)

// Zones gives the judge what the walk has found. At(name) is the zone in which name lies (its Name may be shorter than
// name: then name is no apex), or nil when the walk has not been to name yet. A zone that is not Secure may be given for
// every name below it.
type Zones interface{ At(name string) *Zone }

// Verdict is the judgement of one reply to one question.
type Verdict struct {
	// Needs are names whose zones the judgement still lacks: walk to all of them at once and judge again. While it is
	// not empty nothing else in the Verdict holds. Names are canonical.
	Needs []string

	Status    Status
	Rcode     int      // as proven (V-48a), of the last name of the chain
	Answer    []*RRset // the chain from QNAME in order and the data; nothing else (C-8)
	Authority []*RRset // the SOA of a denial if it holds (V-50i), then the proofs used
	// Next, if not empty, is the target at which the alias chain leaves this reply: what is above is judged as far as it
	// goes, and the question must be asked on at Next (V-65).
	Next    string
	Cause   *Failure   // why it is not Secure; nil for Secure and for a plain Insecure
	Notes   []*Failure // EDE to report beside an Insecure answer: 1, 2, 27
	TTL     uint32     // C-1..C-5 over the RRsets and proofs used, seconds; negative answers by C-3, C-4
	Expires time.Time  // no signature that it or its chain rests on is valid later (C-2); zero if it rests on none
	Denial  bool       // there is no data of the type asked at the end of the chain (NODATA or name error)
	Last    string     // the last name of the alias chain; QNAME if there is none
}

// Answer judges the reply to q. See [Verdict] for the protocol with the walk.
func (c *Check) Answer(q dns.Question, reply *Message, zones Zones) Verdict { panic("unbuilt") }

// Hint returns the names that the reply to a DS question at name suggests as the zone above: the signers of its records
// that are strict ancestors of name, deepest first, then the owner of its SOA or NS (V-6a). Hints choose questions,
// proofs decide.
func Hint(name string, reply *Message) (signers []string, apex string) { panic("unbuilt") }
