package danelaw

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fastpath"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// CoreDNS tells at the end of each start and reload that it serves.
func init() {
	caddy.RegisterEventHook(pluginName, func(event caddy.EventName, info any) error {
		if i, ok := info.(*caddy.Instance); ok && event == caddy.InstanceStartupEvent {
			process.readers.take(i)
		}
		return nil
	})
}

// address is what the server was asked to listen on.
func (s told) address() string { return strings.TrimPrefix(s.Addr, transport.DNS+"://") }

// listening is one address where danelaw reads: strictly (L-14), and the queries of one connection side by side (S-4).
type listening struct {
	reader *fastpath.Listener
	server atomic.Pointer[told] // who answers: since the last reload
}

// serve is what all queries are given to.
func (l *listening) serve(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	s, h := l.enter()
	defer h.asked.Add(-1)
	ctx = context.WithValue(ctx, dnsserver.Key{}, s.Server)
	s.ServeDNS(context.WithValue(ctx, dnsserver.LoopKey{}, 0), w, q)
}

// enter returns who answers a query, counted at its Handler: a reload has another answer before it closes that.
func (l *listening) enter() (*told, *Handler) {
	for {
		s := l.server.Load()
		h := s.directive.enter()
		if s == l.server.Load() {
			return s, h
		}
		h.asked.Add(-1)
	}
}

// handler is the latest that answers here.
func (l *listening) handler() *Handler { return l.server.Load().directive.serving() }

// drainPatience is how long queries in flight may take once nothing more is read: as long as CoreDNS waits.
const drainPatience = 5 * time.Second

// drain ends the reading; what is in flight is answered.
func (l *listening) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainPatience)
	defer cancel()
	l.reader.Close(ctx)
}

// readers are the addresses where danelaw reads in the place of CoreDNS. They outlive a reload.
type readers struct {
	mu sync.Mutex
	at map[string]*listening // by the address of UDP
}

// follow has a server answer where danelaw reads already for one of an earlier load: that is about to be stopped. Where
// the system chose the port, take does it.
func (r *readers) follow(s told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.at[s.address()]
	if l != nil && l.server.Load().directive.load < s.directive.load && s.mayLeave() == nil {
		l.server.Store(&s)
	}
}

// take has danelaw read where the servers of an instance listen that danelaw is told of, and no more where those
// listened that the instance has replaced.
func (r *readers) take(i *caddy.Instance) {
	var all []told
	if load, ok := i.Storage[loadKey{}].(*corefileLoad); ok {
		all = load.servers.await()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range all {
		if err := r.read(i, s, len(all)); err != nil {
			log.Infof("CoreDNS reads what comes to %s, danelaw does not: %v", s.address(), err)
		} else if len(s.why) > 0 {
			log.Infof("what is cached is answered through CoreDNS at %s: %s", s.address(), strings.Join(s.why, "; "))
		}
	}
	r.end(func(s *told) bool { return s.directive.closed.Load() })
}

// read has danelaw read at the address of one server of so many. Where it does already, the reload may have changed the
// number of CoreDNS's sockets, or what only CoreDNS can read.
func (r *readers) read(i *caddy.Instance, s told, servers int) error {
	udp, tcp, err := s.bound(i)
	if err = cmp.Or(err, s.mayLeave()); err != nil {
		return err // an earlier reader goes with its server
	}
	l := r.at[udp]
	connections := max(1, connectionsFor(upstream.OpenFiles())/servers)
	if l == nil {
		if l, err = newListening(udp, tcp, s, connections); err == nil {
			r.at[udp] = l
		}
		return err
	}
	l.server.Store(&s)
	l.reader.Limit(l.limits(s, connections))
	if err = l.reader.Steer(); err != nil {
		delete(r.at, udp)
		go l.drain()
	}
	return err
}

// drain ends the reading for one load of a Corefile, but where danelaw goes on to read for another.
func (r *readers) drain(load uint64, goesOn map[string]bool) {
	r.mu.Lock()
	ended := r.end(func(s *told) bool { return s.directive.load == load && !goesOn[s.address()] })
	r.mu.Unlock()
	ended.Wait()
}

// end ends the reading for those servers.
func (r *readers) end(over func(*told) bool) (ended *sync.WaitGroup) {
	ended = new(sync.WaitGroup)
	maps.DeleteFunc(r.at, func(_ string, l *listening) bool {
		last := over(l.server.Load())
		if last {
			ended.Go(l.drain)
		}
		return last
	})
	return ended
}

// mayLeave returns why CoreDNS has to read what comes to the server itself. The policy of a PROXY protocol may be that
// of any server block at its address, of which CoreDNS tells nobody.
func (s told) mayLeave() error {
	proxied, ok := hidden(s.Server, "connPolicy", dnsserver.Config{}.ProxyProtoConnPolicy)
	if !ok {
		return errUnknownCoreDNS
	}
	if len(s.TsigSecret) > 0 || s.MaxTCPQueries > 0 || !proxied.IsNil() {
		return errors.New("TSIG, the PROXY protocol and bounds on the queries of a connection are CoreDNS's own")
	}
	return nil
}

// newListening opens sockets beside those of a server.
func newListening(udp, tcp string, s told, connections int) (l *listening, err error) {
	l = new(listening)
	l.server.Store(&s)
	l.reader, err = fastpath.Listen(udp, tcp, l.serve, fastpath.Options{
		Answerer: finder(l.hitOf).answerer, Later: finder(l.hitOf).later,
		Limits:  l.limits(s, connections),
		Size:    func() uint16 { return l.handler().config.EDNSSize },
		Refused: func() { l.handler().meter.malformed() },
	})
	if err == nil && l.reader.WithoutUDP() != nil {
		log.Infof("CoreDNS reads what comes to %s over UDP, danelaw TCP alone: %v", udp, l.reader.WithoutUDP())
	}
	return l, err
}

// Listen has a Handler without a Corefile answer what comes to an address over UDP and TCP, in the way it does under
// CoreDNS, until end is called. It is for Linux only.
func Listen(h *Handler, address string) (end func(), err error) {
	server := func(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
		h.ServeDNS(ctx, request.NewScrubWriter(q, w), q) //nolint:errcheck // it has written its reply
	}
	find, l := always(h), new(listening)
	l.reader, err = fastpath.Listen(address, address, server, fastpath.Options{
		Answerer: find.answerer, Later: find.later,
		Limits: fastpath.Limits{
			Pending: pending(h.config.InFlight), Idle: 10 * time.Second, Read: 3 * time.Second, Write: 5 * time.Second,
			Connections: connectionsFor(upstream.OpenFiles()), Pipelined: pipelinedQueries, Hit: h.meter.Limit,
		},
		Size: func() uint16 { return h.config.EDNSSize }, Refused: h.meter.malformed,
	})
	return l.drain, err
}

// limits are those of clients while a server answers.
func (l *listening) limits(s told, connections int) fastpath.Limits {
	return fastpath.Limits{
		Pending: pending(s.directive.serving().config.InFlight),
		Idle:    s.IdleTimeout, Read: s.ReadTimeout, Write: s.WriteTimeout,
		Connections: connections, Pipelined: pipelinedQueries,
		Hit: func(limit string) { l.handler().meter.Limit(limit) },
	}
}

// bound returns the addresses of UDP and of TCP that the server is bound to. They differ from what it was asked for
// where that leaves the choice of a port to the system.
func (s told) bound(i *caddy.Instance) (udp, tcp string, err error) {
	host, port, err := net.SplitHostPort(s.address())
	if port != "0" || err != nil {
		return s.address(), s.address(), err
	}
	for _, l := range i.Servers() {
		if l.Addr() == nil || l.LocalAddr() == nil {
			continue
		}
		at, _, err := net.SplitHostPort(l.LocalAddr().String())
		if ip := net.ParseIP(at); err == nil && (at == host || host == "" && ip.IsUnspecified()) {
			return l.LocalAddr().String(), l.Addr().String(), nil
		}
	}
	return "", "", errors.New("it is not known which ports the system has chosen")
}

const (
	// pipelinedQueries is how many queries of one connection are worked on at once.
	pipelinedQueries = 100
	// mostConnections keeps what connections take within the memory promised (L-15).
	mostConnections = 1000
)

// pending returns how many queries over UDP, and over TCP, CoreDNS may have at once where so many questions may be in
// flight: all that may wait for an answer, as each takes 8 KiB of their memory, and a thousand that do not wait (L-15).
func pending(inFlight int) int {
	const waiting = 8 << 10
	most := questionsIn(ours().work)
	return 1000 + int(ours().work/waiting)*max(1, (inFlight+most-1)/most)
}

// connectionsFor returns how many connections clients may hold where a process may have so many files open, 0 if that
// is not known: half of them are for questions to upstreams, an eighth is for all else.
func connectionsFor(files int) int {
	if files == 0 {
		return mostConnections
	}
	return min(mostConnections, files/8*3)
}

// servers are those that one load of a Corefile has where danelaw is to read. CoreDNS starts each on a goroutine of its
// own, so they come after the end of a start, or never if another plugin has what tells danelaw of them.
type servers struct {
	mu     sync.Mutex
	wanted map[string]bool // by address
	told   []told
	all    chan struct{} // closed once nothing is wanted any more
}

func newServers() servers { return servers{wanted: map[string]bool{}, all: make(chan struct{})} }

// want says that a server will begin to serve.
func (s *servers) want(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted[address] = true
}

// tell is told of a server that begins to serve. Of those that share an address the first is enough.
func (s *servers) tell(one told) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wanted[one.address()] {
		return
	}
	s.told = append(s.told, one)
	if delete(s.wanted, one.address()); len(s.wanted) == 0 {
		close(s.all)
	}
}

// startPatience is how long the end of a start waits for servers to begin.
const startPatience = time.Second

// await returns the servers that have begun to serve.
func (s *servers) await() []told {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.wanted) > 0 {
		s.mu.Unlock()
		select {
		case <-s.all:
		case <-time.After(startPatience):
		}
		s.mu.Lock()
	}
	return s.told
}

// wanted returns, by transport, the addresses that a server block with those keys and hosts listens on, as CoreDNS
// names them.
func wanted(keys, hosts []string) (map[string][]string, error) {
	all := map[string][]string{}
	for _, key := range keys {
		how, zone, _ := strings.Cut(key, "://")
		for _, host := range hosts {
			at, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, zone[strings.LastIndexByte(zone, ':')+1:]))
			if err != nil {
				return nil, err
			}
			all[how] = append(all[how], at.String())
		}
	}
	return all, nil
}

// networksOf are those of a transport.
var networksOf = map[string][]string{
	transport.DNS: {"udp", "tcp"},
	transport.TLS: {"tcp"}, transport.GRPC: {"tcp"}, transport.HTTPS: {"tcp"},
	transport.QUIC: {"udp"}, transport.HTTPS3: {"udp"},
}

// alone returns an error if anybody has a socket at one of the addresses; this process has none there yet (S-26).
func alone(addresses map[string][]string) error {
	for how, all := range addresses {
		for _, address := range all {
			if err := Free(address, networksOf[how]...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Free returns an error if no socket that shares its address with none can be bound at one in all of the networks, udp
// and tcp. What is left of closed connections does not count.
func Free(address string, networks ...string) error {
	for _, network := range networks {
		var bound io.Closer
		var err error
		if network == "udp" {
			bound, err = net.ListenPacket(network, address)
		} else {
			bound, err = net.Listen(network, address)
		}
		if err != nil {
			return err
		}
		if err := bound.Close(); err != nil {
			return err
		}
	}
	return nil
}
