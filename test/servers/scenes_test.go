//go:build linux

package servers

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// scene is a question behind an upstream with a fault that no zone file can have, or beside another server that is
// asked for a zone of its own. What is compared of a reply is its verdict and its address.
type scene struct {
	title string // the column "behind" of test/DISAGREEMENTS.md
	question
	asks  func(address string) (*dns.Msg, error) // asks the question; nil: it is asked once, with DO
	play  func(ended <-chan struct{}) spoiler    // returns what an upstream does; nil: it is honest
	apart border
}

// outside is the address of each host in the tree, and inside the address that the server of a zone apart gives.
const outside, inside = " 192.0.2.25", " 10.0.0.1"

func scenes() (all []scene) {
	const host, absentee = "mx.example.com.", "nothing.example.com."
	for _, name := range []string{host, absentee} {
		want := map[string]outcome{host: secure + outside, absentee: absent}[name]
		all = append(all,
			scene{title: "wrong-once", question: ask("V-14", name, "A", want), play: wrong(name, 1)},
			scene{title: "wrong-always", question: ask("V-14", name, "A", bogus), play: wrong(name, 1<<62)})
	}
	refused, silence := func(<-chan struct{}) {}, func(ended <-chan struct{}) { <-ended }
	for _, first := range []bool{true, false} {
		q := ask("V-76", host, "A", insecure+outside)
		q.options = []string{map[bool]string{true: "+cd", false: "+nocd then +cd"}[first]}
		asks := unchecked(q, first)
		all = append(all, scene{title: "chain-refused", question: q, asks: asks, play: without("com.", refused)},
			scene{title: "chain-silent", question: q, asks: asks, play: without("com.", silence)})
	}
	const unsigned, gone = "outward.example.com.", "dangling.example.com." // aliases
	for _, b := range []struct {
		border
		alias string
		want  outcome
	}{
		{border{zone: "insecure.com."}, unsigned, insecure + inside},
		{border{zone: "gone.example.com."}, gone, noSig}, // a name in a signed zone, without a signature
		{border{zone: "mx.insecure.com.", unsigned: true}, unsigned, insecure + inside},
		{border{zone: "gone.example.com.", unsigned: true}, gone, insecure + inside},
	} {
		title := map[bool]string{false: "apart", true: "private"}[b.unsigned]
		all = append(all, scene{title: title, question: ask("V-65", b.alias, "A", b.want), apart: b.border})
	}
	return all
}

// wrong spoils the signatures of the first replies about a name. For its DS the answer is SERVFAIL.
func wrong(name string, times int64) func(<-chan struct{}) spoiler {
	return func(<-chan struct{}) spoiler {
		var asked atomic.Int64
		return func(q dns.Question, m *dns.Msg) *dns.Msg {
			switch {
			case dns.CanonicalName(q.Name) != name: // the Knot Resolver asks in mixed case
			case q.Qtype == dns.TypeDS:
				return nil
			case q.Qtype == dns.TypeA && asked.Add(1) <= times:
				badSignatures(m.Answer, dns.TypeA)
				badSignatures(m.Ns, dns.TypeNSEC)
			}
			return m
		}
	}
}

// without fails for DS and DNSKEY of a zone, after it has called instead.
func without(zone string, instead func(ended <-chan struct{})) func(<-chan struct{}) spoiler {
	return func(ended <-chan struct{}) spoiler {
		return func(q dns.Question, m *dns.Msg) *dns.Msg {
			if dns.CanonicalName(q.Name) == zone && (q.Qtype == dns.TypeDS || q.Qtype == dns.TypeDNSKEY) {
				instead(ended)
				return nil
			}
			return m
		}
	}
}

// unchecked asks with CD. Unless first is set, it asks without CD before.
func unchecked(q question, first bool) func(address string) (*dns.Msg, error) {
	return func(address string) (*dns.Msg, error) {
		if !first {
			exchange(address, q.name, q.qtype, sceneTime) //nolint:errcheck // what is said does not count
		}
		m := new(dns.Msg).SetQuestion(q.name, q.qtype).SetEdns0(1232, true)
		m.CheckingDisabled = true
		r, _, err := (&dns.Client{Timeout: sceneTime}).Exchange(m, net.JoinHostPort(address, "53"))
		return r, err
	}
}

// sceneTime is how long any validator may take. The Knot Resolver gives up on a silent server after 16 s; Unbound has
// not given up after a minute.
const sceneTime = 20 * time.Second

// ofWorld has the trust anchor of the tree of the scenes.
const ofWorld anchors = "world"

// TestScenes shows each scene to danelaw and to the other validators.
func TestScenes(t *testing.T) {
	suite.Needs(t)
	tree := world.New(time.Now, world.Zone("."), world.Zone("com."),
		world.Domain("example.com.", "outward CNAME mx.insecure.com.", "dangling CNAME gone"),
		zones.Plan{Name: "insecure.com.", Text: world.Mail, Config: zones.Config{Unsigned: true}})
	ofWorld.write(t, tree.Zone(".").Keys[0].DNSKEY)
	write(t, suite.Dir(), "root.hints", fmt.Sprintf(". 3600000 NS ns.\nns. 3600000 A %s\n", dead.address()))
	insider(t)
	for _, s := range scenes() {
		t.Run(s.title, func(t *testing.T) { s.try(t, tree) })
	}
}

// insiders is the address of the server for zones apart.
const insiders = "127.0.3.9"

// insider starts the server for zones apart. Every name there has one address and nothing else.
func insider(t *testing.T) {
	t.Helper()
	world.Serve(t, net.JoinHostPort(insiders, "53"), func(q dns.Question, _ bool) *dns.Msg {
		m := new(dns.Msg)
		if q.Qtype == dns.TypeA {
			m.Answer = []dns.RR{record(q.Name + " 300 A" + inside)}
		} else {
			m.Ns = []dns.RR{record(q.Name + " 300 SOA ns. h. 1 2 3 4 5")}
		}
		return m
	})
}

// try compares danelaw with the other validators.
func (s scene) try(t *testing.T, tree *world.Tree) {
	known := explanations(t)
	tr := trial{upstream: s.title, all: []question{s.question}}
	for n := range tries {
		r := row{question: s.question}
		t.Run(fmt.Sprint(n), func(t *testing.T) { r = s.watch(t, tree) })
		t.Log(r.text)
		if tr.review(known, []row{r}); len(tr.open) == 0 {
			return
		}
	}
	for _, c := range tr.complaints {
		t.Error(c)
	}
}

// watch shows the scene to each validator once.
func (s scene) watch(t *testing.T, tree *world.Tree) row {
	r := row{question: s.question}
	got, code := s.seen(t, tree, len(oracles), func(upstream string) string {
		options, below := fmt.Sprintf("upstream %s %s", s.apart.zone, insiders), ""
		switch {
		case s.apart.zone == "":
			options = ""
		case s.apart.unsigned:
			options, below = "private "+s.apart.zone, "forward . "+insiders
		}
		runDanelaw(t, product, upstream, ofWorld, options, below)
		return product
	})
	if whole := outcome(strings.TrimSpace(string(got) + code)); whole != s.want {
		r.complaint = fmt.Sprintf("behind %s: %s (%s): %s, want %s", s.title, s.id(), s.rules, whole, s.want)
	}
	r.text = fmt.Sprintf("%-16s %-12s %-42s %s", s.rules, s.title, s.id(), got)
	for i, kind := range oracles {
		verdict, _ := s.seen(t, tree, i, func(upstream string) string {
			resolver{kind: kind, validate: true, to: upstream, address: oracle(i), anchors: ofWorld,
				apart: border{s.apart.zone, insiders, s.apart.unsigned}}.run(t)
			return oracle(i)
		})
		if verdict != got {
			r.differences = append(r.differences, difference{s.id(), kind, s.title, string(verdict)})
		}
		r.text += fmt.Sprintf(" | %s: %s", kind, verdict)
	}
	return r
}

// seen returns the outcome that one validator gives in the scene, with the address; and, if it fails, the code of its
// Extended DNS Error. Its upstream has the i-th address.
func (s scene) seen(t *testing.T, tree *world.Tree, i int, start func(upstream string) string) (outcome, string) {
	t.Helper()
	u, ended := tree.Upstream(), make(chan struct{})
	if s.play != nil {
		u.Spoil(s.play(ended))
	}
	address := fmt.Sprintf("127.0.3.%d", 1+i)
	u.Serve(t, net.JoinHostPort(address, "53"))
	t.Cleanup(func() { close(ended) })
	asks := s.asks
	if asks == nil {
		asks = func(address string) (*dns.Msg, error) { return exchange(address, s.name, s.qtype, sceneTime) }
	}
	m, err := asks(start(address))
	if err != nil {
		return silent, ""
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			return told(m) + outcome(" "+a.A.String()), ""
		}
	}
	if opt := m.IsEdns0(); opt != nil && m.Rcode == dns.RcodeServerFailure {
		for _, option := range opt.Option {
			if e, ok := option.(*dns.EDNS0_EDE); ok {
				return told(m), fmt.Sprint(" ", e.InfoCode)
			}
		}
	}
	return told(m), ""
}
