package mail

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// Names are the reference identifiers of a host, by which a record of usage 2 binds a certificate: the TLSA base domain
// and, as far as the MX RRset is believed, the domain of the recipient and that at the end of its alias chain (RFC 7672
// section 3.2.2). Postfix believes every MX RRset here; Exim compares the expanded name of the host and nothing else.
func (s Sender) Names(d *Domain, h *Host) []string {
	if s == Exim {
		return []string{h.Expanded}
	}
	names := []string{h.Name}
	if t := s.found(h); t != nil {
		names[0] = t.Base
	}
	if d.MX.Data && (s == Postfix || d.MX.Status == dnssec.Secure) {
		names = append(names, d.Name, d.Expanded)
	}
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// Usable sorts a Secure TLSA RRset into the records by which a sender authenticates a receiver and the others. Exim
// does not read what records of matching type 0 hold, and knows no digest agility.
func (s Sender) Usable(all []*dns.TLSA) (usable []*dns.TLSA, unusable []Unusable) {
	if s != Exim {
		return Usable(all)
	}
	for _, r := range all {
		if why := fault(r); why != "" && (r.MatchingType != Full || r.Usage < DANETA || r.Usage > DANEEE ||
			r.Selector > SPKI || r.Certificate == "") {
			unusable = append(unusable, Unusable{r, why})
			continue
		}
		usable = append(usable, r)
	}
	return usable, unusable
}

// Authenticate is how a sender authenticates a host by its TLSA records and the chain that it shows; it returns the
// record that did it. The error is a *[CertificateError].
func (s Sender) Authenticate(d *Domain, h *Host, chain []*x509.Certificate, now time.Time) (*dns.TLSA, error) {
	t := s.found(h)
	if t == nil {
		return nil, nil
	}
	usable, _ := s.Usable(t.Records)
	names := s.Names(d, h)
	switch s {
	case Postfix:
		return authenticate(usable, chain, openSSL{usable, chain, names, now}.verify)
	case Exim:
		return authenticate(usable, chain, gnuTLS{chain, names, now}.verify)
	}
	return Verify(usable, chain, names, now)
}

// authenticate tries the records of usage 3, then those of usage 2 as a program does.
func authenticate(usable []*dns.TLSA, chain []*x509.Certificate, verify func(*dns.TLSA) *CertificateError) (*dns.TLSA,
	error) {
	if len(chain) == 0 {
		return nil, &CertificateError{ValidationFailure, nil, errors.New("no certificate was presented")}
	}
	for _, r := range usable {
		if r.Usage == DANEEE && Matches(r, chain[0]) {
			return r, nil
		}
	}
	nearest := mismatch(usable, chain)
	for _, r := range usable {
		if r.Usage != DANETA {
			continue
		}
		err := verify(r)
		if err == nil {
			return r, nil
		}
		if err.Record != nil && (nearest.Record == nil || nearness[err.Result] > nearness[nearest.Result]) {
			nearest = err
		}
	}
	return nil, nearest
}

// untrusted is the error for a chain that a program does not take for one from the trust anchor of a record.
func untrusted(r *dns.TLSA, format string, args ...any) *CertificateError {
	return &CertificateError{CertificateNotTrusted, r, fmt.Errorf("the chain to the trust anchor of "+Brief(r)+
		" fails: "+format, args...)}
}

// timely reports an error unless a certificate is valid now.
func timely(r *dns.TLSA, c *x509.Certificate, now time.Time) *CertificateError {
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return &CertificateError{CertificateExpired, r,
			outOfDate{x509.CertificateInvalidError{Cert: c, Reason: x509.Expired}}}
	}
	return nil
}

// issued reports whether a certificate names another as its issuer (RFC 5280 section 4.2.1.1).
func issued(c, by *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, by.RawSubject) &&
		(len(c.AuthorityKeyId) == 0 || len(by.SubjectKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, by.SubjectKeyId))
}

// signed reports whether a certificate is signed by the key of another, whatever that is said to be for.
func signed(c, by *x509.Certificate) bool {
	return by.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// maySign reports whether the key usage of a certificate, if it has one, allows to sign others.
func maySign(c *x509.Certificate) bool {
	return c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0
}

// permits reports whether the name constraints of an authority allow the DNS names of a certificate.
func permits(by, c *x509.Certificate) bool {
	within := func(name string) func(string) bool {
		return func(domain string) bool {
			domain = strings.TrimPrefix(domain, ".")
			return domain == "" || strings.EqualFold(name, domain) ||
				strings.HasSuffix(strings.ToLower(name), "."+strings.ToLower(domain))
		}
	}
	for _, name := range namesOf(c) {
		if len(by.PermittedDNSDomains) > 0 && !slices.ContainsFunc(by.PermittedDNSDomains, within(name)) ||
			slices.ContainsFunc(by.ExcludedDNSDomains, within(name)) {
			return false
		}
	}
	return true
}

// openSSL verifies records of usage 2 as OpenSSL 3.0 does for Postfix (dane_verify, verify_chain).
type openSSL struct {
	usable []*dns.TLSA
	chain  []*x509.Certificate
	names  []string
	now    time.Time
}

// path is a chain that is built issuer by issuer, from what was sent and what records hold, up to the first certificate
// that a record matches. Bare is the record whose key signed the last one where there is no certificate with it. Record
// is nil if no record was met.
type path struct {
	certs  []*x509.Certificate
	record *dns.TLSA
	bare   bool
}

func (o openSSL) build() path {
	pool := slices.Clone(o.chain[1:])
	for _, r := range o.usable {
		if r.Usage == DANETA {
			pool = append(pool, Inside(r)...)
		}
	}
	p := path{certs: o.chain[:1:1]}
	for {
		top := p.certs[len(p.certs)-1]
		if p.record = o.matching(top, len(p.certs)-1); p.record != nil {
			return p
		}
		var next *x509.Certificate
		for _, c := range pool {
			if !issued(top, c) || !maySign(c) || slices.ContainsFunc(p.certs, c.Equal) {
				continue
			}
			if next == nil || timely(nil, next, o.now) != nil && timely(nil, c, o.now) == nil {
				next = c
			}
		}
		if next == nil || issued(top, top) {
			break
		}
		p.certs = append(p.certs, next)
	}
	p.record = o.bareKey(p.certs[len(p.certs)-1])
	p.bare = p.record != nil
	return p
}

// Inside returns the certificate in a record of selector 0 and matching type 0, if there is one.
func Inside(r *dns.TLSA) []*x509.Certificate {
	data, err := hex.DecodeString(r.Certificate)
	if err != nil || r.MatchingType != Full || r.Selector != Cert {
		return nil
	}
	if c, err := ParseCertificate(data); err == nil {
		return []*x509.Certificate{c}
	}
	return nil
}

// matching is the record of usage 2 that matches an issuer.
func (o openSSL) matching(c *x509.Certificate, depth int) *dns.TLSA {
	for _, r := range o.usable {
		if depth > 0 && r.Usage == DANETA && Matches(r, c) {
			return r
		}
	}
	return nil
}

// bareKey is the record of type 2 1 0 whose key has signed a certificate.
func (o openSSL) bareKey(c *x509.Certificate) *dns.TLSA {
	for _, r := range o.usable {
		data, err := hex.DecodeString(r.Certificate)
		if err != nil || r.Usage != DANETA || r.Selector != SPKI || r.MatchingType != Full {
			continue
		}
		if key, err := x509.ParsePKIXPublicKey(data); err == nil &&
			signed(c, &x509.Certificate{PublicKey: key, PublicKeyAlgorithm: x509.RSA}) {
			return r
		}
	}
	return nil
}

func (o openSSL) verify(of *dns.TLSA) *CertificateError {
	p := o.build()
	r := p.record
	if r == nil {
		if slices.ContainsFunc(o.chain[1:], func(c *x509.Certificate) bool { return Matches(of, c) }) {
			return untrusted(of, "the host does not send what lies between it and the certificate of the host, or it "+
				"is of another chain")
		}
		return &CertificateError{Result: CertificateNotTrusted}
	}
	if err := o.extensions(p); err != nil {
		return err
	}
	if err := verifyName(p.certs[0], o.names); err != nil {
		return &CertificateError{CertificateHostMismatch, r, err}
	}
	last := len(p.certs) - 1
	for i, c := range p.certs {
		switch {
		case i == last && !p.bare && !issued(c, c): // of such an anchor OpenSSL does not look at the dates
		case timely(r, c, o.now) != nil:
			return timely(r, c, o.now)
		}
		if i < last && !signed(c, p.certs[i+1]) {
			return untrusted(r, "the signature of %q is not that of %q", c.Subject, p.certs[i+1].Subject)
		}
		if i > 0 && !permits(c, p.certs[0]) {
			return untrusted(r, "the name constraints of %q forbid the names of the certificate", c.Subject)
		}
	}
	return nil
}

// extensions checks what certificates are for.
func (o openSSL) extensions(p path) *CertificateError {
	for i, c := range p.certs {
		servers := func(u x509.ExtKeyUsage) bool {
			return u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny && i > 0
		}
		switch {
		case i > 0 && !authority(c, i == len(p.certs)-1):
			return untrusted(p.record, "%q is not marked as an authority (CA:TRUE)", c.Subject)
		case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.ContainsFunc(c.ExtKeyUsage, servers):
			return untrusted(p.record, "the extended key usage of %q is not that of servers", c.Subject)
		case i > 0 && c.BasicConstraintsValid && c.IsCA && (c.MaxPathLen > 0 || c.MaxPathLenZero) && i-1 > c.MaxPathLen:
			return untrusted(p.record, "%q allows no more than %d authorities below it", c.Subject, c.MaxPathLen)
		}
	}
	return nil
}

// authority is X509_check_ca: a trust anchor without basic constraints counts if its key usage says so, or if it is of
// version 1.
func authority(c *x509.Certificate, anchor bool) bool {
	switch {
	case !maySign(c):
		return false
	case c.BasicConstraintsValid:
		return c.IsCA
	}
	return anchor && (c.KeyUsage != 0 || c.Version == 1 && issued(c, c))
}

// gnuTLS verifies records of usage 2 as libgnutls-dane 3.7 does for Exim (verify_ca): any certificate that the host
// sends beside its own may match; whether that is at the head of its chain is not looked at. The issuer of the host's
// own has to be sent.
type gnuTLS struct {
	chain []*x509.Certificate
	names []string
	now   time.Time
}

func (g gnuTLS) verify(r *dns.TLSA) *CertificateError {
	leaf := g.chain[0]
	if !slices.ContainsFunc(g.chain[1:], func(c *x509.Certificate) bool { return Matches(r, c) }) {
		return &CertificateError{Result: CertificateNotTrusted}
	}
	var issuer *x509.Certificate
	for _, c := range g.chain[1:] { // the last one counts
		if issued(leaf, c) {
			issuer = c
		}
	}
	switch {
	case issuer == nil:
		return untrusted(r, "the host does not send the issuer of its certificate")
	case !signed(leaf, issuer):
		return untrusted(r, "the signature of %q is not that of %q", leaf.Subject, issuer.Subject)
	case !g.authority(issuer) || !maySign(issuer):
		return untrusted(r, "%q is not marked as an authority (CA:TRUE)", issuer.Subject)
	case !permits(issuer, leaf):
		return untrusted(r, "the name constraints of %q forbid the names of the certificate", issuer.Subject)
	}
	for _, c := range []*x509.Certificate{leaf, issuer} {
		if err := timely(r, c, g.now); err != nil {
			return err
		}
	}
	if err := verifyName(leaf, g.names); err != nil {
		return &CertificateError{CertificateHostMismatch, r, err}
	}
	return nil
}

// authority is check_if_ca: one without basic constraints does if it signs itself.
func (g gnuTLS) authority(c *x509.Certificate) bool {
	return c.Equal(g.chain[0]) || c.BasicConstraintsValid && c.IsCA || !c.BasicConstraintsValid && issued(c, c)
}

// mismatch is the error for records of which none matches what was presented: it tells which kind of mistake it looks
// like.
func mismatch(usable []*dns.TLSA, chain []*x509.Certificate) *CertificateError {
	why := "no TLSA record matches the certificates presented"
	for _, r := range usable {
		if kind := mistake(r, chain); kind != "" {
			why += ": " + kind
			break
		}
	}
	return &CertificateError{CertificateNotTrusted, nil, errors.New(why)}
}

// mistake says what a record holds if it would match with other numbers than its own, "" if that cannot be seen.
func mistake(r *dns.TLSA, chain []*x509.Certificate) string {
	at := func(r dns.TLSA, of []*x509.Certificate) bool {
		return slices.ContainsFunc(of, func(c *x509.Certificate) bool { return Matches(&r, c) })
	}
	other := *r
	other.Selector = 1 - min(r.Selector, SPKI)
	selected := [...]string{"the whole certificate", "the key alone"}
	switch {
	case r.Usage == DANEEE && at(*r, chain[1:]):
		return Brief(r) + " is of an authority in the chain; usage 3 is for the host's own certificate, usage 2 for " +
			"an authority"
	case r.Usage == DANETA && at(*r, chain[:1]):
		return Brief(r) + " is of the host's own certificate; usage 2 is for an authority, usage 3 for the host's own"
	case at(other, chain):
		text := fmt.Sprintf("%s has the digest of %s, which is selector %d", Brief(r), selected[other.Selector],
			other.Selector)
		switch own := at(other, chain[:1]); {
		case own && r.Usage == DANETA:
			text += ", of the host's own certificate, which is usage 3"
		case !own && r.Usage == DANEEE:
			text += ", of an authority, which is usage 2"
		}
		return text
	case slices.Contains(emptyDigests, strings.ToLower(r.Certificate)):
		return Brief(r) + " is the digest of nothing: an empty file was digested"
	}
	for _, c := range chain {
		if kind := textDigest(r, c); kind != "" {
			return Brief(r) + " is the digest of the " + kind + " as PEM text, not of its DER octets"
		}
	}
	if r.Usage == DANETA && r.MatchingType != Full {
		return Brief(r) + " is of an authority that the host does not send, and must, or of another chain"
	}
	return ""
}

// emptyDigests are those of no octets at all.
var emptyDigests = []string{fmt.Sprintf("%x", sha256.Sum256(nil)), fmt.Sprintf("%x", sha512.Sum512(nil))}

// textDigest says of which part of a certificate a record has the digest as PEM text, with or without the newline at
// its end.
func textDigest(r *dns.TLSA, c *x509.Certificate) string {
	for kind, block := range map[string]*pem.Block{
		"certificate": {Type: "CERTIFICATE", Bytes: c.Raw},
		"key":         {Type: "PUBLIC KEY", Bytes: c.RawSubjectPublicKeyInfo},
	} {
		text := pem.EncodeToMemory(block)
		for _, octets := range [][]byte{text, bytes.TrimSuffix(text, []byte("\n"))} {
			short, long := sha256.Sum256(octets), sha512.Sum512(octets)
			digest := map[uint8][]byte{SHA256: short[:], SHA512: long[:]}[r.MatchingType]
			if digest != nil && strings.EqualFold(hex.EncodeToString(digest), r.Certificate) {
				return kind
			}
		}
	}
	return ""
}
