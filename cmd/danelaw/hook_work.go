package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// work is a round with what it goes by.
type work struct {
	*hook
	*renewal
	next    *identity
	current string // the pair in use
	targets []*target
}

// target is a set of records: that of one host and port.
type target struct {
	plan      *tlsaPlan
	addresses []netip.Addr
	want      *dns.TLSA // of the certificate to be used
	keep      *dns.TLSA // of the one in use; nil if that is not known, or the same
	*authorities
}

// work looks at what there is.
func (h *hook) work(ctx context.Context, r *renewal) (*work, error) {
	w := &work{hook: h, renewal: r}
	var err error
	if w.next, err = h.store.held(ctx, r.Next); err != nil {
		return nil, err
	}
	if w.current, err = h.store.current(); err != nil {
		return nil, err
	}
	var used *identity
	if w.current != "" && w.current != r.Next {
		if used, err = h.store.held(ctx, w.current); err != nil {
			return nil, err
		}
	}
	for _, host := range h.hosts {
		for _, port := range h.c.IntSlice("port") {
			t, err := h.target(ctx, host, port, w.next, used)
			if err != nil {
				return nil, err
			}
			w.targets = append(w.targets, t)
		}
	}
	h.warnOfAuthority(w.next, used)
	return w, nil
}

// target finds the records of one host and port.
func (h *hook) target(ctx context.Context, host string, port int, next, used *identity) (t *target, err error) {
	p := h.kind
	p.err, p.host, p.base, p.port, p.asker = h.c.Root().ErrWriter, host, host, port, h.asker
	t = &target{plan: &p}
	if t.addresses, err = p.locate(ctx, true); err != nil {
		return nil, err
	}
	if t.want, err = p.record(next); err != nil {
		return nil, err
	}
	if why := p.warning(next, t.want); why != "" {
		return nil, errors.New(why)
	}
	ttl := uint32(usualTTL)
	for _, r := range p.set.records {
		ttl = r.Hdr.Ttl
	}
	if p.ttl != nil {
		ttl = *p.ttl
	}
	t.want.Hdr.Ttl = ttl
	if used != nil {
		if t.keep, err = p.record(used); err != nil {
			return nil, err
		}
		if t.keep.Hdr.Ttl = ttl; sameTLSA(t.want)(t.keep) {
			t.keep = nil
		}
	}
	t.authorities, err = h.authoritiesOf(ctx, t.want.Hdr.Name, h.primaries)
	return t, err
}

// warnOfAuthority tells what usage 2 depends on.
func (h *hook) warnOfAuthority(next, used *identity) {
	if h.kind.kind.Usage != mail.DANETA {
		return
	}
	top := next.chain[len(next.chain)-1]
	h.warn("--usage 2: the record is that of %q, the last certificate of the chain. An authority may issue by another "+
		"whenever it likes, as Let's Encrypt rotates its intermediates without notice, and then the record has to "+
		"change as it does with each key under --usage 3, which depends on nobody else", top.Subject.String())
	if used == nil || len(used.chain) == 0 {
		return
	}
	if before := used.chain[len(used.chain)-1]; !before.Equal(top) {
		h.warn("--usage 2: the renewed certificate is issued under %q, the one in use under %q", top.Subject.String(),
			before.Subject.String())
	}
}

// installed reports whether the certificate is in use already.
func (w *work) installed() bool { return w.current == w.Next }

// wanted are the records that the set of a target has to have now.
func (w *work) wanted(t *target) []*dns.TLSA {
	if t.keep == nil || w.installed() {
		return []*dns.TLSA{t.want}
	}
	return []*dns.TLSA{t.want, t.keep}
}

// look looks at a target's set at all nameservers.
func (w *work) look(ctx context.Context, t *target, want ...*dns.TLSA) *sight {
	owner := t.want.Hdr.Name
	check := func() *dnssec.Check {
		return &dnssec.Check{Now: w.now(owner), Policy: dnssec.DefaultPolicy(), SignatureChecks: 128}
	}
	return t.authorities.look(ctx, outside.ask, check, owner, want...)
}

// spread is how long what was published may take until the nameservers have it, before that is told.
const (
	spread     = 20 * time.Second
	spreadPoll = 2 * time.Second
)

// publish has all nameservers have the record of the certificate, beside that of the one in use (D-30).
func (w *work) publish(ctx context.Context) (again time.Time, err error) {
	complete := true
	for _, t := range w.targets {
		s, err := w.ensure(ctx, t)
		if err != nil {
			return again, err
		}
		for _, who := range s.lacking {
			w.say("%s does not have the record at %s yet", who, t.want.Hdr.Name)
		}
		for _, why := range s.doubts {
			w.say("not known to have the record at %s: %s", t.want.Hdr.Name, why)
		}
		complete = complete && s.everywhere()
	}
	if !complete {
		return soon(), nil
	}
	if !w.Seen.IsZero() {
		return again, nil
	}
	w.Seen = outside.now()
	w.Cached = later(w.Cached, w.Seen.Add(time.Duration(w.TTL)*time.Second))
	if err := w.store.save(w.renewal); err != nil {
		return again, err
	}
	reached("seen")
	return again, nil
}

// ensure publishes what the set of a target lacks, and looks whether that has come to all nameservers.
func (w *work) ensure(ctx context.Context, t *target) (*sight, error) {
	s := w.look(ctx, t, w.wanted(t)...)
	if w.Seen.IsZero() || len(s.lacking) > 0 {
		w.TTL = max(w.TTL, s.ttl, w.aliasTTL(t))
	}
	if len(s.lacking) == 0 {
		return s, nil
	}
	if err := w.change(ctx, t); err != nil || w.publisher == nil {
		return s, err
	}
	for deadline := outside.now().Add(spread); ; {
		s = w.look(ctx, t, w.wanted(t)...)
		if len(s.lacking) == 0 || !outside.now().Before(deadline) {
			return s, nil
		}
		if !outside.pause(ctx, spreadPoll) {
			return s, errInterrupted
		}
	}
}

// aliasTTL is the TTL of what senders find by a target's name, aliases included: as long as that may be cached.
func (w *work) aliasTTL(t *target) uint32 {
	if len(t.plan.set.records) == 0 {
		return 0
	}
	return t.plan.set.ttl
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// change publishes what a target's set lacks. What was seen of it before counts no more.
func (w *work) change(ctx context.Context, t *target) error {
	w.Seen = time.Time{}
	for _, r := range w.wanted(t) {
		if text := recordText(r); !slices.Contains(w.Records, text) {
			w.Records = append(w.Records, text)
		}
	}
	if err := w.store.save(w.renewal); err != nil {
		return err
	}
	reached("change")
	for _, r := range w.wanted(t) {
		w.say("publish: %s %d IN TLSA %s", r.Hdr.Name, r.Hdr.Ttl, rdata(r))
	}
	if w.publisher == nil {
		w.say("by hand, as neither --primary nor --publish says how")
		return nil
	}
	err := w.publisher.publish(ctx, t.zone, w.wanted(t), nil)
	reached("published")
	return err
}

// recordText is a record in zone-file form without TTL.
func recordText(r *dns.TLSA) string { return r.Hdr.Name + " TLSA " + rdata(r) }

// hold waits until no cache has a set without the record (D-30).
func (w *work) hold(ctx context.Context) (again time.Time, err error) {
	if w.installed() {
		return again, nil
	}
	until := w.Cached.Add(w.c.Duration("margin"))
	if w.sameRecords() {
		until = time.Time{} // whoever takes the certificate in use takes this one
	}
	if outside.now().Before(until) {
		w.say("published, and held back until %s UTC: until then caches may have the records of before (TTL %d s, "+
			"and a margin of %v)", minute(until), w.TTL, w.c.Duration("margin"))
		w.tellEarly(ctx, until)
		return until, nil
	}
	for _, t := range w.targets {
		l := w.lookup(ctx, t.want.Hdr.Name, dns.TypeTLSA)
		if err := securely(l); err != nil {
			w.say("held back: %v", err)
			return soon(), nil
		}
		if !slices.ContainsFunc(setOf(t.want.Hdr.Name, l.found.Answer.Answer).records, sameTLSA(t.want)) {
			w.say("held back: all nameservers have the record at %s, and the resolvers that danelaw asks do not yet",
				t.want.Hdr.Name)
			return soon(), nil
		}
	}
	return again, nil
}

// sameRecords reports whether the certificate in use has the same records.
func (w *work) sameRecords() bool {
	return w.current != "" && !slices.ContainsFunc(w.targets, func(t *target) bool { return t.keep != nil })
}

// tellEarly warns of what makes the wait vain.
func (w *work) tellEarly(ctx context.Context, until time.Time) {
	if w.current == "" {
		return
	}
	used, err := w.store.held(ctx, w.current)
	if err == nil && len(used.chain) > 0 && used.chain[0].NotAfter.Before(until) {
		w.warn("the certificate in use ends before, at %s UTC: renew earlier, or publish with a shorter --ttl; "+
			"with usage 3 senders of mail do not look at that date, mail programs on other ports do",
			minute(used.chain[0].NotAfter))
	}
	if w.shows(ctx, w.targets[0]) == nil {
		w.warn("the host shows the renewed certificate already, and senders with the records of before defer their "+
			"mail: have the mail server read its files from %s, not those of the client", w.store.path("current"))
	}
}

// install has the host use the certificate.
func (w *work) install(ctx context.Context) (again time.Time, err error) {
	if !w.installed() {
		if err := w.store.use(w.Next); err != nil {
			return again, err
		}
		reached("installed")
		w.current = w.Next
		w.say("the certificate is in %s", w.store.path("current"))
	}
	if w.Told {
		return again, nil
	}
	if command := w.c.String("reload"); command == "" {
		w.say("have the mail server read its files anew, as no --reload says how")
	} else if err := shellTo(w.c.Root().ErrWriter)(ctx, command); err != nil {
		return again, fmt.Errorf("--reload: %w; the files are the renewed ones, both records stay published; run the "+
			"hook again once that works", err)
	}
	reached("reloaded")
	w.Told = true
	return again, w.store.save(w.renewal)
}

// settle waits until the host shows the certificate at all addresses, and whoever began before has ended (D-31).
func (w *work) settle(ctx context.Context) (again time.Time, err error) {
	for _, t := range w.targets {
		if t.plan.port != mail.Port && len(w.at) == 0 {
			continue // port 25 of the host is looked at for all
		}
		if err := w.shows(ctx, t); err != nil {
			w.Shown = time.Time{}
			w.say("old records stay: %v", err)
			return soon(), w.store.save(w.renewal)
		}
	}
	if w.Shown.IsZero() {
		w.Shown = outside.now()
		if err := w.store.save(w.renewal); err != nil {
			return again, err
		}
		reached("shown")
		w.say("the host shows the certificate")
	}
	until := w.Shown.Add(w.c.Duration("margin"))
	if outside.now().Before(until) && len(w.old()) > 0 {
		w.say("old records stay until %s UTC, for connections that have begun before", minute(until))
		return until, nil
	}
	return again, nil
}

// shows returns an error unless a host shows the certificate to be used wherever it is looked at.
func (w *work) shows(ctx context.Context, t *target) error {
	at := w.at
	if len(at) == 0 {
		for _, a := range t.addresses {
			at = append(at, netip.AddrPortFrom(a, mail.Port))
		}
	}
	if len(at) == 0 {
		return fmt.Errorf("%s has no address to look at: name one with --at", t.plan.host)
	}
	for _, where := range at {
		seen := *t.plan
		seen.current = nil
		if err := seen.show(ctx, where); err != nil {
			return err
		}
		if !slices.ContainsFunc(seen.current, func(id *identity) bool { return id.chain[0].Equal(w.next.chain[0]) }) {
			return fmt.Errorf("%s at %s does not show the certificate: have the mail server use the files in %s",
				t.plan.host, where, w.store.path("current"))
		}
	}
	return nil
}

// old are the records that the hook has published and nothing uses any more.
func (w *work) old() (all []*dns.TLSA) {
	for _, text := range w.Records {
		rr, err := dns.NewRR(text)
		r, ok := rr.(*dns.TLSA)
		if err != nil || !ok {
			continue // of a state that somebody has written into
		}
		if !slices.ContainsFunc(w.targets, func(t *target) bool {
			return t.want.Hdr.Name == r.Hdr.Name && sameTLSA(t.want)(r)
		}) {
			all = append(all, r)
		}
	}
	return all
}

// retire removes the records that nothing uses any more (D-32).
func (w *work) retire(ctx context.Context) (again time.Time, err error) {
	for _, r := range w.old() {
		left, err := w.remove(ctx, r)
		if err != nil {
			return again, err
		}
		if left != "" {
			w.say("%s", left)
			return soon(), nil
		}
	}
	for _, t := range w.targets {
		w.tellOthers(t)
	}
	w.Records, w.Done = nil, true
	for _, t := range w.targets {
		w.Records = append(w.Records, recordText(t.want))
	}
	if err := w.store.save(w.renewal); err != nil {
		return again, err
	}
	reached("done")
	w.say("complete: the certificate is in use")
	return again, w.store.prune(w.Next)
}

// remove removes one record; left tells where it still is. In the same update stands what has to be there (D-32).
func (w *work) remove(ctx context.Context, r *dns.TLSA) (left string, err error) {
	i := slices.IndexFunc(w.targets, func(t *target) bool { return t.want.Hdr.Name == r.Hdr.Name })
	if i < 0 {
		return "", fmt.Errorf("the hook has published %s, which is no record of %s any more: remove it, and take "+
			"it out of %s", recordText(r), strings.Join(w.hosts, ", "), w.store.path("state.json"))
	}
	t := w.targets[i]
	for try := range 2 {
		s := w.look(ctx, t, t.want)
		switch has := slices.IndexFunc(s.sets, func(set []*dns.TLSA) bool {
			return slices.ContainsFunc(set, sameTLSA(r))
		}); {
		case !s.everywhere():
			return fmt.Sprintf("the old record %s stays, as %s", recordText(r),
				cmp.Or(strings.Join(s.doubts, "; "), "the new one is not everywhere")), nil
		case has < 0:
			return "", nil
		case try > 0:
			return fmt.Sprintf("the old record %s is still published", recordText(r)), nil
		}
		w.say("remove: %s", recordText(r))
		if w.publisher == nil {
			return "by hand, as neither --primary nor --publish says how", nil
		}
		err = w.publisher.publish(ctx, t.zone, []*dns.TLSA{t.want}, []*dns.TLSA{r})
		reached("removed")
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// tellOthers tells of records that the hook has not published.
func (w *work) tellOthers(t *target) {
	for _, r := range t.plan.set.records {
		if !sameTLSA(t.want)(r) && !slices.Contains(w.Records, recordText(r)) {
			w.say("left: %s, which is not the hook's", recordText(r))
		}
	}
}
