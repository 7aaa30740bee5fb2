package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// identity is what a mail host shows, or will show: a certificate with those above it, or only its key.
type identity struct {
	from  string              // the file, or the host and address
	chain []*x509.Certificate // its own first; empty if there is only a key
	spki  []byte              // the public key in DER (SubjectPublicKeyInfo)
}

// String names it in messages.
func (id *identity) String() string {
	if len(id.chain) == 0 {
		return "the key of " + id.from
	}
	return fmt.Sprintf("the %s certificate of %s", probe.KeyOf(id.chain[0]), id.from)
}

// readIdentity reads a file of PEM: a certificate, perhaps with those above it and its private key as MTAs have them, or a key alone.
func readIdentity(file string) (*identity, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	id := &identity{from: printable.Text(file)}
	var keys [][]byte // in DER, public
	found := 0
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		found++
		public, err := id.read(block)
		if err != nil {
			return nil, fmt.Errorf("%s: block %d, %s: %w", file, found, block.Type, err)
		}
		if public != nil {
			keys = append(keys, public)
		}
	}
	if found == 0 {
		return nil, fmt.Errorf("%s: %w", file, notPEM(content))
	}
	return id, id.settle(keys)
}

// read takes one block; of a key it returns the public one.
func (id *identity) read(block *pem.Block) ([]byte, error) {
	if block.Type == "CERTIFICATE" || block.Type == "TRUSTED CERTIFICATE" {
		c, err := x509.ParseCertificate(block.Bytes)
		id.chain = append(id.chain, c)
		return nil, err
	}
	key, err := parseKey(block)
	if err != nil || key == nil {
		return nil, err
	}
	if private, ok := key.(crypto.Signer); ok {
		key = private.Public()
	}
	return x509.MarshalPKIXPublicKey(key)
}

// parseKey reads a key, private or public; nil for a block that holds none.
func parseKey(block *pem.Block) (any, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, errors.New("it is encrypted: make a file of its public key, `openssl pkey -in FILE -pubout -out PUBLIC`, and take that")
	}
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST":
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, err
		}
		return request.PublicKey, nil
	case "EC PARAMETERS", "DH PARAMETERS":
		return nil, nil
	}
	return nil, errors.New("it is neither a certificate nor a key")
}

// settle finds out what the file is about.
func (id *identity) settle(keys [][]byte) error {
	switch {
	case len(id.chain) > 0:
		id.spki = id.chain[0].RawSubjectPublicKeyInfo
	case len(keys) == 0:
		return fmt.Errorf("%s: it holds neither a certificate nor a key", id.from)
	default:
		id.spki = keys[0]
	}
	for _, key := range keys {
		if !bytes.Equal(key, id.spki) {
			return fmt.Errorf("%s: its keys and its first certificate do not belong together: one file for each certificate, its own first", id.from)
		}
	}
	return nil
}

// notPEM says what to do with a file in another form.
func notPEM(content []byte) error {
	if _, err := x509.ParseCertificate(content); err == nil {
		return errors.New("it is a certificate in DER: make PEM of it with `openssl x509 -inform der -in FILE`")
	}
	return errors.New("there is no certificate and no key in PEM in it: it has to have a line such as -----BEGIN CERTIFICATE-----")
}
