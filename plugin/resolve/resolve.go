// Package resolve answers client questions with validated data: from memory, or by an upstream's answer and, fetched at
// the same moment, the links of its chain of trust, which [dnssec.Check] judges. It joins identical questions,
// remembers answers and failures, and resolves ahead what clients will ask next.
package resolve

import (
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
)

// Meter is told what happened, for metrics. Its methods are cheap and safe for concurrent use.
type Meter interface {
	fetch.Meter
	// Limit: a limit of section L was hit (L-16). It has the name of a dnssec.LimitError: signature_checks, processor,
	// nsec3_hashes, denial_records, rrset_records, any_types or aliases of the judge, upstream_questions, retries,
	// response_octets, in_flight, waiting, memory, processors, deadline or panic of this package, outstanding or files
	// of the upstreams.
	Limit(name string)
	Cache(hit bool)             // a client question was, or was not, in the cache
	Checks(dnssec.Work)         // what judging took for one client query
	Joined()                    // a question was joined with one in flight (L-13)
	Synthesised(by reuse.Proof) // an answer was made of what is held for others (C-9, C-17)
	// Recalled: memory beyond the process, by its name, had an answer, which was Secure or not taken (C-18)
	Recalled(from string, secure bool)
	Stale() // a client was told a stale answer (C-13)
}

// Config is what a Resolver is made of: an option each, and so more fields than other types have. Defaults are the
// caller's.
type Config struct {
	Exchanger fetch.Exchanger
	Anchors   map[string][]*dns.DS // trust anchors by canonical zone name; DNSKEY anchors as their DS
	Store     *Store
	// Beyond is memory beyond the process; nil: none. With one, Store is of NewLastingStore (C-18).
	Beyond Beyond
	Clock  func() time.Time
	// ValidationTime, if not zero, is the instant at which everything is judged; caches then run from there.
	ValidationTime time.Time
	Policy         dnssec.Policy
	NTAs           []chain.NegativeAnchor // at the beginning; see Resolver.Distrust
	Meter          Meter
	Aggressive     reuse.Use
	// Apart are the zones that are asked elsewhere than what is above them, by canonical name (C-17, V-65). Private are
	// those of them that are not validated (S-21).
	Apart   map[string]bool
	Private []string
	// Stale is for how long an answer may be told after its TTL has ended, where nothing fresh can be had (C-13); 0:
	// not at all.
	Stale    time.Duration
	Prefetch bool // resolve ahead of clients: Resolver.Ahead, and what is in use and ends soon (C-14)
	// Judged, if not nil, is told of every verdict that was not in the cache, with the sentence why it is not Secure. A
	// failure to renew what is cached, which nobody is told, is none. It is safe for concurrent use.
	Judged func(q dns.Question, s dnssec.Status, why string)

	Timeout           time.Duration // a client has its answer by then (L-10)
	SignatureChecks   int           // L-1
	UpstreamQuestions int           // L-9
	Retries           int           // V-14
	InFlight          int           // client questions at once (L-13)
	Waiting           int           // clients per question (L-13)
	Room              *fetch.Room   // for work in flight (L-15)
	MinTTL, MaxTTL    time.Duration // C-5, C-6

	// Pause is called between two pieces of work that takes a processor: what must not wait is done meanwhile. Nil
	// means that nothing is.
	Pause func()
	// ProcessorsShort reports whether processors are what is short (L-13); nil: it is measured.
	ProcessorsShort func() bool
}

// Answer is what a client is told. It is never shared: the caller may change it.
type Answer struct {
	Status dnssec.Status
	Rcode  int      // SERVFAIL if Status is Bogus or Indeterminate
	Answer []dns.RR // with RRSIGs; TTLs are what is left
	Ns     []dns.RR // SOA and proofs, with RRSIGs
	// Notes are the reasons, the gravest first: what made it Bogus or Indeterminate, or the EDE of an Insecure answer.
	Notes []*dnssec.Failure
	// Cached: the answer, stale or not, or failure, was in the cache (a failure then gets EDE 13 beside its own, C-12).
	Cached bool
	// Unvalidated is, when Status is Bogus or Indeterminate and a reply came at all, that reply, for CD=1 (V-76).
	Unvalidated *dns.Msg

	failure *dnssec.Failure // why there is none: Status is Bogus or Indeterminate; else nil
	expires time.Time       // no signature that it rests on is valid later; zero if it rests on none
	told    *atomic.Bool    // a client was told of the failure; shared by all who get the same one
}

// Tell notes that a client is told of a failure, and reports whether it is the first: whoever joined, came later or had
// the failure prefetched for him gets the same one.
func (a *Answer) Tell() (first bool) { return a.told == nil || !a.told.Swap(true) }

// Explanation is the chain of trust of one answer, for people.
type Explanation struct {
	Answer *Answer
	// from the anchor down, every zone that the verdict rests on, root first, parents before children
	Zones []*dnssec.Zone
}
