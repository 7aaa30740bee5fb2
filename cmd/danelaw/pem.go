package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"

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
		return nil, fmt.Errorf("%s: of %s in PEM %d can be read: the others are damaged, or their lines "+
			"are; make the file anew", file,
			counted(begun, "block"), found)
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
			"with `openssl pkcs7 -inform der " +
			"-in FILE -print_certs`, of PKCS#12 with `openssl pkcs12 -in FILE -nokeys`")
	}
	return errors.New("there is no certificate and no key in PEM in it: it has to have a line such as " +
		"-----BEGIN CERTIFICATE-----")
}
