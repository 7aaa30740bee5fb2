package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/bench/upstream"
)

var postfixed = []column{
	{"cpu_us", "µs CPU/answer", "%.1f"}, {"per_second", "answers/s", "%.0f"}, {"p50_us", "p50 µs", "%.0f"},
	{"p99_us", "p99 µs", "%.0f"}, {"asked", "upstream/answer", "%.3f"}, {"busy", "busy %", "%.0f"},
}

var firstAsked = []column{
	{"cpu_us", "µs CPU/domain", "%.0f"}, {"per_second", "domains/s", "%.0f"}, {"p50_ms", "p50 ms", "%.1f"},
	{"p99_ms", "p99 ms", "%.1f"}, {"alone_ms", "one at a time: p50 ms", "%.2f"}, {"alone_p99_ms", "p99 ms", "%.2f"},
	{"far_ms", "upstream far: p50 ms", "%.1f"}, {"far_trips", "trips", "%.1f"}, {"asked", "upstream/domain", "%.2f"},
	{"busy", "busy %", "%.0f"}, {"rss_mib", "RSS MiB", "%.0f"},
}

const (
	policyDomains = 2000 // at most
	policyAlone   = 200  // domains that are asked about one at a time, at most
	policyFar     = 60   // of them, when the upstream is far
	processes     = 8    // of Postfix that ask for what is cached
	deliverers    = 50   // that ask about domains for the first time
	policyRate    = 1000 // requests a second, a modest one
	resolverPort  = 53
)

// policyHosts is the address of all policy hosts: one that counts as public, in a network that leads nowhere.
var policyHosts = netip.MustParseAddr("192.31.196.1")

// town has the domains of the policy workload, their policy hosts, and a network in which all of that is.
type town struct {
	b         *bench
	network   *server.Network
	near, far *scene // the same domains: an upstream that answers at once, and one that does so after a delay
	hosts     *upstream.Policies
	dir       string // of files
}

const (
	authorityFile = "authority.pem"
	resolvFile    = "resolv.conf"
)

// policy measures what it costs to tell Postfix of policies, and how long it waits for them.
func (b *bench) policy(ctx context.Context, s server.Server) (all []Sample, err error) {
	if b.town == nil {
		if b.town, err = newTown(b); err != nil {
			return nil, err
		}
	}
	b.town.network.Do(func() {
		if b.town.hosts == nil {
			err = b.town.settle(ctx)
		}
		if err == nil {
			all, err = b.town.policy(ctx, s)
		}
	})
	return all, err
}

// newTown makes the network.
func newTown(b *bench) (t *town, err error) {
	t = &town{b: b}
	if t.dir, err = os.MkdirTemp("", "danelaw-bench-"); err != nil {
		return nil, err
	}
	file := filepath.Join(t.dir, resolvFile)
	if err = os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644); err == nil {
		t.network, err = server.NewNetwork(policyHosts, file)
	}
	if err != nil {
		os.RemoveAll(t.dir) //nolint:errcheck // it is one for temporary files
		return nil, err
	}
	return t, nil
}

// settle builds what is in the network, of which the goroutine is.
func (t *town) settle(ctx context.Context) (err error) {
	b, spec := t.b, t.b.Universe
	spec.Domains, spec.Policies = min(policyDomains, spec.Domains), policyHosts
	spec.Providers = min(spec.Providers, spec.Domains)
	if t.near, err = b.scenes.get(ctx, "policy", spec, 0); err != nil {
		return err
	}
	up, err := upstream.Start(t.near, b.Delay)
	if err != nil {
		return err
	}
	t.far = &scene{t.near.Universe, spec, up}
	b.scenes.byName["policy, far"] = t.far
	files := map[string]string{}
	for i := range spec.Domains {
		if host, file, ok := t.near.Domain(i).Policy(); ok {
			files[host] = file
		}
	}
	const https = 443
	if t.hosts, err = upstream.StartPolicies(netip.AddrPortFrom(policyHosts, https), files); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.dir, authorityFile), t.hosts.Authority, 0o644)
}

func (t *town) close() {
	if t == nil {
		return
	}
	if t.hosts != nil {
		t.hosts.Close()
	}
	t.network.Close()
	os.RemoveAll(t.dir) //nolint:errcheck // it is one for temporary files
}

// policy is the workload itself, in the network.
func (t *town) policy(ctx context.Context, s server.Server) ([]Sample, error) {
	lookups := t.lookups(s)
	before, rest := lookups[:t.warm()], lookups[t.warm():]
	alone, left := rest[:min(policyAlone, len(rest)/4)], rest[min(policyAlone, len(rest)/4):]
	p, err := t.start(ctx, s, t.near)
	if err != nil {
		return nil, err
	}
	defer func() { p.Stop() }()
	one, err := p.firstAnswers(ctx, before, alone, 1)
	if err != nil {
		return nil, err
	}
	cold, err := p.firstAnswers(ctx, nil, left, deliverers)
	if err != nil {
		return nil, err
	}
	cold.Workload = "policy-cold"
	cold.merge(one)
	v := cold.Values
	v["p50_ms"], v["p99_ms"] = v["p50_us"]/1000, v["p99_us"]/1000
	v["alone_ms"], v["alone_p99_ms"] = one.Values["p50_us"]/1000, one.Values["p99_us"]/1000
	cached, err := t.cached(ctx, p, lookups)
	if err != nil {
		return nil, err
	}
	p.Stop()
	if p, err = t.start(ctx, s, t.far); err != nil {
		return nil, err
	}
	far, err := p.firstAnswers(ctx, before, alone[:min(policyFar, len(alone))], 1)
	if err != nil {
		return nil, err
	}
	cold.merge(far)
	v["far_ms"] = far.Values["p50_us"] / 1000
	v["far_trips"] = v["far_ms"] * 1000 / microseconds(t.b.Delay)
	return append(cached, cold), nil
}

// warm is how many domains are asked about before it is measured.
func (t *town) warm() int { return max(t.near.spec.Providers, t.near.spec.Domains/warmShare) }

// policySubject is a server that tells Postfix, and the resolver that it needs beside itself.
type policySubject struct {
	*subject
	resolver *server.Process
}

// Stop ends both.
func (p *policySubject) Stop() {
	p.subject.Stop()
	if p.resolver != nil {
		p.resolver.Stop()
	}
}

// start starts a server in front of a scene. One that is no resolver gets this danelaw as its own.
func (t *town) start(ctx context.Context, s server.Server, at *scene) (p *policySubject, err error) {
	p = &policySubject{}
	setup := server.Setup{Env: []string{"SSL_CERT_FILE=" + filepath.Join(t.dir, authorityFile)}}
	if !s.Postfix {
		setup.Options = []string{"policy " + server.PolicyAddr.String()}
		p.subject, err = t.b.start(ctx, s, at, setup)
		return p, err
	}
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), resolverPort)
	resolver, err := t.b.start(ctx, server.Danelaw("its resolver", t.b.Self), at, server.Setup{Listen: local})
	if err != nil {
		return nil, err
	}
	if p.subject, err = t.b.start(ctx, s, at, setup); err != nil {
		resolver.Stop()
		return nil, err
	}
	p.resolver = resolver.Process
	p.beside = []*server.Process{p.resolver}
	return p, nil
}

// lookups are all domains, with what a server is to say of them. postfix-mta-sts-resolver knows nothing of DANE.
func (t *town) lookups(s server.Server) []load.Lookup {
	all := make([]load.Lookup, t.near.spec.Domains)
	for i := range all {
		d := t.near.Domain(i)
		all[i] = load.Lookup{Domain: trimmed(d.Name), Reply: reply(d, !s.Postfix)}
	}
	return all
}

// reply is what Postfix is to be told.
func reply(d universe.Domain, dane bool) string {
	host := d.Enforces()
	switch {
	case dane && d.DANE:
		return "OK dane-only"
	case host != "":
		return "OK secure match=" + host + " servername=hostname"
	}
	return "NOTFOUND "
}

func trimmed(name string) string { return name[:len(name)-1] }

// connect connects as several of Postfix's processes do.
func (p *policySubject) connect(n int) (all []net.Conn, err error) {
	for range n {
		conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(server.PolicyAddr))
		if err != nil {
			hangUp(all)
			return nil, err
		}
		all = append(all, conn)
	}
	return all, nil
}

func hangUp(all []net.Conn) {
	for _, c := range all {
		c.Close()
	}
}

// firstAnswers asks about domains, each once, so many at a time, after others for which nothing is measured.
func (p *policySubject) firstAnswers(ctx context.Context, before, all []load.Lookup, atOnce int) (Sample, error) {
	conns, err := p.connect(atOnce)
	if err != nil {
		return Sample{}, err
	}
	defer hangUp(conns)
	warm := load.Postfix{Connections: conns, Next: onceEach(before)}
	var warmed load.Result
	if len(before) > 0 {
		if warmed, err = warm.Run(ctx); err != nil {
			return Sample{}, err
		}
		time.Sleep(settle)
	}
	script := load.Postfix{Connections: conns, Next: onceEach(all)}
	sample, err := p.spend(queries, func() (load.Result, error) { return script.Run(ctx) })
	sample.count(warmed)
	return sample, err
}

// onceEach gives each lookup to whoever asks for the next one.
func onceEach(all []load.Lookup) func(int) *load.Lookup {
	var next atomic.Int64
	return func(int) *load.Lookup {
		if i := int(next.Add(1)) - 1; i < len(all) {
			return &all[i]
		}
		return nil
	}
}

// cached asks again and again about what was asked about before: domains whose policy is in force, at
// saturation and at a rate, and all of them.
func (t *town) cached(ctx context.Context, p *policySubject, all []load.Lookup) (samples []Sample, err error) {
	var enforced []load.Lookup
	for i := range all {
		if d := t.near.Domain(i); d.Enforces() != "" && !d.DANE {
			enforced = append(enforced, all[i])
		}
	}
	if len(enforced) == 0 {
		return nil, fmt.Errorf("of %d domains none has a policy in force: take more, or another --seed", len(all))
	}
	conns, err := p.connect(processes)
	if err != nil {
		return nil, err
	}
	defer hangUp(conns)
	for _, m := range []struct {
		workload string
		of       []load.Lookup
		rate     int
	}{{"policy", enforced, 0}, {"policy-mixed", all, 0}, {"policy-rate", enforced, policyRate}} {
		script := load.Postfix{Connections: conns, Next: t.drawn(processes, m.of)}
		if m.rate > 0 {
			script.Interval = time.Second * processes / time.Duration(m.rate)
		}
		sample, err := p.spend(queries, func() (load.Result, error) { return script.Run(ctx) })
		if err != nil {
			return nil, err
		}
		replies := float64(sample.Replies)
		if asked := sample.Values["asked"] * replies; asked > max(ofItself, tolerated*replies) {
			sample.Fault = fmt.Sprintf("for %.0f answers that should be cached %.0f were asked for", replies, asked)
		}
		sample.Workload = m.workload
		samples = append(samples, sample)
	}
	return samples, nil
}

// drawn gives each connection lookups drawn by chance for some time.
func (t *town) drawn(connections int, all []load.Lookup) func(int) *load.Lookup {
	chance := make([]*rand.Rand, connections)
	for i := range chance {
		chance[i] = rand.New(rand.NewPCG(t.b.Universe.Seed, uint64(i)))
	}
	until := sync.OnceValue(func() time.Time { return time.Now().Add(t.b.Hot) }) // from the first one on
	return func(connection int) *load.Lookup {
		if !time.Now().Before(until()) {
			return nil
		}
		return &all[chance[connection].IntN(len(all))]
	}
}
