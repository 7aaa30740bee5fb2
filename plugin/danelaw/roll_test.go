package danelaw

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/trustanchors"
	"github.com/danelaw-dns/danelaw/zones"
)

// rolling is a root that rolls its key as that of the Internet does (T-3): of two keys the first signs; the second
// appears on day 10 and signs in the place of the first from day 50 on; on day 120 the first is revoked, and on day 200
// gone.
type rolling struct {
	t        testing.TB
	begun    time.Time
	clock    *world.Clock
	tree     *world.Tree
	upstream *world.Upstream
	old, new *zones.Key
	zsk      *zones.Key
	silent   atomic.Pointer[map[uint16]bool] // tags of keys that sign nothing
}

// The days on which something happens.
const (
	published = 10
	signing   = 50
	revoking  = 120
	gone      = 200
)

const day = 24 * time.Hour

// newRolling makes one, after every build date, on day 0.
func newRolling(t testing.TB) *rolling { return newRollingIn(t, 2040) }

// newRollingIn makes one in a year.
func newRollingIn(t testing.TB, year int) *rolling {
	t.Helper()
	r := &rolling{t: t, begun: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}
	r.clock = world.NewClock(r.begun)
	r.old, r.new, r.zsk = r.key(257), r.key(257), r.key(256)
	r.tree = world.New(r.clock.Now, world.Zone("."), world.Zone("com."), world.Domain("example.com."))
	r.upstream = r.tree.Upstream()
	r.upstream.Spoil(r.silence)
	r.to(0)
	return r
}

func (r *rolling) key(flags uint16) *zones.Key {
	r.t.Helper()
	k, err := zones.NewKey(".", dns.ECDSAP256SHA256, flags)
	if err != nil {
		r.t.Fatal(err)
	}
	k.DNSKEY.Hdr.Ttl = 172800
	return k
}

// silence takes away the signatures over the keys by those that do not sign.
func (r *rolling) silence(q dns.Question, m *dns.Msg) *dns.Msg {
	if silent := r.silent.Load(); silent != nil && q.Name == "." && q.Qtype == dns.TypeDNSKEY {
		m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool {
			sig, ok := rr.(*dns.RRSIG)
			return ok && (*silent)[sig.KeyTag]
		})
	}
	return m
}

func (r *rolling) day() int {
	return int(r.clock.Now().Sub(r.begun) / day)
}

// to makes it that day, and publishes the root as it is then, with fresh signatures in all zones.
func (r *rolling) to(on int) {
	r.clock.Set(r.begun.AddDate(0, 0, on))
	keys := []*zones.Key{r.old, r.zsk}
	r.silent.Store(&map[uint16]bool{r.new.DNSKEY.KeyTag(): on < signing, r.old.DNSKEY.KeyTag(): on >= signing})
	if on >= published {
		keys = append(keys, r.new)
	}
	if on >= revoking {
		revoked, record := *r.old, *r.old.DNSKEY
		record.Flags |= dns.REVOKE
		revoked.DNSKEY = &record
		keys[0] = &revoked
	}
	if on >= gone {
		keys = keys[1:]
	}
	r.publish(keys...)
}

func (r *rolling) publish(keys ...*zones.Key) {
	r.tree.Each(func(p *zones.Plan) {
		p.Config.Inception, p.Config.Expiration = r.clock.Now().Add(-time.Hour), r.clock.Now().Add(14*day)
	})
	r.tree.Plan(".").Config.Keys = keys
	r.tree.Publish()
}

// Name and ServeDNS make it the plugin below danelaw.
func (r *rolling) Name() string { return "root" }

func (r *rolling) ServeDNS(_ context.Context, w dns.ResponseWriter, q *dns.Msg) (int, error) {
	return dns.RcodeSuccess, w.WriteMsg(r.upstream.Reply(q))
}

var _ plugin.Handler = (*rolling)(nil)

// below returns a danelaw that has those keys configured and keeps its state in a directory, as it is after its start.
func (r *rolling) below(dir string, keys ...*zones.Key) *Handler {
	r.t.Helper()
	c := Defaults()
	c.Block, c.State = fmt.Sprint(r.t.Name(), configs.Add(1)), dir
	c.Next, c.Clock, c.Prefetch, c.processorsShort = r, r.clock.Now, false, enough
	c.Anchors = trustanchors.Set{}
	for _, k := range keys {
		c.Anchors["."] = append(c.Anchors["."], k.DS(dns.SHA256))
	}
	h := open(r.t, c)
	h.keeper.start()
	r.tend(h)
	return h
}

// tend has h do what it does in the background.
func (r *rolling) tend(h *Handler) {
	h.readiness.attempt(context.Background())
	h.keeper.tend(context.Background(), h)
}

// lookAt has h look at the keys of a zone.
func lookAt(h *Handler, zone string) {
	h.keeper.look(context.Background(), h, h.follows[zone])
}

// lives has h live day by day until that one, asked each day whether a domain is Secure. It returns the first and the
// last day on which it was not, -1 if it always was.
func (r *rolling) lives(h *Handler, until int) (first, last int) {
	r.t.Helper()
	first, last = -1, -1
	for r.day() < until {
		r.to(r.day() + 1)
		r.tend(h)
		if re := from("127.0.0.1:5300").ask(r.t, h, "example.com.", dns.TypeMX, withDO); !re.AuthenticatedData {
			if re.Rcode != dns.RcodeServerFailure {
				r.t.Errorf("day %d: %s, which is neither Secure nor SERVFAIL", r.day(), describes(re))
			}
			if last = r.day(); first < 0 {
				first = last
				r.t.Logf("day %d: %s", first, describes(re))
			}
		}
	}
	return first, last
}

// states are those of the old and the new key, as h knows them.
func (r *rolling) states(h *Handler) string {
	var all []string
	for _, k := range h.follows["."].Keys {
		name := "old"
		if k.DNSKEY.PublicKey == r.new.DNSKEY.PublicKey {
			name = "new"
		}
		all = append(all, name+" "+string(k.State))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestRoll: the root's roll, and the revocation of its old key, seen by a danelaw that starts before, between and
// after, with both keys or either alone (T-3): with an anchor that signs, or one whose hold-down it has lived through,
// all is Secure on each day, and else SERVFAIL.
func TestRoll(t *testing.T) {
	const old, new, both = "old", "new", "both"
	for _, tt := range []struct {
		start       int
		has         string
		first, last int // days without an answer
		states      string
	}{
		{0, old, -1, -1, "new Valid, old Removed"},
		{0, both, -1, -1, "new Valid, old Removed"},
		{0, new, 1, signing - 1, "new Valid, old Removed"}, // old is there for 30 days and more
		{signing - 35, old, -1, -1, "new Valid, old Removed"},
		{signing - 20, old, signing, 250, ""}, // the hold-down takes longer
		{signing + 10, old, signing + 11, 250, "old Revoked"},
		{signing + 10, new, -1, -1, "new Valid, old Removed"},
		{signing + 10, both, -1, -1, "new Valid, old Removed"},
		{revoking + 10, old, revoking + 11, 250, "old Revoked"},
		{revoking + 10, new, -1, -1, "new Valid"},
		{revoking + 10, both, -1, -1, "new Valid, old Removed"},
		{gone + 10, old, gone + 11, 250, ""},
		{gone + 10, new, -1, -1, "new Valid"},
		{gone + 10, both, -1, -1, "new Valid"},
	} {
		t.Run(fmt.Sprintf("%s from day %d", tt.has, tt.start), func(t *testing.T) {
			r := newRolling(t)
			r.to(tt.start)
			keys := map[string][]*zones.Key{old: {r.old}, new: {r.new}, both: {r.old, r.new}}
			h := r.below("", keys[tt.has]...)
			first, last := r.lives(h, 250)
			if first != tt.first || last != tt.last {
				t.Errorf("not answered from day %d to day %d, want %d to %d", first, last, tt.first, tt.last)
			}
			if got := r.states(h); tt.states != "" && got != tt.states {
				t.Errorf("at the end: %s, want %s", got, tt.states)
			}
			if ready := tt.last < 250; h.Ready() != (ready || tt.start < signing) {
				t.Errorf("ready: %v", h.Ready())
			}
		})
	}
}

// TestRollRestarted: a hold-down goes on over restarts, as its state is kept, and begins anew without (T-10); the state
// of an old danelaw and a newer one's keys add up (T-10a), and a revocation outlives them (T-8).
func TestRollRestarted(t *testing.T) {
	for _, tt := range []struct {
		kept       bool
		from, last int
	}{{true, -1, -1}, {false, signing, 110}} {
		r := newRolling(t)
		dir := ""
		if tt.kept {
			dir = filepath.Join(t.TempDir(), "state")
		}
		from, last := -1, -1
		for range 11 { // a restart every ten days
			h := r.below(dir, r.old)
			f, l := r.lives(h, r.day()+10)
			if h.Close(); f >= 0 {
				last = l
				if from < 0 {
					from = f
				}
			}
		}
		if from != tt.from || last != tt.last {
			t.Errorf("kept %v: not answered from day %d to %d, want %d to %d", tt.kept, from, last, tt.from, tt.last)
		}
	}
	r := newRolling(t)
	dir := filepath.Join(t.TempDir(), "state")
	h := r.below(dir, r.old, r.new)
	r.lives(h, 230)
	h.Close()
	r.silent.Store(nil)
	r.publish(r.old, r.zsk) // as if the old key were stolen
	h = r.below(dir, r.old, r.new)
	re := from("127.0.0.1:5300").ask(t, h, "example.com.", dns.TypeMX, withDO)
	if re.Rcode != dns.RcodeServerFailure || h.Ready() || r.states(h) != "new Valid, old Removed" {
		t.Errorf("a key that was revoked signs again: %s, ready %v; %s", describes(re), h.Ready(), r.states(h))
	}
}

// TestRollAsleep: a host that slept for months goes on with what it knew. A key that was there before and after is
// trusted an hour later (T-11); one that signs by then, but was not trusted yet, is not.
func TestRollAsleep(t *testing.T) {
	r := newRolling(t)
	h := r.below("", r.old)
	r.lives(h, 15)
	r.to(45)
	r.tend(h)
	if got := r.states(h); got != "new AddPend, old Valid" {
		t.Errorf("as it wakes up: %s", got)
	}
	r.clock.Advance(time.Hour + time.Minute)
	r.tend(h)
	if got := r.states(h); got != "new Valid, old Valid" {
		t.Errorf("an hour later: %s", got)
	}
	r.to(230)
	if first, _ := r.lives(h, 235); first >= 0 || r.states(h) != "new Valid, old Missing" {
		t.Errorf("months later it is not Secure on day %d; %s", first, r.states(h))
	}

	r = newRolling(t)
	h = r.below("", r.old)
	r.lives(h, 15)
	r.to(60)
	if first, last := r.lives(h, 65); first != 61 || last != 65 || r.states(h) != "new AddPend, old Valid" {
		t.Errorf("asleep until day 60: SERVFAIL from day %d to %d; %s", first, last, r.states(h))
	}
}

// TestRevokedKeepsCache: what is remembered outlives the revocation of one of two anchors, as the keys that all rests
// on are the same by the other. If none is left nothing holds any more, and the root is Bogus, not Insecure (T-9).
func TestRevokedKeepsCache(t *testing.T) {
	const both, alone = true, false
	for _, with := range []bool{both, alone} {
		book := logged(t)
		r := newRolling(t)
		keys := []*zones.Key{r.old, r.new}
		if !with {
			keys = keys[:1]
		}
		r.to(signing - 1)
		h := r.below("", keys...)
		mta := from("127.0.0.1:5300")
		if re := mta.ask(t, h, "example.com.", dns.TypeMX, withDO); !re.AuthenticatedData {
			t.Fatalf("before: %s", describes(re))
		}
		r.upstream.Forget()
		revoked, record := *r.old, *r.old.DNSKEY
		record.Flags |= dns.REVOKE
		revoked.DNSKEY = &record
		r.silent.Store(nil)
		r.publish(&revoked, r.new, r.zsk)
		lookAt(h, ".")
		if r.upstream.Count(". DNSKEY") == 0 {
			t.Error("the keys were not looked at")
		}
		r.upstream.Forget()
		re := mta.ask(t, h, "example.com.", dns.TypeMX, withDO)
		if cached := len(r.upstream.Asked()) == 0; re.AuthenticatedData != with || cached != with {
			t.Errorf("with another anchor %v: %s, asked %v", with, describes(re), r.upstream.Asked())
		}
		if !with && (re.Rcode != dns.RcodeServerFailure || !strings.Contains(textOf(re), "all are revoked")) {
			t.Errorf("all revoked: %s", describes(re))
		}
		re = mta.ask(t, h, "www.example.com.", dns.TypeA, withDO)
		if re.AuthenticatedData != with || with && r.upstream.Count(". DNSKEY") > 0 {
			t.Errorf("with another anchor %v, another name: %s, asked %v", with, describes(re), r.upstream.Asked())
		}
		told := strings.Contains(book.String(), "trust anchors of .: all are revoked: install a newer danelaw")
		if told == with || !strings.Contains(book.String(), "has been revoked by itself") {
			t.Errorf("log:\n%s", book)
		}
	}
}

// TestRevokedUnsigned: a key that has the REVOKE bit and has not signed is not revoked, as others may have set the bit;
// without it, it is not there either (V-5, T-8).
func TestRevokedUnsigned(t *testing.T) {
	for _, signs := range []bool{false, true} {
		r := newRolling(t)
		r.to(signing)
		h := r.below("", r.old, r.new)
		revoked, record := *r.old, *r.old.DNSKEY
		record.Flags |= dns.REVOKE
		revoked.DNSKEY = &record
		r.silent.Store(&map[uint16]bool{record.KeyTag(): !signs})
		r.publish(&revoked, r.new, r.zsk)
		lookAt(h, ".")
		want := map[bool]string{false: "new Valid, old Missing", true: "new Valid, old Revoked"}[signs]
		if got := r.states(h); got != want {
			t.Errorf("it signs: %v: %s, want %s", signs, got, want)
		}
	}
}

// TestRevokedForgedKeys: what was validated by keys that are not confirmed by those left is forgotten when an anchor is
// revoked: who has stolen it has made them.
func TestRevokedForgedKeys(t *testing.T) {
	r := newRolling(t)
	h := r.below("", r.old, r.new)
	stolen := r.key(256)
	r.publish(r.old, stolen) // and all signed with it
	if lookAt(h, "."); r.states(h) != "old Valid" {
		t.Fatal(r.states(h))
	}
	h.resolving.Flush(".")
	mta := from("127.0.0.1:5300")
	if re := mta.ask(t, h, "example.com.", dns.TypeMX, withDO); !re.AuthenticatedData {
		t.Fatalf("forged: %s", describes(re))
	}
	r.to(revoking)
	r.silent.Store(nil)
	r.clock.Set(r.clock.Now().Add(-revoking * day)) // at once
	r.publish(r.tree.Plan(".").Config.Keys...)
	lookAt(h, ".")
	r.upstream.Forget()
	if re := mta.ask(t, h, "example.com.", dns.TypeMX, withDO); !re.AuthenticatedData || len(r.upstream.Asked()) == 0 {
		t.Errorf("%s, asked %v", describes(re), r.upstream.Asked())
	}
}

// TestPointRevoked: an anchor point below the root whose last anchor is revoked is left to the root's chain (T-9).
func TestPointRevoked(t *testing.T) {
	r := newRolling(t)
	child := r.tree.Zone("com.").Keys[0]
	c := Defaults()
	c.Block = fmt.Sprint(t.Name(), configs.Add(1))
	c.Next, c.Clock, c.Prefetch, c.processorsShort = r, r.clock.Now, false, enough
	c.Anchors = trustanchors.Set{".": {r.old.DS(dns.SHA256)}, "com.": {child.DS(dns.SHA256)}}
	h := open(t, c)
	r.tend(h)
	if got := len(h.resolving.Trusted()); got != 2 {
		t.Fatalf("%d points", got)
	}
	revoked, record := *child, *child.DNSKEY
	record.Flags |= dns.REVOKE
	revoked.DNSKEY = &record
	next, err := zones.NewKey("com.", dns.ECDSAP256SHA256, 257)
	if err != nil {
		t.Fatal(err)
	}
	r.tree.Plan("com.").Config.Keys = []*zones.Key{&revoked, next}
	r.publish(r.tree.Plan(".").Config.Keys...)
	lookAt(h, "com.")
	if _, is := h.resolving.Trusted()["com."]; is || len(h.resolving.Trusted()) != 1 {
		t.Errorf("trusted: %v", h.resolving.Trusted())
	}
	if re := from("127.0.0.1:5300").ask(t, h, "example.com.", dns.TypeMX, withDO); !re.AuthenticatedData {
		t.Errorf("by the root's chain: %s", describes(re))
	}
}

// TestPointRevokedAlone: where there is nothing above such a point it stays, and proves nothing: no revocation makes
// anything Insecure (T-9).
func TestPointRevokedAlone(t *testing.T) {
	r := newRolling(t)
	child := r.tree.Zone("com.").Keys[0]
	c := Defaults()
	c.Block = fmt.Sprint(t.Name(), configs.Add(1))
	c.Next, c.Clock, c.Prefetch, c.processorsShort = r, r.clock.Now, false, enough
	c.Anchors = trustanchors.Set{"com.": {child.DS(dns.SHA256)}}
	h := open(t, c)
	r.tend(h)
	revoked, record := *child, *child.DNSKEY
	record.Flags |= dns.REVOKE
	revoked.DNSKEY = &record
	r.tree.Plan("com.").Config.Keys = []*zones.Key{&revoked}
	r.publish(r.tree.Plan(".").Config.Keys...)
	lookAt(h, "com.")
	if re := from("127.0.0.1:5300").ask(t, h, "example.com.", dns.TypeMX, withDO); re.Rcode != dns.RcodeServerFailure {
		t.Errorf("%s", describes(re))
	}
}

// TestAnchorState: the file is danelaw's alone and replaced as a whole; one that is damaged or of a newer version is
// set aside, and danelaw starts without (T-10a); where none can be written the alarm is told, what is learned is in
// force, and saving is tried again (T-10).
func TestAnchorState(t *testing.T) {
	for _, content := range []string{"{", `{"version": 2, "points": []}`} {
		book := logged(t)
		r := newRolling(t)
		dir := t.TempDir()
		file := filepath.Join(dir, anchorsFile)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		h := r.below(dir, r.old)
		aside, err := os.ReadFile(file + ".damaged")
		if string(aside) != content || err != nil || !strings.Contains(book.String(), "cannot be read") {
			t.Errorf("set aside: %q, %v; log:\n%s", aside, err, book)
		}
		if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `"Valid"`) {
			t.Errorf("written anew: %q, %v", text, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if place, failed := h.keeper.saved(); !place || failed {
			t.Errorf("saved: %v %v", place, failed)
		}
	}

	book := logged(t)
	r := newRolling(t)
	above := filepath.Join(t.TempDir(), "file")
	h := r.below(filepath.Join(above, "state"), r.old)
	if err := os.RemoveAll(above); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(above, nil, 0o600); err != nil { // where a directory is to be made
		t.Fatal(err)
	}
	r.lives(h, 45)
	if got := r.states(h); got != "new Valid, old Valid" {
		t.Errorf("without a place: %s", got)
	}
	if n := strings.Count(book.String(), "the states of trust anchors cannot be written"); n != 1 {
		t.Errorf("the alarm is told %d times:\n%s", n, book)
	}
	if _, failed := h.keeper.saved(); !failed {
		t.Error("no alarm")
	}
	if err := os.Remove(above); err != nil {
		t.Fatal(err)
	}
	h.keeper.saveAgain(time.Now().Add(lastSave))
	if _, failed := h.keeper.saved(); failed {
		t.Error("not saved again")
	}
}

// TestAnchorsOfOthers: a state whose keys are none of those configured is that of another root: it is not used, and
// kept for who has them. Server blocks that have no anchor of a zone in common follow one each.
func TestAnchorsOfOthers(t *testing.T) {
	r, other := newRolling(t), newRolling(t)
	dir := t.TempDir()
	h := r.below(dir, r.old)
	h.Close()
	c := other.below(dir, other.old).config // it goes on
	if trusted := process.newest()[c.Block]; trusted != nil {
		t.Fatal("it was not started")
	}
	c.Anchors, c.Next = trustanchors.Set{".": {r.old.DS(dns.SHA256)}}, r
	h = open(t, c) // of the same table
	r.to(published)
	other.to(published)
	r.tend(h)
	tags := func(h *Handler) (all []uint16) {
		for _, ds := range h.resolving.Trusted()["."] {
			all = append(all, ds.KeyTag)
		}
		return all
	}
	if got := tags(h); !slices.Equal(got, []uint16{r.old.DNSKEY.KeyTag()}) {
		t.Errorf("trusted: %v", got)
	}
	for _, o := range h.keeper.handlers {
		want := map[bool]*rolling{true: r, false: other}[o == h]
		if !slices.Equal(tags(o), []uint16{want.old.DNSKEY.KeyTag()}) {
			t.Errorf("trusted: %v", tags(o))
		}
	}
	for _, p := range h.keeper.points {
		if len(p.Keys) == 0 {
			t.Errorf("not followed: %+v", p.Point)
		}
	}
	if n := len(h.keeper.points); n != 2 || len(h.keeper.told(nil, r.clock.Now())) != 2 {
		t.Errorf("%d points", n)
	}
	if err := h.keeper.imports([]*dns.DS{r.new.DS(dns.SHA256)}); err == nil ||
		!strings.Contains(err.Error(), "server blocks have different trust anchors for .") {
		t.Errorf("import: %v", err)
	}
}

// TestValidationTime: where all is judged at one instant no key is followed.
func TestValidationTimeFollowsNothing(t *testing.T) {
	r := newRolling(t)
	c := r.below("", r.old).config
	c.Block, c.ValidationTime = fmt.Sprint(t.Name(), configs.Add(1)), r.clock.Now()
	h := open(t, c)
	r.upstream.Forget()
	if h.keeper.tend(context.Background(), h); len(r.upstream.Asked()) > 0 || len(h.resolving.Trusted()["."]) != 1 {
		t.Errorf("asked %v", r.upstream.Asked())
	}
}

// TestSignal: with each look at its keys a zone's servers are told which are trusted (T-16), unless that is off;
// whatever they answer (S-14).
func TestSignal(t *testing.T) {
	ds := func(tags ...uint16) (all []*dns.DS) {
		for _, tag := range tags {
			all = append(all, &dns.DS{KeyTag: tag})
		}
		return all
	}
	for _, tt := range []struct {
		zone string
		tags []uint16
		want string
	}{
		{".", []uint16{38696, 20326, 38696}, "_ta-4f66-9728."}, {"example.", []uint16{10}, "_ta-000a.example."},
		{".", nil, ""}, {".", make64(), ""},
	} {
		if got := signalName(tt.zone, ds(tt.tags...)); got != tt.want {
			t.Errorf("%v of %s: %q, want %q", tt.tags, tt.zone, got, tt.want)
		}
	}
	for _, on := range []bool{true, false} {
		r := newRolling(t)
		h := r.below("", r.old, r.new)
		h.config.Signal = on
		r.upstream.Forget()
		r.upstream.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
			if q.Qtype == dns.TypeNULL {
				return nil
			}
			return r.silence(q, m)
		})
		lookAt(h, ".")
		want := signalName(".", h.resolving.Trusted()["."]) + " NULL"
		if got := r.upstream.Count(want); got != count1(on) || r.upstream.Count("* NULL") != got {
			t.Errorf("signal %v: asked %v", on, r.upstream.Asked())
		}
		if re := from("127.0.0.1:5300").ask(t, h, "example.com.", dns.TypeMX, withDO); !re.AuthenticatedData {
			t.Errorf("after it: %s", describes(re))
		}
	}
}

func count1(b bool) int {
	if b {
		return 1
	}
	return 0
}

// make64 are as many tags as no name can hold.
func make64() (tags []uint16) {
	for n := range uint16(64) {
		tags = append(tags, n)
	}
	return tags
}

// TestSentinel: what a name says of the root's trust anchors decides whether its address is told (T-17), for Secure
// answers to A and AAAA without CD, at the first label alone.
func TestSentinel(t *testing.T) {
	r := newRolling(t)
	tag := r.old.DNSKEY.KeyTag()
	is, not := fmt.Sprintf("%s%05d", isTA, tag), fmt.Sprintf("%s%05d", notTA, tag)
	isOther, notOther := fmt.Sprintf("%s%05d", isTA, tag^1), fmt.Sprintf("%s%05d", notTA, tag^1)
	beside := fmt.Sprintf("%s%05d", isTA, tag^2)
	r.tree.Add(world.Zone("sentinel.com.", "* A 192.0.2.1", "* AAAA 2001:db8::1", "* MX 10 mx",
		"www."+beside+" A 192.0.2.1"))
	r.tree.Add(zones.Plan{Name: "unsigned.com.", Text: world.Base + "* A 192.0.2.1\n",
		Config: zones.Config{Unsigned: true}})
	h := r.below("", r.old)
	for _, tt := range []struct {
		name   string
		qtype  uint16
		told   bool
		change []change
	}{
		{is + ".sentinel.com.", dns.TypeA, true, nil}, {is + ".sentinel.com.", dns.TypeAAAA, true, nil},
		{not + ".sentinel.com.", dns.TypeA, false, nil}, {not + ".sentinel.com.", dns.TypeAAAA, false, nil},
		{isOther + ".sentinel.com.", dns.TypeA, false, nil}, {notOther + ".sentinel.com.", dns.TypeA, true, nil},
		{strings.ToUpper(not) + ".sentinel.com.", dns.TypeA, false, nil},
		{not + ".sentinel.com.", dns.TypeMX, true, nil}, {not + ".sentinel.com.", dns.TypeA, true, []change{withCD}},
		{not + ".unsigned.com.", dns.TypeA, true, nil}, {"www." + beside + ".sentinel.com.", dns.TypeA, true, nil},
		{not + "0.sentinel.com.", dns.TypeA, true, nil}, {isTA + "1.sentinel.com.", dns.TypeA, true, nil},
		{isTA + "99999.sentinel.com.", dns.TypeA, true, nil}, {isTA + "+1234.sentinel.com.", dns.TypeA, true, nil},
	} {
		for range 2 { // the second from the cache
			re := from("127.0.0.1:5300").ask(t, h, tt.name, tt.qtype, append(tt.change, withDO)...)
			if told := re.Rcode == dns.RcodeSuccess && len(re.Answer) > 0; told != tt.told ||
				!told && (re.Rcode != dns.RcodeServerFailure || len(re.Answer) > 0 || re.AuthenticatedData) {
				t.Errorf("%s %s: %s", tt.name, dns.Type(tt.qtype), describes(re))
			}
		}
		if tt.told {
			continue
		}
		local := netip.MustParseAddr("127.0.0.1")
		q := &fastpath.Question{Name: strings.ToLower(tt.name), Type: tt.qtype, Origin: fastpath.Origin{Client: local}}
		memory := resolve.Memory{Resolver: h.resolving}
		held := memory.Packed(dnssec.Question(q.Name, q.Type), false, memory.Now(), new(resolve.Packed))
		if passes := (&hit{Question: q, h: h}).passes(); passes || !held {
			t.Errorf("%s %s: in the cache %v, answered at once %v", tt.name, dns.Type(tt.qtype), held, passes)
		}
	}
}
