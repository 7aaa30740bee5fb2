// Package cachedb is memory beyond the process: a file that outlives it, and a redis that several share. Both give back
// what was found Secure, as the reply of an upstream that nobody has to believe: who asks judges it anew (C-18). So
// what is forged or damaged there costs time alone. This package judges nothing.
package cachedb

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// maxLife is how long a record may live: longer than any TTL is kept (C-5).
const maxLife = 7 * 24 * time.Hour

// Record is an answer, or the reply that has proven a link of the chain of trust.
type Record struct {
	Key    cache.Key
	Stored time.Time // to the second; the TTLs are those of that time
	Ends   time.Time // to the second
	Wire   []byte    // a packed DNS message
}

// recordOf is that of an entry. It shares the message.
func recordOf(k cache.Key, e *cache.Entry, now time.Time) Record {
	ends := e.Stored.Add(e.Life)
	if !e.Expires.IsZero() && e.Expires.Before(ends) {
		ends = e.Expires
	}
	return Record{Key: k, Stored: now, Ends: ends, Wire: e.Wire}
}

// alive reports whether a record may be used: one from the future, or past its end, or with an end that no TTL has, may
// not (C-18).
func (r Record) alive(now time.Time) bool {
	return !r.Stored.After(now) && now.Before(r.Ends) && r.Ends.Sub(r.Stored) <= maxLife
}

// fixed are the octets of a packed record before its name.
const fixed = 8 + 8 + 2 + 1

// pack appends the record to b. Its name must have at most 255 octets.
func (r Record) pack(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(r.Stored.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Ends.Unix()))
	b = binary.BigEndian.AppendUint16(b, r.Key.Type)
	b = append(b, byte(len(r.Key.Name)))
	return append(append(b, r.Key.Name...), r.Wire...)
}

var errRecord = errors.New("no record")

// unpack undoes pack, whoever has written b, which the record shares.
func unpack(b []byte) (r Record, err error) {
	if len(b) < fixed || len(b) < fixed+int(b[fixed-1]) {
		return r, errRecord
	}
	stored, ends := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
	const most = 1 << 40 // seconds: beyond it times cannot be reckoned with
	if stored < 0 || stored > most || ends < 0 || ends > most {
		return r, errRecord
	}
	name := b[fixed:][:b[fixed-1]]
	return Record{
		Key:    cache.Key{Name: string(name), Type: binary.BigEndian.Uint16(b[16:])},
		Stored: time.Unix(stored, 0), Ends: time.Unix(ends, 0), Wire: b[fixed+len(name):],
	}, nil
}

// reply is the record as an upstream's reply to q at a time, with what is left of its TTLs (C-7); nil if it is none. It
// passes what a reply from the wire has to pass.
func (r Record) reply(q dns.Question, now time.Time) *dns.Msg {
	m, err := upstream.Unpack(r.Wire)
	if err != nil || m.Truncated || !m.Response {
		return nil
	}
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeYXDomain:
	default:
		return nil
	}
	m.Question, m.Extra = []dns.Question{q}, nil
	age := uint32(now.Sub(r.Stored) / time.Second)
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range rrs {
			h := rr.Header()
			h.Ttl -= min(h.Ttl, age)
		}
	}
	return m
}
