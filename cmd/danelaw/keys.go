package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudflare/circl/sign/ed448"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

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
