package cache

import (
	"encoding/binary"
	"math"
	"time"
	"unsafe"
)

// record is an entry as it lies in memory: a header, and in one piece the key's name, the message, the notes and the
// offsets of the TTLs in the message.
type record struct {
	*header
	body []byte
}

// header has all that decides whether a record is the one asked for and alive. It holds no pointers.
type header struct {
	lot
	low    uint32 // of the Unix time at which it was stored, which has 40 bits
	life   uint32 // seconds
	until  uint32 // seconds from then to Expires; forever if there is none
	serial uint32 // of the entry, in its shard; that of a variant is its entry's
	lengths
	typ    uint16
	high   uint8
	status uint8
	user   uint8
	plain  bool
	marks
}

// marks are what has been noted of a record since it was stored.
type marks struct {
	claim bool // somebody renews it
	spent bool // it is never stale
}

// lengths are those of the parts of the body of a record.
type lengths struct {
	name, wire, notes uint16 // octets
	ttls              uint16 // how many
}

const (
	headerSize = int(unsafe.Sizeof(header{}))
	mostTime   = 1<<40 - 1 // Unix time
	ttlSize    = 4
	offsetSize = 2
	forever    = math.MaxUint32
)

// newHeader is that of e under k, but for its lot, and the octets that the record has. All lengths must fit.
func newHeader(k Key, e *Entry, ttls []uint16) (h header, octets int) {
	stored := e.Stored.Unix()
	h = header{
		low: uint32(stored), high: uint8(stored >> 32), life: clamp(int64(e.Life / time.Second)), until: forever,
		lengths: lengths{uint16(len(k.Name)), uint16(len(e.Wire)), uint16(len(e.Notes)), uint16(len(ttls))},
		typ:     k.Type, status: e.Status, user: e.Flags, plain: k.Plain, marks: marks{claim: k.Plain && e.Claimed},
		serial: e.serial,
	}
	if !e.Expires.IsZero() {
		h.until = clamp(e.Expires.Unix() - stored)
	}
	return h, headerSize + len(k.Name) + len(e.Wire) + len(e.Notes) + len(ttls)*offsetSize
}

func clamp(seconds int64) uint32 { return uint32(max(0, min(seconds, math.MaxUint32))) }

// record is the one that lies at a place.
func (s *shard) record(place int) record {
	return record{(*header)(unsafe.Pointer(s.at(place))), s.octets(place)[headerSize:]}
}

// write lays out an entry at a place that has room for it.
func (s *shard) write(place int, h header, k Key, e *Entry, ttls []uint16) {
	r := s.record(place)
	*r.header = h
	b := r.body[:0]
	b = append(append(append(b, k.Name...), e.Wire...), e.Notes...)
	for _, offset := range ttls {
		b = binary.NativeEndian.AppendUint16(b, offset)
	}
}

// is reports whether the record is that of k.
func (r record) is(k Key) bool {
	return r.typ == k.Type && r.plain == k.Plain && int(r.name) == len(k.Name) && string(r.body[:r.name]) == k.Name
}

func (r record) key() Key { return Key{Name: string(r.body[:r.name]), Type: r.typ, Plain: r.plain} }

func (r record) message() []byte { return r.body[r.name:][:r.wire] }

func (r record) noted() []byte { return r.body[int(r.name)+int(r.wire):][:r.notes] }

// stored is the Unix time at which it was.
func (h *header) stored() int64 { return int64(h.high)<<32 | int64(h.low) }

// age is how long the record has been there; negative if it comes from the future (C-18).
func (h *header) age(now int64) int64 { return now - h.stored() }

// end is when the record ends, in Unix time.
func (h *header) end() int64 { return h.stored() + int64(min(h.life, h.until)) }

func (h *header) ended(now int64) bool { return now >= h.end() }

// outlasts reports whether the record ends later than another of the same data, by more than rounding: what came from a
// source that counts down may seem to end a little later.
func (h *header) outlasts(o *header) bool {
	const rounding = 2 // seconds
	return h.end() > o.end()+rounding
}

func (h *header) alive(now int64) bool { return h.age(now) >= 0 && !h.ended(now) }

// stale reports whether the record has ended by its life alone, less than so many seconds ago.
func (h *header) stale(now, most int64) bool { return !h.spent && h.ended(now) && !h.gone(now, most) }

// gone reports whether the record, which may linger for so many seconds, is of no use any more. A variant does not.
func (h *header) gone(now, linger int64) bool {
	if h.plain {
		linger = 0
	}
	lasts := int64(h.life) + linger
	if h.until != forever {
		lasts = min(lasts, int64(h.until))
	}
	return now >= h.stored()+lasts
}

// copyOut fills e from a record, which must be alive.
func (r record) copyOut(now int64, e *Entry) {
	*e = Entry{
		Status: r.status, Flags: r.user, Claimed: r.claim, Stored: time.Unix(r.stored(), 0),
		Life: time.Duration(r.life) * time.Second, serial: r.serial,
		Wire: append(e.Wire[:0], r.message()...), Notes: append(e.Notes[:0], r.noted()...),
	}
	if r.until != forever {
		e.Expires = e.Stored.Add(time.Duration(r.until) * time.Second)
	}
	offsets := r.body[int(r.name)+int(r.wire)+int(r.notes):]
	for i := range int(r.ttls) {
		countDown(e.Wire[binary.NativeEndian.Uint16(offsets[i*offsetSize:]):], uint32(r.age(now)))
	}
}

// countDown makes the TTL that b begins with smaller by age.
func countDown(b []byte, age uint32) {
	ttl := binary.BigEndian.Uint32(b)
	binary.BigEndian.PutUint32(b, ttl-min(ttl, age))
}

// typeOPT has flags where other records have their TTL (RFC 6891 section 6.1.3).
const typeOPT = 41

// ttlOffsets returns where the TTLs of a DNS message lie, and whether it is one: as many questions and records as its
// header says, and nothing after them. It follows no compression pointers and looks into no RDATA.
func ttlOffsets(wire []byte) (offsets []uint16, ok bool) {
	const headerOctets, questionOctets = 12, 4 // RFC 1035 sections 4.1.1, 4.1.2
	if len(wire) < headerOctets || len(wire) > math.MaxUint16 {
		return nil, false
	}
	count := func(i int) int { return int(binary.BigEndian.Uint16(wire[4+2*i:])) }
	at := headerOctets
	for range count(0) {
		if at, ok = pastName(wire, at); !ok {
			return nil, false
		}
		at += questionOctets
	}
	for range count(1) + count(2) + count(3) {
		var ttl int
		if ttl, at, ok = pastRecord(wire, at); !ok {
			return nil, false
		}
		if typ := binary.BigEndian.Uint16(wire[ttl-4:]); typ != typeOPT {
			offsets = append(offsets, uint16(ttl))
		}
	}
	return offsets, at == len(wire)
}

// pastRecord returns where the TTL of the record at lies, and where the record ends (RFC 1035 section 4.1.3).
func pastRecord(wire []byte, at int) (ttl, end int, ok bool) {
	at, ok = pastName(wire, at)
	if !ok || at+10 > len(wire) {
		return 0, 0, false
	}
	end = at + 10 + int(binary.BigEndian.Uint16(wire[at+8:]))
	return at + 4, end, end <= len(wire)
}

// pastName returns where the name at ends: after its root label or its compression pointer (RFC 1035 section 4.1.4).
func pastName(wire []byte, at int) (end int, ok bool) {
	for at < len(wire) {
		switch length := int(wire[at]); {
		case length == 0:
			return at + 1, true
		case length >= 0xc0:
			return at + 2, at+2 <= len(wire)
		case length > 63:
			return 0, false
		default:
			at += 1 + length
		}
	}
	return 0, false
}
