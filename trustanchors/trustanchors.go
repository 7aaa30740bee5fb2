// Package trustanchors holds the root zone's trust anchors and reads configured ones.
package trustanchors

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

//go:embed root.ds root-anchors.xml
var files embed.FS

// Set is a set of trust anchors by canonical zone name. DNSKEY anchors are kept as their SHA-256 DS.
type Set map[string][]*dns.DS

// Embedded returns the anchors of the root zone that are built in (T-1), as root.ds has them.
func Embedded() Set {
	const file = "root.ds"
	content, err := files.ReadFile(file)
	if err != nil {
		panic(err)
	}
	set, _, err := Load(file, content, time.Time{}, false)
	if err != nil {
		panic(err)
	}
	return set
}

// Load reads anchors from the content of a file: DS and DNSKEY records in zone-file form, or IANA's root-anchors.xml
// (RFC 9718, T-12) of which the entries valid at now are taken; its first character tells which. Unsupported entries
// (algorithm, digest) are left out and told in warnings; those of a zone below the root that has no others are kept, as
// it is an anchor point all the same. A malformed entry, or none left for the root, is an error that names file and
// line (T-15). sha1 says whether algorithms 5 and 7 count as supported.
func Load(file string, content []byte, now time.Time, sha1 bool) (set Set, warnings []string, err error) {
	r := &reader{file: file, sha1: sha1, set: Set{}, rejected: map[string][]rejection{}}
	if bytes.HasPrefix(bytes.TrimSpace(content), []byte("<")) {
		err = r.xml(content, now)
	} else {
		err = r.records(content)
	}
	if err == nil {
		err = r.complete()
	}
	if err != nil {
		return nil, nil, err
	}
	return r.set, r.warnings, nil
}

// Merge adds the anchors of o to s.
func (s Set) Merge(o Set) {
	for _, anchors := range o {
		s.With(anchors)
	}
}

// With adds anchors to s, and returns it.
func (s Set) With(all ...[]*dns.DS) Set {
	for _, anchors := range all {
		for _, ds := range anchors {
			s.add(ds)
		}
	}
	return s
}

// add adds ds unless it is there already; a file may have one key as DS and as DNSKEY.
func (s Set) add(ds *dns.DS) {
	zone := ds.Hdr.Name
	same := func(o *dns.DS) bool {
		return o.KeyTag == ds.KeyTag && o.Algorithm == ds.Algorithm && o.DigestType == ds.DigestType &&
			o.Digest == ds.Digest
	}
	if !slices.ContainsFunc(s[zone], same) {
		s[zone] = append(s[zone], ds)
	}
}

// reader gathers the anchors of a file.
type reader struct {
	file     string
	sha1     bool
	set      Set
	rejected map[string][]rejection // by zone
	warnings []string
}

// rejection says why a well-formed entry is not used.
type rejection struct {
	ds     *dns.DS
	line   int
	reason string
}

// fault is an error that names the place and ends in what to do.
func (r *reader) fault(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", r.file, line, fmt.Sprintf(format, args...))
}

// complete keeps the unsupported entries of zones that have no others; none may be left for the root (T-15).
func (r *reader) complete() error {
	for zone, rejected := range r.rejected {
		if len(r.set[zone]) > 0 {
			continue
		}
		if last := rejected[len(rejected)-1]; zone == "." {
			return r.fault(last.line, "no usable trust anchor is left for the root: %s; add a current one", last.reason)
		}
		for _, entry := range rejected {
			r.set.add(entry.ds)
		}
	}
	if len(r.set) == 0 {
		return fmt.Errorf("%s: there is no trust anchor in it; it needs DS or DNSKEY records, or IANA's "+
			"root-anchors.xml", r.file)
	}
	return nil
}

// anchor takes ds, which is well-formed and whose owner is canonical, if it is supported.
func (r *reader) anchor(line int, ds *dns.DS) {
	if reason := r.unsupported(ds); reason != "" {
		r.reject(line, ds, reason)
		r.warnings = append(r.warnings, fmt.Sprintf("%s:%d: trust anchor %d of %s is left out: %s",
			r.file, line, ds.KeyTag, ds.Hdr.Name, reason))
		return
	}
	r.set.add(ds)
}

func (r *reader) reject(line int, ds *dns.DS, reason string) {
	r.rejected[ds.Hdr.Name] = append(r.rejected[ds.Hdr.Name], rejection{ds, line, reason})
}

// unsupported says what of ds is not supported (V-34, V-38), if anything is.
func (r *reader) unsupported(ds *dns.DS) string {
	switch a := ds.Algorithm; {
	case isSHA1(a) && !r.sha1:
		return fmt.Sprintf("algorithm %d (%s) is not supported unless the option sha1 says `verify`", a,
			dns.AlgorithmToString[a])
	case !isSHA1(a) && !slices.Contains([]uint8{8, 10, 13, 14, 15, 16}, a):
		return fmt.Sprintf("algorithm %d is not supported", a)
	case digestOctets[ds.DigestType] == 0:
		return fmt.Sprintf("digest type %d is not supported", ds.DigestType)
	}
	return ""
}

// isSHA1 says whether an algorithm signs SHA-1 digests (V-36).
func isSHA1(algorithm uint8) bool {
	return algorithm == dns.RSASHA1 || algorithm == dns.RSASHA1NSEC3SHA1
}

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

// digestOctets is the length of the digests that are supported (V-38, V-39).
var digestOctets = map[uint8]int{dns.SHA1: 20, dns.SHA256: 32, dns.SHA384: 48}

// checkDigest reports a digest that is none, and writes it in lower case, as DNS code does.
func checkDigest(ds *dns.DS) error {
	digest, err := hex.DecodeString(ds.Digest)
	if err != nil {
		return fmt.Errorf("the digest %q is not hexadecimal (%v); copy it again", ds.Digest, err)
	}
	want, known := digestOctets[ds.DigestType]
	switch {
	case len(digest) == 0: // the DNS library takes a DS without any RDATA
		return fmt.Errorf("the digest is missing; copy the whole record again")
	case known && len(digest) != want:
		return fmt.Errorf("the digest %q has %d octets, and digest type %d has %d; copy it again, or correct the type",
			ds.Digest, len(digest), ds.DigestType, want)
	}
	ds.Digest = strings.ToLower(ds.Digest)
	return nil
}

// checkKey reports a key that cannot sign a zone's DNSKEY records (V-4, V-5) or is no key of its algorithm.
func checkKey(k *dns.DNSKEY) error {
	switch {
	case k.Flags&dns.ZONE == 0:
		return fmt.Errorf("the key's flags %d lack the zone bit (256); use a zone's key, mostly of flags 257", k.Flags)
	case k.Flags&dns.REVOKE != 0:
		return fmt.Errorf("the key's flags %d have the bit of a revoked key (128); use the zone's current key", k.Flags)
	case k.Protocol != 3:
		return fmt.Errorf("the key's protocol is %d; it must be 3", k.Protocol)
	}
	key, err := base64.StdEncoding.DecodeString(k.PublicKey)
	if err != nil {
		return fmt.Errorf("the key %q is not base64 (%v); copy it again", k.PublicKey, err)
	}
	if k.ToDS(dns.SHA256) == nil {
		return fmt.Errorf("the key of %d octets is too long to be one; copy it again", len(key))
	}
	if err := checkPublicKey(k.Algorithm, key); err != nil {
		return fmt.Errorf("the key %q is none of algorithm %d: %v; copy it again, or correct the algorithm",
			k.PublicKey, k.Algorithm, err)
	}
	return nil
}

// checkPublicKey checks the form of a key of a supported algorithm (V-42, V-44). The forms of others are not known.
func checkPublicKey(algorithm uint8, key []byte) error {
	switch algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256:
		return checkRSA(key, 512)
	case dns.RSASHA512:
		return checkRSA(key, 1024)
	case dns.ECDSAP256SHA256:
		return checkPoint(elliptic.P256(), key)
	case dns.ECDSAP384SHA384:
		return checkPoint(elliptic.P384(), key)
	case dns.ED25519:
		return checkLength(key, 32)
	case dns.ED448:
		return checkLength(key, 57)
	}
	return nil
}

func checkLength(key []byte, want int) error {
	if len(key) != want {
		return fmt.Errorf("it has %d octets instead of %d", len(key), want)
	}
	return nil
}

// checkPoint checks a key of RFC 6605 section 4, a point without the octet that says it is uncompressed.
func checkPoint(curve elliptic.Curve, key []byte) error {
	_, err := ecdsa.ParseUncompressedPublicKey(curve, append([]byte{4}, key...))
	return err
}

// checkRSA checks a key of RFC 3110 section 2: the exponent behind its length of one or three octets, then the modulus.
func checkRSA(key []byte, least int) error {
	const most = 4096
	if len(key) > 0 && key[0] != 0 {
		key = append([]byte{0, 0}, key...)
	}
	if len(key) < 3 {
		return fmt.Errorf("it has no exponent")
	}
	length, rest := int(binary.BigEndian.Uint16(key[1:])), key[3:]
	if length > len(rest) {
		return fmt.Errorf("it ends in its exponent")
	}
	exponent, modulus := new(big.Int).SetBytes(rest[:length]), new(big.Int).SetBytes(rest[length:])
	if max := big.NewInt(1<<32 + 1); exponent.Bit(0) == 0 || exponent.Cmp(big.NewInt(3)) < 0 || exponent.Cmp(max) > 0 {
		return fmt.Errorf("its exponent %v is not an odd number from 3 to %v", exponent, max)
	}
	if bits := modulus.BitLen(); bits < least || bits > most {
		return fmt.Errorf("its modulus of %d bits is not one of %d to %d", bits, least, most)
	}
	return nil
}
