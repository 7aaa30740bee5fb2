package cache

import (
	"encoding/binary"
	"math"
)

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
