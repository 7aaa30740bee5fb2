package danelaw

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
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
	points   map[string]*point // by zone
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
}

func (k *keeper) name() string { return k.key }
func (k *keeper) close()       {}

// holdKeeper returns the keeper of that name, as holdTable.
func holdKeeper(name string) *keeper {
	k, _ := hold(&process, name, func() (*keeper, error) {
		return &keeper{key: name, points: map[string]*point{}, store: stateFile{of: stateKind{
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
	if err := k.store.open(h.config.State, trusted(h.origin.looking), k.read); err != nil {
		return nil, err
	}
	for zone, configured := range h.config.Anchors {
		if k.disputed(h, zone) {
			return nil, fmt.Errorf("trust_anchor: another server block has other trust anchors for %s: their keys "+
				"are followed for all blocks (RFC 5011); write the same in both", zone)
		}
		p := k.points[zone]
		if p != nil && !p.Concerns(configured) {
			log.Warningf("the trust anchors configured for %s are none of those whose state is known, which is "+
				"forgotten", zone)
			p = nil
		}
		k.points[zone] = cmp.Or(p, &point{Point: trustanchors.Point{Zone: zone}, begun: h.config.Clock()})
	}
	return k.of(h), nil
}

// read takes what the state file holds.
func (k *keeper) read(text []byte) error {
	points, err := trustanchors.ParseState(text)
	for _, p := range points {
		if k.points[p.Zone] == nil {
			k.points[p.Zone] = &point{Point: p}
		}
	}
	return err
}

// disputed reports whether another server block of the same Corefile has no anchor in common with h for a zone.
func (k *keeper) disputed(h *Handler, zone string) bool {
	return slices.ContainsFunc(k.handlers, func(o *Handler) bool {
		theirs, ours := o.config.Anchors[zone], h.config.Anchors[zone]
		return o.origin.load == h.origin.load && len(theirs) > 0 && !slices.ContainsFunc(ours, func(ds *dns.DS) bool {
			return slices.ContainsFunc(theirs, func(o *dns.DS) bool {
				return o.KeyTag == ds.KeyTag && o.Algorithm == ds.Algorithm
			})
		})
	})
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
		if p := k.points[zone]; p != nil {
			set[zone] = p.Anchors(configured)
		}
	}
	maps.DeleteFunc(set, func(zone string, anchors []*dns.DS) bool {
		_, above := closest(set, dnssec.Parent(zone))
		return len(anchors) == 0 && zone != "." && above
	})
	return set
}

// configured are the anchors of a zone in all server blocks; k.mu is held.
func (k *keeper) configured(zone string) (all []*dns.DS) {
	for _, h := range k.handlers {
		all = append(all, h.config.Anchors[zone]...)
	}
	return all
}

// join has h told what changes.
func (k *keeper) join(h *Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handlers = append(k.handlers, h)
	for zone := range h.config.Anchors {
		k.tell(h, zone)
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

// tell has h trust what is to be trusted for a zone now; k.mu is held.
func (k *keeper) tell(h *Handler, zone string) {
	set, old := k.of(h), h.resolving.Trusted()
	now, is := set[zone]
	before, was := old[zone]
	if is == was && slices.EqualFunc(now, before, func(a, b *dns.DS) bool { return dns.IsDuplicate(a, b) }) {
		return
	}
	var sight dnssec.Sight
	if p := k.points[zone]; p != nil {
		sight = p.sight
	}
	h.resolving.Trust(set, zone, sight)
}

// save writes all down; k.mu is held.
func (k *keeper) save() {
	var all []trustanchors.Point
	for _, zone := range slices.Sorted(maps.Keys(k.points)) {
		all = append(all, k.points[zone].Point)
	}
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
	for _, zone := range k.due(h) {
		k.look(ctx, h, zone)
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

// due returns the zones that h has to look at now, and notes it, so that no other Handler does.
func (k *keeper) due(h *Handler) (zones []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !h.config.follows() || h.readiness.early.Load() {
		return nil
	}
	now := h.config.Clock().Round(0)
	for zone, anchors := range k.of(h) {
		p := k.points[zone]
		due := p != nil && !p.asking && (p.Due(now) || !h.Ready() && now.Sub(p.Asked) >= unreadyWait)
		if due && h.config.Policy.Anchor(zone, anchors).Cut == dnssec.SignedCut {
			p.asking = true
			zones = append(zones, zone)
		}
	}
	return zones
}

// look asks for the keys of a zone, and tells the zone's servers by which it is trusted.
func (k *keeper) look(ctx context.Context, h *Handler, zone string) {
	defer k.looked(zone)
	s, failure := h.resolving.Sight(ctx, zone)
	if ctx.Err() != nil {
		return
	}
	k.note(zone, h.config.Clock().Round(0), s, failure)
	if failure == nil && s.Zone.Status == dnssec.Secure && h.config.Signal {
		h.upstreams.signal(ctx, zone, h.resolving.Trusted()[zone])
	}
}

func (k *keeper) looked(zone string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p := k.points[zone]; p != nil {
		p.asking = false
	}
}

// note applies a look at the keys of a zone, and has everybody trust what follows.
func (k *keeper) note(zone string, now time.Time, s dnssec.Sight, failure *dnssec.Failure) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.points[zone]
	if p == nil {
		return
	}
	var changes []trustanchors.Change
	if failure != nil {
		p.Point = p.Failed(now)
	} else {
		p.sight, failure = s, s.Zone.Cause
		p.Point, changes = p.See(seenAt(now, s), k.configured(zone))
	}
	p.logFault(failure)
	for _, h := range k.handlers {
		k.tell(h, zone)
	}
	p.log(changes, k.configured(zone))
	k.save()
}

// seenAt is a look in the terms of package trustanchors.
func seenAt(now time.Time, s dnssec.Sight) trustanchors.Sight {
	return trustanchors.Sight{
		At: now, Keys: s.Keys, Revoked: s.Revoked, Valid: s.Zone.Status == dnssec.Secure, TTL: s.TTL,
		Signers: s.Signers, Expires: s.Zone.Expires,
	}
}

// logFault tells that the point could not be refreshed, and that it could again: once, not at every look.
func (p *point) logFault(f *dnssec.Failure) {
	old := p.fault
	if p.fault = ""; f != nil {
		p.fault = f.Text
	}
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

// newAnchors is the remedy for anchors that are too old.
const newAnchors = "install a newer danelaw, name current ones with trust_anchor, or use danelaw anchors import"

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
