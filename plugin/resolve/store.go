package resolve

import (
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
)

// nameError is the type under which a Secure name error of a whole name is kept (C-4). No type of data has that number,
// and answers to questions for it are not kept.
const nameError = dns.TypeNone

// Store is what a Resolver remembers: answers, zones and failures. It outlives the Resolver over a reload.
type Store struct {
	answers  *cache.Cache
	places   *chain.Store
	links    *cache.Cache // the replies that have proven the places; nil: they are not kept
	failures *failures
	proofs   *reuse.Store // of names that were not asked for
	verified *cache.Digests
	entries  sync.Pool // of *cache.Entry
}

// NewStore returns a Store of at most size octets in all: an eighth is for zones, a sixteenth for failures, another for
// what may prove other answers, a 32nd for signatures known to hold, the rest for answers.
func NewStore(size int64) *Store {
	answers := cache.New(size - size/8 - size/16 - size/16 - size/32)
	places := chain.NewStore(size / 8)
	return &Store{
		answers:  answers,
		places:   places,
		failures: newFailures(size/16, places.Epoch),
		proofs:   reuse.NewStore(size/16, answers),
		verified: cache.NewDigests(size / 32),
		entries:  sync.Pool{New: func() any { return new(cache.Entry) }},
	}
}

// Sizes are the octets and entries held by the parts of a Store.
type Sizes struct {
	Answers  Size
	Zones    Size
	Failures Size
	Proofs   Size // for aggressive use (C-9)
	// Signatures are those known to hold (L-1).
	Signatures Size
}

// Size is that of one part.
type Size struct {
	Bytes   int64
	Entries int
}

// Sizes returns how much is held, by part.
func (s *Store) Sizes() (all Sizes) {
	all.Answers.Bytes, all.Answers.Entries = s.answers.Size()
	all.Zones.Bytes, all.Zones.Entries = s.places.Size()
	if s.links != nil {
		octets, _ := s.links.Size()
		all.Zones.Bytes += octets
	}
	all.Failures.Bytes, all.Failures.Entries = s.failures.table.Size()
	all.Proofs.Bytes, all.Proofs.Entries = s.proofs.Size()
	all.Signatures.Bytes, all.Signatures.Entries = s.verified.Size()
	return all
}

// Size returns octets and entries held, for metrics.
func (s *Store) Size() (octets int64, entries int) {
	all := s.Sizes()
	for _, part := range []Size{all.Answers, all.Zones, all.Failures, all.Proofs, all.Signatures} {
		octets, entries = octets+part.Bytes, entries+part.Entries
	}
	return octets, entries
}

// Evicted returns how many entries were evicted to make room for others, for metrics.
func (s *Store) Evicted() uint64 {
	return s.answers.Evicted() + s.places.Evicted() + s.failures.table.Evicted() + s.proofs.Evicted()
}

// ForgetFailures drops all remembered failures, and has none be remembered of what has begun: the clock was set, or
// upstream is back (T-14, C-11).
func (s *Store) ForgetFailures() { s.places.ForgetFailures() }

// answer returns what is cached for q: its own entry, or that its name does not exist (C-4); and whether it should be
// renewed.
func (s *Store) answer(q dns.Question, now time.Time) (a *Answer, ends bool) {
	e := s.entries.Get().(*cache.Entry)
	defer s.entries.Put(e)
	if !s.answers.Get(cache.Key{Name: q.Name, Type: q.Qtype}, now, e) &&
		!s.answers.Get(cache.Key{Name: q.Name, Type: nameError}, now, e) {
		return nil, false
	}
	if a = unpackAnswer(e); a == nil {
		return nil, false
	}
	return a, due(e, now)
}

// unpackAnswer returns the answer that an entry is; nil if it is none.
func unpackAnswer(e *cache.Entry) *Answer {
	var m dns.Msg
	if dnssec.Unpack(&m, e.Wire) != nil {
		return nil
	}
	return &Answer{
		Status: dnssec.Status(e.Status), Rcode: m.Rcode, Answer: m.Answer, Ns: m.Ns, Notes: unpackNotes(e.Notes),
		Cached: true,
	}
}

// remember keeps the answer to q with its proofs under that name and type alone (C-15), for its lifetime.
func (s *Store) remember(q dns.Question, o *outcome, a *Answer, now time.Time, least, most time.Duration) {
	s.failures.drop(q)
	if q.Qtype == nameError {
		return
	}
	ttl, expires := o.life()
	life := min(max(time.Duration(ttl)*time.Second, least), most)
	if life == 0 || o.last().Denial && ttl == 0 {
		return // TTL 0, or a denial without SOA (C-3, C-7)
	}
	e := &cache.Entry{Status: uint8(a.Status), Proven: o.proven, Stored: now, Life: life, Expires: expires}
	key := cache.Key{Name: q.Name, Type: q.Qtype}
	// To a question for DS that is the word of the zone above alone, which at an anchor decides about nothing else
	// (V-12).
	gone := a.Rcode == dns.RcodeNameError && a.Status == dnssec.Secure && q.Qtype != dns.TypeDS
	if gone && o.last().Last == q.Name {
		key.Type = nameError
	}
	s.put(key, e, a, now)
	for _, p := range o.parts {
		if !p.held { // what was made of proofs brings none that is new
			s.proofs.Keep(p.Verdict, key, o.age, now, most)
		}
	}
	if gone && o.last().Last != q.Name {
		p := o.last()
		denial := &Answer{Status: p.Status, Rcode: a.Rcode, Ns: appendSets(nil, p.Authority, o.age, seconds(most))}
		e := *e
		e.Life, e.Expires = min(time.Duration(aged(p.TTL, o.age))*time.Second, most), p.Expires
		s.put(cache.Key{Name: p.Last, Type: nameError}, &e, denial, now)
	}
}

// put packs a under key.
func (s *Store) put(key cache.Key, e *cache.Entry, a *Answer, now time.Time) {
	m := dns.Msg{Answer: a.Answer, Ns: a.Ns}
	m.Question = []dns.Question{dnssec.Question(key.Name, key.Type)}
	m.Rcode = a.Rcode
	spare := s.entries.Get().(*cache.Entry)
	defer s.entries.Put(spare)
	wire, err := packed(m, spare.Wire)
	if err != nil {
		return // what cannot be packed was odd, and is answered once
	}
	spare.Wire = wire
	e.Wire, e.Notes, e.Flags = wire, packNotes(a.Notes), flags(key.Type, a)
	s.answers.Put(key, e, now)
}
