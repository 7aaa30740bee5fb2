package trustanchors

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// records reads DS and DNSKEY records in zone-file form.
func (r *reader) records(content []byte) error {
	content = append(content, '\n') // without it the DNS library passes over a record that ends with its type
	lines := &lineReader{Reader: bytes.NewReader(content), line: 1}
	p := dns.NewZoneParser(lines, ".", "")
	p.SetDefaultTTL(0) // an anchor has none
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if err := r.record(lines.record(), rr); err != nil {
			return err
		}
	}
	if err := p.Err(); err != nil {
		fault, _, _ := strings.Cut(err.Error(), " at line: ")
		return r.fault(lines.record(), "%s; write `ZONE DS TAG ALGORITHM DIGESTTYPE DIGEST` or `ZONE DNSKEY FLAGS 3 "+
			"ALGORITHM KEY`", strings.TrimPrefix(fault, "dns: "))
	}
	return nil
}

func (r *reader) record(line int, rr dns.RR) error {
	h := rr.Header()
	h.Name = dns.CanonicalName(h.Name)
	if h.Class != dns.ClassINET {
		return r.fault(line, "class %s has no trust anchors; write IN", dns.Class(h.Class))
	}
	ds, err := anchorOf(rr)
	if err != nil {
		return r.fault(line, "%v", err)
	}
	r.anchor(line, ds)
	return nil
}

// anchorOf returns a DS as it is, and a DNSKEY as its SHA-256 DS.
func anchorOf(rr dns.RR) (*dns.DS, error) {
	switch rr := rr.(type) {
	case *dns.DS:
		return rr, checkDigest(rr)
	case *dns.DNSKEY:
		return rr.ToDS(dns.SHA256), checkKey(rr)
	}
	return nil, fmt.Errorf("%s %s is neither DS nor DNSKEY; remove it", rr.Header().Name, dns.Type(rr.Header().Rrtype))
}

// lineReader knows on what line a record begins. The DNS library asks it for single octets, and for none past the end
// of the record that it returns.
type lineReader struct {
	*bytes.Reader
	line  int  // of the octet given last
	start int  // where the record being read begins; 0 before it does
	end   bool // the line has ended
	skip  bool // the rest of the line is a comment or a directive
}

// ReadByte implements io.ByteReader.
func (r *lineReader) ReadByte() (byte, error) {
	c, err := r.Reader.ReadByte()
	if err != nil {
		return c, err
	}
	if r.end {
		r.line++
		r.skip = false
	}
	r.end = c == '\n'
	switch {
	case r.start != 0 || r.skip || strings.IndexByte(" \t\r\n", c) >= 0:
	case c == ';' || c == '$':
		r.skip = true
	default:
		r.start = r.line
	}
	return c, nil
}

// record returns the line of the record or directive that was read last, and is ready for the next.
func (r *lineReader) record() int {
	line := cmp.Or(r.start, r.line)
	r.start = 0
	return line
}
