package resolve

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Failed returns the questions about names at or below zone that failed the last time they were asked, but not those
// that hit a limit, as far as that is remembered; at most the given number, in the order of their names.
func (s *Store) Failed(zone string, most int) (all []dns.Question) {
	for _, f := range s.failures.below(zone) {
		if !f.cause.Limit() {
			all = append(all, f.question)
		}
	}
	slices.SortFunc(all, func(a, b dns.Question) int { return strings.Compare(failureKey(a), failureKey(b)) })
	return all[:min(len(all), most)]
}

// Dumped is one answer or failure in a Store, for people.
type Dumped struct {
	Name    string
	Type    string // that of the question; "" if no type of the name exists
	Status  string
	Rcode   string
	TTL     uint32 // seconds until it is forgotten
	Records []string
	Notes   []string // why it is not Secure
}

// Dump returns what is remembered of name and the names below it, parents first, at most the given number; and how many
// there are in all.
func (r *Resolver) Dump(name string, most int) (all []Dumped, found int) {
	name, now := dnssec.Canonical(name), r.now()
	type entry struct {
		name string
		dump func() (Dumped, bool)
	}
	var entries []entry
	under := func(k cache.Key, _ *cache.Entry) bool { return dnssec.IsSubDomain(name, k.Name) }
	for _, k := range r.Store.answers.Keys(under) {
		entries = append(entries, entry{k.Name, func() (Dumped, bool) { return r.Store.dump(k, now) }})
	}
	for _, f := range r.Store.failures.below(name) {
		entries = append(entries, entry{f.question.Name,
			func() (Dumped, bool) { return r.Store.failures.dump(f.question, now) }})
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
	d.TTL = seconds(max(0, dnssec.Earlier(e.Stored.Add(e.Life), e.Expires).Sub(now)))
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		d.Records = append(d.Records, dnssec.Presentation(rr))
	}
	for _, f := range unpackNotes(e.Notes) {
		d.Notes = append(d.Notes, f.Text)
	}
	return d, true
}

func (t *failures) dump(q dns.Question, now time.Time) (d Dumped, ok bool) {
	f, ok := t.alive(q, now)
	if !ok {
		return d, false
	}
	return Dumped{
		Name: q.Name, Type: typeName(q.Qtype), Status: f.status.String(),
		Rcode: dns.RcodeToString[dns.RcodeServerFailure],
		TTL:   seconds(f.until.Sub(now)), Notes: []string{f.cause.Text},
	}, true
}
