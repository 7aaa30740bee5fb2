package trustanchors

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// State is where a key of an anchor point stands (RFC 5011 section 4.2).
type State string

// The states (T-5). A key of state Start is not known, or not any more.
const (
	Start   State = ""
	AddPend State = "AddPend" // it has appeared, and is trusted after its hold-down
	Valid   State = "Valid"
	Missing State = "Missing" // it is trusted, and was not in the last DNSKEY RRset that validated
	Revoked State = "Revoked"
	Removed State = "Removed" // revoked, and gone for long
)

// Trusted reports whether a key of that state may validate the DNSKEY RRset.
func (s State) Trusted() bool { return s == Valid || s == Missing }

// event is what a key shows (RFC 5011 section 4.1).
type event uint8

const (
	newKey  event = iota // a key that is not known is in a valid DNSKEY RRset
	keyPres              // it is there again
	keyRem               // it is not there any more
	addTime              // it was there all along for the add hold-down, and is
	remTime              // revoked, it was away for the remove hold-down
	revBit               // it is revoked, by its own signature
)

// transitions is the table of RFC 5011 section 4.2: an event that is not there changes nothing (T-5).
var transitions = map[State]map[event]State{
	Start:   {newKey: AddPend},
	AddPend: {keyRem: Start, addTime: Valid},
	Valid:   {keyRem: Missing, revBit: Revoked},
	Missing: {keyPres: Valid, revBit: Revoked},
	Revoked: {remTime: Removed},
}

// The times of RFC 5011 (T-6, T-7).
const (
	leastWait      = time.Hour
	mostWait       = 15 * 24 * time.Hour
	mostRetry      = 24 * time.Hour
	addHoldDown    = 30 * 24 * time.Hour
	removeHoldDown = 30 * 24 * time.Hour
	// firstRetry is for a point that was never looked at with success, which danelaw is not ready without (T-13).
	firstRetry = time.Minute
)

// maxKeys is how many keys of a point are followed (T-9). The root has had three in its life.
const maxKeys = 64

// Key is a key of an anchor point.
type Key struct {
	DNSKEY *dns.DNSKEY // without the REVOKE bit
	State  State
	Since  time.Time     // when it came to this state
	Seen   time.Time     // when it was in the DNSKEY RRset last
	Signed time.Time     // when that had an RRSIG of its key tag last: for people, as nobody verifies all of them
	Hold   time.Duration // AddPend: how long it has to be there
}

// Point is what is known of the keys of one zone that has trust anchors. It is a value: methods that change something
// return another one.
type Point struct {
	Zone     string
	Keys     []Key
	Imported []*dns.DS // an operator's, beside those configured
	// Configured are the anchors that were configured when it was followed last: by them it is known again.
	Configured []*dns.DS
	Asked      time.Time // when its DNSKEY RRset was asked for last
	Wait       time.Duration
	// Refreshed is when it last came and a trusted key had signed it. Interval and Retry follow from what came then
	// (T-6).
	Refreshed       time.Time
	Interval, Retry time.Duration
}

// Sight is one look at the DNSKEY RRset of an anchor point.
type Sight struct {
	At   time.Time
	Keys []*dns.DNSKEY // all there are
	// Revoked are those of them whose REVOKE bit is set and who have signed the RRset themselves (T-8).
	Revoked []*dns.DNSKEY
	Valid   bool          // a trusted key has signed it; what follows counts only then
	TTL     time.Duration // the Original TTL
	Signers []uint16      // the key tags of its RRSIGs
	Expires time.Time     // of the signature
}

// Change is a step of a key from one state to another.
type Change struct {
	Key  Key // as it is after the step
	From State
}

// Next returns when the DNSKEY RRset is to be asked for again.
func (p Point) Next() time.Time { return p.Asked.Add(p.Wait) }

// Due reports whether it is to be asked for now. A clock that was set back does not put that off.
func (p Point) Due(now time.Time) bool { return now.Before(p.Asked) || !now.Before(p.Next()) }

// Anchors returns the trust anchors of the point: those configured and imported, whatever is known of their keys but
// that they are revoked, and the keys that have become trusted (T-10a).
func (p Point) Anchors(configured []*dns.DS) []*dns.DS {
	set := Set{}
	for _, ds := range p.entered(configured) {
		set.add(ds)
	}
	for _, k := range p.Keys {
		if k.State.Trusted() {
			set.add(k.DNSKEY.ToDS(dns.SHA256))
		}
	}
	for _, k := range p.Keys {
		if k.State == Revoked || k.State == Removed {
			set[p.Zone] = slices.DeleteFunc(set[p.Zone], func(ds *dns.DS) bool { return isOf(ds, k.DNSKEY) })
		}
	}
	return set[p.Zone]
}

// entered are the anchors that people have given.
func (p Point) entered(configured []*dns.DS) []*dns.DS { return slices.Concat(configured, p.Imported) }

// Stale reports whether the last look with success was too long ago: a key may have been revoked, or have come, since.
// begun is when the point was first to be looked at.
func (p Point) Stale(begun, now time.Time) bool {
	last := p.Refreshed
	if last.IsZero() {
		last = begun
	}
	return now.Sub(last) > 2*p.Interval+24*time.Hour
}

// Unseen returns the anchors that people have given whose keys were never in the zone.
func (p Point) Unseen(configured []*dns.DS) (all []*dns.DS) {
	for _, ds := range p.entered(configured) {
		seen := slices.ContainsFunc(p.Keys, func(k Key) bool { return isOf(ds, k.DNSKEY) })
		if !seen && !slices.ContainsFunc(all, func(o *dns.DS) bool { return o.KeyTag == ds.KeyTag }) {
			all = append(all, ds)
		}
	}
	return all
}

// Concerns reports whether the point is that of the configured anchors: one that follows other keys is of another zone
// of that name, as another root has it.
func (p Point) Concerns(configured []*dns.DS) bool {
	return slices.ContainsFunc(p.Keys, func(k Key) bool {
		return slices.ContainsFunc(configured, func(ds *dns.DS) bool { return isOf(ds, k.DNSKEY) })
	}) || slices.ContainsFunc(p.Configured, func(o *dns.DS) bool {
		return slices.ContainsFunc(configured, func(ds *dns.DS) bool {
			return o.KeyTag == ds.KeyTag && o.Algorithm == ds.Algorithm
		})
	})
}

// Retires reports whether a key is about to be revoked: it is trusted and there, and signs no more.
func (k Key) Retires() bool { return k.State == Valid && !k.Signed.IsZero() && k.Signed.Before(k.Seen) }

// Next returns when the key comes to its next state if nothing else happens; zero if it stays.
func (k Key) Next() time.Time {
	switch k.State {
	case AddPend:
		return k.Since.Add(k.Hold)
	case Revoked:
		return k.Seen.Add(removeHoldDown)
	}
	return time.Time{}
}

// Failed returns the point after a look to which nothing came.
func (p Point) Failed(at time.Time) Point {
	p.Asked, p.Wait = at, cmp.Or(p.Retry, firstRetry)
	return p
}

// See returns the point after a look, and the steps of its keys.
func (p Point) See(s Sight, configured []*dns.DS) (Point, []Change) {
	l := look{Point: p.until(s.At), seen: s, configured: configured}
	for _, key := range s.Revoked {
		l.revoke(unrevoked(key))
	}
	l.Point = l.Failed(s.At)
	if s.Valid {
		l.follow()
	}
	return l.Point, l.changes
}

// until returns the point with no time later than now: what a clock that was wrong has written makes no hold-down
// shorter (T-11).
func (p Point) until(now time.Time) Point {
	p.Keys = slices.Clone(p.Keys)
	for _, t := range append([]*time.Time{&p.Asked, &p.Refreshed}, times(p.Keys)...) {
		if t.After(now) {
			*t = now
		}
	}
	return p
}

func times(keys []Key) (all []*time.Time) {
	for i := range keys {
		all = append(all, &keys[i].Since, &keys[i].Seen, &keys[i].Signed)
	}
	return all
}

// look is a Sight being applied to a Point.
type look struct {
	Point
	seen       Sight
	configured []*dns.DS
	changes    []Change
}

// revoke applies that a key has revoked itself, at once and for good, whoever else has signed (T-8). Of keys that were
// never trusted it says nothing.
func (l *look) revoke(key *dns.DNSKEY) {
	i := l.find(key)
	if i < 0 {
		if !l.given(key) {
			return
		}
		l.Keys = append(l.Keys, Key{DNSKEY: key, State: Valid})
		i = len(l.Keys) - 1
	}
	if k := &l.Keys[i]; k.State == AddPend && l.given(key) {
		k.State = Valid
	}
	l.Keys[i].Seen = l.seen.At
	l.step(i, revBit)
}

// follow applies a DNSKEY RRset that a trusted key has signed.
func (l *look) follow() {
	// What was seen before a jump of the clock, or while the host slept, does not show that a key was there all along:
	// it takes another look, which is soon, to end a hold-down (T-11).
	jumped := l.Interval > 0 && l.seen.At.Sub(l.Refreshed) > l.Interval+leastWait
	confirm := false
	for i := range l.Keys {
		confirm = l.present(i, jumped) || confirm
	}
	l.Keys = slices.DeleteFunc(l.Keys, func(k Key) bool { return k.State == Start })
	for _, key := range l.seen.Keys {
		l.appear(key)
	}
	l.Refreshed, l.Asked = l.seen.At, l.seen.At
	l.Interval, l.Retry = waits(l.seen.TTL, l.seen.Expires.Sub(l.seen.At))
	if l.Wait = l.Interval; confirm {
		l.Wait = leastWait
	}
}

// present applies whether a known key is in the RRset. It reports whether a hold-down would have ended, had the clock
// not jumped.
func (l *look) present(i int, jumped bool) (confirm bool) {
	k := &l.Keys[i]
	switch {
	case !slices.ContainsFunc(l.seen.Keys, func(o *dns.DNSKEY) bool { return candidate(o) && same(o, k.DNSKEY) }):
		if k.State == Revoked && l.seen.At.Sub(k.Seen) >= removeHoldDown { // T-7
			l.step(i, remTime)
		} else {
			l.step(i, keyRem)
		}
		return false
	case k.State != AddPend:
		l.step(i, keyPres)
	case l.given(k.DNSKEY):
		l.become(i, Valid)
	case l.seen.At.Sub(k.Since) >= k.Hold: // T-7
		if confirm = jumped; !confirm {
			l.step(i, addTime)
		}
	}
	l.attend(k)
	return confirm
}

// attend notes that a key is there.
func (l *look) attend(k *Key) {
	if k.Seen = l.seen.At; slices.Contains(l.seen.Signers, k.DNSKEY.KeyTag()) {
		k.Signed = l.seen.At
	}
}

// appear applies that a key is in the RRset which is not known yet. Only one with the SEP bit may become an anchor
// (T-8).
func (l *look) appear(key *dns.DNSKEY) {
	if !candidate(key) || l.find(key) >= 0 || len(l.Keys) >= maxKeys {
		return
	}
	l.Keys = append(l.Keys, Key{DNSKEY: plain(key), Hold: max(addHoldDown, l.seen.TTL)})
	i := len(l.Keys) - 1
	l.attend(&l.Keys[i])
	if l.given(key) { // T-10a
		l.become(i, Valid)
	} else {
		l.step(i, newKey)
	}
}

// step has an event happen to a key.
func (l *look) step(i int, e event) {
	if to, ok := transitions[l.Keys[i].State][e]; ok {
		l.become(i, to)
	}
}

func (l *look) become(i int, to State) {
	k := &l.Keys[i]
	from := k.State
	k.State, k.Since = to, l.seen.At
	l.changes = append(l.changes, Change{*k, from})
}

// find returns the place of a key among those known; -1 if it is not there.
func (l *look) find(key *dns.DNSKEY) int {
	return slices.IndexFunc(l.Keys, func(k Key) bool { return same(k.DNSKEY, key) })
}

// given reports whether people have given an anchor of the key.
func (l *look) given(key *dns.DNSKEY) bool {
	return slices.ContainsFunc(l.entered(l.configured), func(ds *dns.DS) bool { return isOf(ds, key) })
}

// candidate reports whether a key may be an anchor: a zone key with the SEP bit that is not revoked (T-8, V-4).
func candidate(k *dns.DNSKEY) bool {
	const wanted = dns.ZONE | dns.SEP
	return k.Flags&(wanted|dns.REVOKE) == wanted && k.Protocol == 3
}

// same reports whether two records hold one key.
func same(a, b *dns.DNSKEY) bool { return a.Algorithm == b.Algorithm && a.PublicKey == b.PublicKey }

// isOf reports whether an anchor is that of a key.
func isOf(ds *dns.DS, key *dns.DNSKEY) bool {
	if ds.Algorithm != key.Algorithm || ds.KeyTag != key.KeyTag() {
		return false
	}
	of := key.ToDS(ds.DigestType)
	return of != nil && strings.EqualFold(of.Digest, ds.Digest)
}

// unrevoked is a key as it was before its REVOKE bit was set.
func unrevoked(k *dns.DNSKEY) *dns.DNSKEY {
	u := plain(k)
	u.Flags &^= dns.REVOKE
	return u
}

// plain is a key under its canonical name, without a TTL.
func plain(k *dns.DNSKEY) *dns.DNSKEY {
	p := *k
	p.Hdr = dns.RR_Header{Name: dns.CanonicalName(k.Hdr.Name), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}
	return &p
}

// waits returns when to ask again after success and after failure, by the Original TTL and by how long the signature is
// still valid (T-6).
func waits(ttl, life time.Duration) (interval, retry time.Duration) {
	return max(leastWait, min(mostWait, ttl/2, life/2)), max(leastWait, min(mostRetry, ttl/10, life/10))
}
