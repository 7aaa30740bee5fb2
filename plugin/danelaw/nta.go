package danelaw

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

const (
	// maxNTALife is how long a negative trust anchor may last (T-18, as BIND).
	maxNTALife = 7 * 24 * time.Hour
	// testEvery is the interval in which it is tried whether the zone is well again (T-18).
	testEvery = 5 * time.Minute
	// maxTests is how many questions that failed are tried: MX and TLSA of a few hosts.
	maxTests = 4
	// maxReason bounds the reason, which has to fit into an Extended DNS Error.
	maxReason = 150
	// maxNTAs is how many may be set at run time.
	maxNTAs = 1000

	ntaFile      = "negative-trust-anchors.json"
	stateVersion = 1
)

// NegativeAnchor is a negative trust anchor as a Corefile has it (RFC 7646).
type NegativeAnchor struct {
	Zone   string // canonical
	Life   time.Duration
	Keep   bool // it is not dropped when the zone validates
	Reason string
}

// String says what an operator should know of n.
func (n *NTA) String() string {
	text := fmt.Sprintf("negative trust anchor for %s until %s UTC", n.Zone,
		n.Until.UTC().Format("2006-01-02 15:04:05"))
	if n.Keep {
		text += ", keep"
	}
	if n.Reason != "" {
		text += ": " + n.Reason
	}
	return text
}

// begin returns the negative trust anchor that a is from now on.
func (a NegativeAnchor) begin(now time.Time) *NTA {
	return &NTA{Zone: a.Zone, Begun: now, Until: now.Add(a.Life), Keep: a.Keep, Reason: a.Reason}
}

// is reports whether n stands for a line of a Corefile.
func (n *NTA) is(block string, a NegativeAnchor) bool {
	return n.Block == block && n.Zone == a.Zone && n.Until.Sub(n.Begun) == a.Life && n.Keep == a.Keep &&
		n.Reason == a.Reason
}

// active reports whether n is in force.
func (n *NTA) active(now time.Time) bool { return n.Over == "" && now.Before(n.Until) }

// table holds the negative trust anchors of a daemon: those set at run time, which hold for all server blocks, and
// those of the Corefile with the time when they began, so that neither a reload nor a restart prolongs them.
type table struct {
	key string

	mu       sync.Mutex
	all      []*NTA
	handlers []*Handler
	store    stateFile
}

func (t *table) name() string { return t.key }
func (t *table) close()       {}

// holdTable returns the table of that name: the Corefile's is "", Handlers without one have one by block.
func holdTable(name string) *table {
	t, _ := hold(&process, name, func() (*table, error) {
		return &table{key: name, store: stateFile{of: stateKind{
			file: ntaFile, what: "the negative trust anchors",
			remedy: "look at it and set again, with danelaw nta add, what is still needed",
		}}}, nil
	})
	return t
}

// state is what stands in the file.
type state struct {
	Version int    `json:"version"`
	NTAs    []*NTA `json:"negative_trust_anchors"`
}

// parseNegatives reads the content of the file.
func parseNegatives(text []byte) ([]*NTA, error) {
	var in state
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	if in.Version != stateVersion {
		return nil, fmt.Errorf("it is of version %d, this danelaw knows %d", in.Version, stateVersion)
	}
	for _, n := range in.NTAs {
		n = cmp.Or(n, new(NTA)) // null
		if err := (NegativeAnchor{Zone: n.Zone, Life: n.Until.Sub(n.Begun), Reason: n.Reason}).check(); err != nil {
			return nil, err // no negative trust anchor that was written by danelaw is so
		}
	}
	return in.NTAs, nil
}

// formatNegatives returns the content of the file.
func formatNegatives(all []*NTA) ([]byte, error) {
	text, err := json.MarshalIndent(state{stateVersion, all}, "", "  ")
	return append(text, '\n'), err
}

// declare reads the state file of h, adds the negative trust anchors of its configuration, and returns those in force
// for it.
func (t *table) declare(h *Handler) ([]chain.NegativeAnchor, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*NTA
	err := t.store.open(h.config.State, trusted(h.origin.looking), func(text []byte) (err error) {
		all, err = parseNegatives(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, kept := range all {
		if !slices.ContainsFunc(t.all, func(n *NTA) bool { return n.Zone == kept.Zone && n.Block == kept.Block }) {
			t.all = append(t.all, kept)
		}
	}
	now := h.config.Clock().Round(0)
	for _, a := range h.config.NTAs {
		if !slices.ContainsFunc(t.all, func(n *NTA) bool { return n.is(h.config.Block, a) }) {
			n := a.begin(now)
			n.Block, n.Tests = h.config.Block, h.memory.failedBelow(a.Zone)
			t.all = append(t.all, n)
		}
	}
	return t.of(h, now), nil
}

// join has h told what changes.
func (t *table) join(h *Handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handlers = append(t.handlers, h)
	h.resolving.Distrust(t.of(h, h.config.Clock()))
}

func (t *table) leave(h *Handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handlers = slices.DeleteFunc(t.handlers, func(o *Handler) bool { return o == h })
}

// start notes that h serves now: for its server block its configuration counts from here on. All are saved and logged.
func (t *table) start(h *Handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = slices.DeleteFunc(t.all, func(n *NTA) bool { return n.Block == h.config.Block && !h.config.declares(n) })
	t.store.serve()
	t.store.save(formatNegatives(t.all))
	for _, n := range t.all {
		switch {
		case !h.config.concerns(n):
		case n.active(h.config.Clock()):
			log.Warningf("%s: answers there are not validated", n)
		case n.Block != "":
			log.Warningf("the %s is over: remove it from the configuration, or change it to begin anew", n)
		}
	}
}

// declares reports whether n stands for a line of the Corefile.
func (c *Config) declares(n *NTA) bool {
	return slices.ContainsFunc(c.NTAs, func(a NegativeAnchor) bool { return n.is(c.Block, a) })
}

// concerns reports whether n is one for the server block.
func (c *Config) concerns(n *NTA) bool { return n.Block == "" || c.declares(n) }

// of returns what is in force for h. Of two with the same zone the one that ends later counts.
func (t *table) of(h *Handler, now time.Time) (all []chain.NegativeAnchor) {
	latest := map[string]*NTA{}
	for _, n := range t.all {
		if old := latest[n.Zone]; h.config.concerns(n) && n.active(now) && (old == nil || old.Until.Before(n.Until)) {
			latest[n.Zone] = n
		}
	}
	for _, n := range latest {
		all = append(all, chain.NegativeAnchor{Zone: n.Zone, Until: n.Until, Reason: n.Reason})
	}
	return all
}

// count returns how many are in force for h.
func (t *table) count(h *Handler) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.of(h, h.config.Clock()))
}

// saved reports whether state is kept over a restart, and whether reading or writing it has failed.
func (t *table) saved() (place, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.store.dir != "", t.store.failed
}

// changed puts a change into force and writes it down; t.mu is held.
func (t *table) changed() {
	for _, h := range t.handlers {
		h.resolving.Distrust(t.of(h, h.config.Clock()))
	}
	t.store.save(formatNegatives(t.all))
}

// errNoNTA is what a remove of nothing ends with.
var errNoNTA = errors.New("there is no negative trust anchor")

// add sets a negative trust anchor for all server blocks; it replaces one of the same zone that was set before. It
// returns a copy, and a Handler that can test it.
func (t *table) add(a NegativeAnchor) (*NTA, *Handler, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tester, err := t.acceptable(a)
	if err != nil {
		return nil, nil, err
	}
	now := t.now().Round(0)
	n := a.begin(now)
	for _, h := range t.handlers {
		if tests := h.memory.failedBelow(a.Zone); n.Tests == nil || tests[0].Result != "" {
			n.Tests = tests
		}
	}
	t.all = slices.DeleteFunc(t.all, func(o *NTA) bool { return o.Zone == a.Zone && o.Block == "" })
	t.all = append(t.all, n)
	log.Warningf("%s: added, answers there are not validated", n)
	t.changed()
	return n.clone(), tester, nil
}

// acceptable returns a Handler for which a has an effect, or the reason why a cannot be set; t.mu is held.
func (t *table) acceptable(a NegativeAnchor) (*Handler, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	set := 0
	for _, n := range t.all {
		if n.Block == "" && n.Zone != a.Zone {
			set++
		}
	}
	if set >= maxNTAs {
		return nil, fmt.Errorf("there are %d already: remove some", maxNTAs)
	}
	err := errors.New("no server block is there")
	for _, h := range t.handlers {
		if err = h.config.distrustable(a.Zone); err == nil {
			return h, nil
		}
	}
	return nil, err
}

// check says what is wrong with a in itself.
func (a NegativeAnchor) check() error {
	_, isName := dns.IsDomainName(a.Zone)
	switch {
	case !isName || a.Zone != dns.CanonicalName(a.Zone) || !ascii(a.Zone):
		return fmt.Errorf("%q is not a domain name", a.Zone)
	case a.Zone == ".":
		return errors.New(`"." would leave nothing to validate`)
	case a.Life < time.Second || a.Life > maxNTALife:
		return fmt.Errorf("the duration %v is out of range: it may be from 1s to 168h", a.Life)
	case len(a.Reason) > maxReason || printable.Text(a.Reason) != a.Reason:
		return fmt.Errorf("the reason %.20q... is longer than %d octets, or more than one line of text", a.Reason,
			maxReason)
	}
	return nil
}

// ascii reports whether a name is in the form in which DNS libraries show it: octets that are no printable ASCII are
// escaped, \027.
func ascii(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

// distrustable says why a negative trust anchor for zone would be without effect.
func (c Config) distrustable(zone string) error {
	private, anchors := zoneSet{}, zoneSet{}
	private.add(c.Private...)
	for anchor := range c.Anchors {
		anchors.add(anchor)
	}
	anchor, anchored := anchors.closest(zone)
	switch {
	case private.cover(zone):
		return fmt.Errorf("%s is private, and never validated", zone)
	case !anchored || len(c.Anchors[anchor]) == 0:
		return fmt.Errorf("no trust anchor covers %s: it is Insecure anyway", zone)
	case anchor == zone:
		return fmt.Errorf("%s has a trust anchor of its own: remove that trust_anchor instead", zone)
	}
	return nil
}

// failedBelow returns the questions below a zone that are known to have failed; if none is, the two that every mail
// domain answers.
func (m *memory) failedBelow(zone string) (tests []Test) {
	for _, q := range m.Failed(zone, maxTests) {
		tests = append(tests, Test{q.Name, dns.Type(q.Qtype).String(), "failed"})
	}
	if tests == nil {
		return []Test{{Name: zone, Type: "MX"}, {Name: zone, Type: "SOA"}}
	}
	return tests
}

// remove ends the negative trust anchors of a zone.
func (t *table) remove(zone string) error {
	if !t.end("removed", func(n *NTA, now time.Time) bool { return n.Zone == zone && n.active(now) }) {
		return fmt.Errorf("%w for %s", errNoNTA, zone)
	}
	return nil
}

// now is the time by the clock of those that serve; t.mu is held.
func (t *table) now() time.Time {
	if len(t.handlers) == 0 {
		return time.Now()
	}
	return t.handlers[0].config.Clock()
}

// end ends those that match now, and reports whether there was one.
func (t *table) end(why string, match func(n *NTA, now time.Time) bool) (any bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.all = slices.DeleteFunc(t.all, func(n *NTA) bool {
		if !match(n, now) {
			return false
		}
		any = true
		log.Warningf("%s: %s, answers there are validated again", n, why)
		n.Over = why
		return n.Block == ""
	})
	if any {
		t.changed()
	}
	return any
}

// list returns copies of all, by zone.
func (t *table) list() (all []NTA) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.all {
		all = append(all, *n.clone())
	}
	slices.SortFunc(all, func(a, b NTA) int { return strings.Compare(a.Zone+" "+a.Block, b.Zone+" "+b.Block) })
	return all
}

// same reports whether n is a copy of o.
func (n *NTA) same(o *NTA) bool {
	return o.Zone == n.Zone && o.Block == n.Block && o.Begun.Equal(n.Begun)
}

func (n *NTA) clone() *NTA {
	c := *n
	c.Tests = slices.Clone(n.Tests)
	return &c
}

// tend ends negative trust anchors whose time is over, and drops those of h that are not needed any more.
func (t *table) tend(ctx context.Context, h *Handler) {
	defer survive()
	t.end("ended", func(n *NTA, now time.Time) bool { return n.Over == "" && !now.Before(n.Until) })
	t.saveAgain(time.Now())
	for _, tested := range t.due(h) {
		if ctx.Err() == nil && t.test(ctx, h, tested) {
			t.end("dropped, as the zone validates", func(n *NTA, now time.Time) bool {
				return tested.same(n) && n.active(now)
			})
		}
	}
}

// saveAgain writes down what could not be written before.
func (t *table) saveAgain(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.store.due(now) {
		t.store.save(formatNegatives(t.all))
	}
}

// due returns copies of those that h has to test now, and notes that they are tested, so that no other Handler tests
// them too.
func (t *table) due(h *Handler) (all []*NTA) {
	now := h.config.Clock().Round(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.all {
		last := n.Begun
		if n.Tested.After(last) {
			last = n.Tested
		}
		if n.Keep || !n.active(now) || !h.config.concerns(n) || now.Sub(last).Abs() < testEvery ||
			h.config.distrustable(n.Zone) != nil {
			continue
		}
		n.Tested = now
		all = append(all, n.clone())
	}
	return all
}

// test tries what failed under n, a copy, as if it were not there, notes what came, and reports whether all is well:
// Secure, or proven to be unsigned.
func (t *table) test(ctx context.Context, h *Handler, n *NTA) bool {
	well := true
	for i := range n.Tests {
		tried := &n.Tests[i]
		a := h.resolving.Retest(ctx, dnssec.Question(tried.Name, typeNamed(tried.Type)))
		well = well && a.Status > dnssec.Bogus
		tried.Result = a.Status.String()
		if len(a.Notes) > 0 {
			tried.Result += ": " + a.Notes[0].Text
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.all {
		if n.same(o) {
			o.Tests = slices.Clone(n.Tests)
			return well
		}
	}
	return false // it is another, or gone
}

// typeNamed is the type that dns.Type.String names; 0 if there is none.
func typeNamed(name string) uint16 {
	if t, ok := dns.StringToType[name]; ok {
		return t
	}
	var t uint16
	fmt.Sscanf(name, "TYPE%d", &t) //nolint:errcheck // t is 0 then
	return t
}
