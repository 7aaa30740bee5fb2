package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

func tlsaCommand() *cli.Command {
	return &cli.Command{
		Name:  "tlsa",
		Usage: "make the TLSA records of a mail host, plan their rollover, or compare them with those published",
		UsageText: "danelaw tlsa [options] FILE... | --smtp HOST[:PORT]\n" +
			"danelaw tlsa hook [options] [FULLCHAIN KEY]",
		Flags: append(slices.Concat(askFlags(), probeFlags(implicitFlag())),
			&cli.StringFlag{Name: "host", Usage: "the mail host is `NAME`, as MX records have it (default: the " +
				"certificate's name, if it has one only)"},
			stringFlag("smtp", "take the certificates that `HOST[:PORT]` shows, port 25 if none is given"),
			intFlag("usage", 3, "`N` is 3 for the host's own certificate (DANE-EE), 2 for its authority's (DANE-TA)",
				nil),
			intFlag("selector", 1, "`N` is 1 for the public key, 0 for the whole certificate", nil),
			intFlag("matching", 1, "`N` is 1 for SHA-256, 2 for SHA-512, 0 for the thing itself", nil),
			&cli.IntFlag{Name: "ttl", Usage: "write a TTL of `SECONDS` (default: none)", HideDefault: true},
			intFlag("port", mail.Port, "the records are for port `N`", checkPort),
			&cli.StringSliceFlag{Name: "next", Usage: "plan a rollover to the certificate or key in `FILE`"},
			boolFlag("check", "compare with the published records"),
			boolFlag("json", "print JSON for a program"),
		),
		Commands: []*cli.Command{hookCommand()},
		Action:   tlsa,
	}
}

func tlsa(ctx context.Context, c *cli.Command) error {
	p, err := newTLSAPlan(c)
	if err != nil {
		return err
	}
	if c.Bool("check") || c.IsSet("smtp") {
		if p.asker, err = openAsker(ctx, c); err != nil {
			return err
		}
		defer p.close()
	}
	if err := p.identify(ctx, c); err != nil {
		return err
	}
	out, err := p.report(c.Bool("check"))
	if err != nil {
		return err
	}
	return cmp.Or(show(c, out.plannedJSON, func(to io.Writer) { out.print(to, p.err) }), toldUnless(out.Good))
}

// tlsaPlan is one run of the command.
type tlsaPlan struct {
	err           io.Writer
	host          string // canonical, as MX records have it
	base          string // the TLSA base domain: the host, or what it is an alias of (D-4)
	port          int
	ttl           *uint32
	kind          dns.TLSA // usage, selector and matching type; 3 1 1 unless flags say otherwise (D-9)
	current, next []*identity
	set           publishedSet
	*asker        // nil if nobody is asked
}

// newTLSAPlan reads what of the command line needs nothing else.
func newTLSAPlan(c *cli.Command) (*tlsaPlan, error) {
	p := &tlsaPlan{err: c.Root().ErrWriter, port: c.Int("port")}
	if c.Args().Present() == c.IsSet("smtp") {
		return nil, wrong("tlsa takes either files or --smtp HOST; see danelaw tlsa --help")
	}
	if !c.Bool("check") && !c.IsSet("smtp") {
		for _, flag := range []string{"conf", "upstream", "lab"} {
			if c.IsSet(flag) {
				return nil, wrong("--%s is for --check and --smtp: files alone need nobody to ask", flag)
			}
		}
	}
	return p, cmp.Or(p.readTTL(c), p.readKind(c))
}

// readTTL reads the TTL of the records.
func (p *tlsaPlan) readTTL(c *cli.Command) error {
	if !c.IsSet("ttl") {
		return nil
	}
	if n := c.Int("ttl"); n < 0 || n > 1<<31-1 {
		return wrong("%d is no TTL, they go from 0 to 2147483647", n)
	}
	p.ttl = new(uint32(c.Int("ttl")))
	return nil
}

// readKind reads the three numbers of the records.
func (p *tlsaPlan) readKind(c *cli.Command) error {
	for _, number := range []struct {
		name    string
		allowed []int
		to      *uint8
	}{
		{"usage", []int{2, 3}, &p.kind.Usage}, {"selector", []int{0, 1}, &p.kind.Selector},
		{"matching", []int{0, 1, 2}, &p.kind.MatchingType},
	} {
		n := c.Int(number.name)
		if !slices.Contains(number.allowed, n) {
			return wrong("--%s %d is nothing that mail uses, write one of %v (RFC 7672 section 3.1)",
				number.name, n, number.allowed)
		}
		*number.to = uint8(n)
	}
	return nil
}

// identify finds the certificates and keys, the name of the host, and what is published of it.
func (p *tlsaPlan) identify(ctx context.Context, c *cli.Command) (err error) {
	if p.next, err = readIdentities(ctx, c.StringSlice("next")); err != nil {
		return err
	}
	if c.IsSet("smtp") {
		return p.connect(ctx, c.String("smtp"), c.String("host"), c.Bool("check"))
	}
	if p.current, err = readIdentities(ctx, c.Args().Slice()); err != nil {
		return err
	}
	if p.host, err = hostOf(c.String("host"), p.current); err != nil {
		return err
	}
	p.base = p.host
	if c.Bool("check") {
		_, err = p.locate(ctx, true)
	}
	return err
}

func readIdentities(ctx context.Context, files []string) (all []*identity, err error) {
	for _, file := range files {
		id, err := readIdentity(ctx, file)
		if err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	return all, nil
}

// hostOf is the name that is given, or the only one of the certificates.
func hostOf(given string, ids []*identity) (string, error) {
	if given != "" {
		return mailHost(given)
	}
	var names []string
	for _, id := range ids {
		if len(id.chain) > 0 {
			names = append(names, id.chain[0].DNSNames...)
		}
	}
	slices.Sort(names)
	switch names = slices.Compact(names); {
	case len(names) == 0:
		return "", wrong("%s names no host: say which with --host", ids[0])
	case len(names) > 1 || strings.HasPrefix(names[0], "*"):
		return "", wrong("the certificate is for %s: say with --host which of its names MX records have",
			printable.Short(strings.Join(names, ", ")))
	}
	return mailHost(names[0])
}

// mailHost reads the name of a host as people write it; hosts have no wildcard.
func mailHost(text string) (string, error) {
	name, err := domainName(text)
	if err == nil && strings.ContainsAny(name, `*/\`) {
		err = wrong("%q is not the name of a host", text)
	}
	return name, err
}

// connect takes the certificates of a live host.
func (p *tlsaPlan) connect(ctx context.Context, target, given string, check bool) error {
	name, port, err := splitTarget(target)
	if err != nil {
		return err
	}
	literal, err := netip.ParseAddr(name)
	if err == nil && given == "" {
		return wrong("--smtp %s: say with --host which mail host it is", target)
	}
	isLiteral := err == nil
	if p.host, err = mailHost(cmp.Or(given, name)); err != nil {
		return err
	}
	p.base = p.host
	addresses := []netip.Addr{literal}
	if !isLiteral || check {
		found, err := p.locate(ctx, check)
		if err != nil {
			return err
		}
		if !isLiteral {
			addresses = found
		}
	}
	return p.showAll(ctx, addresses, port)
}

// showAll adds what the addresses show.
func (p *tlsaPlan) showAll(ctx context.Context, addresses []netip.Addr, port uint16) error {
	var last error
	for _, address := range addresses {
		if err := p.show(ctx, netip.AddrPortFrom(address, port)); err != nil {
			fmt.Fprintln(p.err, "danelaw:", err)
			last = err
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case len(p.current) == 0 && last != nil:
		return errTold
	case len(p.current) == 0:
		return fmt.Errorf("%s has no address", strings.TrimSuffix(p.host, "."))
	}
	return nil
}

// splitTarget reads HOST[:PORT].
func splitTarget(target string) (host string, port uint16, err error) {
	if strings.Contains(target, "/") { // a URL, mostly, which has a colon too
		_, err := mailHost(target)
		return "", 0, err
	}
	host, digits, err := net.SplitHostPort(target)
	if err != nil {
		return strings.Trim(target, "[]"), mail.Port, nil // an IPv6 address with or without brackets, or no port
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, wrong("--smtp %s: %q is no port", target, digits)
	}
	return host, uint16(n), nil
}

// show adds the certificates of one address that are not there yet. That a host has none of the other kind is no error.
func (p *tlsaPlan) show(ctx context.Context, at netip.AddrPort) error {
	to := probe.Target{Address: at, Base: p.base}
	r := p.prober.Probe(ctx, to)
	if r.Failure != nil {
		return fmt.Errorf("%s at %s: %w", p.host, at, r.Failure)
	}
	other := p.prober.Other(ctx, to, r)
	p.add(r)
	if other != nil && other.Failure == nil {
		p.add(other)
	}
	return nil
}

func (p *tlsaPlan) add(r *probe.Report) {
	same := func(id *identity) bool { return id.chain[0].Equal(r.Chain[0]) }
	if !slices.ContainsFunc(p.current, same) {
		p.current = append(p.current, &identity{from: fmt.Sprintf("%s at %s", p.host, r.Address.Addr()), chain: r.Chain,
			spki: r.Chain[0].RawSubjectPublicKeyInfo, note: r.Note})
	}
}

// record makes the record of an identity.
func (p *tlsaPlan) record(id *identity) (*dns.TLSA, error) {
	c := &x509.Certificate{RawSubjectPublicKeyInfo: id.spki} // all there is of a key
	switch n := len(id.chain); {
	case n == 0 && p.kind.Selector == mail.Cert:
		return nil, fmt.Errorf("%s: it holds a key alone, and --selector 0 needs the certificate", id.from)
	case n == 1 && p.kind.Usage == mail.DANETA && !id.chain[0].IsCA:
		return nil, fmt.Errorf("%s: there is no certificate but the host's own, and --usage 2 needs its authority's: "+
			"take the chain that the host presents, such as fullchain.pem", id.from)
	case n > 0 && p.kind.Usage == mail.DANETA:
		c = id.chain[n-1]
	case n > 0:
		c = id.chain[0]
	}
	r := p.kind
	r.Hdr = dns.RR_Header{Name: cmp.Or(p.set.owner, mail.TLSAName(p.base, p.port)), Rrtype: dns.TypeTLSA,
		Class: dns.ClassINET}
	var err error
	r.Certificate, err = dns.CertificateToDANE(r.Selector, r.MatchingType, c)
	return &r, err
}

// line is a record in zone-file form.
func (p *tlsaPlan) line(r *dns.TLSA) string {
	ttl := ""
	if p.ttl != nil {
		ttl = fmt.Sprintf(" %d", *p.ttl)
	}
	return fmt.Sprintf("%s%s IN TLSA %d %d %d %s", r.Hdr.Name, ttl, r.Usage, r.Selector, r.MatchingType, r.Certificate)
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// compareOne reports whether a sender takes the identity by a record, and if the record is that of its authority and it
// does not, why. Of a key alone its digest is all there is to compare.
func (p *tlsaPlan) compareOne(r *dns.TLSA, id *identity) (matched bool, refused error) {
	if len(id.chain) == 0 {
		return r.Selector == mail.SPKI && mail.Matches(r, &x509.Certificate{RawSubjectPublicKeyInfo: id.spki}), nil
	}
	_, err := mail.Verify([]*dns.TLSA{r}, id.chain, []string{p.base}, time.Now())
	if failure := new(mail.CertificateError); errors.As(err, &failure) && failure.Record != nil {
		return false, failure
	}
	return err == nil, nil
}

// publishedSet is what is published of a host. The zero value is for what was not looked up.
type publishedSet struct {
	secure  bool
	owner   string // where the records stand: the TLSA name, or what it is an alias of (D-5)
	records []*dns.TLSA
	ttl     uint32 // the longest of the records' and, if they stand behind aliases, of these: as signed, in seconds
}

// locate finds the addresses of the host, the base domain of its TLSA records, and these. Mandatory says that the
// records have to be Secure; else what is known of them is nice to have, and only addresses that cannot be had are an
// error.
func (p *tlsaPlan) locate(ctx context.Context, mandatory bool) ([]netip.Addr, error) {
	seen := lookups{}
	h := mail.WalkHost(mail.Exchange{Name: p.host}, p.port, seen.remember(func(name string, qtype uint16) *lookup {
		return p.lookup(ctx, name, qtype)
	}))
	for _, l := range seen {
		if l.unjudged != nil {
			return nil, l.unjudged
		}
	}
	var addresses []netip.Addr
	for _, l := range h.Addresses {
		a := seen.of(l.Name, l.Type).found.Answer
		if a.Status <= dnssec.Bogus && !mandatory {
			return nil, errors.New(a.Notes[0].Text)
		}
		addresses = append(addresses, mail.Addresses(a.Answer)...)
	}
	bases := mail.Bases(h.Name, h.Expanded, h.Status(), h.First)
	if found := h.Found(); found != nil {
		p.base = found.Base
	} else if len(bases) > 0 {
		p.base = bases[0]
	}
	unsigned := len(bases) == 0 && h.Status() == dnssec.Insecure
	if unsigned && mandatory {
		return nil, fmt.Errorf("the addresses of %s are Insecure: no sender looks for its TLSA records before their "+
			"zone is signed, with a DS in the one above", h.Expanded)
	}
	if unsigned {
		return addresses, nil
	}
	return addresses, p.published(ctx, seen, mandatory)
}

// published reads the records that senders find by the base domain.
func (p *tlsaPlan) published(ctx context.Context, seen lookups, mandatory bool) error {
	name := mail.TLSAName(p.base, p.port)
	l := seen.of(name, dns.TypeTLSA)
	if l == nil { // there are no addresses
		l = p.lookup(ctx, name, dns.TypeTLSA)
	}
	a := l.found.Answer
	switch {
	case a.Status == dnssec.Secure:
		p.set = setOf(name, a.Answer)
	case mandatory && a.Status <= dnssec.Bogus:
		return p.notPublished(ctx, name, a)
	case mandatory:
		return fmt.Errorf("%s is Insecure: no sender heeds TLSA records there before its zone is signed, with a "+
			"DS in the one above", name)
	}
	return nil
}

// notPublished is the error for records that could not be looked up. If danelaw itself cannot ask, it says so.
func (p *tlsaPlan) notPublished(ctx context.Context, name string, a *resolve.Answer) error {
	h, err := p.handler(name)
	if err != nil {
		return err
	}
	if f := h.CannotAsk(ctx, name, a.Notes); f != nil {
		return errors.New(h.NotAsked(f))
	}
	return fmt.Errorf("the records published at %s are %s, senders defer mail: %s", name, a.Status, a.Notes[0].Text)
}

// setOf reads a Secure answer. An alias is cached as long as its own TTL says, and so is what it led to.
func setOf(name string, answer []dns.RR) publishedSet {
	s := publishedSet{secure: true, owner: name}
	s.owner, _ = mail.Expanded(name, answer)
	for _, rr := range answer {
		switch rr := dnssec.Typed(rr).(type) {
		case *dns.TLSA:
			s.records = append(s.records, rr)
		case *dns.RRSIG:
			if rr.TypeCovered == dns.TypeTLSA || rr.TypeCovered == dns.TypeCNAME || rr.TypeCovered == dns.TypeDNAME {
				s.ttl = max(s.ttl, rr.OrigTtl)
			}
		}
	}
	return s
}
