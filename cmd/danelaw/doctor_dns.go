package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// subject is the DNS side of what the doctor examines.
type subject struct {
	resolver      string // host:port that the mail server asks
	signed, bogus string // domains
	dnsbls        []string
	conf          string // danelaw's Corefile, if it is named
	asker         *asker // by danelaw's configuration
	unconfigured  error  // why there is none
}

// The lab's domains that stand for those of the internet.
const (
	labSigned = "good.dane."
	labBogus  = "expired.dane."
)

var labDNSBLs = []string{"dnsbl.dane", "refusing.dane"}

func newSubject(ctx context.Context, c *cli.Command) (s *subject, end func(), err error) {
	names := append([]string{c.String("signed"), c.String("bogus")}, c.StringSlice("dnsbl")...)
	for i, text := range names {
		name, err := domainName(text)
		switch {
		case err != nil:
			return nil, nil, err
		case name == ".":
			return nil, nil, wrong("the root is not such a domain")
		}
		names[i] = strings.TrimSuffix(name, ".")
	}
	s = &subject{signed: dns.Fqdn(names[0]), bogus: dns.Fqdn(names[1]), dnsbls: names[2:], conf: c.String("conf")}
	if s.resolver, err = resolverAddress(c.String("resolver")); err != nil {
		return nil, nil, err
	}
	s.asker, err = openAsker(ctx, c)
	switch {
	case err == nil && c.Bool("lab"):
		return s.ofLab(c)
	case err == nil:
		return s, s.asker.close, nil
	case c.Bool("lab") || c.IsSet("conf") || c.IsSet("upstream"):
		return nil, nil, err
	}
	s.unconfigured = err
	return s, func() {}, nil
}

// ofLab examines a danelaw in front of the lab, on a port of loopback.
func (s *subject) ofLab(c *cli.Command) (_ *subject, end func(), err error) {
	if c.IsSet("resolver") {
		s.asker.close()
		return nil, nil, wrong("--lab has a resolver of its own: leave out --resolver")
	}
	stop, err := s.serve()
	if err != nil {
		s.asker.close()
		return nil, nil, err
	}
	for flag, set := range map[string]func(){
		"signed": func() { s.signed = labSigned }, "bogus": func() { s.bogus = labBogus },
		"dnsbl": func() { s.dnsbls = labDNSBLs },
	} {
		if !c.IsSet(flag) {
			set()
		}
	}
	return s, func() { stop(); s.asker.close() }, nil
}

// serve has the danelaw that is set up answer on a free port of loopback.
func (s *subject) serve() (stop func(), err error) {
	h, err := s.asker.handler(".")
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.resolver = conn.LocalAddr().String()
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }}
	server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		h.ServeDNS(context.Background(), w, q) //nolint:errcheck // it has written its reply
	})
	log.SetOutput(io.Discard)    // what it says of the bogus domain is among the findings
	go server.ActivateAndServe() //nolint:errcheck // it ends with Shutdown
	<-started
	return func() {
		server.Shutdown() //nolint:errcheck // the socket is loopback's
		log.SetOutput(os.Stderr)
	}, nil
}

// resolverAddress returns host:port of the resolver to examine: the one given, or the first nameserver of resolv.conf.
func resolverAddress(given string) (string, error) {
	if given == "" {
		servers, _ := nameservers(resolvConf)
		return netip.AddrPortFrom(append(servers, loopback)[0], 53).String(), nil // resolv.conf(5)
	}
	if addr, err := netip.ParseAddr(given); err == nil {
		return netip.AddrPortFrom(addr, 53).String(), nil
	}
	if addr, err := netip.ParseAddrPort(given); err == nil {
		return addr.String(), nil
	}
	return "", wrong("--resolver %q is neither an address nor one with a port, such as 127.0.0.1 or 127.0.0.1:5300",
		given)
}

// askFor bounds one question of the doctor.
const askFor = 6 * time.Second

// ask puts one question to the resolver, as a mail server does.
func (s *subject) ask(ctx context.Context, name string, qtype uint16, change func(*dns.Msg)) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	change(q)
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	r, _, err := (&dns.Client{Timeout: askFor}).ExchangeContext(ctx, q, s.resolver)
	return r, err
}

func withDO(m *dns.Msg) { m.SetEdns0(1232, true) }
func withAD(m *dns.Msg) { m.AuthenticatedData = true }
func withCD(m *dns.Msg) { m.CheckingDisabled = true }

// resolverValidates examines what the mail server is told.
func (s *subject) resolverValidates(ctx context.Context) (found []finding) {
	if _, err := s.ask(ctx, ".", dns.TypeNS, withDO); err != nil {
		return []finding{
			fault.of("resolver", "%s does not answer: %v", s.resolver, err).
				do("start danelaw there, or correct " + resolvConf),
		}
	}
	for _, q := range []struct {
		name   string
		qtype  uint16
		change func(*dns.Msg)
		how    string
	}{
		{s.signed, dns.TypeMX, withDO, "with DO"}, {s.signed, dns.TypeMX, withAD, "with AD only"},
		{".", dns.TypeNS, withDO, "with DO, as Postfix probes it"}, // D-12
	} {
		text := fmt.Sprintf("%s %s, asked %s: %s", q.name, dns.Type(q.qtype), q.how, s.resolver)
		f := ok.of("resolver", "%s answers with AD", text)
		switch r, err := s.ask(ctx, q.name, q.qtype, q.change); {
		case err != nil:
			f = fault.of("resolver", "%s does not answer: %v", text, err).do(askAlone)
		case r.Rcode != dns.RcodeSuccess:
			f = fault.of("resolver", "%s answers %s%s", text, dns.RcodeToString[r.Rcode], because(r)).do(askAlone)
		case !r.AuthenticatedData:
			f = fault.of("resolver", "%s answers without AD: it does not validate, or keeps it to itself", text).
				do(askAlone)
		}
		found = append(found, f)
	}
	return append(found, s.refusesBogus(ctx))
}

const askAlone = "let the mail server ask danelaw alone"

// refusesBogus examines whether wrong signatures are noticed.
func (s *subject) refusesBogus(ctx context.Context) finding {
	const another = "name another domain that is bogus with --bogus"
	r, err := s.ask(ctx, s.bogus, dns.TypeMX, withDO)
	if err != nil {
		return fault.of("resolver", "%s MX: %s does not answer: %v", s.bogus, s.resolver, err).do(askAlone)
	}
	switch rcode := dns.RcodeToString[r.Rcode]; r.Rcode {
	case dns.RcodeServerFailure:
		u, err := s.ask(ctx, s.bogus, dns.TypeMX, func(m *dns.Msg) { withDO(m); withCD(m) })
		if err != nil || u.Rcode == dns.RcodeServerFailure {
			return warning.of("resolver", "%s MX fails even unchecked: whether wrong signatures are noticed is not "+
				"known", s.bogus).do(another)
		}
		return ok.of("resolver", "%s MX, whose signatures are wrong: %s answers SERVFAIL%s", s.bogus, s.resolver,
			because(r))
	case dns.RcodeSuccess:
		return fault.of("resolver", "%s MX has wrong signatures, and %s answers %s: a forged answer would be believed",
			s.bogus, s.resolver, rcode).do(askAlone)
	default:
		return warning.of("resolver", "%s MX: %s answers %s, so whether wrong signatures are noticed is not known",
			s.bogus, s.resolver, rcode).do(another)
	}
}

// because is the first Extended DNS Error of a reply, in parentheses.
func because(r *dns.Msg) string {
	if opt := r.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, is := o.(*dns.EDNS0_EDE); is && e.ExtraText != "" {
				return " (" + printable.Short(e.ExtraText) + ")"
			}
		}
	}
	return ""
}

// corefile tells how a Corefile is checked that root's own --validate refuses, since what the daemon keeps is the
// daemon's. Here it has been read as one that is another's.
func (s *subject) corefile(ctx context.Context) []finding {
	info, err := os.Stat(s.conf)
	if err != nil || !info.Mode().IsRegular() || os.Geteuid() != 0 {
		return nil
	}
	blocks, err := setUp(ctx, &source{file: s.conf, name: s.conf}, danelaw.Validate)
	if err == nil {
		blocks.Close()
		return nil
	}
	return []finding{ok.of("Corefile", "%s is sound, but root's `danelaw --validate` refuses what is the daemon's "+
		"(%v): check it as the daemon's user, `danelaw --user %s --validate --conf %[1]s`", s.conf, redacted(err),
		daemonUser)}
}

// upstreams examines whom danelaw asks, and its trust anchors.
func (s *subject) upstreams(ctx context.Context) (found []finding) {
	if s.unconfigured != nil {
		return []finding{
			warning.of("upstreams", "they are not examined: %v", s.unconfigured).
				do("name danelaw's Corefile with --conf"),
		}
	}
	h, err := s.asker.handler(".")
	if err != nil {
		return []finding{warning.of("upstreams", "they are not examined: %v", err).do("have a server block for `.`")}
	}
	for _, r := range h.Fit(ctx) {
		f := warning.of("upstreams", "%s", strings.Join(r.Faults, "; "))
		switch {
		case f.Why == "":
			f = ok.of("upstreams", "%s hands on signatures and denials, and answers over TCP", r.Upstream)
		case r.Fit:
			f = f.do("see `upstream` in the Corefile: that zone may need another")
		default:
			f = f.graver(true).do("take one that validates or hands everything on, such as tls://9.9.9.9%dns.quad9.net")
		}
		found = append(found, f)
	}
	if err := h.Resolver().Prime(ctx); err != nil {
		return append(found, fault.of("anchors", "%v", err).
			do("check the clock, the upstreams, and `trust_anchor` in the Corefile"))
	}
	return append(found, anchorsFound(ctx, h)...)
}

// anchorsFound tells how the trust anchors are, and what is to be known of the keys that come and go.
func anchorsFound(ctx context.Context, h *danelaw.Handler) []finding {
	points, err := danelaw.Anchors(ctx, h)
	if err != nil {
		return []finding{warning.of("anchors", "%v", err).do("check the upstreams")}
	}
	var found []finding
	for _, p := range points {
		for _, concern := range p.Concerns {
			found = append(found, warning.of("anchors", "%s: %s", p.Zone, concern).graver(p.Trusted == 0).
				do("see danelaw anchors"))
		}
	}
	return append(found, ok.of("anchors", "the root's keys validate with the trust anchors"))
}

// lists examines whether DNSBLs answer: their test entry must be there (RFC 5782 section 5), and 127.255.255.0/24 means
// that they refuse whoever asks in danelaw's place (S-28).
func (s *subject) lists(ctx context.Context) (found []finding) {
	for _, list := range s.dnsbls {
		found = append(found, s.listFinding(ctx, list))
	}
	return found
}

func (s *subject) listFinding(ctx context.Context, list string) finding {
	const remedy = "have the list asked by an upstream that is yours alone, or use the list's key; see " +
		"deploy/mailhost/README.md"
	r, err := s.ask(ctx, "2.0.0.127."+list, dns.TypeA, withDO)
	switch {
	case err != nil:
		return warning.of("DNSBL", "%s does not answer: %v", list, err).do(remedy)
	case r.Rcode == dns.RcodeNameError || r.Rcode == dns.RcodeSuccess && len(r.Answer) == 0:
		return warning.of("DNSBL", "%s does not list its test entry 127.0.0.2: it is gone, or answers nothing to this "+
			"upstream", list).do(remedy)
	case r.Rcode != dns.RcodeSuccess:
		return warning.of("DNSBL", "%s answers %s%s", list, dns.RcodeToString[r.Rcode], because(r)).do(remedy)
	}
	for _, rr := range r.Answer {
		if a, is := rr.(*dns.A); is && strings.HasPrefix(a.A.String(), "127.255.255.") {
			return warning.of("DNSBL", "%s answers %s: it refuses questions that come by this upstream, and mail is "+
				"not filtered", list, a.A).do(remedy)
		}
	}
	return ok.of("DNSBL", "%s lists its test entry", list)
}
