package chain

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// CodeNegative is the Extended DNS Error of what a negative trust anchor keeps from being validated (IANA's registry; the DNS
// library has no name for it).
const CodeNegative uint16 = 33

// Negative is a negative trust anchor (RFC 7646): until it ends, the zone and all below it are Insecure, with Extended DNS
// Error 33, unless a trust anchor is nearer to a name (T-18).
type Negative struct {
	Zone   string    // canonical; without effect where a trust anchor is, as at the root, or none above
	Until  time.Time // by Config.Clock
	Reason string    // for people, clients among them; may be empty
}

// negatives are the zones of the negative trust anchors. The set is never changed: a query works with the one that it
// began with, and its outcome is kept only if there is no other since.
type negatives struct{ zones map[string]*dnssec.Zone }

// newNegatives makes the zones of negative trust anchors.
func (r *Resolver) newNegatives(all []Negative) *negatives {
	set := &negatives{map[string]*dnssec.Zone{}}
	for _, n := range all {
		if !r.mayDistrust(n.Zone) {
			continue
		}
		end := r.now().Add(n.Until.Sub(r.wall())) // they differ under a ValidationTime
		set.zones[n.Zone] = &dnssec.Zone{Name: n.Zone, Status: dnssec.Insecure, Until: end, Expires: end, Cause: n.failure()}
	}
	return set
}

// mayDistrust reports whether a negative trust anchor for zone has any meaning: there is a trust anchor above it, and none at
// the zone itself.
func (r *Resolver) mayDistrust(zone string) bool {
	return len(r.Anchors[zone]) == 0 && r.anchored(zone)
}

// anchored reports whether there is a configured anchor at or above name.
func (r *Resolver) anchored(name string) bool {
	for ; len(r.Anchors[name]) == 0; name = dnssec.Parent(name) {
		if name == "." {
			return false
		}
	}
	return true
}

func (n Negative) failure() *dnssec.Failure {
	f := &dnssec.Failure{
		Code: CodeNegative, Zone: n.Zone,
		Text: fmt.Sprintf("%s: not validated, by a negative trust anchor until %s UTC", n.Zone, n.Until.UTC().Format("2006-01-02 15:04")),
	}
	if n.Reason != "" {
		f.Text += ": " + n.Reason
	}
	return f
}

// Distrust replaces the negative trust anchors. Where there is another now, all that was remembered of the names at and
// below it is forgotten, and so are all answers that rest on one, and failures (C-12).
func (r *Resolver) Distrust(all []Negative) {
	fresh := r.newNegatives(all)
	old := r.negatives.Load()
	r.begin(fresh)
	for name, z := range fresh.zones {
		if was := old.zones[name]; was == nil {
			r.Store.flush(name)
		} else if was.Cause.Text != z.Cause.Text || !was.Until.Equal(z.Until) {
			r.Store.flushNegative()
		}
	}
	for name := range old.zones {
		if fresh.zones[name] == nil {
			r.Store.flush(name)
			r.Store.flushNegative() // aliases from elsewhere
		}
	}
	r.Store.ForgetFailures()
}

// begin makes set the one that queries begin with. Those on their way are neither joined nor remembered any more.
func (r *Resolver) begin(set *negatives) {
	r.negatives.Store(set)
	r.flights.part()
}

// current reports whether w began with what holds now.
func (w *query) current() bool { return w.negatives == w.r.negatives.Load() }

// Flush forgets what is remembered of name and of all below it (C-12), and what is being found out.
func (r *Resolver) Flush(name string) Flushed {
	r.begin(&negatives{r.negatives.Load().zones})
	return r.Store.flush(dns.CanonicalName(name))
}

// Retest answers q past the cache of answers, as if there were no negative trust anchors.
func (r *Resolver) Retest(ctx context.Context, q dns.Question) (a *Answer) {
	q.Name = dns.CanonicalName(q.Name)
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fetch.ErrDeadline)
	defer cancel()
	defer rescue(q, &a)
	w := r.newQuery(ctx, q)
	w.negatives, w.why.past = &negatives{}, true
	return r.outcome(w, q).answer(r.judgedAt(), r.MaxTTL)
}

// anchor returns the closest anchor at or above name, which alone decides: a configured one (V-12), or a negative one that
// is still alive (T-18).
func (r *Resolver) anchor(name string, n *negatives) (zone string, ok bool) {
	for zone = name; ; zone = dnssec.Parent(zone) {
		if len(r.Anchors[zone]) > 0 || n.at(zone, r.now()) != nil {
			return zone, true
		}
		if zone == "." {
			return "", false
		}
	}
}

// at returns the zone that a negative trust anchor of this very name makes; nil if there is none, or it is over.
func (n *negatives) at(name string, now time.Time) *dnssec.Zone {
	if z := n.zones[name]; z != nil && now.Before(z.Until) {
		return z
	}
	return nil
}

func (w *query) anchor(name string) (zone string, ok bool) { return w.r.anchor(name, w.negatives) }
func (w *query) negative(name string) *dnssec.Zone         { return w.negatives.at(name, w.r.now()) }

// Flushed counts what was forgotten.
type Flushed struct {
	Answers  int `json:"answers"`  // validated, denials among them
	Zones    int `json:"zones"`    // names known to be zone cuts, or to be none
	Failures int `json:"failures"` // of questions and of links
}

// flush forgets all about name and the names below it, and what would deny them.
func (s *Store) flush(name string) (n Flushed) {
	s.proofs.Flush(name)
	for at := name; at != "."; {
		at = dnssec.Parent(at)
		s.answers.Remove(cache.Key{Name: at, Type: nameError}) // C-17
	}
	under := func(key string) bool { return dns.IsSubDomain(name, key) }
	for _, k := range s.answers.Keys(func(k cache.Key, _ []byte) bool { return under(k.Name) }) {
		s.answers.Remove(k)
		n.Answers++
	}
	for _, key := range s.marks.Keys(under) {
		s.marks.Remove(key)
		n.Zones++
	}
	for _, key := range s.failures.table.Keys(func(key string) bool { return under(nameOf(key)) }) {
		s.failures.drop(key)
		n.Failures++
	}
	return n
}

// nameOf returns the name in a key of failures.
func nameOf(key string) string { return key[:strings.LastIndexByte(key, ' ')] }

// flushNegative forgets the answers that rest on a negative trust anchor.
func (s *Store) flushNegative() {
	for _, k := range s.answers.Keys(func(_ cache.Key, notes []byte) bool {
		return slices.ContainsFunc(unpackNotes(notes), func(f *dnssec.Failure) bool {
			return f.Code == CodeNegative
		})
	}) {
		s.answers.Remove(k)
	}
}

// Failed returns the questions about names at or below zone that failed the last time they were asked, but not those that
// hit a limit, as far as that is remembered; at most the given number, in the order of their names.
func (s *Store) Failed(zone string, most int) (all []dns.Question) {
	for _, key := range s.failures.table.Keys(func(key string) bool { return dns.IsSubDomain(zone, nameOf(key)) }) {
		f, ok := s.failures.table.Get(key)
		if q, isQuestion := questionOf(key); ok && isQuestion && !f.cause.Limit() {
			all = append(all, q)
		}
	}
	slices.SortFunc(all, func(a, b dns.Question) int { return strings.Compare(failureKey(a), failureKey(b)) })
	return all[:min(len(all), most)]
}

// Dumped is one answer or failure in a Store, for people.
type Dumped struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // that of the question; "" if no type of the name exists
	Status  string   `json:"status"`
	Rcode   string   `json:"rcode"`
	TTL     uint32   `json:"ttl"` // seconds until it is forgotten
	Records []string `json:"records,omitempty"`
	Notes   []string `json:"notes,omitempty"` // why it is not Secure
}

// Dump returns what is remembered of name and the names below it, parents first, at most the given number; and how many there
// are in all.
func (r *Resolver) Dump(name string, most int) (all []Dumped, found int) {
	name, now := dns.CanonicalName(name), r.now()
	type entry struct {
		name string
		dump func() (Dumped, bool)
	}
	var entries []entry
	for _, k := range r.Store.answers.Keys(func(k cache.Key, _ []byte) bool { return dns.IsSubDomain(name, k.Name) }) {
		entries = append(entries, entry{k.Name, func() (Dumped, bool) { return r.Store.dump(k, now) }})
	}
	for _, key := range r.Store.failures.table.Keys(func(key string) bool { return dns.IsSubDomain(name, nameOf(key)) }) {
		entries = append(entries, entry{nameOf(key), func() (Dumped, bool) { return r.Store.failures.dump(key, now) }})
	}
	slices.SortFunc(entries, func(a, b entry) int { return dnssec.Compare(a.name, b.name) })
	for _, e := range entries {
		if d, ok := e.dump(); ok {
			if found++; len(all) < most {
				all = append(all, d)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Dumped) int {
		return cmp.Or(dnssec.Compare(a.Name, b.Name), strings.Compare(a.Type, b.Type))
	})
	return all, found
}

func (s *Store) dump(k cache.Key, now time.Time) (d Dumped, ok bool) {
	var e cache.Entry
	var m dns.Msg
	if !s.answers.Get(k, now, &e) || dnssec.Unpack(&m, e.Wire) != nil {
		return d, false
	}
	d = Dumped{Name: k.Name, Status: dnssec.Status(e.Status).String(), Rcode: dns.RcodeToString[m.Rcode]}
	if k.Type != nameError {
		d.Type = typeName(k.Type)
	}
	ends := e.Stored.Add(e.Life)
	if !e.Expires.IsZero() {
		ends = earlier(ends, e.Expires)
	}
	d.TTL = seconds(max(0, ends.Sub(now)))
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		d.Records = append(d.Records, dnssec.Presentation(rr))
	}
	for _, f := range unpackNotes(e.Notes) {
		d.Notes = append(d.Notes, f.Text)
	}
	return d, true
}

func (t *failures) dump(key string, now time.Time) (d Dumped, ok bool) {
	f, ok := t.alive(key, now)
	q, isQuestion := questionOf(key)
	if !ok || !isQuestion {
		return d, false
	}
	return Dumped{
		Name: q.Name, Type: typeName(q.Qtype), Status: f.status.String(), Rcode: dns.RcodeToString[dns.RcodeServerFailure],
		TTL: seconds(f.until.Sub(now)), Notes: []string{f.cause.Text},
	}, true
}
