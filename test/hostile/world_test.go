// Package hostile runs danelaw on a real socket, with upstreams that do to some names whatever an upstream can do, and
// with zones that are made to cost work. Each misdeed has one right outcome and a bounded cost, and all of them
// together change nothing for other names. DANELAW_SOAK says how long they go on together.
package hostile

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/inprocess"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// TestMain silences the log, which has a line for each failure, and runs more tests at once than there are processors,
// since most of them wait.
func TestMain(m *testing.M) {
	clog.Discard()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// mailZone is the text of most zones here.
const mailZone = world.Mail + "*.wild MX 10 mx\n"

// all returns all misdeeds.
func all() []*misdeed {
	return slices.Concat(misdeeds(), overTLS(), overHTTPS(), brokenUpstreams(), expensive())
}

// arena is the tree of zones of all misdeeds, with the hostile upstreams for it.
type arena struct {
	tree      *world.Tree
	authority *certificates.Authority
	upstreams map[string]*hostile // by transport
	misdeeds  map[string]*misdeed // by zone
}

// build makes the arena: honest zones, and one zone for each misdeed.
func build(t *testing.T, misdeeds []*misdeed) *arena {
	t.Helper()
	a := &arena{authority: certificates.New(t), upstreams: map[string]*hostile{}, misdeeds: map[string]*misdeed{}}
	plans := []zones.Plan{
		world.Zone("."), world.Zone("com."), {Name: "good.com.", Text: mailZone},
		{Name: "hashed.com.", Text: mailZone, Config: zones.Config{NSEC3: &zones.NSEC3{}}},
		{Name: "insecure.com.", Text: mailZone, Config: zones.Config{Unsigned: true}},
		{Name: "big.com.", Text: mailZone + "@ TXT " + strings.Repeat(strings.Repeat("x", 250)+" ", 16) + "\n"},
	}
	for i, m := range misdeeds {
		m.zone = fmt.Sprintf("victim%d.com.", i)
		a.misdeeds[m.zone] = m
		plans = append(plans, m.plan())
	}
	a.tree = world.New(time.Now, append(plans, hops()...)...)
	for _, over := range transports {
		a.upstreams[over] = a.newUpstream(t, over, nil)
	}
	return a
}

// newUpstream starts an upstream, after change, if it is not nil, has changed it.
func (a *arena) newUpstream(t *testing.T, over string, change func(*arena, *testing.T, *hostile)) *hostile {
	t.Helper()
	h := &hostile{over: over, honest: a.tree.Recursor(), misled: a.misled}
	h.certificate = a.authority.Server(t, serverName, time.Now().Add(time.Hour))
	if change != nil {
		change(a, t, h)
	}
	listen(t, h)
	return h
}

// misled returns what is done to questions about a name, or nil if they are answered honestly.
func (a *arena) misled(name string) func(*asked) {
	labels := dns.SplitDomainName(name)
	if len(labels) < 2 {
		return nil
	}
	if m := a.misdeeds[strings.Join(labels[len(labels)-2:], ".")+"."]; m != nil {
		return m.act
	}
	return nil
}

// open starts a danelaw that asks the upstreams. If change is not nil, it changes the configuration first.
func (a *arena) open(t *testing.T, change func(*danelaw.Config), to ...*hostile) (addr, block string) {
	t.Helper()
	var addresses []string
	for _, h := range to {
		addresses = append(addresses, h.address())
	}
	_, addr, block = inprocess.Start(t, a.tree.Anchors(), func(c *danelaw.Config) {
		c.RootCAs = a.authority.Pool
		if change != nil {
			change(c)
		}
	}, addresses...)
	return addr, block
}

// outcome is what a client sees of a reply.
type outcome struct {
	rcode int
	ad    bool
	ede   uint16 // the first Extended DNS Error
	told  bool   // whether there is one
}

func secure(rcode int) outcome           { return outcome{rcode: rcode, ad: true} }
func insecure(rcode int) outcome         { return outcome{rcode: rcode} }
func told(rcode int, ede uint16) outcome { return outcome{rcode: rcode, ede: ede, told: true} }

func (o outcome) String() string {
	s := fmt.Sprintf("%s AD=%v", dns.RcodeToString[o.rcode], o.ad)
	if o.told {
		s += fmt.Sprint(" EDE ", o.ede)
	}
	return s
}

// seen returns the outcome of a reply.
func seen(m *dns.Msg) outcome {
	o := outcome{rcode: m.Rcode, ad: m.AuthenticatedData}
	if all := extended(m); len(all) > 0 {
		o.ede, o.told = all[0].InfoCode, true
	}
	return o
}

// extended returns the Extended DNS Errors of a reply.
func extended(m *dns.Msg) (all []*dns.EDNS0_EDE) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && e.InfoCode != dns.ExtendedErrorCodeSynthesized { // not an error (C-9)
				all = append(all, e)
			}
		}
	}
	return all
}

// sentences returns the codes and texts of the errors of a reply.
func sentences(m *dns.Msg) (texts []string) {
	for _, e := range extended(m) {
		texts = append(texts, fmt.Sprintf("%d %q", e.InfoCode, e.ExtraText))
	}
	return texts
}

// patience is how long a reply may take on a busy machine; danelaw answers in 4.5 s.
const patience = 20 * time.Second

func ask(t *testing.T, server, name string, qtype uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(4096, true)
	m, _, err := (&dns.Client{Timeout: patience, UDPSize: 4096}).Exchange(q, server)
	if err == nil && m.Truncated {
		m, _, err = (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(q, server)
	}
	if err != nil {
		t.Errorf("%s %s: %v", name, dns.Type(qtype), err)
		return new(dns.Msg)
	}
	return m
}

// metrics returns danelaw's counters for one server block. Each is the sum of its series.
func metrics(t *testing.T, block string) map[string]int {
	t.Helper()
	gathering.Lock()
	defer gathering.Unlock()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]int{}
	for _, f := range families {
		name, ours := strings.CutPrefix(f.GetName(), "coredns_danelaw_")
		if !ours || f.GetType() != dto.MetricType_COUNTER {
			continue
		}
		for _, m := range f.GetMetric() {
			if slices.ContainsFunc(m.GetLabel(),
				func(l *dto.LabelPair) bool { return l.GetName() == "block" && l.GetValue() == block }) {
				sums[name] += int(m.GetCounter().GetValue())
			}
		}
	}
	return sums
}

var gathering sync.Mutex
