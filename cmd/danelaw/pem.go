package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/cloudflare/circl/sign/ed448"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// identity is what a mail host shows, or will show: a certificate with those above it, or only its key.
type identity struct {
	from  string              // the file, or the host and address
	chain []*x509.Certificate // its own first; empty if there is only a key
	spki  []byte              // the public key in DER (SubjectPublicKeyInfo)

	turned bool   // an authority's certificate stands first in the file
	note   string // what is to be known of the handshake in which it was shown; "" mostly
}

// String names it in messages.
func (id *identity) String() string {
	if len(id.chain) == 0 {
		return "the key of " + id.from
	}
	return fmt.Sprintf("the %s certificate of %s", kindOfKey(id.chain[0]), id.from)
}

// readIdentity reads a file of PEM: a certificate, perhaps with those above it and its private key as MTAs have them,
// or a key alone.
func readIdentity(ctx context.Context, file string) (*identity, error) {
	content, err := readPEM(ctx, file)
	if err != nil {
		return nil, err
	}
	text := bytes.TrimPrefix(content, []byte("\ufeff"))
	id := &identity{from: printable.Text(file)}
	var keys [][]byte // in DER, public
	found := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		found++
		public, err := id.read(block)
		if err != nil {
			return nil, fmt.Errorf("%s: block %d, %s: %w", file, found, block.Type, err)
		}
		if public != nil {
			keys = append(keys, public)
		}
	}
	switch begun := len(beginning.FindAll(text, -1)); {
	case found < begun: // what is passed over may be the host's own, or what tells which is
		return nil, fmt.Errorf("%s: of %s in PEM %d can be read: the others are damaged, or their lines are; make "+
			"the file anew", file, counted(begun, "block"), found)
	case found == 0:
		return nil, fmt.Errorf("%s: %w", file, notPEM(content))
	}
	return id, id.settle(keys)
}

// beginning is where a block starts, in lines that encoding/pem does not take too.
var beginning = regexp.MustCompile(`-----BEGIN [^\r\n]*-----`)

// maxPEM bounds what is read, in octets.
const maxPEM = 16 << 20

// readPEM reads a file or a pipe to its end.
func readPEM(ctx context.Context, file string) ([]byte, error) {
	content, ended, err := readPipe(ctx, func() (*os.File, error) { return os.Open(file) }, maxPEM+1)
	switch {
	case ended:
		return nil, fmt.Errorf("%s: ended before anything came from there", file)
	case err == nil && len(content) > maxPEM:
		return nil, fmt.Errorf("%s: it is longer than %d MiB, which no file of certificates is", file, maxPEM>>20)
	}
	return content, err
}

// read takes one block; of a key it returns the public one.
func (id *identity) read(block *pem.Block) ([]byte, error) {
	switch block.Type {
	case "CERTIFICATE", "X509 CERTIFICATE":
		c, err := mail.ParseCertificate(block.Bytes)
		id.chain = append(id.chain, c)
		return nil, err
	case "TRUSTED CERTIFICATE": // OpenSSL's: what it is trusted for stands behind it
		var first asn1.RawValue
		if _, err := asn1.Unmarshal(block.Bytes, &first); err != nil {
			return nil, err
		}
		c, err := mail.ParseCertificate(first.FullBytes)
		id.chain = append(id.chain, c)
		return nil, err
	}
	return publicKey(block)
}

// settle finds out what the file is about: the certificate of the host first, then those above it.
func (id *identity) settle(keys [][]byte) error {
	switch {
	case len(id.chain) > 0:
		if err := id.sort(keys); err != nil {
			return err
		}
		id.spki = id.chain[0].RawSubjectPublicKeyInfo
	case len(keys) == 0:
		return fmt.Errorf("%s: it holds neither a certificate nor a key", id.from)
	default:
		id.spki = keys[0]
	}
	for _, key := range keys {
		if !bytes.Equal(key, id.spki) {
			return fmt.Errorf("%s: its keys and its first certificate do not belong together: one file for each "+
				"certificate, its own first", id.from)
		}
	}
	return nil
}

// sort puts the host's own certificate first if an authority's stands there: the one that the key in the file belongs
// to, else the one that has issued none of the others. What stands behind keeps its order, but for a chain from the top
// down, which is turned round.
func (id *identity) sort(keys [][]byte) error {
	var own []int
	for i, c := range id.chain {
		if slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, c.RawSubjectPublicKeyInfo) }) {
			own = []int{i}
			break
		}
		if !slices.ContainsFunc(id.chain, func(o *x509.Certificate) bool { return issuedBy(o, c) }) {
			own = append(own, i)
		}
	}
	if len(own) == 0 || own[0] == 0 {
		return id.alone(own)
	}
	if len(own) > 1 {
		return fmt.Errorf("%s: its first certificate is an authority's, and %d others could be the host's: put "+
			"the host's own first", id.from, len(own))
	}
	id.turned = true
	if at := own[0]; at == len(id.chain)-1 {
		slices.Reverse(id.chain)
	} else {
		id.chain = slices.Insert(slices.Delete(slices.Clone(id.chain), at, at+1), 0, id.chain[at])
	}
	return nil
}

// issuedBy goes by the names: a certificate with its own name for issuer is issued by no other.
func issuedBy(c, authority *x509.Certificate) bool {
	return !c.Equal(authority) && bytes.Equal(c.RawIssuer, authority.RawSubject) &&
		!bytes.Equal(c.RawIssuer, c.RawSubject)
}

// alone returns an error if other certificates could be a host's own as well as the first: they would be passed over.
func (id *identity) alone(own []int) error {
	n := 1
	for _, i := range own {
		if c := id.chain[i]; !c.IsCA && !c.Equal(id.chain[0]) {
			n++
		}
	}
	if n > 1 && !id.chain[0].IsCA {
		return fmt.Errorf("%s: %d of its certificates could be the host's own: one file for each, with those above it",
			id.from, n)
	}
	return nil
}

// notPEM says what to do with a file in another form.
func notPEM(content []byte) error {
	if bytes.HasPrefix(content, []byte{0xff, 0xfe}) || bytes.HasPrefix(content, []byte{0xfe, 0xff}) {
		return errors.New("it is text in UTF-16: save it as UTF-8, or `iconv -f utf-16 -t utf-8 FILE`")
	}
	if bytes.HasPrefix(content, []byte("ssh-")) || bytes.HasPrefix(content, []byte("ecdsa-sha2-")) {
		return errors.New("it is a key for SSH, which no mail server uses")
	}
	var sequence asn1.RawValue
	if _, err := mail.ParseCertificate(content); err == nil {
		return errors.New("it is a certificate in DER: make PEM of it with `openssl x509 -inform der -in FILE`")
	}
	if _, err := asn1.Unmarshal(content, &sequence); err == nil && sequence.Tag == asn1.TagSequence {
		return errors.New("it is binary: make PEM of it, of a key with `openssl pkey -in FILE -pubout`, of PKCS#7 " +
			"with `openssl pkcs7 -inform der -in FILE -print_certs`, of PKCS#12 with `openssl pkcs12 -in FILE -nokeys`")
	}
	return errors.New("there is no certificate and no key in PEM in it: it has to have a line such as " +
		"-----BEGIN CERTIFICATE-----")
}

// privateKeyInfo is a private key in PKCS#8 (RFC 5958 section 2); what may stand behind is of no use here.
type privateKeyInfo struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
	Rest      asn1.RawValue `asn1:"optional,tag:0"`
	Public    asn1.RawValue `asn1:"optional,tag:1"`
}

// kindOfKey names the kind of a certificate's key, those too that crypto/x509 does not know.
func kindOfKey(c *x509.Certificate) string {
	if c.PublicKeyAlgorithm != x509.UnknownPublicKeyAlgorithm {
		return c.PublicKeyAlgorithm.String()
	}
	switch mail.PublicKey(c).(type) {
	case ed448.PublicKey:
		return "Ed448"
	case *rsa.PublicKey:
		return "RSA"
	case *ecdsa.PublicKey:
		return "ECDSA"
	}
	return "unknown"
}

// errEncrypted is for keys that need a password.
var errEncrypted = errors.New("it is encrypted: make a file of its public key, `openssl pkey -in FILE -pubout -out " +
	"PUBLIC`, and take that")

// publicKey returns the public key of a block in DER: a digest is made of it as it stands, so it need not be of a kind
// that we could use. Nil for a block that holds none.
func publicKey(block *pem.Block) ([]byte, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, errEncrypted
	}
	if strings.HasSuffix(block.Type, " PARAMETERS") {
		return nil, nil
	}
	switch block.Type {
	case "PRIVATE KEY":
		return publicOfPKCS8(block.Bytes)
	case "RSA PRIVATE KEY":
		return publicOf(x509.ParsePKCS1PrivateKey(block.Bytes))
	case "EC PRIVATE KEY":
		return publicOf(x509.ParseECPrivateKey(block.Bytes))
	case "PUBLIC KEY":
		if !mail.IsKey(block.Bytes) {
			return nil, errors.New("it is no public key in DER")
		}
		return block.Bytes, nil
	case "RSA PUBLIC KEY":
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(key)
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, err
		}
		return request.RawSubjectPublicKeyInfo, nil
	case "PKCS7", "PKCS #7 SIGNED DATA", "CMS":
		return nil, errors.New("it is PKCS#7: take its certificates out with `openssl pkcs7 -in FILE -print_certs`, " +
			"the host's own first")
	case "OPENSSH PRIVATE KEY":
		return nil, errors.New("it is a key for SSH, which no mail server uses")
	}
	return nil, errors.New("it is neither a certificate nor a key")
}

// publicOf returns the public key of a private one.
func publicOf[K crypto.Signer](key K, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("%w; its public key can be read too: `openssl pkey -in FILE -pubout -out PUBLIC`", err)
	}
	return x509.MarshalPKIXPublicKey(key.Public())
}

// publicOfPKCS8 reads what crypto/x509 reads, and two kinds more.
func publicOfPKCS8(der []byte) ([]byte, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if signer, ok := key.(crypto.Signer); ok && err == nil {
		return publicOf(signer, nil)
	}
	var info privateKeyInfo
	if _, bad := asn1.Unmarshal(der, &info); bad != nil {
		return nil, bad
	}
	switch {
	case info.Algorithm.Algorithm.Equal(mail.OIDEd448):
		var seed []byte
		if rest, bad := asn1.Unmarshal(info.Key, &seed); bad != nil || len(rest) > 0 || len(seed) != ed448.SeedSize {
			return nil, errors.New("its Ed448 key has not 57 octets")
		}
		public := ed448.NewKeyFromSeed(seed).Public().(ed448.PublicKey)
		return marshalKey(info.Algorithm, public)
	case info.Algorithm.Algorithm.Equal(mail.OIDRSAPSS):
		private, bad := x509.ParsePKCS1PrivateKey(info.Key)
		if bad != nil {
			return nil, bad
		}
		return marshalKey(info.Algorithm, x509.MarshalPKCS1PublicKey(&private.PublicKey))
	}
	return publicOf[crypto.Signer](nil, fmt.Errorf("danelaw knows no private keys of the kind %s",
		info.Algorithm.Algorithm))
}

func marshalKey(algorithm pkix.AlgorithmIdentifier, key []byte) ([]byte, error) {
	return asn1.Marshal(mail.KeyInfo{Algorithm: algorithm, Key: asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})
}
