package danelaw

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/policy"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

const (
	policyFile = "mta-sts.json"
	// policySaveEvery is how often policies are written at most.
	policySaveEvery = 10 * time.Second
	// policySocketMode lets everybody ask, as everybody may ask for names: who is kept out is so by the directory.
	policySocketMode = 0o666
	// policyQueryWait is how long danelaw policy query waits: less than its socket does.
	policyQueryWait = controlPatience - 5*time.Second
	// policyClient is who asks for names here (L-13).
	policyClient = "policy"
)

// mailPolicy is what the option policy comes to in a server block.
type mailPolicy struct {
	*policies
	service *policy.Service
	server  *policyServer // nil if nobody is answered
}

// policies are the policies of MTA-STS that are held. They outlive a reload, and with trust_anchor_state a restart.
type policies struct {
	key  string
	held *policy.Store

	mu    sync.Mutex
	store stateFile
	saved uint64 // the count of changes that the file has
	last  time.Time
}

func (p *policies) name() string { return p.key }

// close writes what is not written yet.
func (p *policies) close() { p.save() }

// holdPolicies returns those of that name, as holdTable.
func holdPolicies(name string) *policies {
	p, _ := hold(&process, name, func() (*policies, error) {
		return &policies{key: name, held: policy.NewStore(), store: stateFile{of: stateKind{
			file: policyFile, what: "the policies of MTA-STS",
			remedy: "policies are fetched anew when mail goes to their domains",
		}}}, nil
	})
	return p
}

// declare reads the state file of h.
func (p *policies) declare(h *Handler) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store.open(h.config.State, trusted(h.origin.looking), func(text []byte) error {
		return p.held.Load(text, h.config.Clock())
	})
}

// save writes what has changed.
func (p *policies) save() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if changes := p.held.Unsaved(); changes != p.saved || p.store.due(time.Now()) {
		p.store.save(p.held.Format())
		p.saved, p.last = changes, time.Now()
	}
}

// tend writes what has changed, if it is time to.
func (p *policies) tend() {
	p.mu.Lock()
	wait := time.Since(p.last) < policySaveEvery
	p.mu.Unlock()
	if !wait {
		p.save()
	}
}

// unsaved reports whether the file could not be read or written.
func (p *mailPolicy) unsaved() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.store.failed
}

// openPolicy makes what decides, if the server block is to; nil if it is not.
func openPolicy(h *Handler, held string) (*mailPolicy, error) {
	if h.config.PolicyService == "" {
		return nil, nil
	}
	p := &mailPolicy{policies: holdPolicies(held)}
	if err := p.declare(h); err != nil {
		release(&process, p.policies)
		return nil, err
	}
	asker := policyAsker{h}
	p.service = policy.New(policy.Config{
		Ask: asker.ask, Private: asker.private, Clock: h.config.Clock, Meter: policyMeter{h.config.Block, h.alarms},
		Roots: h.config.PolicyRoots, Dial: h.config.PolicyDial,
	}, p.held)
	countPolicies(h.config.Block)
	return p, nil
}

// start has policies written and renewed.
func (p *mailPolicy) start(ctx context.Context, running *sync.WaitGroup) {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.store.serve()
	p.mu.Unlock()
	running.Go(func() { every(ctx, tick, p.tend) })
	running.Go(func() { p.service.Run(ctx) })
}

// release lets go of all.
func (p *mailPolicy) release() {
	if p == nil {
		return
	}
	if p.server != nil {
		release(&process, p.server)
	}
	release(&process, p.policies)
}

// policyAsker looks up what a decision rests on.
type policyAsker struct{ *Handler }

// now is who asks since a reload.
func (h policyAsker) now() policyAsker {
	return policyAsker{cmp.Or(process.of(h.config.Block), h.Handler)}
}

func (h policyAsker) private(name string) bool { return h.now().names.private.cover(name) }

// ask asks. Whoever is closed by a reload meanwhile is followed by the next one: its failure is none of the domain's.
func (h policyAsker) ask(ctx context.Context, name string, qtype uint16) mail.Reply {
	at := h.now()
	at.asked.Add(1)
	reply := at.lookUp(ctx, name, qtype)
	at.asked.Add(-1)
	if next := h.now(); reply.Status <= dnssec.Bogus && next != at {
		return next.lookUp(ctx, name, qtype)
	}
	return reply
}

// lookUp asks as a client would be answered.
func (h policyAsker) lookUp(ctx context.Context, name string, qtype uint16) (reply mail.Reply) {
	defer func() { // S-27: several are asked at once, in goroutines in which nobody else recovers
		if p := recover(); p != nil {
			policyMeter{block: h.config.Block}.Panicked(p)
			reply = mail.Reply{Lookup: mail.Lookup{Name: name, Type: qtype}}
		}
	}()
	q := dnssec.Question(dns.CanonicalName(name), qtype)
	a := &resolve.Answer{Status: dnssec.Insecure}
	switch re, special := h.names.special(q); {
	case special:
		a.Rcode, a.Answer = re.rcode, re.answer
	case h.names.private.cover(q.Name):
		a = h.below(ctx, q)
	case tooLong(q.Name): // and so not there
		a.Rcode = dns.RcodeNameError
	default:
		a = h.resolver.Resolve(resolve.WithClient(ctx, policyClient), q)
	}
	return replyOf(name, qtype, a)
}

// below asks the plugins below danelaw for a private name.
func (h policyAsker) below(ctx context.Context, q dns.Question) *resolve.Answer {
	m := new(dns.Msg)
	m.SetQuestion(q.Name, q.Qtype)
	w := nonwriter.New(nobody{})
	_, err := plugin.NextOrFailure(pluginName, h.config.Next, ctx, w, m)
	if r := w.Msg; err == nil && r != nil && (r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNameError) {
		return &resolve.Answer{Status: dnssec.Insecure, Rcode: r.Rcode, Answer: r.Answer}
	}
	return &resolve.Answer{Rcode: dns.RcodeServerFailure}
}

// nobody is the client on whose behalf danelaw itself asks the plugins below.
type nobody struct{ dns.ResponseWriter }

func (nobody) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (nobody) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// PolicyOf is what the policy service of h answers about a domain; ok is false if there is none.
func PolicyOf(ctx context.Context, h *Handler, domain string) (a *policy.Answer, ok bool) {
	if h.policy == nil {
		return nil, false
	}
	return h.policy.service.Decide(ctx, domain), true
}

// deciding is the Handler with the policy service.
func deciding() *Handler {
	return process.find(func(h *Handler) bool { return h.policy != nil })
}

// policyServer is a socket where Postfix and Exim ask.
type policyServer struct {
	at     string
	server *policy.Server
	remove func()
}

func (p *policyServer) name() string { return p.at }

func (p *policyServer) close() {
	p.server.Close()
	p.remove()
}

// holdPolicyServer returns the socket at unix:PATH or an address.
func holdPolicyServer(at string) (*policyServer, error) {
	return hold(&process, at, func() (*policyServer, error) { return openPolicyServer(at) })
}

func openPolicyServer(at string) (*policyServer, error) {
	l, remove, err := listenForPolicy(at)
	if err != nil {
		return nil, err
	}
	return &policyServer{at, policy.Serve(l, policy.ServerConfig{
		Decide: decidePolicy, Allow: allowedPolicy, Now: time.Now,
		Told:  func(l policy.Level) { policyAnswers.WithLabelValues(policyBlock(), string(l)).Inc() },
		Ended: func(why string) { policyEnded.WithLabelValues(policyBlock(), why).Inc() },
		Failed: func(p any) {
			panics.WithLabelValues(policyBlock()).Inc()
			log.trace("policy: panic: %v\n%s", p, debug.Stack())
		},
	}), remove}, nil
}

func listenForPolicy(at string) (l net.Listener, remove func(), err error) {
	path, ok := strings.CutPrefix(at, policyUnix)
	if !ok {
		l, err = net.Listen("tcp", at)
		return l, func() {}, err
	}
	if l, err = listenAt(path, policySocketMode); err != nil {
		return nil, nil, err
	}
	inode, err := os.Stat(path)
	return l, func() { removeSocket(path, inode) }, err
}

// policyUnix begins the path of a Unix socket.
const policyUnix = "unix:"

// policyBlock names the server block with the service, for metrics.
func policyBlock() string {
	if h := deciding(); h != nil {
		return h.config.Block
	}
	return ""
}

func decidePolicy(ctx context.Context, domain string) *policy.Answer {
	h := deciding()
	if h == nil {
		return &policy.Answer{Domain: domain, Level: policy.Temp, Why: "danelaw is starting or ending"}
	}
	return h.policy.service.Decide(ctx, domain)
}

// allowedPolicy reports whether a client may ask: by a Unix socket everybody who can reach it, else who may ask for
// names (S-23).
func allowedPolicy(client net.Addr) bool {
	tcp, ok := client.(*net.TCPAddr)
	if !ok {
		return true
	}
	h := deciding()
	address, ok := netip.AddrFromSlice(tcp.IP)
	return ok && h != nil && contains(h.config.AllowClients, address.Unmap())
}

// setPolicyService reads where the policy service is.
func setPolicyService(s *setting, args []string) error {
	arg, err := one(args)
	if err != nil {
		return err
	}
	if path, ok := strings.CutPrefix(arg, policyUnix); ok {
		if path == "" {
			return errors.New("behind unix: there is no path")
		}
		s.config.PolicyService = policyUnix + s.path(path)
		return nil
	}
	at, err := netip.ParseAddrPort(arg)
	if err != nil || at.Port() == 0 {
		return fmt.Errorf("%q is neither unix:PATH nor an IP address with a port", arg)
	}
	s.config.PolicyService = at.String()
	return nil
}

// keepPolicyService says what is wrong with the directory of the socket before anything is begun.
func (s *setting) keepPolicyService() error {
	path, ok := strings.CutPrefix(s.config.PolicyService, policyUnix)
	if !ok {
		return nil
	}
	if err := s.files().Keep(filepath.Dir(path)); err != nil {
		return s.errorAt("policy", "policy %s: %v", s.config.PolicyService, err)
	}
	return nil
}

// answerPolicies opens the socket of the policy service.
func (s *setting) answerPolicies(h *Handler) (err error) {
	if h.policy == nil {
		return nil
	}
	if h.config.State == "" {
		log.Warningf("%s: policy without trust_anchor_state: policies of MTA-STS do not outlive a restart",
			s.at["policy"])
	}
	if h.policy.server, err = holdPolicyServer(h.config.PolicyService); err != nil {
		err = s.errorAt("policy", "policy %s: %v: end who listens there, or write another address",
			h.config.PolicyService, err)
	}
	return err
}

// The counters of policies.
var (
	policyAnswers = counter("policy_answers_total", "Counter of answers of the policy service.", "level")
	policyEnded   = counter("policy_connections_ended_total",
		"Counter of connections to the policy service that were ended: malformed, slow or refused.", "reason")
	policyFetches = counter("policy_fetches_total",
		"Counter of policies of MTA-STS fetched: success, or the result type of RFC 8460.", "result")
	policyVanished = counter("policy_vanished_total",
		"Counter of policies of MTA-STS whose record or file vanished before their end.")
)

var (
	shownHeld     = gauge("policies_held", "Policies of MTA-STS that are held.")
	shownEnforced = gauge("policies_enforced", "Policies of MTA-STS that are held and enforced.")
)

// show shows what is held to Prometheus.
func (p *mailPolicy) show(show func(d *prometheus.Desc, value float64, labels ...string), now time.Time) {
	if p != nil {
		known := p.held.Known(now)
		show(shownHeld, float64(known.Held))
		show(shownEnforced, float64(known.Enforced))
	}
}

// status is what danelaw status and the status page tell; nil without a policy service.
func (p *mailPolicy) status(now time.Time) *PoliciesStatus {
	if p == nil {
		return nil
	}
	known := p.held.Known(now)
	s := &PoliciesStatus{Held: known.Held, Enforced: known.Enforced, Vanished: known.Vanished,
		Failures: []PolicyFailure{}}
	for _, f := range known.Failed {
		s.Failures = append(s.Failures, PolicyFailure{f.Domain, f.At.UTC(), string(f.Result),
			printable.Text(f.Text)})
	}
	return s
}

// String is it in words, but for the failures.
func (s *PoliciesStatus) String() string {
	text := fmt.Sprintf("%d of MTA-STS held, %d in enforce", s.Held, s.Enforced)
	if s.Vanished > 0 {
		text += fmt.Sprintf("; %d vanished before their end, and hold on", s.Vanished)
	}
	return text
}

func (f *PolicyFailure) String() string {
	return fmt.Sprintf("policy of %s: %s: %s", f.Domain, f.ResultType, f.Text)
}

// countPolicies makes the counters of a server block appear before they count.
func countPolicies(block string) {
	for _, l := range policy.Levels {
		policyAnswers.WithLabelValues(block, string(l))
	}
	for _, why := range []string{policy.EndedMalformed, policy.EndedSlow, policy.EndedRefused} {
		policyEnded.WithLabelValues(block, why)
	}
	for _, result := range []mail.Result{fetchedWell, mail.STSPolicyFetchError, mail.STSPolicyInvalid,
		mail.STSWebPKIInvalid} {
		policyFetches.WithLabelValues(block, string(result))
	}
	policyVanished.WithLabelValues(block)
}

// fetchedWell stands for no failure.
const fetchedWell mail.Result = "success"

// policyLines are the log's.
var policyLines = flood{of: "policies of MTA-STS"}

// policyMeter counts for a server block, and tells what operators should know. It implements policy.Meter.
type policyMeter struct {
	block  string
	alarms *alarms // nil if nobody is told of them
}

func (m policyMeter) Fetched(domain string, failure *policy.Failure) {
	result := fetchedWell
	if failure != nil {
		if result = failure.Result; policyLines.open() {
			log.Infof("policy of MTA-STS of %s: %s: %s", domain, failure.Result, failure.Text)
		}
	}
	policyFetches.WithLabelValues(m.block, string(result)).Inc()
}

func (m policyMeter) Changed(domain string, old, now *mail.STSPolicy) {
	if policyLines.open() {
		log.Infof("policy of MTA-STS of %s: %s; before: %s", domain, inShort(now), inShort(old))
	}
}

func (m policyMeter) Vanished(domain, why string) {
	policyVanished.WithLabelValues(m.block).Inc()
	if policyLines.open() {
		log.Warningf("policy of MTA-STS of %s vanished before its end, and holds on: %s", domain, why)
	}
	m.alarms.are(OfPolicy, domain, map[string]string{
		"vanished": "the policy of MTA-STS vanished before its end, and holds on: " + why,
	})
}

func (m policyMeter) Restored(domain string) { m.alarms.are(OfPolicy, domain, nil) }

func (m policyMeter) Panicked(p any) {
	panics.WithLabelValues(m.block).Inc()
	log.trace("policy of MTA-STS: panic: %v\n%s", p, debug.Stack())
}

// inShort is a policy in a line.
func inShort(p *mail.STSPolicy) string {
	const most = 5
	if p == nil {
		return "none"
	}
	text := string(p.Mode)
	for _, pattern := range p.MX[:min(len(p.MX), most)] {
		text += " " + pattern
	}
	if more := len(p.MX) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// queryPolicy answers danelaw policy query.
func queryPolicy(r *http.Request) (any, error) {
	name, err := nameIn(r, "name")
	if err != nil {
		return nil, err
	}
	h := deciding()
	if h == nil {
		return nil, refusal{http.StatusServiceUnavailable,
			errors.New("the Corefile has no `policy`: add, for example, policy unix:/run/danelaw/policy.sock")}
	}
	ctx, cancel := context.WithTimeout(r.Context(), policyQueryWait)
	defer cancel()
	return NewPolicyReply(h.policy.service.Decide(ctx, name)), nil
}

// NewPolicyReply is the form of an answer that is printed.
func NewPolicyReply(a *policy.Answer) PolicyReply {
	reply := PolicyReply{Domain: a.Domain, Level: string(a.Level), Why: a.Why, Match: a.Match,
		Postfix: a.Postfix(), PostfixTLSRPT: a.PostfixTLSRPT(time.Now())}
	if a.STS != nil {
		p := a.STS.Policy
		reply.STS = &PolicySTS{ID: a.STS.ID, Mode: string(p.Mode), MX: p.MX, MaxAge: int64(p.MaxAge.Seconds()),
			Fetched: a.STS.Fetched.UTC(), Until: a.STS.Ends().UTC()}
	}
	if a.Failure != nil {
		reply.ResultType, reply.Failure = string(a.Failure.Result), a.Failure.Text
	}
	return reply
}
