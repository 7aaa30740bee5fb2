package upstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

func newRR(t testing.TB, s string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(s)
	if err != nil || rr == nil {
		t.Fatalf("%q: %v", s, err)
	}
	return rr
}

// goodMessage is a compressed reply with records of many kinds.
func goodMessage(t testing.TB) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion("example.com.", dns.TypeMX)
	m.Response, m.RecursionAvailable, m.Compress = true, true, true
	m.SetEdns0(1232, true)
	m.Answer = []dns.RR{
		newRR(t, "example.com. 300 IN MX 10 mail.example.com."),
		newRR(t, "example.com. 300 IN RRSIG MX 13 2 300 20300101000000 20200101000000 12345 example.com. AAAA"),
	}
	m.Ns = []dns.RR{
		newRR(t, "example.com. 300 IN SOA ns.example.com. hostmaster.example.com. 1 2 3 4 5"),
		newRR(t, "example.com. 300 IN NSEC a.example.com. A NS SOA MX RRSIG NSEC DNSKEY"),
		newRR(t, "2t7b4g4vsa5smi47k61mv5bv1a22bojr.example.com. 300 IN NSEC3 1 1 12 aabbccdd "+
			"2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG"),
		newRR(t, "sip.example.com. 300 IN NAPTR 100 50 \"s\" \"http+N2L\" \"\" www.example.com."),
		newRR(t, "dname.example.com. 300 IN DNAME example.net."),
		newRR(t, "odd.example.com. 300 IN TYPE65280 \\# 3 abcdef"),
		newRR(t, "empty.example.com. 300 IN TYPE65280 \\# 0"),
	}
	m.Extra = append(m.Extra, newRR(t, "mail.example.com. 300 IN A 192.0.2.25"),
		newRR(t, "_25._tcp.mail.example.com. 300 IN TLSA 3 1 1 00"))
	return m
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// Good messages come out as miekg's own Unpack has them.
func TestUnpackGood(t *testing.T) {
	badvers := new(dns.Msg)
	badvers.SetQuestion("example.com.", dns.TypeA)
	badvers.SetEdns0(1232, true)
	badvers.Response, badvers.Rcode = true, dns.RcodeBadVers
	for name, m := range map[string]*dns.Msg{"many kinds": goodMessage(t), "extended RCODE": badvers} {
		wire := packed(t, m)
		var want dns.Msg
		if err := want.Unpack(wire); err != nil {
			t.Fatal(err)
		}
		got, err := Unpack(wire)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, rr := range slices.Concat(got.Answer, got.Ns, got.Extra) {
			if want := slices.Concat(want.Answer, want.Ns, want.Extra)[i]; !dns.IsDuplicate(dnssec.Typed(rr), want) &&
				got.IsEdns0() != rr {
				t.Errorf("%s: got %v, want %v", name, rr, want)
			}
		}
		got.Answer, got.Ns, got.Extra, want.Answer, want.Ns, want.Extra = nil, nil, nil, nil, nil, nil
		if got.String() != want.String() || got.Rcode != m.Rcode {
			t.Errorf("%s: got\n%v\nwant\n%v", name, got, &want)
		}
	}
}

// builder makes messages that no library would.
type builder struct{ bytes.Buffer }

// message has a question "example.com. MX" at offset 12 and the counts given.
func message(answers, authorities, additionals uint16) *builder {
	b := new(builder)
	b.Write([]byte{0, 1, 0x81, 0x80, 0, 1})
	b.u16(answers, authorities, additionals)
	b.WriteString("\x07example\x03com\x00")
	b.u16(dns.TypeMX, dns.ClassINET)
	return b
}

func (b *builder) u16(values ...uint16) {
	for _, v := range values {
		binary.Write(b, binary.BigEndian, v)
	}
}

// record appends a record with a TTL of 300.
func (b *builder) record(owner string, rrtype uint16, rdata string) *builder {
	b.WriteString(owner)
	b.u16(rrtype, dns.ClassINET, 0, 300, uint16(len(rdata)))
	b.WriteString(rdata)
	return b
}

const apex = "\xc0\x0c" // a pointer to the name of the question

const (
	answerAt = 29                         // where the first record of message begins
	rdataAt  = answerAt + 2 + recordFixed // where its RDATA begins, if its owner is apex
	goodMX   = "\x00\x0a\x04mail" + apex  // RDATA
	goodSig  = "\x00\x0f\x0d\x02\x00\x00\x01\x2c\x70\x00\x00\x00\x60\x00\x00\x00\x30\x39" + apex + "sig"
	oddNSEC  = "\x01a" + apex + "\x00\x00" // an empty bit map block
)

func pointer(to int) string { return string([]byte{0xC0 | byte(to>>8), byte(to)}) }

// One odd record of evidence does not spoil the message; the world is a good MX with one fault each.
func TestUnpackLeavesOut(t *testing.T) {
	mx := func(answers, authorities uint16) *builder {
		return message(answers, authorities, 0).record(apex, dns.TypeMX, goodMX)
	}
	for name, b := range map[string]*builder{
		"NSEC with an empty bit map block":           mx(1, 1).record(apex, dns.TypeNSEC, oddNSEC),
		"RRSIG with half a signer among the answers": mx(2, 0).record(apex, dns.TypeRRSIG, goodSig[:18]+"\x07exam"),
		"RRSIG whose signer reaches past it (V-33)":  mx(1, 1).record(apex, dns.TypeRRSIG, goodSig[:18]+"\x04abc"),
		"NS that points forward (L-14)":              mx(1, 1).record(apex, dns.TypeNS, "\x01a\xc0\x3f\x01b\x00"),
		"NS that points at itself (L-14)": mx(1, 1).record(apex, dns.TypeNS,
			pointer(rdataAt+len(goodMX)+2+recordFixed)),
		"NS that points into the message header": mx(1, 1).record(apex, dns.TypeNS, pointer(4)),
		"SOA with one name":                      mx(1, 1).record(apex, dns.TypeSOA, apex),
		"NS with octets after the name":          mx(1, 1).record(apex, dns.TypeNS, apex+"x"),
		"empty NS":                               mx(1, 1).record(apex, dns.TypeNS, ""),
		"NS with a label type of the past":       mx(1, 1).record(apex, dns.TypeNS, "\x41a\x00"),
		"A of three octets":                      mx(1, 1).record(apex, dns.TypeA, "abc"),
	} {
		m, err := Unpack(b.Bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(m.Answer) != 1 || m.Answer[0].String() != "example.com.\t300\tIN\tMX\t10 mail.example.com." ||
			len(m.Ns) != 0 {
			t.Errorf("%s: got %v", name, m)
		}
	}
}

// Faults that leave no reply to be used. Half an RRset is no answer (D-10), and an answer that is left out would say
// that there is none (D-16).
func TestUnpackRefuses(t *testing.T) {
	option := "\x00\x03\x00\x00" // NSID, empty
	long := strings.Repeat("\x3f"+strings.Repeat("a", 63), 4) + "\x00"
	opt := func(rdata string) *builder { return message(0, 0, 1).record("\x00", dns.TypeOPT, rdata) }
	chain := message(200, 0, 0)
	for at, target := answerAt, 12; at < answerAt+200*(2+recordFixed+7); at += 2 + recordFixed + 7 {
		chain.record(pointer(target), 65280, "\x01a"+pointer(target)+"xyz")
		target = at + 2 + recordFixed
	}
	two := message(0, 0, 0)
	binary.BigEndian.PutUint16(two.Bytes()[4:], 2)
	for name, b := range map[string]*builder{
		"malformed MX beside a good one": message(2, 0, 0).record(apex, dns.TypeMX, goodMX).record(apex,
			dns.TypeMX, "\x00"),
		"only answer malformed": message(1, 0, 0).record(apex, dns.TypeMX, "\x00\x0a"),
		"CNAME that points forward": message(1, 0, 0).record(apex, dns.TypeCNAME,
			pointer(answerAt+2+recordFixed)),
		"owner that points forward":   message(1, 0, 0).record(pointer(answerAt+2), dns.TypeMX, goodMX),
		"owner that points at itself": message(1, 0, 0).record(pointer(answerAt), dns.TypeMX, goodMX),
		"owner of 257 octets":         message(0, 1, 0).record(long, dns.TypeA, "abcd"),
		"owner behind 128 pointers":   chain,
		"fewer records than counted":  message(2, 0, 0).record(apex, dns.TypeMX, goodMX),
		"RDLENGTH past the end": {*bytes.NewBuffer(message(1, 0, 0).record(apex, dns.TypeMX,
			goodMX).Bytes()[:rdataAt+3])},
		"end in a record's header": {*bytes.NewBuffer(message(1, 0, 0).record(apex, dns.TypeMX,
			goodMX).Bytes()[:rdataAt-1])},
		"end in the question":             {*bytes.NewBuffer(message(0, 0, 0).Bytes()[:27])},
		"end in the header":               {*bytes.NewBuffer(message(0, 0, 0).Bytes()[:11])},
		"two questions":                   two,
		"33 EDNS options":                 opt(strings.Repeat(option, 33)),
		"EDNS option past the end of OPT": opt("\x00\x03\x00\x01"),
		"half an EDNS option":             opt("\x00\x03\x00"),
		"two OPT": message(0, 0, 2).record("\x00", dns.TypeOPT, "").record("\x00", dns.TypeOPT,
			""),
		"OPT in the authority section": message(0, 1, 0).record("\x00", dns.TypeOPT, ""),
	} {
		if m, err := Unpack(b.Bytes()); err == nil {
			t.Errorf("%s: got %v, want an error", name, m)
		}
	}
}

// An OPT record with whole options is no reason to refuse, even if one is odd; its upper bits of the RCODE count.
func TestUnpackOddOption(t *testing.T) {
	b := message(0, 0, 1)
	b.WriteString("\x00")
	b.u16(dns.TypeOPT, 1232, 0x0100, 0, 6)
	b.WriteString("\x00\x08\x00\x02\x00\x09") // client subnet of an unknown family
	m, err := Unpack(b.Bytes())
	if err != nil || m.Rcode != dns.RcodeBadVers {
		t.Errorf("got %v, %v, want BADVERS", m, err)
	}
	if m, err := Unpack(message(0, 0, 1).record("\x00", dns.TypeOPT,
		strings.Repeat("\x00\x03\x00\x00", 32)).Bytes()); err != nil || m.IsEdns0() == nil {
		t.Errorf("32 options: got %v, %v", m, err)
	}
}

// The longest names there can be: 127 hops, 255 octets.
func TestNameEndAtItsBounds(t *testing.T) {
	for name, tt := range map[string]struct {
		hops, label int
		err         error
	}{
		"127 hops and 255 octets": {127, 1, nil},
		"85 hops and 256 octets":  {85, 2, errName},
		"127 hops with no labels": {127, 0, nil},
		"128 hops with no labels": {128, 0, errName},
	} {
		wire := make([]byte, headerSize, 1024)
		wire = append(wire, 0)
		target := headerSize
		for range tt.hops {
			start := len(wire)
			if tt.label > 0 {
				wire = append(append(wire, byte(tt.label)), "aa"[:tt.label]...)
			}
			wire = append(wire, pointer(target)...)
			target = start
		}
		if end, err := nameEnd(wire, target, len(wire)); !errors.Is(err, tt.err) || err == nil && end != len(wire) {
			t.Errorf("%s: got end %d of %d, %v, want %v", name, end, len(wire), err, tt.err)
		}
	}
}

// L-14: a pointer leads to before the place where the labels read so far began, nowhere else.
func TestNameEndGoesBackwards(t *testing.T) {
	for name, labels := range map[string]string{
		"forward":                 pointer(14) + "\x01a\x00",
		"forward, behind a label": "\x01a" + pointer(16) + "\x00",
		"to itself":               pointer(12),
		"to its own label":        "\x01a" + pointer(12),
		"in a circle":             "\x01a" + pointer(16) + pointer(12),
	} {
		wire := append(make([]byte, headerSize), labels...)
		if end, err := nameEnd(wire, headerSize, len(wire)); err != errName {
			t.Errorf("%s: ends at %d, %v", name, end, err)
		}
	}
}

// A message of 64 kB filled with the smallest records, whose names lead through as many pointers as may be, is read in
// bounded work: what the counts claim beyond it is not looked for.
func TestUnpackFullMessage(t *testing.T) {
	b := message(0, 0, 0)
	n := uint16(0)
	for b.Len()+12 <= 0xffff {
		b.record(apex, 65280, "")
		n++
	}
	wire := b.Bytes()
	binary.BigEndian.PutUint16(wire[8:], n)
	if m, err := Unpack(wire); err != nil || len(m.Ns) != int(n) {
		t.Errorf("%d records: %v", n, err)
	}
	binary.BigEndian.PutUint16(wire[8:], 0xffff)
	if _, err := Unpack(wire); err == nil {
		t.Error("a count that is a lie was believed")
	}
}

// V-33: no type is read in a form in which the library reads a name that the scan does not know of: struct tags say
// which forms those are.
func TestScanKnowsEveryName(t *testing.T) {
	for rrtype, makeRR := range dns.TypeToRR {
		rdata := strings.Repeat("\x00", 64)
		b := message(0, 1, 0).record(apex, rrtype, rdata)
		rr, _, err := dnssec.UnpackRR(b.Bytes(), answerAt)
		if _, octets := rr.(*dns.RFC3597); octets && err == nil {
			continue
		}
		fields, names := reflect.TypeOf(makeRR()).Elem(), 0
		for i := range fields.NumField() {
			if tag := fields.Field(i).Tag.Get("dns"); strings.Contains(tag, "domain-name") ||
				strings.Contains(tag, "host") {
				names++
			}
		}
		if _, known := dnssec.NamesIn(rrtype, []byte(rdata)); known != names {
			t.Errorf("%s has %d names in its RDATA, the scan knows %d", dns.Type(rrtype), names, known)
		}
	}
}

// packedRDATA is what a record would have as RDATA in a message without compression.
func packedRDATA(t *testing.T, rr dns.RR) string {
	t.Helper()
	wire := make([]byte, 2*dns.MaxMsgSize)
	end, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		t.Fatalf("%v: %v", rr, err)
	}
	_, off, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		t.Fatal(err)
	}
	return string(wire[off+recordFixed : end])
}

// pointed reports whether RDATA holds a name that does not end in its own labels.
func pointed(rrtype uint16, rdata []byte) bool {
	skip, names := dnssec.NamesIn(rrtype, rdata)
	for ; names > 0; names-- {
		for skip < len(rdata) && rdata[skip] != 0 {
			if rdata[skip] >= 0x40 {
				return true
			}
			skip += 1 + int(rdata[skip])
		}
		skip++
	}
	return false
}

// V-29: whatever stands in a record, of every type, goes out as it came, or the record is refused: through the message,
// through what the cache packs, and through a copy. The canonical form is the judge's.
func FuzzOctets(f *testing.F) {
	for rrtype := range dns.TypeToRR {
		for _, rdata := range []string{"", "\x00", "\x01a", "\x00\x05issuea\\\"", "\x00\x01\x02mx\x00",
			"\x01A\x00\x00\x02\x60\x00",
			"\x01\x00\x00\x01\x01\xab\x01\xcd\x00\x02\x60\x00", strings.Repeat("\x00", 22),
			strings.Repeat("\x09\\", 9)} {
			f.Add(rrtype, []byte(rdata))
		}
	}
	f.Fuzz(func(t *testing.T, rrtype uint16, rdata []byte) {
		if rrtype == dns.TypeOPT || len(rdata) > 0x4000 || pointed(rrtype, rdata) {
			return
		}
		m, err := Unpack(message(0, 1, 0).record(apex, rrtype, string(rdata)).Bytes())
		if err != nil || len(m.Ns) == 0 {
			return
		}
		_ = dnssec.Presentation(m.Ns[0])
		m.Compress = true
		var cached dns.Msg
		if err := dnssec.Unpack(&cached, packed(t, m)); err != nil || len(cached.Ns) != 1 {
			t.Fatalf("%s %q: from the cache %v, %v", dns.Type(rrtype), rdata, &cached, err)
		}
		for _, rr := range []dns.RR{m.Ns[0], dns.Copy(m.Ns[0]), cached.Ns[0]} {
			if got := packedRDATA(t, rr); got != string(rdata) {
				t.Errorf("%s %q became %q", dns.Type(rrtype), rdata, got)
			}
		}
	})
}

// Messages of every shape give no panic, and what is read can be written again as far as miekg can.
func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, goodMessage(f)))
	f.Add(message(1, 1, 0).record(apex, dns.TypeMX, goodMX).record(apex, dns.TypeNSEC, oddNSEC).Bytes())
	f.Add(message(0, 0, 1).record("\x00", dns.TypeOPT, "\x00\x0a\x00\x08abcdefgh").Bytes())
	ip := &dns.A{Hdr: dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET},
		A: net.IPv4(192, 0, 2, 1)}
	f.Add(packed(f, &dns.Msg{MsgHdr: dns.MsgHdr{Response: true},
		Question: []dns.Question{question("example.com.", dns.TypeA)}, Answer: []dns.RR{ip}}))
	f.Fuzz(func(t *testing.T, wire []byte) {
		m, err := Unpack(wire)
		if err != nil {
			return
		}
		if len(m.Question) != 1 {
			t.Fatalf("%d questions", len(m.Question))
		}
		_ = m.String()
		for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			for _, rr := range section {
				if _, ok := dns.IsDomainName(rr.Header().Name); !ok {
					t.Fatalf("owner %q", rr.Header().Name)
				}
			}
		}
		_ = usable(m.Question[0], m)
	})
}

// Nothing of a message is kept of the octets it was read from: the buffer is used for the next.
func TestUnpackedKeepsNoOctets(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("example.com.", dns.TypeANY)
	for _, record := range []string{
		"A 192.0.2.1", "AAAA 2001:db8::1", "MX 10 mail.example.com.", "TXT text", "TLSA 3 1 1 AABBCC",
		"CAA 0 issue ca", "DS 1 13 2 AABBCC", "DNSKEY 257 3 13 AAAA", "NSEC a.example.com. A MX",
		"NSEC3 1 0 0 AA 00AA A", "HINFO a b", "SVCB 1 . alpn=h2", "TYPE65280 \\# 2 AABB",
		"RRSIG MX 13 2 300 20300101000000 20200101000000 1 example.com. AAAA",
	} {
		m.Answer = append(m.Answer, newRR(t, "example.com. 300 IN "+record))
	}
	m.SetEdns0(1232, true)
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: 6, ExtraText: "why"}, &dns.EDNS0_COOKIE{Cookie: "aabb"},
		&dns.EDNS0_PADDING{Padding: []byte{1, 2}}, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte{3, 4}})
	wire := packed(t, m)
	got, err := Unpack(wire)
	if err != nil || len(got.Answer) != len(m.Answer) {
		t.Fatalf("got %v, error %v", got, err)
	}
	before := got.String()
	clear(wire)
	if after := got.String(); after != before {
		t.Errorf("got\n%s\nand then\n%s", before, after)
	}
}
