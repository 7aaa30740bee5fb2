package danelaw

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
)

// strippedBelow loses the signatures of replies to questions about names at or below zone, of the given types or of
// all.
func strippedBelow(zone string, types ...uint16) tamper {
	return func(network string, n int, q, r *dns.Msg) *dns.Msg {
		asked := q.Question[0]
		matches := len(types) == 0
		for _, t := range types {
			matches = matches || t == asked.Qtype
		}
		if matches && dns.IsSubDomain(zone, dns.CanonicalName(asked.Name)) && asked.Qtype != dns.TypeDS &&
			asked.Qtype != dns.TypeDNSKEY {
			return stripped(network, n, q, r)
		}
		return r
	}
}

const secureTLSA = "_25._tcp.mx." + secureMX

// wants checks a reply: "secure", "distrusted" (Insecure with EDE 33) or "failed".
func wants(t *testing.T, what, want string, r *dns.Msg) {
	t.Helper()
	codes := edes(r)
	got := "other"
	switch {
	case r.Rcode == dns.RcodeSuccess && r.AuthenticatedData && len(codes) == 0:
		got = "secure"
	case r.Rcode == dns.RcodeSuccess && !r.AuthenticatedData && len(codes) == 1 && codes[0] == chain.CodeNTA &&
		len(r.Answer) > 0:
		got = "distrusted"
	case r.Rcode == dns.RcodeServerFailure && len(codes) > 0:
		got = "failed"
	}
	if got != want {
		t.Errorf("%s: %s, want %s", what, describes(r), want)
	}
}

// TestNegativeDropped: about every five minutes what failed is tried again. The negative trust anchor is dropped when
// all of it validates, not when the apex does, and not with keep (T-18).
func TestNegativeDropped(t *testing.T) {
	book := logged(t)
	p := between(t, strippedBelow(secureMX, dns.TypeTLSA)) // broken for TLSA alone
	clock := new(dial)
	c := config(t, p.addr)
	c.Clock = clock.now
	h := open(t, c)
	server := serve(t, h)
	tlsa := func() *dns.Msg { return ask(t, server, secureTLSA, dns.TypeTLSA, withDO) }
	wants(t, "before", "failed", tlsa())
	n, _, err := h.ntas.add(NegativeAnchor{Zone: secureMX, Life: time.Hour, Reason: "told them"})
	if err != nil || len(n.Tests) != 1 || n.Tests[0].Name != secureTLSA {
		t.Fatalf("%+v, %v", n, err)
	}
	kept := config(t, p.addr)
	kept.Clock = clock.now
	kept.NTAs = []NegativeAnchor{{Zone: secureMX, Life: time.Hour, Keep: true}}
	keeper := open(t, kept)
	tend := func(after time.Duration) {
		clock.offset.Add(int64(after))
		h.ntas.tend(context.Background(), h)
		keeper.ntas.tend(context.Background(), keeper)
	}
	wants(t, "added", "distrusted", tlsa())
	wants(t, "added", "distrusted", ask(t, server, secureMX, dns.TypeMX, withDO))
	tend(testEvery + time.Second)
	wants(t, "still broken", "distrusted", tlsa())
	if got := h.ntas.list()[0].Tests[0].Result; !strings.HasPrefix(got, "Bogus: ") {
		t.Errorf("the test came out as %q", got)
	}
	p.become(honest)
	tend(testEvery - 2*time.Second)
	wants(t, "well, not tested yet", "distrusted", tlsa())
	tend(2 * time.Second)
	wants(t, "well", "secure", tlsa())
	if all := h.ntas.list(); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
	if len(keeper.ntas.list()) != 1 || keeper.ntas.count(keeper) != 1 {
		t.Error("the one to be kept is gone")
	}
	tend(time.Hour)
	if n := keeper.ntas.list()[0]; n.Over != "ended" || keeper.ntas.count(keeper) != 0 {
		t.Errorf("an hour later: %+v", n)
	}
	for _, want := range []string{
		"negative trust anchor for rsasha256.dane. until", "told them: added",
		"told them: dropped, as the zone validates", "keep: ended",
	} {
		if !strings.Contains(book.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, book)
		}
	}
}

// TestNegativeUnsigned: a zone that has become an unsigned one is well too.
func TestNegativeUnsigned(t *testing.T) {
	clock := new(dial)
	c := config(t)
	c.Clock = clock.now
	h := open(t, c)
	if _, _, err := h.ntas.add(NegativeAnchor{Zone: insecureMX, Life: time.Hour}); err != nil {
		t.Fatal(err)
	}
	clock.offset.Add(int64(testEvery))
	h.ntas.tend(context.Background(), h)
	if all := h.ntas.list(); len(all) > 0 {
		t.Errorf("left: %v", all)
	}
}

// TestNegativeRefused: what would have no effect, or too much, is not set.
func TestNegativeRefused(t *testing.T) {
	c := config(t)
	c.Next, c.Private = &site{}, []string{"corp.example."}
	h := open(t, c)
	for _, tt := range []struct {
		a    NegativeAnchor
		want string
	}{
		{NegativeAnchor{Zone: ".", Life: time.Hour}, "nothing to validate"},
		{NegativeAnchor{Zone: "a..b.", Life: time.Hour}, "not a domain name"},
		{NegativeAnchor{Zone: "a.dane.", Life: 169 * time.Hour}, "out of range"},
		{NegativeAnchor{Zone: "a.dane."}, "out of range"},
		{NegativeAnchor{Zone: "a.dane.", Life: time.Hour, Reason: "two\nlines"}, "more than one line"},
		{NegativeAnchor{Zone: "a.corp.example.", Life: time.Hour}, "is private"},
	} {
		if _, _, err := h.ntas.add(tt.a); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.a, err, tt.want)
		}
	}
	if err := h.ntas.remove("a.dane."); err == nil ||
		!strings.Contains(err.Error(), "no negative trust anchor for a.dane.") {
		t.Errorf("removed what is not there: %v", err)
	}
	if len(h.ntas.list()) > 0 {
		t.Error("something was set")
	}
}

// TestNegativeBounded: there can be so many, and one that is set again is no further one.
func TestNegativeBounded(t *testing.T) {
	h := open(t, config(t))
	h.ntas.all = make([]*NTA, maxNTAs)
	for i := range h.ntas.all {
		h.ntas.all[i] = &NTA{Zone: "other.dane."}
	}
	h.ntas.all[0].Zone = "a.dane."
	if _, _, err := h.ntas.add(NegativeAnchor{Zone: "b.dane.", Life: time.Hour}); err == nil ||
		!strings.Contains(err.Error(), "1000 already") {
		t.Errorf("one more: %v", err)
	}
	if _, _, err := h.ntas.add(NegativeAnchor{Zone: "a.dane.", Life: time.Hour}); err != nil {
		t.Errorf("the same again: %v", err)
	}
}

// restart ends h, and starts one of the same configuration.
func restart(t *testing.T, h *Handler, change func(*Config)) *Handler {
	t.Helper()
	h.Close()
	c := h.config
	if change != nil {
		change(&c)
	}
	return started(t, c)
}

// TestNegativeOutlivesRestart: end and reason of what is set at run time are kept, and since when those of the Corefile
// are there: a restart does not prolong them, nor revive those that are over; a changed line begins anew.
func TestNegativeOutlivesRestart(t *testing.T) {
	clock := new(dial)
	c := config(t)
	c.Clock, c.State = clock.now, filepath.Join(t.TempDir(), "made", "state")
	c.NTAs = []NegativeAnchor{
		{Zone: "a.dane.", Life: time.Hour, Keep: true}, {Zone: "b.dane.", Life: time.Hour, Keep: true},
		{Zone: "c.dane.", Life: 2 * time.Hour, Keep: true},
	}
	h := started(t, c)
	if _, _, err := h.ntas.add(NegativeAnchor{Zone: "run.dane.", Life: time.Hour, Keep: true,
		Reason: "told \"them\""}); err != nil {
		t.Fatal(err)
	}
	if err := h.ntas.remove("b.dane."); err != nil {
		t.Fatal(err)
	}
	before := h.ntas.list()
	if info, err := os.Stat(h.ntas.store.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	clock.offset.Add(int64(30 * time.Minute))
	h = restart(t, h, nil)
	after := h.ntas.list()
	if len(after) != len(before) || len(after) != 4 {
		t.Fatalf("%d before, %d after", len(before), len(after))
	}
	for i, n := range after {
		if o := before[i]; n.Zone != o.Zone || !n.Begun.Equal(o.Begun) || !n.Until.Equal(o.Until) ||
			n.Reason != o.Reason || n.Keep != o.Keep || n.Over != o.Over {
			t.Errorf("%+v\n before it was %+v", n, o)
		}
	}
	if n := h.ntas.count(h); n != 3 || metric(t, "negative_trust_anchors", "block", c.Block) != 3 {
		t.Errorf("%d are in force", n)
	}
	clock.offset.Add(int64(31 * time.Minute)) // the hour is over
	h = restart(t, h, func(c *Config) { c.NTAs[0].Reason = "again" })
	inForce := map[string]bool{}
	for _, n := range h.ntas.list() {
		inForce[n.Zone] = n.active(clock.now())
	}
	h.ntas.tend(context.Background(), h)
	if !inForce["a.dane."] || inForce["b.dane."] || !inForce["c.dane."] || inForce["run.dane."] {
		t.Errorf("in force %v", inForce)
	}
	h = restart(t, h, func(c *Config) { c.NTAs = nil })
	if all := h.ntas.list(); len(all) > 0 {
		t.Errorf("left without their lines: %v", all)
	}
	h = restart(t, h, func(c *Config) { c.NTAs = []NegativeAnchor{{Zone: "b.dane.", Life: time.Hour, Keep: true}} })
	if h.ntas.count(h) != 1 {
		t.Error("a line that was away and is there again does not count")
	}
}

// TestNegativeDamaged: a file that cannot be understood is set aside and told, and danelaw starts.
func TestNegativeDamaged(t *testing.T) {
	for name, content := range map[string]string{
		"half":    `{"version": 1, "negative_trust`,
		"version": `{"version": 2}`,
		"root": `{"version": 1, "negative_trust_anchors": [{"zone": ".", "begun": "2026-01-01T00:00:00Z", ` +
			`"until": "2026-01-01T01:00:00Z"}]}`,
		"for years": `{"version": 1, "negative_trust_anchors": [{"zone": "a.dane.", "begun": "2026-01-01T00:00:00Z", ` +
			`"until": "2046-01-01T00:00:00Z"}]}`,
		"null": `{"version": 1, "negative_trust_anchors": [null]}`,
	} {
		book := logged(t)
		c := config(t)
		c.State = t.TempDir()
		file := filepath.Join(c.State, ntaFile)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		looking := open(t, c) // as check does: nothing is changed
		if kept, err := os.ReadFile(file); err != nil || string(kept) != content {
			t.Errorf("%s: changed by one that only looks: %v %s", name, err, kept)
		}
		looking.Close()
		h := started(t, c)
		aside, err := os.ReadFile(file + ".damaged")
		if err != nil || string(aside) != content || h.ntas.count(h) != 0 {
			t.Errorf("%s: %v, %q is set aside, %d in force", name, err, aside, h.ntas.count(h))
		}
		if !strings.Contains(book.String(), "cannot be read, and are not in force") ||
			!strings.Contains(book.String(), ".damaged: look at it") {
			t.Errorf("%s: log:\n%s", name, book)
		}
		if _, _, err := h.ntas.add(NegativeAnchor{Zone: "a.dane.", Life: time.Hour}); err != nil ||
			metric(t, "state_unsaved", "block", c.Block) != 0 {
			t.Errorf("%s: later: %v", name, err)
		}
		h.Close()
	}
}

// TestNegativeUnwritable: a directory that cannot be written to is an alarm, and what is set is in force all the same.
func TestNegativeUnwritable(t *testing.T) {
	book := logged(t)
	c := config(t)
	above := filepath.Join(t.TempDir(), "file")
	c.State = filepath.Join(above, "state")
	h := open(t, c)
	if err := os.WriteFile(above, nil, 0o600); err != nil { // where a directory is to be made
		t.Fatal(err)
	}
	h.Start()
	if _, _, err := h.ntas.add(NegativeAnchor{Zone: bogusMX, Life: time.Hour}); err != nil {
		t.Fatal(err)
	}
	wants(t, "unsaved", "distrusted", ask(t, serve(t, h), bogusMX, dns.TypeMX, withDO))
	if metric(t, "state_unsaved", "block", c.Block) != 1 ||
		!strings.Contains(book.String(), "will not outlive a restart") || persistent(h.ntas) {
		t.Errorf("no alarm: %s", book)
	}
	tries := func() int { return strings.Count(book.String(), "the negative trust anchors cannot be written") }
	again := func(now time.Time) {
		h.ntas.saveAgain(now)
		h.keeper.saveAgain(now)
	}
	again(time.Now().Add(lastSave))
	if metric(t, "state_unsaved", "block", c.Block) != 1 || tries() != 1 {
		t.Errorf("the alarm is over, or told %d times", tries())
	}
	if err := os.Remove(above); err != nil {
		t.Fatal(err)
	}
	again(time.Now())
	if metric(t, "state_unsaved", "block", c.Block) != 1 {
		t.Error("it does not wait before it tries again")
	}
	again(time.Now().Add(lastSave))
	text, err := os.ReadFile(filepath.Join(c.State, ntaFile))
	if metric(t, "state_unsaved", "block", c.Block) != 0 || !strings.Contains(string(text), bogusMX) {
		t.Errorf("it is not saved without a further change: %v %s", err, text)
	}
	if err := h.ntas.remove(bogusMX); err != nil || metric(t, "state_unsaved", "block", c.Block) != 0 {
		t.Errorf("later: %v", err)
	}
}

// TestNegativeReload: what was set at run time lives through reloads, those of the Corefile come and go with them, and
// their life is not prolonged. A reload that fails changes nothing.
func TestNegativeReload(t *testing.T) {
	plain := blockOf(".:0", optionsFor(t, lab().Addr()), "")
	with := blockOf(".:0",
		optionsFor(t, lab().Addr(), `negative_trust_anchor stripped-signatures.dane 1h keep "in the Corefile"`), "")
	c := startCoreDNS(t, plain)
	defer c.stop()
	both := func(when, bogus, stripped string) {
		t.Helper()
		wants(t, when+": "+bogusMX, bogus, c.ask(bogusMX, dns.TypeMX, withDO))
		wants(t, when+": stripped-signatures.dane.", stripped, c.ask("stripped-signatures.dane.", dns.TypeMX, withDO))
	}
	reload := func(text string) {
		t.Helper()
		if err := c.reload(text); err != nil {
			t.Fatal(err)
		}
	}
	both("at first", "failed", "failed")
	ntas, there := find[*table](&process, "")
	if !there {
		t.Fatal("the Corefile has no table of negative trust anchors")
	}
	if _, _, err := ntas.add(NegativeAnchor{Zone: bogusMX, Life: time.Hour, Keep: true,
		Reason: "told them"}); err != nil {
		t.Fatal(err)
	}
	both("added", "distrusted", "failed")
	reload(plain)
	both("reloaded", "distrusted", "failed")
	reload(with)
	both("with a line", "distrusted", "distrusted")
	begun := ntas.list()[1].Begun
	reload(with)
	if ntas.list()[1].Begun != begun {
		t.Error("a reload began a line anew")
	}
	if err := c.reload(with + blockOf("z.example:0", optionsFor(t, lab().Addr()), "cache")); err == nil {
		t.Error("that should not load")
	}
	both("after a reload that failed", "distrusted", "distrusted")
	if err := ntas.remove("stripped-signatures.dane."); err != nil {
		t.Fatal(err)
	}
	both("removed", "distrusted", "failed")
	reload(with)
	both("reloaded with the line that is over", "distrusted", "failed")
	reload(plain)
	reload(with)
	both("with the line again", "distrusted", "distrusted")
	reload(plain)
	both("without the line", "distrusted", "failed")
	c.stop()
	if things[*table]() != 0 {
		t.Errorf("left: %d tables", things[*table]())
	}
}

// TestNegativeBlocks: a line counts for its own server block.
func TestNegativeBlocks(t *testing.T) {
	c := startCoreDNS(t, blockOf(".:0", optionsFor(t, lab().Addr()), "")+
		blockOf("expired.dane:0", optionsFor(t, lab().Addr(), "negative_trust_anchor expired.dane 1h keep",
			"negative_trust_anchor stripped-signatures.dane 1h keep"), ""))
	wants(t, "the block of the line", "distrusted", c.ask(bogusMX, dns.TypeMX, withDO))
	wants(t, "another block", "failed", c.ask("stripped-signatures.dane.", dns.TypeMX, withDO))
}

// TestNegativeCounted: answers under a negative trust anchor are counted, cached or not, whether the client hears the
// reason or not.
func TestNegativeCounted(t *testing.T) {
	c := config(t)
	c.NTAs = []NegativeAnchor{{Zone: bogusMX, Life: time.Hour, Reason: "told them"}}
	server := serve(t, open(t, c))
	r := ask(t, server, bogusMX, dns.TypeMX, withDO)
	if text := textOf(r); !strings.Contains(text,
		"33 expired.dane.: not validated, by a negative trust anchor until ") || !strings.HasSuffix(text,
		" UTC: told them; ") {
		t.Errorf("the client hears %q", text)
	}
	ask(t, server, bogusMX, dns.TypeMX, withDO)
	ask(t, server, bogusMX, dns.TypeMX)
	ask(t, server, secureMX, dns.TypeMX, withDO)
	if n := metric(t, "negative_trust_anchor_answers_total", "block", c.Block); n != 3 {
		t.Errorf("%v counted, want 3", n)
	}
}
