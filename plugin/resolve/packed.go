package resolve

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/cache"
	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// Flags of a cache.Entry.
const (
	vouched  = 1 << iota // it is Secure and says something, which is worth AD (V-77)
	signed               // it has records that only validators want
	underNTA             // it rests on a negative trust anchor
)

// Packed is a cached answer as it goes out. Its memory is used again for the next one.
type Packed struct {
	entry cache.Entry
}

// Wire is the message without OPT: as asked for in lower case, with the RCODE, and TTLs that are what is left. For a
// name that does not exist the type of its question is 0.
func (p *Packed) Wire() []byte { return p.entry.Wire }

// Rcode is that of the message.
func (p *Packed) Rcode() int { return int(p.entry.Wire[3] & 0xF) } // RFC 1035 section 4.1.1

// Errors are the Extended DNS Errors to tell, as options of an OPT.
func (p *Packed) Errors() []byte { return packedErrors(p.entry.Notes) }

// Status is Secure or Insecure.
func (p *Packed) Status() dnssec.Status { return dnssec.Status(p.entry.Status) }

// Vouched reports whether it is worth AD.
func (p *Packed) Vouched() bool { return p.entry.Flags&vouched != 0 }

// Distrusted reports whether a negative trust anchor keeps it from being validated (T-18).
func (p *Packed) Distrusted() bool { return p.entry.Flags&underNTA != 0 }

// Memory is the short way to what a Resolver remembers.
type Memory struct{ Resolver *Resolver }

// Packed fills p with what is cached for q, whose name is canonical and whose type is none of those that [Plain] takes
// out, at a time that Now has returned; plain for a client that sets no DO (V-75). It is false if that is not there.
// What ends soon is renewed (C-14). The name is not kept.
func (m Memory) Packed(q dns.Question, plain bool, now time.Time, p *Packed) bool {
	r := m.Resolver
	for _, key := range [...]cache.Key{keyOf(q), {Name: q.Name, Type: nameError}} {
		if !r.Store.packed(key, plain, now, &p.entry) {
			continue
		}
		if due(&p.entry, now) {
			q.Name = strings.Clone(q.Name)
			r.renew(q)
		}
		return true
	}
	return false
}

// Now is the time by which answers are kept.
func (m Memory) Now() time.Time { return m.Resolver.now() }

// due reports whether an entry is to be renewed.
func due(e *cache.Entry, now time.Time) bool {
	return !e.Claimed && chain.EndsSoon(now, e.Stored, e.Life, e.Expires)
}

// packed fills e with the entry of key, or with its variant for clients that set no DO, which is made when it is wanted
// for the first time.
func (s *Store) packed(key cache.Key, plain bool, now time.Time, e *cache.Entry) bool {
	variant := key
	variant.Plain = plain
	if s.answers.Get(variant, now, e) {
		return true
	}
	if !plain || !s.answers.Get(key, now, e) {
		return false
	}
	if e.Flags&signed == 0 {
		return true
	}
	if !s.answers.Get(key, e.Stored, e) || strip(key, e) != nil {
		return false
	}
	s.answers.Put(variant, e, now)
	return s.answers.Get(variant, now, e)
}

// strip makes the entry of key its variant.
func strip(key cache.Key, e *cache.Entry) (err error) {
	var m dns.Msg
	if err = dnssec.Unpack(&m, e.Wire); err == nil {
		m.Answer, m.Ns = Plain(key.Type, m.Answer), Plain(key.Type, m.Ns)
		e.Wire, err = packed(m, nil)
	}
	return err
}

// packed is m as it goes out, but for what each client has of its own. It lies in the memory given if it fits.
func packed(m dns.Msg, memory []byte) ([]byte, error) {
	m.Response, m.Compress = true, true
	return m.PackBuffer(memory[:cap(memory)])
}

// flags are those of an answer to a question of that type.
func flags(qtype uint16, a *Answer) (f uint8) {
	if a.Status == dnssec.Secure && len(a.Answer)+len(a.Ns) > 0 {
		f |= vouched
	}
	validators := func(rr dns.RR) bool { return forValidators(qtype, rr) }
	if slices.ContainsFunc(a.Answer, validators) || slices.ContainsFunc(a.Ns, validators) {
		f |= signed
	}
	if slices.ContainsFunc(a.Notes, func(n *dnssec.Failure) bool { return n.Kind == dnssec.OfDistrust }) {
		f |= underNTA
	}
	return f
}

// Plain takes out what only a validator wants, unless it is of the type that was asked for (V-75, RFC 4035 section
// 3.2.1).
func Plain(qtype uint16, rrs []dns.RR) []dns.RR {
	return slices.DeleteFunc(rrs, func(rr dns.RR) bool { return forValidators(qtype, rr) })
}

func forValidators(qtype uint16, rr dns.RR) bool {
	switch t := rr.Header().Rrtype; t {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3:
		return t != qtype
	}
	return false
}

const (
	// maxNotes is how many Extended DNS Errors one reply carries (S-15).
	maxNotes = 3
	// maxText is how many octets of text an Extended DNS Error has (S-15).
	maxText = 255
)

// Errors returns the Extended DNS Errors that tell a client of notes, the first of which are the gravest.
func Errors(notes []*dnssec.Failure) (all []dns.EDNS0) {
	for _, f := range notes[:min(maxNotes, len(notes))] {
		all = append(all, &dns.EDNS0_EDE{InfoCode: f.Code, ExtraText: cut(f.Text)})
	}
	return all
}

// cut makes text one line of at most maxText octets, whoever has written some of it.
func cut(text string) string {
	text = printable.Text(text)
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// packNotes keeps what of the notes is told: how many, the kind of each, and their Extended DNS Errors as options of an
// OPT (RFC 8914 section 2).
func packNotes(notes []*dnssec.Failure) (b []byte) {
	notes = notes[:min(maxNotes, len(notes))]
	if len(notes) == 0 {
		return nil
	}
	b = append(b, byte(len(notes)))
	for _, f := range notes {
		b = append(b, byte(f.Kind))
	}
	return append(b, PackedErrors(notes)...)
}

// PackedErrors are the Extended DNS Errors that tell a client of notes, as options of an OPT (RFC 8914 section 2).
func PackedErrors(notes []*dnssec.Failure) (b []byte) {
	for _, f := range notes[:min(maxNotes, len(notes))] {
		text := cut(f.Text)
		b = binary.BigEndian.AppendUint16(b, dns.EDNS0EDE)
		b = binary.BigEndian.AppendUint16(b, uint16(2+len(text)))
		b = binary.BigEndian.AppendUint16(b, f.Code)
		b = append(b, text...)
	}
	return b
}

// packedErrors are the options among packed notes.
func packedErrors(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b[1+b[0]:]
}

func unpackNotes(b []byte) (notes []*dnssec.Failure) {
	const head = 6 // code and length of the option, and the error's code
	options := packedErrors(b)
	for i := 1; len(options) >= head; i++ {
		n := head - 2 + int(binary.BigEndian.Uint16(options[2:]))
		notes = append(notes, &dnssec.Failure{
			Kind: dnssec.Kind(b[i]), Code: binary.BigEndian.Uint16(options[4:]), Text: string(options[head:n]),
		})
		options = options[n:]
	}
	return notes
}
