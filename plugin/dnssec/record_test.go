package dnssec

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// wireRecord is a record of example. in wire form, alone in a message behind the question example. A.
func wireRecord(rrtype uint16, rdata string) []byte {
	wire := append(make([]byte, 4), 0, 1, 0, 1, 0, 0, 0, 0)
	wire = append(wire, "\x07example\x00\x00\x01\x00\x01\xc0\x0c"...)
	wire = binary.BigEndian.AppendUint16(wire, rrtype)
	wire = append(wire, 0, 1, 0, 0, 0, 60)
	wire = binary.BigEndian.AppendUint16(wire, uint16(len(rdata)))
	return append(wire, rdata...)
}

// unpackedRecord reads a record from the wire.
func unpackedRecord(t testing.TB, rrtype uint16, rdata string) dns.RR {
	t.Helper()
	var m dns.Msg
	if err := Unpack(&m, wireRecord(rrtype, rdata)); err != nil {
		t.Fatalf("%s %q: %v", dns.Type(rrtype), rdata, err)
	}
	return m.Answer[0]
}

// V-29, V-33: what is kept as octets, what of it is written out, and how it is presented.
func TestUnpackRR(t *testing.T) {
	const apex = "\xc0\x0c"
	for _, row := range []struct {
		rrtype uint16
		rdata  string
		want   string // the RDATA as octets; "" for one in a form of its own
		text   string // the RDATA presented
	}{
		{dns.TypeA, "\x01\x02\x03\x04", "", "1.2.3.4"},
		{dns.TypeMX, "\x00\x0a\x02mx" + apex, "", "10 mx.example."},
		{dns.TypeTLSA, "\x03\x01\x01\xab", "", "3 1 1 ab"},
		{dns.TypeTLSA, "\x03\x01", "\x03\x01", `\# 2 0301`},
		{dns.TypeDS, "\x00\x01\x0d", "\x00\x01\x0d", `\# 3 00010d`},
		{dns.TypeNSEC, apex + "\x00\x01\x40", "", "example. A"},
		{dns.TypeNSEC, apex + "\x00\x02\x40\x00", "\x07example\x00\x00\x02\x40\x00",
			`\# 13 076578616d706c650000024000`},
		{dns.TypeNSEC, "\x01b\x00\x00\x01\x40\x01\x01\x00", "\x01b\x00\x00\x01\x40\x01\x01\x00",
			`\# 9 016200000140010100`},
		{dns.TypeNSEC3, "\x01\x00\x00\x00\x01\xab\x01\xcd\x00\x01\x40", "", "1 0 0 AB PK A"},
		{dns.TypeNSEC3, "\x01\x00\x00\x00\x00\x01\xcd", "", "1 0 0 - PK"},
		{dns.TypeNSEC3, "\x01\x00\x00\x00\x00\x01\xcd\x00\x02\x40\x00", "\x01\x00\x00\x00\x00\x01\xcd\x00\x02\x40\x00",
			`\# 11 010000000001cd00024000`},
		{dns.TypeNSEC3, "\x01\x00\x00\x00\x00\x02\xcd", "\x01\x00\x00\x00\x00\x02\xcd", `\# 7 010000000002cd`},
		{dns.TypeNSEC3, "\x01\x00\x00\x00\x00", "\x01\x00\x00\x00\x00", `\# 5 0100000000`},
		{dns.TypeNSEC3, "\x01\x00\x00\x00", "\x01\x00\x00\x00", `\# 4 01000000`},
		{dns.TypeSRV, "\x00\x00\x00\x05\x00\x19\x02Mx" + apex, "\x00\x00\x00\x05\x00\x19\x02Mx\x07example\x00",
			"0 5 25 Mx.example."},
		{dns.TypeRP, "\x01a" + apex + apex, "\x01a\x07example\x00\x07example\x00", "a.example. example."},
		{dns.TypeNAPTR, "\x00\x01\x00\x02\x01s\x02\\\"\x00" + apex, "\x00\x01\x00\x02\x01s\x02\\\"\x00\x07example\x00",
			`1 2 "s" "\\\"" "" example.`},
		{dns.TypeNXT, apex + "\x62\x01", "\x07example\x00\x62\x01", `\# 11 076578616d706c65006201`},
		{dns.TypeSVCB, "\x00\x01" + apex, "\x00\x01\x07example\x00", "1 example."},
		{dns.TypeNSAPPTR, apex, apex, `\# 2 c00c`},
		{dns.TypeHTTPS, "\x00\x01\x00\x00\x03\x00\x02\x01\xbb", "\x00\x01\x00\x00\x03\x00\x02\x01\xbb",
			`1 . port="443"`},
		{dns.TypeHTTPS, "\x00\x01\x00\x00\x03\x00\x02\x01\xbb\x00\x01\x00\x03\x02h2",
			"\x00\x01\x00\x00\x03\x00\x02\x01\xbb\x00\x01\x00\x03\x02h2",
			`\# 16 0001000003000201bb00010003026832`},
		{dns.TypeTXT, "\x03a\\\"\x01\x00", "\x03a\\\"\x01\x00", `"a\\\"" "\000"`},
		{dns.TypeCAA, "\x00\x05issueca.example", "\x00\x05issueca.example", `0 issue "ca.example"`},
		{dns.TypeCAA, "\x00\x05issuea\\b", "\x00\x05issuea\\b", `\# 10 00056973737565615c62`},
		{dns.TypeISDN, "\x0215", "\x0215", `\# 3 023135`},
		{dns.TypeNULL, "\x1b[2J", "\x1b[2J", `\# 4 1b5b324a`},
		{65280, "\x00\xff", "\x00\xff", `\# 2 00ff`},
	} {
		rr := unpackedRecord(t, row.rrtype, row.rdata)
		raw, octets := rr.(*dns.RFC3597)
		if octets != (row.want != "") || octets && raw.Rdata != hex.EncodeToString([]byte(row.want)) {
			t.Errorf("%s %q is %T %v", dns.Type(row.rrtype), row.rdata, rr, rr)
		}
		want := "example.\t60\tIN\t" + dns.Type(row.rrtype).String() + "\t" + row.text
		if got := Presentation(rr); got != want {
			t.Errorf("%s %q is presented as %q, want %q", dns.Type(row.rrtype), row.rdata, got, want)
		}
	}
}

// Half a record and records that are no records are errors, and leave no panic.
func TestUnpackRefuses(t *testing.T) {
	whole := wireRecord(dns.TypeRP, "\x01a\xc0\x0c\xc0\x0c")
	for size := range whole {
		var m dns.Msg
		if err := Unpack(&m, whole[:size]); err == nil {
			t.Errorf("%d octets of %d: %v", size, len(whole), &m)
		}
	}
	for rrtype, rdata := range map[uint16]string{
		dns.TypeA: "abc", dns.TypeSRV: "\x00\x00", dns.TypeRP: "\x01a\x00", dns.TypeNAPTR: "\x00\x00\x00\x00\x09",
		dns.TypeMX: "\x00\x00\x01",
	} {
		var m dns.Msg
		if err := Unpack(&m, wireRecord(rrtype, rdata)); err == nil {
			t.Errorf("%s %q: %v", dns.Type(rrtype), rdata, &m)
		}
	}
}

// What is no octets is not taken for some.
func TestNotHexadecimal(t *testing.T) {
	for _, rdata := range []string{"0", "xy", strings.Repeat("00", 0x10000)} {
		rr := &dns.RFC3597{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Rdata: rdata}
		if Typed(rr) != dns.RR(rr) || canonicalRDATA(rr) != nil {
			t.Errorf("%.9s: %v, %v", rdata, Typed(rr), canonicalRDATA(rr))
		}
	}
}

// V-28, V-29: names in octets are compared without case where the canonical form wants that, and nothing else is.
func TestCanonicalOctets(t *testing.T) {
	for _, row := range []struct {
		rrtype      uint16
		rdata, want string
	}{
		{dns.TypeSRV, "\x00\x41\x00\x42\x00\x43\x02MX\x00", "\x00\x41\x00\x42\x00\x43\x02mx\x00"},
		{dns.TypeNAPTR, "\x00\x41\x00\x42\x01S\x01T\x01U\x02MX\x00", "\x00\x41\x00\x42\x01S\x01T\x01U\x02mx\x00"},
		{dns.TypeNXT, "\x01N\x00\x42", "\x01n\x00\x42"},
		{dns.TypePX, "\x41\x42\x01A\x00\x01B\x00", "\x41\x42\x01a\x00\x01b\x00"},
		{dns.TypeNSEC, "\x01N\x00\x00\x02\x42\x00", "\x01N\x00\x00\x02\x42\x00"},
		{dns.TypeSVCB, "\x00\x01\x01S\x00", "\x00\x01\x01S\x00"},
		{dns.TypeTXT, "\x02\\A", "\x02\\A"},
	} {
		if got := canonicalRDATA(unpackedRecord(t, row.rrtype, row.rdata)); string(got) != row.want {
			t.Errorf("%s %q: %q, want %q", dns.Type(row.rrtype), row.rdata, got, row.want)
		}
	}
}

// A bit map with trailing zeros proves what it says, by the octets that were signed: RFC 4034 section 4.1.2 has no zone
// make one, and no validator need refuse it.
func TestPaddedBitMap(t *testing.T) {
	z := newForger(t, "example.")
	soa := z.set(t, "example. 60 SOA a. b. 1 2 3 4 60")
	for rdata, want := range map[string]string{
		"\x01a\xc0\x0c\x00\x08\x22\x00\x00\x00\x00\x03\x00\x00": "Secure, denial", // NS SOA RRSIG NSEC
		"\x01a\xc0\x0c\x00\x08\x62\x00\x00\x00\x00\x03\x00\x00": "Bogus, EDE 12",  // A too
	} {
		nsec := []dns.RR{unpackedRecord(t, dns.TypeNSEC, rdata)}
		m := replyTo(t, "example. A", 0, nil, join(soa, nsec, []dns.RR{z.rrsig(t, nsec)}))
		if got := told(denialCheck().Answer(asked("example. A"), m, zoneMap{"example.": z.zone})); got != want {
			t.Errorf("%q: %s, want %s", rdata, got, want)
		}
	}
}

// A DS or DNSKEY too short to be one does no harm to those beside it (V-22, V-39), and alone it proves nothing.
func TestShortKeys(t *testing.T) {
	parent, child := newForger(t, "example."), newForger(t, "a.example.")
	short := func(rrtype uint16) dns.RR {
		rr := unpackedRecord(t, rrtype, "\x01\x01\x03")
		rr.Header().Name = "a.example."
		return rr
	}
	ds := child.dnskey.ToDS(dns.SHA256)
	for want, set := range map[string][]dns.RR{"signed by 1": {ds, short(dns.TypeDS)},
		"unproven, EDE 6": {short(dns.TypeDS)}} {
		d := denialCheck().Delegation(parent.zone, "a.example.",
			replyTo(t, "a.example. DS", 0, join(set, []dns.RR{parent.rrsig(t, set)}), nil))
		if got := toldCut(d); got != want {
			t.Errorf("%v: %s, want %s", set, got, want)
		}
	}
	for want, set := range map[string][]dns.RR{"Secure, 1 keys": {child.dnskey, short(dns.TypeDNSKEY)},
		"Bogus, EDE 9": {short(dns.TypeDNSKEY)}} {
		z := denialCheck().Apex(DefaultPolicy().Anchor("a.example.", []*dns.DS{ds}),
			replyTo(t, "a.example. DNSKEY", 0, join(set, []dns.RR{child.rrsig(t, set)}), nil))
		if got := toldZone(z); got != want {
			t.Errorf("%v: %s, want %s", set, got, want)
		}
	}
}
