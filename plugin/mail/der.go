package mail

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// ParseCertificate reads a certificate in DER. If crypto/x509 refuses one it may still suit senders: then it is
// returned with its octets, which TLSA records are compared with, and what else could be read of it (see [Partial]).
func ParseCertificate(data []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(data)
	if err == nil {
		return c, nil
	}
	if c := partial(data); c != nil {
		return c, nil
	}
	return nil, err
}

// Partial reports whether a certificate is nil or one that crypto/x509 refuses. Those that it parses all have a
// version.
func Partial(c *x509.Certificate) bool { return c == nil || c.Version == 0 }

// partial reads the frame of a certificate (RFC 5280 section 4.1); nil if it has none.
func partial(data []byte) *x509.Certificate {
	c := &x509.Certificate{Raw: data}
	outer := cryptobyte.String(data)
	var body, tbs, issuer, validity, subject, spki cryptobyte.String
	if !outer.ReadASN1(&body, der.SEQUENCE) || !outer.Empty() || !body.ReadASN1(&tbs, der.SEQUENCE) ||
		!body.SkipASN1(der.SEQUENCE) || !body.SkipASN1(der.BIT_STRING) || !body.Empty() ||
		!tbs.SkipOptionalASN1(der.Tag(0).Constructed().ContextSpecific()) || !tbs.SkipASN1(der.INTEGER) ||
		!tbs.SkipASN1(der.SEQUENCE) || !tbs.ReadASN1Element(&issuer, der.SEQUENCE) ||
		!tbs.ReadASN1Element(&validity, der.SEQUENCE) || !tbs.ReadASN1Element(&subject, der.SEQUENCE) ||
		!tbs.ReadASN1Element(&spki, der.SEQUENCE) || !IsKey(spki) {
		return nil
	}
	c.RawIssuer, c.RawSubject, c.RawSubjectPublicKeyInfo = issuer, subject, spki
	c.Issuer, c.Subject = nameOf(issuer), nameOf(subject)
	var period struct{ NotBefore, NotAfter time.Time }
	if _, err := asn1.Unmarshal(validity, &period); err == nil {
		c.NotBefore, c.NotAfter = period.NotBefore, period.NotAfter
	}
	return c
}

// nameOf reads a name as far as it can be read.
func nameOf(raw []byte) (name pkix.Name) {
	var parts pkix.RDNSequence
	if _, err := asn1.Unmarshal(raw, &parts); err == nil {
		name.FillFromRDNSequence(&parts)
	}
	return name
}

// IsKey reports whether data is a SubjectPublicKeyInfo. x509 would refuse those of algorithms that it does not know.
func IsKey(data []byte) bool {
	_, _, err := splitKey(data)
	return err == nil
}

// KeyInfo is a public key as certificates have it, a SubjectPublicKeyInfo (RFC 5280 section 4.1).
type KeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// splitKey returns the algorithm of a SubjectPublicKeyInfo and the key within.
func splitKey(data []byte) (asn1.ObjectIdentifier, []byte, error) {
	var key KeyInfo
	rest, err := asn1.Unmarshal(data, &key)
	if err == nil && len(rest) > 0 {
		err = errors.New("something follows the key")
	}
	return key.Algorithm.Algorithm, key.Key.RightAlign(), err
}

// The algorithms of keys that crypto/x509 has no name for.
var (
	OIDRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10} // RFC 4055 section 1.2
	OIDEd448  = asn1.ObjectIdentifier{1, 3, 101, 113}              // RFC 8410 section 3
)

// PublicKey is the key of a certificate, also of those that crypto/x509 knows not: that of RSASSA-PSS is an
// *rsa.PublicKey, that of Ed448 an ed448.PublicKey; nil for others.
func PublicKey(c *x509.Certificate) any {
	if c.PublicKey != nil {
		return c.PublicKey
	}
	algorithm, key, err := splitKey(c.RawSubjectPublicKeyInfo)
	switch {
	case err != nil:
		return nil
	case algorithm.Equal(OIDRSAPSS):
		if public, err := x509.ParsePKCS1PublicKey(key); err == nil {
			return public
		}
	case algorithm.Equal(OIDEd448) && len(key) == ed448.PublicKeySize:
		return ed448.PublicKey(key)
	}
	if public, err := x509.ParsePKIXPublicKey(c.RawSubjectPublicKeyInfo); err == nil {
		return public
	}
	return nil
}
