package trustanchors

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const fetchAnew = "fetch the file anew from https://data.iana.org/root-anchors/root-anchors.xml"

// trustAnchor is the document of RFC 9718 section 2.1.
type trustAnchor struct {
	XMLName xml.Name             `xml:"TrustAnchor"`
	Zone    located[string]      `xml:"Zone"`
	Digests []located[keyDigest] `xml:"KeyDigest"`
}

type keyDigest struct {
	ValidFrom  string  `xml:"validFrom,attr"`
	ValidUntil string  `xml:"validUntil,attr"` // none: for ever
	KeyTag     string  `xml:"KeyTag"`
	Algorithm  string  `xml:"Algorithm"`
	DigestType string  `xml:"DigestType"`
	Digest     string  `xml:"Digest"`
	PublicKey  *string `xml:"PublicKey"`
	Flags      *string `xml:"Flags"`
}

// located is an element that knows on what line it begins.
type located[T any] struct {
	line int
	it   T
}

// UnmarshalXML implements xml.Unmarshaler.
func (l *located[T]) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	l.line, _ = d.InputPos()
	return d.DecodeElement(&l.it, &start)
}

// xml reads root-anchors.xml.
func (r *reader) xml(content []byte, now time.Time) error {
	d := xml.NewDecoder(bytes.NewReader(content))
	doc := trustAnchor{Zone: located[string]{line: 1}}
	if err := d.Decode(&doc); err != nil {
		line, _ := d.InputPos()
		return r.fault(line, "%v; %s", err, fetchAnew)
	}
	if zone := strings.TrimSpace(doc.Zone.it); zone != "." {
		return r.fault(doc.Zone.line, "the Zone is %q and not the root; write anchors of other zones as DS or DNSKEY "+
			"records", zone)
	}
	for _, digest := range doc.Digests {
		if err := r.keyDigest(digest.line, &digest.it, now); err != nil {
			return err
		}
	}
	return nil
}

// keyDigest takes the root's anchor that k is, if it is valid now.
func (r *reader) keyDigest(line int, k *keyDigest, now time.Time) error {
	ds, err := k.ds(".")
	valid, wrong := k.validAt(now)
	switch err = cmp.Or(err, wrong); {
	case err != nil:
		return r.fault(line, "%v; %s", err, fetchAnew)
	case valid:
		r.anchor(line, ds)
	default:
		r.reject(line, ds, fmt.Sprintf("%d is valid from %s until %s, and now it is %s",
			ds.KeyTag, k.ValidFrom, cmp.Or(k.ValidUntil, "further notice"), now.UTC().Format(time.RFC3339)))
	}
	return nil
}

// ds is the record that k stands for, and agrees with.
func (k *keyDigest) ds(zone string) (*dns.DS, error) {
	var err error
	ds := &dns.DS{
		Hdr:    dns.RR_Header{Name: zone, Rrtype: dns.TypeDS, Class: dns.ClassINET},
		KeyTag: number(&err, "KeyTag", k.KeyTag, 16), Algorithm: uint8(number(&err, "Algorithm", k.Algorithm, 8)),
		DigestType: uint8(number(&err, "DigestType", k.DigestType, 8)), Digest: withoutSpace(k.Digest),
	}
	if err != nil {
		return nil, err
	}
	return ds, cmp.Or(checkDigest(ds), k.agrees(ds))
}

// number reads a number; failed keeps the first error.
func number(failed *error, element, text string, bits int) uint16 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, bits)
	if err != nil && *failed == nil {
		*failed = fmt.Errorf("%s is %q and not a number of %d bits", element, text, bits)
	}
	return uint16(n)
}

func withoutSpace(s string) string { return strings.Join(strings.Fields(s), "") }

// agrees reports an error if k has a key and ds is not that key's (T-12). A digest of an unsupported type cannot be
// compared.
func (k *keyDigest) agrees(ds *dns.DS) error {
	if k.PublicKey == nil && k.Flags == nil {
		return nil
	}
	if k.PublicKey == nil || k.Flags == nil {
		return fmt.Errorf("PublicKey and Flags must stand together (RFC 9718 section 2.1.2)")
	}
	var err error
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: ds.Hdr.Name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET},
		Flags: number(&err, "Flags", *k.Flags, 16), Protocol: 3, Algorithm: ds.Algorithm,
		PublicKey: withoutSpace(*k.PublicKey),
	}
	if err := cmp.Or(err, checkKey(key)); err != nil {
		return err
	}
	of := key.ToDS(ds.DigestType)
	if of != nil && (of.KeyTag != ds.KeyTag || !strings.EqualFold(of.Digest, ds.Digest)) {
		return fmt.Errorf("PublicKey and Flags have KeyTag %d and Digest %s, and not %d and %s", of.KeyTag, of.Digest,
			ds.KeyTag, ds.Digest)
	}
	return nil
}

// validAt says whether now is within the validity: its begin belongs to it, its end does not.
func (k *keyDigest) validAt(now time.Time) (bool, error) {
	from, err := instant("validFrom", k.ValidFrom)
	if k.ValidUntil == "" || err != nil {
		return !now.Before(from), err
	}
	until, err := instant("validUntil", k.ValidUntil)
	return !now.Before(from) && now.Before(until), err
}

func instant(attribute, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%s is %q and no time such as 2017-02-02T00:00:00+00:00", attribute, text)
	}
	return t, nil
}
