package main

import (
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
)

// usualTTL is the TTL of TLSA records of which nothing is known: an hour, as RFC 7671 section 8 wants it short.
const usualTTL = 3600

func tlsaCommand() *cli.Command {
	return &cli.Command{
		Name:      "tlsa",
		Usage:     "make the TLSA records of a mail host, plan their rollover, or compare them with those published",
		ArgsUsage: "FILE... | -smtp HOST[:PORT]",
		Description: "Each FILE is PEM: a certificate, with those above it and its key or without, or a key alone, public or private. With\n" +
			"-smtp the certificates are those that a live host shows, the one with an RSA key and the one with an ECDSA key. The\n" +
			"records are printed in zone-file form: 3 1 1, the SHA-256 of the host's public key, unless flags say otherwise. For\n" +
			"usage 2 it is that of the last certificate of the chain, which the host has to present.\n\n" +
			"With -next FILE it is a rollover to another certificate or key: both records, and the steps with their waiting times.\n" +
			"With -check the published records are looked up and validated here, with the upstreams and trust anchors of the\n" +
			"configuration: which match nothing, and which certificate has none.\n\n" +
			"Exit codes: 0; 1 if something did not work, or with -check a certificate has no record or the records are not Secure;\n" +
			"2 for a wrong command line.",
		Flags: append(askFlags(),
			&cli.StringFlag{Name: "host", Usage: "the mail host is `NAME`, as MX records have it (default: the certificate's name, if it has one only)"},
			&cli.StringFlag{Name: "smtp", Usage: "take the certificates that `HOST[:PORT]` shows, port 25 if none is given"},
			&cli.IntFlag{Name: "usage", Value: 3, Usage: "`N` is 3 for the host's own certificate (DANE-EE), 2 for its authority's (DANE-TA)"},
			&cli.IntFlag{Name: "selector", Value: 1, Usage: "`N` is 1 for the public key, 0 for the whole certificate"},
			&cli.IntFlag{Name: "matching", Value: 1, Usage: "`N` is 1 for SHA-256, 2 for SHA-512, 0 for the thing itself"},
			&cli.IntFlag{Name: "ttl", Usage: "write a TTL of `SECONDS` (default: none)", HideDefault: true},
			&cli.IntFlag{Name: "port", Value: mail.Port, Usage: "the records are for port `N`", Validator: checkPort},
			&cli.StringSliceFlag{Name: "next", Usage: "plan a rollover to the certificate or key in `FILE`"},
			&cli.BoolFlag{Name: "check", Usage: "compare with the published records"},
		),
		Action: tlsa,
	}
}

func tlsa(ctx context.Context, c *cli.Command) error {
	p, err := newTLSAPlan(c)
	if err != nil {
		return err
	}
	if c.Bool("check") || c.IsSet("smtp") {
		if p.asker, err = openAsker(c); err != nil {
			return err
		}
		defer p.close()
	}
	if err := p.identify(ctx, c); err != nil {
		return err
	}
	if c.Bool("check") {
		if err := p.lookUp(ctx); err != nil {
			return err
		}
	}
	if err := p.printRecords(); err != nil || !c.Bool("check") {
		return err
	}
	return p.compare()
}

// tlsaPlan is one run of the command.
type tlsaPlan struct {
	out, err      io.Writer
	host          string // canonical
	port          int
	ttl           *uint32
	kind          dns.TLSA // usage, selector and matching type
	current, next []*identity
	published     []*dns.TLSA
	publishedTTL  uint32 // of the set as it is signed
	*asker               // nil if nobody is asked
}

// newTLSAPlan reads what of the command line needs nothing else.
func newTLSAPlan(c *cli.Command) (*tlsaPlan, error) {
	p := &tlsaPlan{out: c.Root().Writer, err: c.Root().ErrWriter, port: c.Int("port")}
	if c.Args().Present() == c.IsSet("smtp") {
		return nil, usageError{errors.New("tlsa takes either files or -smtp HOST; see danelaw tlsa -help")}
	}
	if !c.Bool("check") && !c.IsSet("smtp") {
		for _, flag := range []string{"conf", "upstream", "lab"} {
			if c.IsSet(flag) {
				return nil, usageError{fmt.Errorf("-%s is for -check and -smtp: files alone need nobody to ask", flag)}
			}
		}
	}
	if c.IsSet("ttl") {
		if n := c.Int("ttl"); n < 0 || n > 1<<31-1 {
			return nil, usageError{fmt.Errorf("%d is no TTL, they go from 0 to 2147483647", n)}
		}
		ttl := uint32(c.Int("ttl"))
		p.ttl = &ttl
	}
	return p, p.readKind(c)
}

// readKind reads the three numbers of the records.
func (p *tlsaPlan) readKind(c *cli.Command) error {
	for _, number := range []struct {
		name    string
		allowed []int
		to      *uint8
	}{
		{"usage", []int{2, 3}, &p.kind.Usage}, {"selector", []int{0, 1}, &p.kind.Selector}, {"matching", []int{0, 1, 2}, &p.kind.MatchingType},
	} {
		n := c.Int(number.name)
		if !slices.Contains(number.allowed, n) {
			return usageError{fmt.Errorf("-%s %d is nothing that mail uses, write one of %v (RFC 7672 section 3.1)", number.name, n, number.allowed)}
		}
		*number.to = uint8(n)
	}
	return nil
}

// identify finds the certificates and keys, and the name of the host.
func (p *tlsaPlan) identify(ctx context.Context, c *cli.Command) (err error) {
	if p.next, err = readIdentities(c.StringSlice("next")); err != nil {
		return err
	}
	if c.IsSet("smtp") {
		return p.connect(ctx, c.String("smtp"), c.String("host"))
	}
	if p.current, err = readIdentities(c.Args().Slice()); err != nil {
		return err
	}
	p.host, err = hostOf(c.String("host"), p.current)
	return err
}

func readIdentities(files []string) (all []*identity, err error) {
	for _, file := range files {
		id, err := readIdentity(file)
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
		return "", usageError{fmt.Errorf("%s names no host: say which with -host", ids[0])}
	case len(names) > 1 || strings.HasPrefix(names[0], "*"):
		return "", usageError{fmt.Errorf("the certificate is for %s: say with -host which of its names MX records have", printable.Short(strings.Join(names, ", ")))}
	}
	return mailHost(names[0])
}

func mailHost(name string) (string, error) {
	if _, ok := dns.IsDomainName(name); !ok || strings.ContainsAny(name, " */:") || printable.Text(name) != name {
		return "", usageError{fmt.Errorf("%q is not the name of a host", name)}
	}
	return dns.CanonicalName(name), nil
}

// connect takes the certificates of a live host.
func (p *tlsaPlan) connect(ctx context.Context, target, given string) error {
	name, port, err := splitTarget(target)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(name); err == nil && given == "" {
		return usageError{fmt.Errorf("-smtp %s: say with -host which mail host it is", target)}
	}
	if given == "" {
		given = name
	}
	if p.host, err = mailHost(given); err != nil {
		return err
	}
	addresses, err := p.addresses(ctx, name)
	if err != nil {
		return err
	}
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
		return fmt.Errorf("%s has no address", name)
	}
	return nil
}

// splitTarget reads HOST[:PORT].
func splitTarget(target string) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(target)
	if err != nil {
		return strings.Trim(target, "[]"), mail.Port, nil // an IPv6 address with or without brackets, or no port
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", 0, usageError{fmt.Errorf("-smtp %s: %q is no port", target, digits)}
	}
	return host, uint16(n), nil
}

// addresses looks up a host.
func (p *tlsaPlan) addresses(ctx context.Context, name string) (all []netip.Addr, err error) {
	if address, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{address}, nil
	}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		found, err := p.explain(ctx, dns.CanonicalName(name), qtype)
		if err != nil {
			return nil, err
		}
		if found.Answer.Status <= dnssec.Bogus {
			return nil, errors.New(found.Answer.Notes[0].Text)
		}
		for _, rr := range found.Answer.Answer {
			if address, ok := addressOf(rr); ok {
				all = append(all, address)
			}
		}
	}
	return all, nil
}

// addressOf is the address in an A or AAAA record.
func addressOf(rr dns.RR) (address netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		address, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		address, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return address.Unmap(), ok
}

// show adds the certificates of one address that are not there yet. That a host has none of the other kind is no error.
func (p *tlsaPlan) show(ctx context.Context, at netip.AddrPort) error {
	to := probe.Target{Address: at, Base: p.host}
	r := p.prober.Probe(ctx, to)
	if r.Failure != nil {
		return fmt.Errorf("%s at %s: %w", p.host, at, r.Failure)
	}
	p.add(r)
	if to.Key = probe.RSA; probe.KeyOf(r.Chain[0]) == probe.RSA {
		to.Key = probe.ECDSA
	}
	if r := p.prober.Probe(ctx, to); r.Failure == nil {
		p.add(r)
	}
	return nil
}

func (p *tlsaPlan) add(r *probe.Report) {
	same := func(id *identity) bool { return id.chain[0].Equal(r.Chain[0]) }
	if !slices.ContainsFunc(p.current, same) {
		from := fmt.Sprintf("%s at %s", p.host, r.Address.Addr())
		p.current = append(p.current, &identity{from: from, chain: r.Chain, spki: r.Chain[0].RawSubjectPublicKeyInfo})
	}
}

// record makes the record of an identity.
func (p *tlsaPlan) record(id *identity) (*dns.TLSA, error) {
	c := &x509.Certificate{RawSubjectPublicKeyInfo: id.spki} // all there is of a key
	switch n := len(id.chain); {
	case n == 0 && p.kind.Selector == mail.Cert:
		return nil, fmt.Errorf("%s: it holds a key alone, and -selector 0 needs the certificate", id.from)
	case n == 1 && p.kind.Usage == mail.DANETA && !id.chain[0].IsCA:
		return nil, fmt.Errorf("%s: there is no certificate but the host's own, and -usage 2 needs its authority's: take the chain that "+
			"the host presents, such as fullchain.pem", id.from)
	case n > 0 && p.kind.Usage == mail.DANETA:
		c = id.chain[n-1]
	case n > 0:
		c = id.chain[0]
	}
	r := p.kind
	r.Hdr = dns.RR_Header{Name: mail.TLSAName(p.host, p.port), Rrtype: dns.TypeTLSA, Class: dns.ClassINET}
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

// printRecords prints the records, with comments as zone files have them.
func (p *tlsaPlan) printRecords() error {
	var out strings.Builder
	seen := map[string]bool{}
	fresh := len(p.next) == 0
	for i, id := range slices.Concat(p.current, p.next) {
		r, err := p.record(id)
		if err != nil {
			return err
		}
		when := ""
		if i >= len(p.current) {
			when = "next: "
		}
		fmt.Fprintf(&out, "; %s%s%s\n", when, id, ends(id))
		if line := p.line(r); seen[line] {
			out.WriteString("; has the same record\n")
		} else {
			seen[line] = true
			fresh = fresh || i >= len(p.current)
			fmt.Fprintln(&out, line)
		}
		p.warn(id, r)
	}
	if len(p.next) > 0 {
		p.steps(&out, fresh)
	}
	_, err := io.WriteString(p.out, out.String())
	return err
}

// ends tells how long a certificate is valid.
func ends(id *identity) string {
	if len(id.chain) == 0 {
		return ""
	}
	return ", valid to " + id.chain[0].NotAfter.UTC().Format("2006-01-02 15:04 UTC")
}

// warn tells of a record with which senders would not take the certificate that it is made of.
func (p *tlsaPlan) warn(id *identity, r *dns.TLSA) {
	if len(id.chain) == 0 || len(id.chain) == 1 && id.chain[0].IsCA {
		return
	}
	if _, err := mail.Verify([]*dns.TLSA{r}, id.chain, []string{p.host}, time.Now()); err != nil {
		fmt.Fprintf(p.err, "danelaw: with this record alone senders refuse %s: %v\n", id, err)
	}
}

// steps are those of a rollover (RFC 7671 section 8.1).
func (p *tlsaPlan) steps(out io.Writer, fresh bool) {
	if !fresh {
		fmt.Fprint(out, ";\n; The record stays the same: nothing has to be published, and the next certificate can be used at any time.\n")
		return
	}
	ttl, how := uint32(usualTTL), "assumed, -ttl or -check tells another"
	switch {
	case p.publishedTTL > 0:
		ttl, how = p.publishedTTL, "that of the published records"
	case p.ttl != nil:
		ttl, how = *p.ttl, "that of -ttl"
	}
	fmt.Fprintf(out, `;
; 1. Publish all of these records now.
; 2. Wait %v, twice the TTL (%d s, %s): until the nameservers all have them, and no cache has the old set.
; 3. Have the host use the next certificate. danelaw tlsa -smtp %s -check must find it.
; 4. Remove the records of what is not used any more.
`, 2*time.Duration(ttl)*time.Second, ttl, how, strings.TrimSuffix(p.host, "."))
}

// lookUp finds the published records.
func (p *tlsaPlan) lookUp(ctx context.Context) error {
	name := mail.TLSAName(p.host, p.port)
	found, err := p.explain(ctx, name, dns.TypeTLSA)
	if err != nil {
		return err
	}
	a := found.Answer
	switch {
	case a.Status <= dnssec.Bogus:
		return fmt.Errorf("the records published at %s are %s, senders defer mail: %s", name, a.Status, a.Notes[0].Text)
	case a.Status == dnssec.Insecure:
		return fmt.Errorf("%s is Insecure: no sender heeds TLSA records there before its zone is signed, with a DS in the one above", name)
	}
	for _, rr := range a.Answer {
		switch rr := rr.(type) {
		case *dns.TLSA:
			p.published = append(p.published, rr)
		case *dns.RRSIG:
			if rr.TypeCovered == dns.TypeTLSA {
				p.publishedTTL = rr.OrigTtl
			}
		}
	}
	return nil
}

// compare tells what of the published records matches what, and which certificates have no record.
func (p *tlsaPlan) compare() error {
	usable, unusable := mail.Usable(p.published)
	without := slices.Concat(p.current, p.next)
	fmt.Fprintf(p.out, "\nPublished at %s, Secure: %s\n", mail.TLSAName(p.host, p.port), counted(len(p.published), "record"))
	for _, r := range usable {
		told := "matches nothing given here"
		for _, id := range slices.Concat(p.current, p.next) {
			matched, refused := p.compareOne(r, id)
			switch {
			case matched:
				told = "is that of " + id.String()
				without = slices.DeleteFunc(without, func(o *identity) bool { return o == id })
			case refused != nil:
				told = fmt.Sprintf("is that of the authority of %s, which senders refuse: %v", id, refused)
			}
		}
		fmt.Fprintf(p.out, "  %s %s\n", mail.Brief(r), told)
	}
	for _, u := range unusable {
		fmt.Fprintf(p.out, "  %s is unusable: %s\n", mail.Brief(u.Record), u.Why)
	}
	for _, id := range without {
		fmt.Fprintf(p.out, "No published record is good for %s\n", id)
	}
	if len(without) > 0 {
		return errTold
	}
	return nil
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// compareOne reports whether a sender takes the identity by a record, and if the record is that of its authority and it does not,
// why. Of a key alone its digest is all there is to compare.
func (p *tlsaPlan) compareOne(r *dns.TLSA, id *identity) (matched bool, refused error) {
	if len(id.chain) == 0 {
		return r.Selector == mail.SPKI && mail.Matches(r, &x509.Certificate{RawSubjectPublicKeyInfo: id.spki}), nil
	}
	_, err := mail.Verify([]*dns.TLSA{r}, id.chain, []string{p.host}, time.Now())
	if failure := new(mail.CertificateError); errors.As(err, &failure) && failure.Record != nil {
		return false, failure
	}
	return err == nil, nil
}
