package cache

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// record is an entry as it lies in memory: a header, then the key's name, the message, the notes and the offsets of the
// TTLs in the message.
type record struct {
	header
	body []byte
}

// header has all that decides whether a record is the one asked for and alive.
type header struct {
	stored int64  // Unix time
	life   uint32 // seconds
	until  uint32 // seconds from stored to Expires; forever if there is none
	name   uint16 // octets
	wire   uint16 // octets
	notes  uint16 // octets
	ttls   uint16 // how many
	typ    uint16
	status uint8
	flags  uint8
}

// claimed is the flag of a record that somebody renews.
const claimed = 1

const (
	headerSize = 28
	ttlSize    = 4
	offsetSize = 2
	forever    = math.MaxUint32
)

// newRecord lays out e under k. All lengths must fit the header.
func newRecord(k Key, e *Entry, ttls []uint16) record {
	r := record{header: header{
		stored: e.Stored.Unix(), life: clamp(int64(e.Life / time.Second)), until: forever,
		name: uint16(len(k.Name)), wire: uint16(len(e.Wire)), notes: uint16(len(e.Notes)), ttls: uint16(len(ttls)),
		typ: k.Type, status: e.Status,
	}}
	if !e.Expires.IsZero() {
		r.until = clamp(e.Expires.Unix() - r.stored)
	}
	r.body = make([]byte, 0, len(k.Name)+len(e.Wire)+len(e.Notes)+len(ttls)*offsetSize)
	r.body = append(append(append(r.body, k.Name...), e.Wire...), e.Notes...)
	for _, offset := range ttls {
		r.body = binary.NativeEndian.AppendUint16(r.body, offset)
	}
	return r
}

func clamp(seconds int64) uint32 { return uint32(max(0, min(seconds, math.MaxUint32))) }

func (h *header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = binary.NativeEndian.AppendUint64(b, uint64(h.stored))
	b = binary.NativeEndian.AppendUint32(b, h.life)
	b = binary.NativeEndian.AppendUint32(b, h.until)
	for _, v := range []uint16{h.name, h.wire, h.notes, h.ttls, h.typ} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return append(b, h.status, h.flags)
}

func readHeader(c *cursor) header {
	var b [headerSize]byte
	c.read(b[:])
	order := binary.NativeEndian
	return header{
		stored: int64(order.Uint64(b[0:])), life: order.Uint32(b[8:]), until: order.Uint32(b[12:]),
		name: order.Uint16(b[16:]), wire: order.Uint16(b[18:]), notes: order.Uint16(b[20:]), ttls: order.Uint16(b[22:]),
		typ: order.Uint16(b[24:]), status: b[26], flags: b[27],
	}
}

// age is how long the record has been there; negative if it comes from the future (C-18).
func (h *header) age(now int64) int64 { return now - h.stored }

// end is when the record ends, in Unix time.
func (h *header) end() int64 { return h.stored + int64(min(h.life, h.until)) }

func (h *header) ended(now int64) bool { return now >= h.end() }

// outlasts reports whether the record ends later than another of the same data, by more than rounding: what came from a
// source that counts down may seem to end a little later.
func (h *header) outlasts(o *header) bool {
	const rounding = 2 // seconds
	return h.end() > o.end()+rounding
}

func (h *header) alive(now int64) bool { return h.age(now) >= 0 && !h.ended(now) }

// copyOut fills e from the record whose message is at c; it must be alive.
func (h *header) copyOut(c cursor, now int64, e *Entry) {
	*e = Entry{
		Status: h.status, Claimed: h.flags&claimed != 0, Stored: time.Unix(h.stored, 0),
		Life: time.Duration(h.life) * time.Second,
		Wire: resized(e.Wire, h.wire), Notes: resized(e.Notes, h.notes),
	}
	if h.until != forever {
		e.Expires = e.Stored.Add(time.Duration(h.until) * time.Second)
	}
	c.read(e.Wire)
	c.read(e.Notes)
	for range h.ttls {
		var offset [offsetSize]byte
		c.read(offset[:])
		countDown(e.Wire[binary.NativeEndian.Uint16(offset[:]):], uint32(h.age(now)))
	}
}

// resized returns b with length n; its octets are of no account.
func resized(b []byte, n uint16) []byte { return slices.Grow(b[:0], int(n))[:n] }

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
