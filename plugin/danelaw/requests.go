package danelaw

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// requests counts in CoreDNS's own metrics what passes by its plugin prometheus.
type requests struct {
	server string
	zones  plugin.Zones
	adding sync.Mutex
	kept   atomic.Pointer[map[requestKind]counters] // is replaced, not changed
}

// requestKind is what CoreDNS tells requests apart by.
type requestKind struct {
	zone      string
	udp, ipv4 bool
	qtype     uint16 // 0: not one that has a label
	rcode     int
}

// counters are those of one kind of requests.
type counters struct {
	requests, answers, do          prometheus.Counter
	duration, querySize, replySize prometheus.Observer
}

// newRequests returns nil for a block without the plugin prometheus.
func newRequests(c *dnsserver.Config, s *dnsserver.Server) *requests {
	p, ok := c.Handler(prometheusName).(interface{ ZoneNames() []string })
	if !ok {
		return nil
	}
	r := &requests{server: s.Addr, zones: p.ZoneNames()}
	r.kept.Store(new(map[requestKind]counters))
	return r
}

// count counts one.
func (r *requests) count(q *hit, rcode, octets int) {
	c, do := r.of(r.kindOf(q, rcode)), 0
	if q.DNSSECOK {
		do = 1
	}
	c.add(1, do, time.Since(q.Read))
	c.sizes(q, octets)
}

func (r *requests) kindOf(q *hit, rcode int) requestKind {
	k := requestKind{
		zone: cmp.Or(r.zones.Matches(q.Name), "."), udp: q.UDP, ipv4: q.Client.Is4(),
		rcode: rcode,
	}
	if slices.Contains(labelled, q.Type) {
		k.qtype = q.Type
	}
	return k
}

// of returns the counters of a kind of requests.
func (r *requests) of(k requestKind) counters {
	c, ok := (*r.kept.Load())[k]
	if !ok {
		c = r.lookUp(k)
	}
	return c
}

// add counts so many, some with DO, that took so long each.
func (c *counters) add(n, do int, took time.Duration) {
	c.requests.Add(float64(n))
	c.answers.Add(float64(n))
	c.do.Add(float64(do))
	for range n {
		c.duration.Observe(took.Seconds())
	}
}

// sizes counts those of one.
func (c *counters) sizes(q *hit, octets int) {
	c.querySize.Observe(float64(q.Octets()))
	c.replySize.Observe(float64(octets))
}

// lookUp looks up the counters of a kind of requests.
func (r *requests) lookUp(k requestKind) counters {
	r.adding.Lock()
	defer r.adding.Unlock()
	protocol, family, qtype := "tcp", "2", "other"
	if k.udp {
		protocol = "udp"
	}
	if k.ipv4 {
		family = "1"
	}
	if k.qtype != 0 {
		qtype = dns.TypeToString[k.qtype]
	}
	const view = "" // blocks with one do not pass
	c := counters{
		requests:  vars.RequestCount.WithLabelValues(r.server, k.zone, view, protocol, family, qtype),
		answers:   vars.ResponseRcode.WithLabelValues(r.server, k.zone, view, dns.RcodeToString[k.rcode], pluginName),
		do:        vars.RequestDo.WithLabelValues(r.server, k.zone, view),
		duration:  vars.RequestDuration.WithLabelValues(r.server, k.zone, view),
		querySize: vars.RequestSize.WithLabelValues(r.server, k.zone, view, protocol),
		replySize: vars.ResponseSize.WithLabelValues(r.server, k.zone, view, protocol),
	}
	all := maps.Clone(*r.kept.Load())
	if all == nil {
		all = map[requestKind]counters{}
	}
	all[k] = c
	r.kept.Store(&all)
	return c
}

// labelled are the types that CoreDNS has labels for, of those that may pass.
var labelled = []uint16{
	dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeTXT, dns.TypeCNAME, dns.TypeDNSKEY, dns.TypeDS,
	dns.TypeNS, dns.TypeSOA, dns.TypeSRV, dns.TypeHTTPS, dns.TypeSVCB,
}
