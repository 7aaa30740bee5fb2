package probe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/cloudflare/circl/sign/ed448"
	"golang.org/x/crypto/cryptobyte"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// glance is the begin of a handshake of TLS 1.2 or older that offers what OpenSSL does (RFC 5246 section 7.3):
// crypto/tls knows no DHE, no keys of Ed448 or RSASSA-PSS, and reads no certificate that crypto/x509 refuses. Up to
// ServerHelloDone everything comes in clear: the certificates, and but for the exchange of keys by RSA a signature that
// proves whose they are. There it ends.
type glance struct {
	conn    net.Conn
	random  []byte // the client's
	version uint16
	suite   uint16
	server  []byte // the server's random
	chain   []*x509.Certificate
	signed  []byte // ServerKeyExchange
}

// The cipher suites of DHE that OpenSSL offers, beside those of wideSuites (RFC 5246 appendix A.5, RFC 5288, RFC 7905).
var dheSuites = []uint16{0x009f, 0xccaa, 0x009e, 0x006b, 0x0067, 0x0039, 0x0033}

// The groups and the signatures that OpenSSL 3 offers (RFC 8422 section 5.1.1, RFC 8446 section 4.2.3).
var (
	glanceGroups     = []uint16{29, 23, 30, 25, 24} // X25519, P-256, X448, P-521, P-384
	glanceSignatures = []uint16{
		0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601,
		0x0203, 0x0201,
	}
)

// The types of records, of messages and of extensions that a glance meets (RFC 8446 sections 4, 4.2 and 5.1).
const (
	recordAlert, recordHandshake                       = 21, 22
	clientHello, serverHello, certificates             = 1, 2, 11
	serverKeyExchange, serverHelloDone                 = 12, 14
	extServerName, extGroups, extPoints, extSignatures = 0, 10, 11, 13
	extRenegotiation                                   = 0xff01
)

// alert is one that the peer sent. It ends the handshake.
type alert uint8

func (a alert) Error() string { return "remote error: " + tls.AlertError(a).Error() }

// protocolVersion is the alert of a peer that does not speak a version as old (RFC 8446 section 6.2).
const protocolVersion alert = 70

// look takes a glance at the peer. It sends sni if that is not "".
func look(conn net.Conn, sni string) (*glance, error) {
	g := &glance{conn: conn, random: make([]byte, 32)}
	rand.Read(g.random)
	hello, err := g.hello(sni)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	return g, g.read()
}

// hello is the record with the ClientHello.
func (g *glance) hello(sni string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(recordHandshake)
	b.AddUint16(tls.VersionTLS10)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8(clientHello)
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint16(tls.VersionTLS12)
			b.AddBytes(g.random)
			b.AddUint8(0) // no session
			addList(b, slices.Concat(wideSuites, dheSuites))
			b.AddBytes([]byte{1, 0}) // no compression
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { addExtensions(b, sni) })
		})
	})
	return b.Bytes()
}

func addExtensions(b *cryptobyte.Builder, sni string) {
	add := func(kind uint16, content func(*cryptobyte.Builder)) {
		b.AddUint16(kind)
		b.AddUint16LengthPrefixed(content)
	}
	if sni != "" {
		add(extServerName, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				b.AddUint8(0) // a host name
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(sni)) })
			})
		})
	}
	add(extGroups, func(b *cryptobyte.Builder) { addList(b, glanceGroups) })
	add(extPoints, func(b *cryptobyte.Builder) { b.AddBytes([]byte{1, 0}) })
	add(extSignatures, func(b *cryptobyte.Builder) { addList(b, glanceSignatures) })
	add(extRenegotiation, func(b *cryptobyte.Builder) { b.AddUint8(0) })
}

func addList(b *cryptobyte.Builder, all []uint16) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, v := range all {
			b.AddUint16(v)
		}
	})
}

var errNotTLS = errors.New("what the host sends is no TLS")

// read reads messages up to ServerHelloDone.
func (g *glance) read() error {
	var pending cryptobyte.String
	for {
		kind, body, err := g.record()
		switch {
		case err != nil:
			return err
		case kind == recordAlert && len(body) == 2:
			if body[0] == 2 { // fatal
				return alert(body[1])
			}
			continue
		case kind != recordHandshake:
			return errNotTLS
		}
		pending = append(pending, body...)
		for done := false; ; {
			rest, message := pending, cryptobyte.String(nil)
			var what uint8
			if !rest.ReadUint8(&what) || !rest.ReadUint24LengthPrefixed(&message) {
				break // of which more is to come
			}
			pending = rest
			if done, err = g.message(what, message); done || err != nil {
				return err
			}
		}
	}
}

// record reads one record.
func (g *glance) record() (kind uint8, body []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(g.conn, head); err != nil {
		return 0, nil, err
	}
	if head[1] != 3 {
		return 0, nil, errNotTLS
	}
	body = make([]byte, int(head[3])<<8|int(head[4]))
	_, err = io.ReadFull(g.conn, body)
	return head[0], body, err
}

// message takes one message of the handshake.
func (g *glance) message(what uint8, m cryptobyte.String) (done bool, err error) {
	switch what {
	case serverHello:
		var session cryptobyte.String
		if !m.ReadUint16(&g.version) || !m.ReadBytes(&g.server, 32) || !m.ReadUint8LengthPrefixed(&session) ||
			!m.ReadUint16(&g.suite) {
			return false, errNotTLS
		}
	case certificates:
		return false, g.certificates(m)
	case serverKeyExchange:
		g.signed = m
	case serverHelloDone:
		return true, nil
	}
	return false, nil
}

func (g *glance) certificates(m cryptobyte.String) error {
	var list, der cryptobyte.String
	if !m.ReadUint24LengthPrefixed(&list) {
		return errNotTLS
	}
	for !list.Empty() {
		if !list.ReadUint24LengthPrefixed(&der) {
			return errNotTLS
		}
		c, err := mail.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("what the host presents as its certificate is none: %w", err)
		}
		g.chain = append(g.chain, c)
	}
	return nil
}

var (
	errNoCertificate = errors.New("the host presents no certificate")
	errForged        = errors.New("the host's signature of the handshake is wrong: it has not the key of its " +
		"certificate")
	// errUnproven: it is not known whether the host has the key.
	errUnproven = errors.New("its proof of having the key cannot be verified")
)

// prove verifies that the host has the key of its certificate.
func (g *glance) prove() error {
	if len(g.chain) == 0 {
		return errNoCertificate
	}
	m := cryptobyte.String(g.signed)
	parameters, ok := g.parameters(&m)
	if !ok {
		return errUnproven // such as the exchange of keys by RSA
	}
	var scheme uint16
	var signature cryptobyte.String
	if g.version >= tls.VersionTLS12 && !m.ReadUint16(&scheme) || !m.ReadUint16LengthPrefixed(&signature) ||
		!m.Empty() {
		return errNotTLS
	}
	return verify(mail.PublicKey(g.chain[0]), scheme, slices.Concat(g.random, g.server, parameters), signature)
}

// parameters reads those of the key exchange (RFC 5246 section 7.4.3, RFC 8422 section 5.4).
func (g *glance) parameters(m *cryptobyte.String) (parameters []byte, ok bool) {
	all := *m
	var skipped cryptobyte.String
	if slices.Contains(dheSuites, g.suite) {
		ok = true
		for range 3 { // prime, generator and public value
			ok = ok && m.ReadUint16LengthPrefixed(&skipped)
		}
	} else {
		ok = m.Skip(3) && m.ReadUint8LengthPrefixed(&skipped)
	}
	return all[:len(all)-len(*m)], ok
}

// schemeHash is the hash of a signature scheme (RFC 8446 section 4.2.3).
var schemeHash = map[uint16]crypto.Hash{
	0x0201: crypto.SHA1, 0x0203: crypto.SHA1, 0x0401: crypto.SHA256, 0x0403: crypto.SHA256, 0x0501: crypto.SHA384,
	0x0503: crypto.SHA384, 0x0601: crypto.SHA512, 0x0603: crypto.SHA512, 0x0804: crypto.SHA256, 0x0809: crypto.SHA256,
	0x0805: crypto.SHA384, 0x080a: crypto.SHA384, 0x0806: crypto.SHA512, 0x080b: crypto.SHA512,
}

// verify verifies a signature over a handshake; scheme is 0 for TLS 1.1 and older.
func verify(key any, scheme uint16, signed, signature []byte) error {
	good, hash := false, schemeHash[scheme]
	var digest []byte
	if hash != 0 {
		h := hash.New()
		h.Write(signed)
		digest = h.Sum(nil)
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		good = ed25519.Verify(key, signed, signature)
	case ed448.PublicKey:
		good = ed448.Verify(key, signed, signature, "")
	case *ecdsa.PublicKey:
		if hash == 0 {
			sum := sha1.Sum(signed) // RFC 8422 section 5.4
			digest = sum[:]
		}
		good = ecdsa.VerifyASN1(key, digest, signature)
	case *rsa.PublicKey:
		if key.Size() < 128 { // crypto/rsa verifies with no key below 1024 bits
			return errUnproven
		}
		if hash == 0 { // RFC 4346 section 7.4.3
			md, sha := md5.Sum(signed), sha1.Sum(signed)
			hash, digest = crypto.MD5SHA1, slices.Concat(md[:], sha[:])
		}
		if scheme>>8 == 8 {
			good = rsa.VerifyPSS(key, hash, digest, signature,
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		} else {
			good = rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil
		}
	default:
		return errUnproven
	}
	if !good {
		return errForged
	}
	return nil
}
