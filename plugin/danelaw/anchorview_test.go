package danelaw

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// TestAnchorsTold: in each phase of a roll what is told of keys, the metrics and the concerns are those of the phase.
func TestAnchorsTold(t *testing.T) {
	r := newRolling(t)
	h := r.below("", r.old)
	process.begin(h)
	old, new := r.old.DNSKEY.KeyTag(), r.new.DNSKEY.KeyTag()
	for _, tt := range []struct {
		day, trusted       int
		old, new, concerns string
	}{
		{5, 1, "Valid: key OLD is trusted", "", ""},
		{15, 1, "Valid: key OLD is trusted",
			"AddPend: key NEW is new, and trusted from 2040-02-10 00:00 UTC on if it stays",
			"key NEW is published, and not trusted before 2040-02-10 00:00 UTC: should the others be revoked " +
				"earlier, " + newAnchors},
		{45, 2, "Valid: key OLD is trusted", "Valid: key NEW is trusted", ""},
		{55, 2, "Valid: key OLD is trusted, but signs no more: it may soon be revoked", "Valid: key NEW is trusted",
			"key OLD signs no more and may soon be revoked: nothing is to be done, as another is trusted"},
		{125, 1, "Revoked: key OLD has been revoked by itself, and is trusted no more", "Valid: key NEW is trusted",
			""},
		{235, 1, "Removed: key OLD was revoked and has been gone for 30 days", "Valid: key NEW is trusted", ""},
	} {
		r.lives(h, tt.day)
		named := strings.NewReplacer("OLD", fmt.Sprint(old), "NEW", fmt.Sprint(new))
		points := h.keeper.told(h, r.clock.Now())
		if len(points) != 1 {
			t.Fatalf("day %d: %+v", tt.day, points)
		}
		p, text := points[0], map[uint16]string{}
		for _, k := range p.Keys {
			text[k.KeyTag] = k.State + ": " + k.Text
		}
		if p.Trusted != tt.trusted || text[old] != named.Replace(tt.old) || text[new] != named.Replace(tt.new) ||
			strings.Join(p.Concerns, "; ") != named.Replace(tt.concerns) || p.Stale || p.Fault != "" {
			t.Errorf("day %d: %+v", tt.day, p)
		}
		state, _, _ := strings.Cut(tt.old, ":")
		block, tag := h.config.Block, fmt.Sprint(old)
		retiring := strings.Contains(tt.old, "signs no more")
		if metric(t, "trust_anchor_state", "block", block, "key_tag", tag, "state", state) != 1 ||
			metric(t, "trust_anchor_state", "block", block, "key_tag", tag) != 1 ||
			metric(t, "trust_anchors", "block", block) != float64(tt.trusted) ||
			metric(t, "trust_anchor_retiring", "block", block, "key_tag", tag) != truth(retiring) ||
			metric(t, "trust_anchors_stale", "block", block) != 0 ||
			metric(t, "trust_anchor_refresh_age_seconds", "block", block) != 0 ||
			metric(t, "trust_anchor_refresh_timestamp_seconds", "block", block) != float64(p.Next.Unix()) {
			t.Errorf("day %d: metrics", tt.day)
		}
		until := time.Time{}
		if strings.HasPrefix(tt.new, "AddPend") {
			until = time.Date(2040, 2, 10, 0, 0, 0, 0, time.UTC)
		}
		next := metric(t, "trust_anchor_next_state_timestamp_seconds", "block", block, "key_tag", fmt.Sprint(new))
		if until.IsZero() && next != 0 || !until.IsZero() && next != float64(until.Unix()) {
			t.Errorf("day %d: the next state is at %v", tt.day, next)
		}
		status := h.status(r.clock.Now())
		if len(status.Anchors["."]) != tt.trusted || (len(status.Concerns) > 0) != (tt.concerns != "") ||
			len(status.Concerns) > 0 && !strings.HasPrefix(status.Concerns[0], "trust anchors of .: key ") {
			t.Errorf("day %d: status %+v, %q", tt.day, status.Anchors, status.Concerns)
		}
	}
}

// TestAnchorsStale: that keys could not be looked at for twice the interval and a day is told once, with the reason,
// and shown until they can.
func TestAnchorsStale(t *testing.T) {
	book := logged(t)
	r := newRolling(t)
	h := r.below("", r.old)
	process.begin(h)
	r.upstream.Spoil(func(dns.Question, *dns.Msg) *dns.Msg { return nil })
	stale := func() bool {
		h.keeper.tend(context.Background(), h)
		p := h.keeper.told(h, r.clock.Now())[0]
		if got := metric(t, "trust_anchors_stale", "block", h.config.Block) == 1; got != p.Stale {
			t.Errorf("told %v, metric %v", p.Stale, got)
		}
		const since = "their keys could be looked at last 2040-01-01 00:00 UTC, so that "
		if p.Stale && !strings.HasPrefix(p.Concerns[0], since) {
			t.Errorf("concerns: %q", p.Concerns)
		}
		return p.Stale
	}
	for range 3 {
		if r.clock.Advance(day); stale() {
			t.Errorf("stale on %v", r.clock.Now())
		}
	}
	for range 3 {
		if r.clock.Advance(day); !stale() {
			t.Errorf("not stale on %v", r.clock.Now())
		}
	}
	if age := metric(t, "trust_anchor_refresh_age_seconds", "block", h.config.Block); age != (6 * day).Seconds() {
		t.Errorf("age %v", age)
	}
	if n := strings.Count(book.String(), "their keys could be looked at last"); n != 1 {
		t.Errorf("told %d times:\n%s", n, book)
	}
	if n := strings.Count(book.String(), "the keys of the trust anchors of . could not be looked at: "); n != 1 {
		t.Errorf("the fault is told %d times:\n%s", n, book)
	}
	r.upstream.Spoil(r.silence)
	r.publish(r.tree.Plan(".").Config.Keys...)
	r.clock.Advance(day)
	if stale() || !strings.Contains(book.String(), "the keys of the trust anchors of . have been looked at again") {
		t.Errorf("stale, and all is well again:\n%s", book)
	}
}

// TestAnchorsLooked: whoever only looks at a Corefile sees the keys as they are now.
func TestAnchorsLooked(t *testing.T) {
	r := newRolling(t)
	r.to(published)
	c := r.below("", r.old).config
	c.Block = fmt.Sprint(t.Name(), configs.Add(1))
	h, err := newHandler(c, origin{looking: true})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	points, err := Anchors(context.Background(), h)
	if err != nil || len(points) != 1 || len(points[0].Keys) != 2 || len(points[0].Concerns) != 1 {
		t.Errorf("%v, %+v", err, points)
	}
	r.upstream.Spoil(func(dns.Question, *dns.Msg) *dns.Msg { return nil })
	if _, err := Anchors(context.Background(), h); err == nil {
		t.Error("no error without an upstream")
	}
}

// TestImported: anchors that an operator vouches for are trusted at once, also where all others are revoked; one that
// was revoked is refused, and so is one of a zone that has none (T-8, T-10a).
func TestImported(t *testing.T) {
	r := newRolling(t)
	h := r.below(t.TempDir(), r.old)
	r.lives(h, 9)
	r.to(revoking) // it slept meanwhile
	r.tend(h)
	secure := func() bool {
		return from("127.0.0.1:5300").ask(t, h, "example.com.", dns.TypeMX, withDO).AuthenticatedData
	}
	if points := h.keeper.told(h, r.clock.Now()); secure() || points[0].Trusted != 0 ||
		!strings.Contains(strings.Join(points[0].Concerns, "; "), "all trust anchors are revoked: install a newer") {
		t.Errorf("all revoked: %+v", points)
	}
	of := func(k *dns.DNSKEY) *dns.DS { return k.ToDS(dns.SHA256) }
	com := *of(r.new.DNSKEY)
	com.Hdr.Name = "com."
	for _, ds := range []*dns.DS{of(r.old.DNSKEY), &com} {
		if err := h.keeper.imports([]*dns.DS{of(r.new.DNSKEY), ds}); err == nil || secure() {
			t.Errorf("%v: %v", ds, err)
		}
	}
	for range 2 { // the second time changes nothing
		if err := h.keeper.imports([]*dns.DS{of(r.new.DNSKEY)}); err != nil || !secure() {
			t.Errorf("imported: %v", err)
		}
	}
	if n := len(h.follows["."].Imported); n != 1 {
		t.Errorf("%d are imported", n)
	}
	r.tend(h)
	if got := r.states(h); got != "new Valid, old Revoked" {
		t.Errorf("after a look: %s", got)
	}
}

// TestImportedMeanwhile: a look at the keys that fails, and began before anchors were imported, does not put off that
// which is due because of these (T-12).
func TestImportedMeanwhile(t *testing.T) {
	r := newRolling(t)
	h := r.below(t.TempDir(), r.key(257)) // of no use
	held, gate, looked := make(chan struct{}), make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(held); <-gate })
	r.upstream.Spoil(func(dns.Question, *dns.Msg) *dns.Msg { hold(); return nil })
	go func() { lookAt(h, "."); close(looked) }()
	<-held
	if err := h.keeper.imports([]*dns.DS{r.old.DS(dns.SHA256)}); err != nil {
		t.Fatal(err)
	}
	close(gate)
	<-looked
	r.upstream.Spoil(r.silence)
	if p := h.follows["."]; !p.Due(r.clock.Now()) {
		t.Errorf("the keys are looked at only at %v", p.Next())
	}
	r.tend(h)
	if got := r.states(h); got != "old Valid" {
		t.Errorf("after a look: %s", got)
	}
}

// TestOutdated: only trust anchors that match no key, or none that signs, may be too old.
func TestOutdated(t *testing.T) {
	for _, tt := range []struct {
		err error
		is  bool
	}{
		{&dnssec.Failure{Code: 9, Type: dns.TypeDNSKEY, KeyTag: 1}, true},
		{&dnssec.Failure{Code: 6, Type: dns.TypeDNSKEY, KeyTag: 1}, true},
		{&dnssec.Failure{Code: 7, Type: dns.TypeDNSKEY, KeyTag: 1}, false},
		{&dnssec.Failure{Code: 6, Type: dns.TypeDS, KeyTag: 1}, false},
		{&dnssec.Failure{Code: 9, Type: dns.TypeDNSKEY}, false}, {errors.New("other"), false},
	} {
		if got := outdated(tt.err) != ""; got != tt.is {
			t.Errorf("%+v: %v", tt.err, got)
		}
	}
}
