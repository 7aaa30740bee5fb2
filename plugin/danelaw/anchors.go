package danelaw

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

const (
	anchorsFile = "trust-anchors.json"
	// unreadyWait is the interval in which the keys of anchor points are asked for until danelaw is ready (T-13).
	unreadyWait = time.Minute
	// signalPatience is how long the answer to a signal is waited for, which nobody reads.
	signalPatience = 5 * time.Second
)

// keeper follows the keys of the zones that have trust anchors, for all server blocks of a daemon, as RFC 5011 has it.
// The rules are those of package trustanchors; keeper asks, tells the Handlers what they trust, and keeps it.
type keeper struct {
	key string

	mu       sync.Mutex
	points   []*point // several of a zone if server blocks have no anchor of it in common, as those of two roots
	handlers []*Handler
	store    stateFile
}

// point is an anchor point that is followed.
type point struct {
	trustanchors.Point
	begun  time.Time    // when it was first followed here
	asking bool         // somebody looks at its keys now
	sight  dnssec.Sight // the last look to which something came
	fault  string       // why the last look did not refresh it
	stale  bool         // it has been told that it is
}

func (k *keeper) name() string { return k.key }
func (k *keeper) close()       {}

// holdKeeper returns the keeper of that name, as holdTable.
func holdKeeper(name string) *keeper {
	k, _ := hold(&process, name, func() (*keeper, error) {
		return &keeper{key: name, store: stateFile{of: stateKind{
			file: anchorsFile, what: "the states of trust anchors",
			remedy: "keys that are not in the configuration begin their hold-down anew",
		}}}, nil
	})
	return k
}

// follows reports whether the anchors are those of today.
func (c Config) follows() bool { return c.ValidationTime.IsZero() }

// declare reads the state file of h and returns what it trusts: what is configured, and what is known (T-10a).
func (k *keeper) declare(h *Handler) (trustanchors.Set, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !h.config.follows() {
		return h.config.Anchors, nil
	}
	err := k.store.open(h.config.State, trusted(h.origin.looking), func(text []byte) error {
		points, err := trustanchors.ParseState(text)
		for _, p := range points {
			k.points = append(k.points, &point{Point: p})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	h.follows = map[string]*point{}
	for zone := range h.config.Anchors {
		h.follows[zone] = k.point(h, zone)
	}
	return k.of(h), nil
}

// point returns the one by which h follows a zone: that which has an anchor of h, or a new one.
func (k *keeper) point(h *Handler, zone string) *point {
	ours := h.config.Anchors[zone]
	i := slices.IndexFunc(k.points, func(p *point) bool { return p.Zone == zone && p.Concerns(ours) })
	if i < 0 {
		i = len(k.points)
		k.points = append(k.points, &point{Point: trustanchors.Point{Zone: zone}})
	}
	p := k.points[i]
	if p.begun.IsZero() {
		p.begun = h.config.Clock()
	}
	p.Configured = trustanchors.Set{}.With(k.configured(p), ours)[zone]
	return p
}

// of returns what h trusts; k.mu is held. A point whose anchors are all revoked is left to the one above; where there
// is none it stays, without any, and proves nothing (T-9).
func (k *keeper) of(h *Handler) trustanchors.Set {
	if !h.config.follows() {
		return h.config.Anchors
	}
	set := trustanchors.Set{}
	for zone, configured := range h.config.Anchors {
		set[zone] = configured
		if p := h.follows[zone]; p != nil {
			set[zone] = p.Anchors(configured)
		}
	}
	maps.DeleteFunc(set, func(zone string, anchors []*dns.DS) bool {
		_, above := closest(set, dnssec.Parent(zone))
		return len(anchors) == 0 && zone != "." && above
	})
	return set
}

// configured are the anchors of a point in all server blocks; k.mu is held.
func (k *keeper) configured(p *point) (all []*dns.DS) {
	for _, h := range k.handlers {
		if h.follows[p.Zone] == p {
			all = append(all, h.config.Anchors[p.Zone]...)
		}
	}
	return all
}

// join has h told what has changed since declare.
func (k *keeper) join(h *Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handlers = append(k.handlers, h)
	for _, p := range h.follows {
		k.tell(p)
	}
}

func (k *keeper) leave(h *Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handlers = slices.DeleteFunc(k.handlers, func(o *Handler) bool { return o == h })
}

// start notes that there is somebody who serves now.
func (k *keeper) start() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.store.serve()
	k.save()
}

// tell has all who follow a point trust what is to be trusted now; k.mu is held.
func (k *keeper) tell(p *point) {
	for _, h := range k.handlers {
		if h.follows[p.Zone] != p {
			continue
		}
		set, old := k.of(h), h.resolving.Trusted()
		now, is := set[p.Zone]
		before, was := old[p.Zone]
		if is != was || !sameAnchors(now, before) {
			h.resolving.Trust(set, p.Zone, p.sight)
		}
	}
}

func sameAnchors(a, b []*dns.DS) bool {
	return slices.EqualFunc(a, b, func(a, b *dns.DS) bool { return dns.IsDuplicate(a, b) })
}

// save writes all down; k.mu is held.
func (k *keeper) save() {
	var all []trustanchors.Point
	for _, p := range k.points {
		if len(p.Keys)+len(p.Imported) > 0 {
			all = append(all, p.Point)
		}
	}
	slices.SortStableFunc(all, func(a, b trustanchors.Point) int { return strings.Compare(a.Zone, b.Zone) })
	k.store.save(trustanchors.FormatState(all), nil)
}

// saved is as that of table.
func (k *keeper) saved() (place, failed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.store.dir != "", k.store.failed
}

// tend looks at the keys that are due.
func (k *keeper) tend(ctx context.Context, h *Handler) {
	defer survive()
	k.saveAgain(time.Now())
	for _, p := range k.due(h) {
		k.look(ctx, h, p)
	}
	if h.alarms != nil {
		for _, p := range k.told(h, h.config.Clock()) {
			h.alarms.are(OfAnchors, p.Zone, p.alarms())
		}
	}
}

// saveAgain is as that of table.
func (k *keeper) saveAgain(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.store.due(now) {
		k.save()
	}
}

// due returns the points that h has to look at now, and notes it, so that no other Handler does.
func (k *keeper) due(h *Handler) (points []*point) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !h.config.follows() || h.readiness.early.Load() {
		return nil
	}
	now := h.config.Clock().Round(0)
	for zone, anchors := range k.of(h) {
		p := h.follows[zone]
		p.logStale(now)
		due := !p.asking && (p.Due(now) || !h.Ready() && now.Sub(p.Asked) >= unreadyWait)
		if due && h.config.Policy.Anchor(zone, anchors).Cut == dnssec.SignedCut {
			p.asking = true
			points = append(points, p)
		}
	}
	return points
}

// look asks for the keys of a point, and tells the zone's servers by which it is trusted.
func (k *keeper) look(ctx context.Context, h *Handler, p *point) {
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		p.asking = false
	}()
	by := h.resolving.Trusted()[p.Zone]
	s, failure := h.resolving.Sight(ctx, p.Zone)
	if ctx.Err() != nil {
		return
	}
	noted := k.note(h, p, by, s, failure)
	if noted && failure == nil && s.Zone.Status == dnssec.Secure && h.config.Signal {
		h.upstreams.signal(ctx, p.Zone, h.resolving.Trusted()[p.Zone])
	}
}

// note applies a look of h at the keys of a point, by such anchors, and has everybody trust what follows. It is false
// if others have come meanwhile, as by an import: nothing follows then, and the point is due as it was.
func (k *keeper) note(h *Handler, p *point, by []*dns.DS, s dnssec.Sight, failure *dnssec.Failure) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !sameAnchors(by, h.resolving.Trusted()[p.Zone]) {
		return false
	}
	now := h.config.Clock().Round(0)
	var changes []trustanchors.Change
	if failure != nil {
		p.Point = p.Failed(now)
	} else {
		p.sight, failure = s, s.Zone.Cause
		p.Point, changes = p.See(seenAt(now, s), k.configured(p))
	}
	old := p.fault
	if p.fault = ""; failure != nil {
		p.fault = failure.Text
	}
	k.tell(p)
	if k.store.serving { // who only looks is told in another way
		p.log(changes, k.configured(p))
		p.logFault(old)
	}
	k.save()
	return true
}

// seenAt is a look in the terms of package trustanchors.
func seenAt(now time.Time, s dnssec.Sight) trustanchors.Sight {
	return trustanchors.Sight{
		At: now, Keys: s.Keys, Revoked: s.Revoked, Valid: s.Zone.Status == dnssec.Secure, TTL: s.TTL,
		Signers: s.Signers, Expires: s.Zone.Expires,
	}
}

// logFault tells that the point could not be refreshed, and that it could again: once, not at every look.
func (p *point) logFault(old string) {
	switch {
	case p.fault == old:
	case p.fault == "":
		log.Infof("the keys of the trust anchors of %s have been looked at again", p.Zone)
	default:
		log.Warningf("the keys of the trust anchors of %s could not be looked at: %s", p.Zone, p.fault)
	}
}

// log tells of the steps of keys.
func (p *point) log(changes []trustanchors.Change, configured []*dns.DS) {
	for _, c := range changes {
		tell := log.Infof
		if c.Key.State == trustanchors.Revoked || c.Key.State == trustanchors.Missing {
			tell = log.Warningf
		}
		tell("trust anchors of %s: %s", p.Zone, sentence(c.Key))
	}
	if len(changes) > 0 && len(p.Anchors(configured)) == 0 {
		log.Errorf("trust anchors of %s: all are revoked: %s", p.Zone, newAnchors)
	}
}

// signal tells the servers of a zone which keys it is trusted by (T-16, RFC 8145 section 5).
func (u *upstreams) signal(ctx context.Context, zone string, anchors []*dns.DS) {
	name := signalName(zone, anchors)
	if name == "" {
		return
	}
	answered := make(chan struct{}) // S-14: whatever it is
	cancel := u.Ask(dnssec.Question(name, dns.TypeNULL),
		fetch.Try{CD: true, Until: time.Now().Add(signalPatience)}, func(fetch.Reply, error) { close(answered) })
	select {
	case <-answered:
	case <-ctx.Done():
		cancel()
	}
}

// signalName is `_ta-` and the key tags, ascending, in a zone; "" if there is none, or the name would be too long.
func signalName(zone string, anchors []*dns.DS) string {
	var tags []uint16
	for _, ds := range anchors {
		tags = append(tags, ds.KeyTag)
	}
	slices.Sort(tags)
	name := "_ta"
	for _, tag := range slices.Compact(tags) {
		name += fmt.Sprintf("-%04x", tag)
	}
	name += "." + zone
	if zone == "." {
		name = name[:len(name)-1]
	}
	if _, ok := dns.IsDomainName(name); !ok || len(tags) == 0 {
		return ""
	}
	return name
}

// logStale tells once that a point is stale.
func (p *point) logStale(now time.Time) {
	stale := p.Stale(p.begun, now)
	if stale && !p.stale {
		log.Errorf("trust anchors of %s: %s", p.Zone, p.staleSentence())
	}
	p.stale = stale
}

// imports has all server blocks trust further anchors, which an operator vouches for. It fails if one is of no use.
func (k *keeper) imports(anchors []*dns.DS) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, ds := range anchors {
		if _, err := k.importing(ds); err != nil {
			return err
		}
	}
	for _, ds := range anchors {
		p, _ := k.importing(ds)
		if slices.ContainsFunc(p.Anchors(k.configured(p)), func(o *dns.DS) bool { return dns.IsDuplicate(o, ds) }) {
			continue
		}
		p.Imported, p.Wait = append(slices.Clip(p.Imported), ds), 0 // it is looked at now
		log.Warningf("trust anchors of %s: key %d is trusted, as it was imported", p.Zone, ds.KeyTag)
		k.tell(p)
	}
	for _, h := range k.handlers {
		h.readiness.soon()
	}
	k.save()
	return nil
}

// importing returns the point that an anchor is for, or says why it would be of no use; k.mu is held.
func (k *keeper) importing(ds *dns.DS) (p *point, err error) {
	zone := ds.Hdr.Name
	for _, h := range k.handlers {
		switch next := h.follows[zone]; {
		case next != nil && p != nil && next != p:
			return nil, fmt.Errorf("server blocks have different trust anchors for %s: name more with trust_anchor",
				zone)
		case next != nil:
			p = next
		}
	}
	if p == nil {
		return nil, fmt.Errorf("%s has no trust anchors here that could be followed", zone)
	}
	with := p.Point
	with.Imported = append(slices.Clip(p.Imported), ds)
	if !slices.ContainsFunc(with.Anchors(nil), func(o *dns.DS) bool { return dns.IsDuplicate(o, ds) }) {
		return nil, fmt.Errorf("key %d of %s has been revoked, for good", ds.KeyTag, zone)
	}
	return p, nil
}
