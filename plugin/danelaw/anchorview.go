package danelaw

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// unseen is the state of a configured key that was never in its zone.
const unseen = "Unseen"

// newAnchors is the remedy for anchors that are too old.
const newAnchors = "install a newer danelaw, name current ones with trust_anchor, or use danelaw anchors import"

// told returns how the points of h are, of all server blocks if it is nil, by zone.
func (k *keeper) told(h *Handler, now time.Time) []AnchorPoint {
	k.mu.Lock()
	defer k.mu.Unlock()
	told := []AnchorPoint{}
	for _, p := range k.points {
		configured := k.configured(p)
		if h != nil {
			configured = h.config.Anchors[p.Zone]
		}
		if len(configured) > 0 && (h == nil || h.follows[p.Zone] == p) {
			told = append(told, p.told(configured, now))
		}
	}
	slices.SortStableFunc(told, func(a, b AnchorPoint) int { return strings.Compare(a.Zone, b.Zone) })
	return told
}

func (p *point) told(configured []*dns.DS, now time.Time) AnchorPoint {
	anchors := p.Anchors(configured)
	trusts := func(tag uint16) bool {
		return slices.ContainsFunc(anchors, func(ds *dns.DS) bool { return ds.KeyTag == tag })
	}
	told := AnchorPoint{
		Zone: p.Zone, Refreshed: p.Refreshed, Next: p.Next(), Stale: p.Stale(p.begun, now), Fault: p.fault,
		Keys: []AnchorKey{}, Concerns: []string{},
	}
	for _, k := range p.Keys {
		tag := k.DNSKEY.KeyTag()
		told.Keys = append(told.Keys, AnchorKey{
			KeyTag: tag, Algorithm: k.DNSKEY.Algorithm, State: string(k.State), Trusted: trusts(tag),
			Retiring: k.Retires(), Since: k.Since, Next: k.Next(), Text: sentence(k),
		})
	}
	for _, ds := range p.Unseen(configured) {
		told.Keys = append(told.Keys, AnchorKey{KeyTag: ds.KeyTag, Algorithm: ds.Algorithm, State: unseen,
			Trusted: trusts(ds.KeyTag),
			Text:    fmt.Sprintf("key %d is trusted, as configured, and has not been seen in the zone", ds.KeyTag)})
	}
	for _, k := range told.Keys {
		if k.Trusted {
			told.Trusted++
		}
	}
	if told.Stale {
		told.Concerns = append(told.Concerns, p.staleSentence())
	}
	for _, c := range told.rolling() {
		told.Concerns = append(told.Concerns, c.text)
	}
	return told
}

// concern is something about a zone's trust anchors that somebody has to know.
type concern struct{ what, text string }

// alarms are the concerns by what they are about.
func (p AnchorPoint) alarms() map[string]string {
	all := map[string]string{}
	if p.Stale {
		all["stale"] = p.Concerns[0]
	}
	for _, c := range p.rolling() {
		all[c.what] = c.text
	}
	return all
}

// rolling are the concerns about keys that come and go.
func (p AnchorPoint) rolling() (all []concern) {
	lasting := 0
	for _, k := range p.Keys {
		if k.Trusted && !k.Retiring && k.State != unseen {
			lasting++
		}
	}
	if p.Trusted == 0 {
		all = append(all, concern{"none", "all trust anchors are revoked: " + newAnchors})
	}
	for _, k := range p.Keys {
		switch {
		case k.Retiring:
			remedy := newAnchors
			if lasting > 0 {
				remedy = "nothing is to be done, as another is trusted"
			}
			all = append(all, concern{fmt.Sprintf("key %d retires", k.KeyTag),
				fmt.Sprintf("key %d signs no more and may soon be revoked: %s", k.KeyTag, remedy)})
		case k.State == string(trustanchors.AddPend) && !k.Trusted:
			all = append(all, concern{fmt.Sprintf("key %d is new", k.KeyTag),
				fmt.Sprintf("key %d is published, and not trusted before %s UTC: should the others be revoked "+
					"earlier, %s", k.KeyTag, k.Next.UTC().Format("2006-01-02 15:04"), newAnchors)})
		}
	}
	return all
}

// concerns are those of a point, each with the name of its zone.
func (p AnchorPoint) concerns() (all []string) {
	for _, c := range p.Concerns {
		all = append(all, "trust anchors of "+p.Zone+": "+c)
	}
	return all
}

// sentence says where a key stands.
func sentence(k trustanchors.Key) string {
	tag, next := k.DNSKEY.KeyTag(), k.Next().UTC().Format("2006-01-02 15:04")
	switch k.State {
	case trustanchors.Start:
		return fmt.Sprintf("key %d is gone before it was trusted", tag)
	case trustanchors.AddPend:
		return fmt.Sprintf("key %d is new, and trusted from %s UTC on if it stays", tag, next)
	case trustanchors.Missing:
		return fmt.Sprintf("key %d is trusted, but the zone has it no more", tag)
	case trustanchors.Revoked:
		return fmt.Sprintf("key %d has been revoked by itself, and is trusted no more", tag)
	case trustanchors.Removed:
		return fmt.Sprintf("key %d was revoked and has been gone for 30 days", tag)
	}
	if k.Retires() {
		return fmt.Sprintf("key %d is trusted, but signs no more: it may soon be revoked", tag)
	}
	return fmt.Sprintf("key %d is trusted", tag)
}

// staleSentence says since when the point is.
func (p *point) staleSentence() string {
	since := "never, since " + p.begun.UTC().Format("2006-01-02 15:04")
	if !p.Refreshed.IsZero() {
		since = "last " + p.Refreshed.UTC().Format("2006-01-02 15:04")
	}
	return fmt.Sprintf("their keys could be looked at %s UTC, so that one may have been revoked or have come: %s",
		since, cmp.Or(p.fault, "check the clock and the upstreams"))
}

// outdated is what to do about trust anchors that match no key, or none that signs; "" if that is not what failed.
func outdated(err error) string {
	f, ok := errors.AsType[*dnssec.Failure](err)
	if !ok || f.Type != dns.TypeDNSKEY || f.KeyTag == 0 ||
		f.Code != dns.ExtendedErrorCodeDNSKEYMissing && f.Code != dns.ExtendedErrorCodeDNSBogus {
		return ""
	}
	return ". The trust anchors may be older than the keys of the zone: " + newAnchors
}

// Anchors looks at the keys of the zones that have trust anchors in h, which need not be started, and tells how they
// are. The error says what kept it from looking.
func Anchors(ctx context.Context, h *Handler) (points []AnchorPoint, err error) {
	for zone, p := range h.follows {
		by := h.resolving.Trusted()[zone]
		s, failure := h.resolving.Sight(ctx, zone)
		if failure != nil {
			err = cmp.Or[error](err, failure)
			continue
		}
		h.keeper.note(h, p, by, s, nil)
	}
	return h.keeper.told(h, h.config.Clock()), err
}

// anchored has answer look at the keys that the daemon follows, or change them.
func anchored(answer func(*keeper, *http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if k, ok := find[*keeper](&process, ""); ok {
			return answer(k, r)
		}
		return nil, refusal{http.StatusServiceUnavailable, errors.New("danelaw is starting or ending")}
	}
}

func listAnchors(k *keeper, _ *http.Request) (any, error) {
	place, failed := k.saved()
	return AnchorsReply{Points: k.told(nil, time.Now()), Kept: place && !failed}, nil
}

func importAnchors(k *keeper, r *http.Request) (any, error) {
	var in AnchorsRequest
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return nil, fmt.Errorf("the request cannot be understood: %w", err)
	}
	var anchors []*dns.DS
	for _, text := range in.DS {
		set, warnings, err := trustanchors.Load("the request", []byte(text), time.Time{}, false)
		if err != nil {
			return nil, err
		}
		if len(warnings) > 0 {
			return nil, errors.New(warnings[0])
		}
		for _, ds := range set {
			anchors = append(anchors, ds...)
		}
	}
	if err := k.imports(anchors); err != nil {
		return nil, err
	}
	return listAnchors(k, r)
}

// The gauges of trust anchors.
var (
	shownAnchors = gauge("trust_anchors", "Keys that a zone with trust anchors is trusted by.", "zone")
	shownKey     = gauge("trust_anchor_state",
		"1 for the state of a key of a zone with trust anchors (RFC 5011), 0 for the others.", "zone", "key_tag",
		"state")
	shownKeyNext = gauge("trust_anchor_next_state_timestamp_seconds",
		"When a key comes to its next state, if nothing else happens.", "zone", "key_tag")
	shownRetiring = gauge("trust_anchor_retiring", "1 if a trusted key signs no more, so that it may soon be revoked.",
		"zone", "key_tag")
	shownAge = gauge("trust_anchor_refresh_age_seconds",
		"Seconds since the keys of a zone with trust anchors were looked at with success.", "zone")
	shownDue = gauge("trust_anchor_refresh_timestamp_seconds",
		"When the keys of a zone with trust anchors are looked at again.", "zone")
	shownStale = gauge("trust_anchors_stale",
		"1 if the keys of a zone with trust anchors were not looked at for too long.", "zone")
)

var anchorStates = []string{string(trustanchors.AddPend), string(trustanchors.Valid), string(trustanchors.Missing),
	string(trustanchors.Revoked), string(trustanchors.Removed), unseen}

// show shows the gauges of a point.
func (p AnchorPoint) show(show func(d *prometheus.Desc, value float64, labels ...string), now time.Time) {
	show(shownAnchors, float64(p.Trusted), p.Zone)
	show(shownStale, truth(p.Stale), p.Zone)
	if !p.Refreshed.IsZero() {
		show(shownAge, now.Sub(p.Refreshed).Seconds(), p.Zone)
		show(shownDue, float64(p.Next.Unix()), p.Zone)
	}
	shown := map[uint16]bool{}
	for _, k := range p.Keys {
		if shown[k.KeyTag] { // two keys of one tag have one series
			continue
		}
		tag := strconv.Itoa(int(k.KeyTag))
		shown[k.KeyTag] = true
		for _, state := range anchorStates {
			show(shownKey, truth(k.State == state), p.Zone, tag, state)
		}
		show(shownRetiring, truth(k.Retiring), p.Zone, tag)
		if !k.Next.IsZero() {
			show(shownKeyNext, float64(k.Next.Unix()), p.Zone, tag)
		}
	}
}
