package chain

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// record is what a Store keeps of a name that has a place other than Failed.
type record struct {
	kind    uint8     // of the place, which is packed beside it; none if there is none any more
	since   time.Time // when it was learned, to the second
	until   time.Time // to the millisecond
	expires time.Time // when a signature ends that it rests on, to the second; zero: never
	tried   time.Time // when the links were last fetched past the cache (V-14), to the millisecond
	// claimed: somebody fetches the links again, or has and got none that live longer (C-14).
	claimed bool
	// vain says how much of what was asked on speculation below it was so lately (L-9): 0 to mostVain.
	vain uint8
}

// The kinds of places.
const (
	none = iota
	within
	withinBelow
	insecureCut
	excusedCut // an insecure one that has a cause
	secureCut
)

// newRecord is that of a place, and the packed place.
func newRecord(p Place) (r record, place []byte) {
	r.until = p.until()
	switch p := p.(type) {
	case Within:
		if r.kind = within; p.Below {
			r.kind = withinBelow
		}
		place = binary.AppendVarint(nil, int64(len(p.Zone))) // the name ends with it
	case Cut:
		r.expires = p.Zone.Expires
		switch {
		case p.Zone.Status == dnssec.Secure:
			r.kind, place = secureCut, packSecure(p.Zone)
		case p.Zone.Cause != nil:
			r.kind, place = excusedCut, packCause(p.Zone.Cause)
		default:
			r.kind = insecureCut
		}
	}
	return r, place
}

// isCut reports whether the place is a Cut.
func (r record) isCut() bool { return r.kind >= insecureCut }

// holds reports whether there is a place, which has not ended (C-16, C-2).
func (r record) holds(now time.Time) bool {
	return r.kind != none && now.Before(r.until) && (r.expires.IsZero() || !now.After(r.expires))
}

// What else is in the octet of a packed record's kind.
const (
	claimed = 1 << 7
	vain    = mostVain << vainAt

	vainAt = 4
)

// pack lays out a record: kind and what else is in its octet, times as varints, the place, if there is one.
func (r record) pack(place []byte) []byte {
	b := make([]byte, 1, 32+len(place))
	b[0] = r.kind | r.vain<<vainAt
	if r.claimed {
		b[0] |= claimed
	}
	b = binary.AppendVarint(b, seconds(r.since))
	b = binary.AppendVarint(b, milliseconds(r.until))
	b = binary.AppendVarint(b, seconds(r.expires))
	b = binary.AppendVarint(b, milliseconds(r.tried))
	if r.kind == none {
		return b
	}
	return append(b, place...)
}

// unpackRecord undoes pack; the zero record is made of nothing. The place lies in b.
func unpackRecord(b []byte) (r record, place []byte) {
	if len(b) == 0 {
		return r, nil
	}
	p := packed(b[1:])
	r.kind, r.claimed, r.vain = b[0]&^(claimed|vain), b[0]&claimed != 0, b[0]&vain>>vainAt
	r.since, r.until = timeOf(p.varint(), time.Second), timeOf(p.varint(), time.Millisecond)
	r.expires, r.tried = timeOf(p.varint(), time.Second), timeOf(p.varint(), time.Millisecond)
	return r, p
}

// seconds and milliseconds are those since 1970, of which 0 stands for the zero time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(n int64, unit time.Duration) (t time.Time) {
	switch {
	case n == 0:
		return t
	case unit == time.Second:
		return time.Unix(n, 0).UTC()
	}
	return time.UnixMilli(n).UTC()
}

// packed are octets that something is read from. All of it was written here.
type packed []byte

func (p *packed) take(n int) []byte {
	taken := (*p)[:n]
	*p = (*p)[n:]
	return taken
}

func (p *packed) byte() uint8    { return p.take(1)[0] }
func (p *packed) uint16() uint16 { return binary.BigEndian.Uint16(p.take(2)) }
func (p *packed) uint32() uint32 { return binary.BigEndian.Uint32(p.take(4)) }
func (p *packed) text() string   { return string(p.take(int(p.varint()))) }

func (p *packed) varint() int64 {
	n, size := binary.Varint(*p)
	p.take(size)
	return n
}

func appendText[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendVarint(b, int64(len(text))), text...)
}

// packSecure lays out how a zone is tied to the one above, and its keys.
func packSecure(z *dnssec.Zone) []byte {
	b := binary.BigEndian.AppendUint16(nil, z.Tie.KeyTag)
	b = append(b, z.Tie.Algorithm, z.Tie.Digest)
	b = binary.BigEndian.AppendUint32(b, z.Tie.Inception)
	b = binary.BigEndian.AppendUint32(b, z.Tie.Expiration)
	for _, key := range z.Keys {
		public, _ := base64.StdEncoding.DecodeString(key.RR.PublicKey) // it has been parsed
		b = binary.BigEndian.AppendUint16(b, key.RR.Flags)
		b = appendText(append(b, key.RR.Algorithm), public)
	}
	return b
}

// packCause lays out why a zone is Insecure, which wraps no error.
func packCause(f *dnssec.Failure) []byte {
	b := binary.BigEndian.AppendUint16([]byte{byte(f.Kind)}, f.Code)
	b = binary.BigEndian.AppendUint16(b, f.Type)
	b = binary.BigEndian.AppendUint16(b, f.KeyTag)
	return appendText(appendText(appendText(b, f.Zone), f.Owner), f.Text)
}

// open is the place of name in a record.
func (r record) open(name string, place []byte) Place {
	p := packed(place)
	if r.kind < insecureCut {
		return Within{name[len(name)-int(p.varint()):], r.kind == withinBelow, r.until}
	}
	zone := &dnssec.Zone{Name: name, Status: dnssec.Insecure, Until: r.until, Expires: r.expires}
	switch r.kind {
	case excusedCut:
		zone.Cause = &dnssec.Failure{
			Kind: dnssec.Kind(p.byte()), Code: p.uint16(), Type: p.uint16(), KeyTag: p.uint16(),
			Zone: p.text(), Owner: p.text(), Text: p.text(),
		}
	case secureCut:
		zone.Status = dnssec.Secure
		zone.Tie = dnssec.Tie{
			KeyTag: p.uint16(), Algorithm: p.byte(), Digest: p.byte(), Inception: p.uint32(), Expiration: p.uint32(),
		}
		for len(p) > 0 {
			zone.Keys = append(zone.Keys, p.key(name))
		}
	}
	return Cut{zone}
}

// key is the next key of a zone.
func (p *packed) key(zone string) *dnssec.Key {
	rr := &dns.DNSKEY{Hdr: dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}, Protocol: 3}
	rr.Flags, rr.Algorithm = p.uint16(), p.byte()
	rr.PublicKey = base64.StdEncoding.EncodeToString(p.take(int(p.varint())))
	key, _ := dnssec.ParseKey(rr) // it could be before
	return key
}
