// Package mail is what a sender of mail makes of what DNS and a receiver say (RFC 7672): pure judgement, without I/O
// and without a clock.
package mail

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// The certificate usages of RFC 6698 section 2.1.1, by the names of RFC 7218.
const (
	PKIXTA uint8 = iota
	PKIXEE
	DANETA
	DANEEE
)

// The selectors of RFC 6698 section 2.1.2.
const (
	Cert uint8 = iota // the whole certificate
	SPKI              // its SubjectPublicKeyInfo
)

// The matching types of RFC 6698 section 2.1.3.
const (
	Full uint8 = iota // the thing itself
	SHA256
	SHA512
)

// digestSize is the length in octets of what a matching type holds; a digest with a higher number is the stronger one.
var digestSize = map[uint8]int{SHA256: sha256.Size, SHA512: sha512.Size}

// Unusable is a TLSA record that authenticates no receiver of mail.
type Unusable struct {
	Record *dns.TLSA
	Why    string // one clause, for an operator
}

// Usable sorts a Secure TLSA RRset into the records that authenticate a receiver of mail (D-6, D-7) and the others. Of
// several digests of the same usage and selector only the strongest is usable (D-8, RFC 7671 section 9).
func Usable(all []*dns.TLSA) (usable []*dns.TLSA, unusable []Unusable) {
	strongest := map[[2]uint8]uint8{}
	var sound []*dns.TLSA
	for _, r := range all {
		if why := fault(r); why != "" {
			unusable = append(unusable, Unusable{r, why})
			continue
		}
		sound = append(sound, r)
		kind := [2]uint8{r.Usage, r.Selector}
		strongest[kind] = max(strongest[kind], r.MatchingType)
	}
	for _, r := range sound {
		if best := strongest[[2]uint8{r.Usage, r.Selector}]; r.MatchingType != Full && r.MatchingType < best {
			why := fmt.Sprintf("a stronger digest, %d %d %d, is published beside it", r.Usage, r.Selector, best)
			unusable = append(unusable, Unusable{r, why})
			continue
		}
		usable = append(usable, r)
	}
	return usable, unusable
}

// fault says why a record is unusable by itself, "" if it is not.
func fault(r *dns.TLSA) string {
	if r.Certificate == "" {
		return tooShort(r)
	}
	switch {
	case r.Usage == PKIXTA || r.Usage == PKIXEE:
		return fmt.Sprintf("usage %d asks for a public CA, which mail does not use; it takes 2 or 3", r.Usage)
	case r.Usage > DANEEE:
		return fmt.Sprintf("there is no usage %d", r.Usage)
	case r.Selector > SPKI:
		return fmt.Sprintf("there is no selector %d", r.Selector)
	}
	data, err := hex.DecodeString(r.Certificate)
	if err != nil {
		return "its data is not hexadecimal"
	}
	if r.MatchingType == Full {
		return faultOfDER(r.Selector, data)
	}
	switch size, known := digestSize[r.MatchingType]; {
	case !known:
		return fmt.Sprintf("there is no matching type %d", r.MatchingType)
	case len(data) != size:
		return fmt.Sprintf("its digest has %d octets, one of matching type %d has %d%s", len(data), r.MatchingType,
			size, swapped(data))
	}
	return ""
}

// leastTLSA is how many octets the three numbers of a record take, behind which its data is (RFC 6698 section 2.1).
const leastTLSA = 3

// Crashes reports whether Postfix 3.7 crashes on a record of a Secure RRset: it copies no data (tls_dane.c,
// parse_tlsa_rr, and mymemdup). It passes over records of other usages and of matching type 255, and over shorter ones.
func Crashes(r *dns.TLSA) bool {
	return r.Certificate == "" && !cut(r) && (r.Usage == DANETA || r.Usage == DANEEE) && r.MatchingType != 255
}

// cut reports whether a record without data has not even its three numbers.
func cut(r *dns.TLSA) bool {
	return r.Hdr.Rdlength < leastTLSA && (r.Hdr.Rdlength > 0 || r.Usage|r.Selector|r.MatchingType == 0)
}

// tooShort says how short a record without data is: programs may not be ready for it.
func tooShort(r *dns.TLSA) string {
	switch {
	case Crashes(r):
		return "its data has 0 octets: take it away, Postfix 3.7 crashes on it"
	case cut(r):
		return fmt.Sprintf("it has %d of the %d octets that a TLSA record has at least, and is dangerous: take it "+
			"away (Postfix 3.7 warns of it and passes over it, others may crash)", r.Hdr.Rdlength, leastTLSA+1)
	}
	return "its data has 0 octets, which is dangerous: take it away (Postfix 3.7 crashes on such records of usage 2 " +
		"and 3)"
}

// swapped says which other matching type data seems to be for; "" if it fits none.
func swapped(data []byte) string {
	switch {
	case len(data) == sha256.Size:
		return "; that many has a SHA-256, which is matching type 1"
	case len(data) == sha512.Size:
		return "; that many has a SHA-512, which is matching type 2"
	case IsKey(data):
		return "; it is a whole public key, which is matching type 0 with selector 1"
	}
	if _, err := ParseCertificate(data); err == nil {
		return "; it is a whole certificate, which is matching type 0 with selector 0"
	}
	return ""
}

// faultOfDER says why data is not what a selector selects.
func faultOfDER(selector uint8, data []byte) string {
	if selector == Cert {
		if _, err := ParseCertificate(data); err != nil {
			return "its data is not a certificate in DER" + swapped(data)
		}
		return ""
	}
	if !IsKey(data) {
		return "its data is not a public key in DER" + swapped(data)
	}
	return ""
}

// CertificateError says why a certificate does not authenticate a receiver.
type CertificateError struct {
	Result Result
	Record *dns.TLSA // the one that came nearest; nil if none matches anything
	Err    error
}

// Error is fit to be shown, whatever the certificate has in its names.
func (e *CertificateError) Error() string { return printable.Text(e.Err.Error()) }

func (e *CertificateError) Unwrap() error { return e.Err }

// Verify authenticates a receiver by usable records, those of [Usable], and returns the one that did it. The chain is
// as the receiver presented it, its own certificate first. Names are the reference identifiers of RFC 7672 section
// 3.2.2, of which the certificate must have one: the TLSA base domain, and the next-hop domain if the MX RRset is
// Secure. A record of usage 3 needs neither name nor date (section 3.1.1); one of usage 2 needs both, and its trust
// anchor in the chain unless the record itself holds it (RFC 7671 section 5.2). The error is a *[CertificateError].
func Verify(usable []*dns.TLSA, chain []*x509.Certificate, names []string, now time.Time) (*dns.TLSA, error) {
	return authenticate(usable, chain, func(r *dns.TLSA) *CertificateError { return verifyTA(r, chain, names, now) })
}

// nearness is how far a verification came: names are checked last.
var nearness = map[Result]int{CertificateExpired: 1, CertificateHostMismatch: 2}

// Matches reports whether a record is that of a certificate (RFC 6698 section 2.1).
func Matches(r *dns.TLSA, c *x509.Certificate) bool {
	data, err := dns.CertificateToDANE(r.Selector, r.MatchingType, c)
	return err == nil && data != "" && strings.EqualFold(data, r.Certificate)
}

// verifyTA verifies a chain by a record of usage 2.
func verifyTA(r *dns.TLSA, chain []*x509.Certificate, names []string, now time.Time) *CertificateError {
	anchors := anchorsOf(r, chain)
	if len(anchors) == 0 {
		return &CertificateError{Result: CertificateNotTrusted}
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range anchors {
		o.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return chainError(r, err)
	}
	if err := verifyName(chain[0], names); err != nil {
		return &CertificateError{CertificateHostMismatch, r, err}
	}
	return nil
}

// Brief is a record by its three numbers and the begin of its data, as messages show it.
func Brief(r *dns.TLSA) string {
	data := r.Certificate
	if len(data) > 16 {
		data = data[:16] + "..."
	}
	return fmt.Sprintf("TLSA %d %d %d %s", r.Usage, r.Selector, r.MatchingType, data)
}

// anchorsOf returns the trust anchors of a record of usage 2: what it matches in the chain above the receiver's own
// certificate, else what it holds itself.
func anchorsOf(r *dns.TLSA, chain []*x509.Certificate) (anchors []*x509.Certificate) {
	for _, c := range chain[1:] {
		if Matches(r, c) && !c.Equal(chain[0]) {
			anchors = append(anchors, c)
		}
	}
	if len(anchors) > 0 || r.MatchingType != Full {
		return anchors
	}
	data, err := hex.DecodeString(r.Certificate)
	switch {
	case err != nil:
	case r.Selector == SPKI:
		return bareKey(data, chain)
	case r.Selector == Cert:
		if c, err := x509.ParseCertificate(data); err == nil && !c.Equal(chain[0]) {
			return []*x509.Certificate{c}
		}
	}
	return nil
}

// bareKey returns a public key as the certificate of each issuer that the chain names: 2 1 0 trusts the key, whatever
// its name and age (RFC 7671 section 5.2.3).
func bareKey(spki []byte, chain []*x509.Certificate) (anchors []*x509.Certificate) {
	key, err := x509.ParsePKIXPublicKey(spki)
	// the receiver's own key is no authority over it
	if err != nil || bytes.Equal(spki, chain[0].RawSubjectPublicKeyInfo) {
		return nil
	}
	for _, c := range chain {
		anchor := &x509.Certificate{
			Raw: append(append([]byte{}, spki...), c.RawIssuer...), RawSubject: c.RawIssuer,
			RawSubjectPublicKeyInfo: spki,
			// any but unknown: x509 goes by the type of the key
			PublicKey: key, PublicKeyAlgorithm: x509.RSA,
			Version: 3, BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, NotAfter: forever,
		}
		anchors = append(anchors, anchor)
	}
	return anchors
}

// forever is the end of a certificate that has none (RFC 5280 section 4.1.2.5).
var forever = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// namesOf are the DNS names of a certificate; the common name stands in for want of others (RFC 7672 section 3.2.3).
func namesOf(c *x509.Certificate) []string {
	if len(c.DNSNames) == 0 && c.Subject.CommonName != "" {
		return []string{c.Subject.CommonName}
	}
	return c.DNSNames
}

// verifyName reports an error unless the certificate has one of the names.
func verifyName(c *x509.Certificate, names []string) error {
	all := namesOf(c)
	for _, name := range names {
		if slices.ContainsFunc(all, func(of string) bool { return covers(of, strings.TrimSuffix(name, ".")) }) {
			return nil
		}
	}
	return fmt.Errorf("the certificate is for %s, not for %s", listed(all), strings.Join(names, " or "))
}

// covers reports whether a name in a certificate is that of a host: a wildcard is the whole first label, stands for one
// label, and has two labels behind it (RFC 7672 section 3.2.3; with fewer, such as *.org, OpenSSL and GnuTLS take it
// for no wildcard).
func covers(name, host string) bool {
	if strings.EqualFold(name, host) {
		return name != ""
	}
	domain, wildcard := strings.CutPrefix(name, "*.")
	label, rest, _ := strings.Cut(host, ".")
	return wildcard && label != "" && strings.Contains(domain, ".") && strings.EqualFold(domain, rest)
}

// mostNames is how many names of a certificate are told.
const mostNames = 8

// listed are the names of a certificate, as far as anybody reads them.
func listed(names []string) string {
	var told []string
	for _, name := range names[:min(mostNames, len(names))] {
		told = append(told, printable.Short(name))
	}
	text := strings.Join(told, ", ")
	if more := len(names) - len(told); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// chainError is the error for a chain that does not lead to the trust anchor of a record.
func chainError(r *dns.TLSA, err error) *CertificateError {
	if invalid := new(x509.CertificateInvalidError); errors.As(err, invalid) && invalid.Reason == x509.Expired {
		return &CertificateError{CertificateExpired, r, outOfDate{*invalid}}
	}
	return &CertificateError{CertificateNotTrusted, r,
		fmt.Errorf("the chain to the trust anchor of %s fails: %w", Brief(r), err)}
}

// outOfDate is the error for a certificate that has ended, or has not begun.
type outOfDate struct{ x509.CertificateInvalidError }

func (e outOfDate) Unwrap() error { return e.CertificateInvalidError }

func (e outOfDate) Error() string {
	const form = "2006-01-02 15:04"
	return fmt.Sprintf("the certificate %.200q is valid from %s to %s UTC only, and a record of usage 2 heeds that",
		e.Cert.Subject, e.Cert.NotBefore.UTC().Format(form), e.Cert.NotAfter.UTC().Format(form))
}
