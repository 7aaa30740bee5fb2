package fastpath

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// octets is a message: a header with these counts, then what is given in hexadecimal, spaces apart.
func octets(t testing.TB, flags uint16, counts [4]uint16, rest string) []byte {
	t.Helper()
	m := binary.BigEndian.AppendUint16([]byte{0xAB, 0xCD}, flags)
	for _, n := range counts {
		m = binary.BigEndian.AppendUint16(m, n)
	}
	tail, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return append(m, tail...)
}

const (
	exampleMX = "07 6578616d706c65 00 000f 0001" // example. MX IN
	optDO     = "00 0029 04b0 00008000 0000"
)

func optWith(options string) string {
	size := len(strings.ReplaceAll(options, " ", "")) / 2
	return "00 0029 04b0 00008000 " + hex.EncodeToString([]byte{byte(size >> 8), byte(size)}) + options
}

// TestScan: what a message is, by its octets alone (L-14, S-2, S-22).
func TestScan(t *testing.T) {
	label63 := "3f" + strings.Repeat("61", 63)
	a := " 00 0001 0001 00000000 0004 7f000001"
	for name, row := range map[string]struct {
		flags  uint16
		counts [4]uint16
		rest   string
		want   sort
	}{
		"question":                        {0x100, [4]uint16{1}, exampleMX, sound},
		"question with EDNS":              {0x100, [4]uint16{1, 0, 0, 1}, exampleMX + optDO, sound},
		"reply":                           {0x8100, [4]uint16{1}, exampleMX, ignored},
		"bare header":                     {0x100, [4]uint16{}, "", malformed},
		"header that promises a question": {0x100, [4]uint16{1}, "", malformed},
		"two questions":                   {0x100, [4]uint16{2}, exampleMX + exampleMX, malformed},
		"trailing octet":                  {0x100, [4]uint16{1}, exampleMX + "00", malformed},
		"trailing octets behind EDNS":     {0x100, [4]uint16{1, 0, 0, 1}, exampleMX + optDO + "000000", malformed},
		"record that is promised":         {0x100, [4]uint16{1, 0, 0, 1}, exampleMX, malformed},
		"pointer to the header":           {0x100, [4]uint16{1}, "c000 000f 0001", malformed},
		"pointer to itself":               {0x100, [4]uint16{1}, "c00c 000f 0001", malformed},
		"forward pointer":                 {0x100, [4]uint16{1}, "c012 000f 0001 00", malformed},
		"pointer behind a label":          {0x100, [4]uint16{1}, "0161 c00c 000f 0001", malformed},
		"forward pointer into EDNS":       {0x100, [4]uint16{1, 0, 0, 1}, "0161 c014 000f 0001" + optDO, malformed},
		"extended label type":             {0x100, [4]uint16{1}, "4161 00 000f 0001", malformed},
		"name of 255 octets": {0x100, [4]uint16{1},
			strings.Repeat(label63, 3) + "3d" + strings.Repeat("61", 61) + "00 000f 0001", sound},
		"name of 256 octets": {0x100, [4]uint16{1},
			strings.Repeat(label63, 3) + "3e" + strings.Repeat("61", 62) + "00 000f 0001", malformed},
		"name without end":     {0x100, [4]uint16{1}, "0161", malformed},
		"question that is cut": {0x100, [4]uint16{1}, "0161 00 000f 00", malformed},
		"record below the question": {0x100, [4]uint16{1, 0, 0, 1},
			exampleMX + "c00c 0001 0001 00000000 0004 7f000001", sound},
		"record that points at itself": {0x100, [4]uint16{1, 0, 0, 1},
			exampleMX + "c019 0001 0001 00000000 0000", malformed},
		"two OPT":               {0x100, [4]uint16{1, 0, 0, 2}, exampleMX + optDO + optDO, malformed},
		"OPT that is no root's": {0x100, [4]uint16{1, 0, 0, 1}, exampleMX + "c00c" + optDO[2:], malformed},
		"OPT in the answer":     {0x100, [4]uint16{1, 1}, exampleMX + optDO, malformed},
		"OPT longer than the message": {0x100, [4]uint16{1, 0, 0, 1},
			exampleMX + "00 0029 04b0 00008000 0004", malformed},
		"option longer than its OPT": {0x100, [4]uint16{1, 0, 0, 1}, exampleMX + optWith("000a 0009 01"), malformed},
		"half an option":             {0x100, [4]uint16{1, 0, 0, 1}, exampleMX + optWith("000a 00"), malformed},
		"32 options": {0x100, [4]uint16{1, 0, 0, 1},
			exampleMX + optWith(strings.Repeat("00030000", 32)), sound},
		"33 options": {0x100, [4]uint16{1, 0, 0, 1},
			exampleMX + optWith(strings.Repeat("00030000", 33)), malformed},
		"odd option":                {0x100, [4]uint16{1, 0, 0, 1}, exampleMX + optWith("000f 0001 01"), sound},
		"OPT and another record":    {0x100, [4]uint16{1, 0, 0, 2}, exampleMX + optDO + a, sound},
		"NOTIFY":                    {0x2000, [4]uint16{1}, exampleMX, sound},
		"NOTIFY without a question": {0x2000, [4]uint16{}, "", malformed},
		"DSO":                       {0x3000, [4]uint16{}, "0001 0000", foreign},
		"UPDATE":                    {0x2800, [4]uint16{1}, exampleMX, sound},
	} {
		t.Run(name, func(t *testing.T) {
			if got := scan(octets(t, row.flags, row.counts, row.rest)).sort; got != row.want {
				t.Errorf("sort %d, want %d", got, row.want)
			}
		})
	}
	for n := range headerSize {
		if got := scan(make([]byte, n)).sort; got != ignored {
			t.Errorf("%d octets: sort %d, want that they are ignored", n, got)
		}
	}
}

// TestRefusal: FORMERR says what it answers, has OPT where the query has one, and never AD (RFC 6891 section 7).
func TestRefusal(t *testing.T) {
	for name, row := range map[string]struct {
		flags  uint16
		counts [4]uint16
		rest   string
		want   string
	}{
		"bare header":    {0x130, [4]uint16{}, "", "abcd 8191 0000 0000 0000 0000"},
		"no RD, no CD":   {0x000, [4]uint16{}, "", "abcd 8081 0000 0000 0000 0000"},
		"trailing octet": {0x100, [4]uint16{1}, exampleMX + "00", "abcd 8181 0001 0000 0000 0000" + exampleMX},
		"EDNS, trailing octet": {0x120, [4]uint16{1, 0, 0, 1}, exampleMX + optDO + "00",
			"abcd 8181 0001 0000 0000 0001" + exampleMX + "00 0029 04d0 00008000 0000"},
		"EDNS without DO, broken": {0x120, [4]uint16{1, 0, 0, 1}, exampleMX + "00 0029 04b0 00000000 0001 00",
			"abcd 8181 0001 0000 0000 0001" + exampleMX + "00 0029 04d0 00000000 0000"},
		"pointer in the name": {0x100, [4]uint16{1}, "c00c 000f 0001", "abcd 8181 0000 0000 0000 0000"},
		"DSO":                 {0x3000, [4]uint16{}, "0001 0000", "abcd b084 0000 0000 0000 0000"},
	} {
		t.Run(name, func(t *testing.T) {
			m := octets(t, row.flags, row.counts, row.rest)
			want, err := hex.DecodeString(strings.ReplaceAll(row.want, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if got := scan(m).refusal([]byte("before"), m, 1232); !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("\n got %x\nwant %x", got[6:], want)
			}
		})
	}
}

// TestOddOptions: an option that the library cannot read is as one that is not there; those beside it stay (RFC 6891
// section 6.1.2).
func TestOddOptions(t *testing.T) {
	for name, odd := range map[string]string{
		"an EDE of one octet": "000f 0001 01", "an empty ZONEVERSION": "0013 0000",
		"a SUBNET of one octet": "0008 0001 00",
		"a LLQ of two octets":   "0001 0002 0000", "an EXPIRE of three": "0009 0003 000000",
	} {
		t.Run(name, func(t *testing.T) {
			m := octets(t, 0x100, [4]uint16{1, 0, 0, 1},
				exampleMX+optWith("000a 0008 0102030405060708"+odd+"0003 0000"))
			got, err := scan(m).unpack(m)
			if err != nil {
				t.Fatal(err)
			}
			var codes []uint16
			for _, o := range got.IsEdns0().Option {
				codes = append(codes, o.Option())
			}
			if !slices.Contains(codes, dns.EDNS0COOKIE) || !slices.Contains(codes, dns.EDNS0NSID) || len(codes) > 3 {
				t.Errorf("options %v: a cookie and an NSID want to be there", codes)
			}
		})
	}
}

// TestLongQuery: what is held of a query is small, however long it is (L-15): its padding is not, and one that is long
// without is refused.
func TestLongQuery(t *testing.T) {
	signature := &dns.SIG{RRSIG: dns.RRSIG{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSIG, Class: dns.ClassANY},
		SignerName: "key.", Signature: strings.Repeat("AAAA", 10000)}}
	for name, row := range map[string]struct {
		padding, opcode int
		signed, refused bool
	}{
		"padded to 468 octets": {padding: 400}, "padded as far as may be": {padding: 65000},
		"signed at length": {signed: true, refused: true}, "UPDATE": {opcode: dns.OpcodeUpdate, signed: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := new(dns.Msg).SetQuestion("example.", dns.TypeMX).SetEdns0(1232, true)
			m.Opcode = row.opcode
			m.IsEdns0().Option = []dns.EDNS0{
				&dns.EDNS0_PADDING{Padding: make([]byte, row.padding)},
				&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"},
			}
			if row.signed {
				m.Extra = append(m.Extra, signature)
			}
			octets, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			q := scan(octets)
			got, err := q.unpack(octets)
			if q.sort != sound || (err != nil) != row.refused {
				t.Fatalf("sort %d, %v", q.sort, err)
			}
			if row.refused || row.signed {
				return
			}
			if octets, err = got.Pack(); err != nil || len(octets) > slimQuery {
				t.Errorf("%d octets are held, %v", len(octets), err)
			}
			o := got.IsEdns0().Option
			if len(o) == 0 || o[len(o)-1].Option() != dns.EDNS0COOKIE || !got.IsEdns0().Do() {
				t.Errorf("%v: the cookie and DO want to be there", got)
			}
		})
	}
}

// FuzzScan: nothing panics, what is sound is unpacked by the library but for odd data, and what is refused gets a
// reply that the library can read.
func FuzzScan(f *testing.F) {
	f.Add(octets(f, 0x100, [4]uint16{1, 0, 0, 1}, exampleMX+optDO))
	f.Add(octets(f, 0x100, [4]uint16{1, 0, 0, 1}, exampleMX+optWith("000f 0001 01")))
	f.Add(octets(f, 0x100, [4]uint16{1}, "0161 c00c 000f 0001"))
	f.Fuzz(func(t *testing.T, message []byte) {
		q := scan(message)
		if q.sort == sound {
			if m, err := q.unpack(message); err == nil && len(m.Question) != 1 {
				t.Errorf("%d questions", len(m.Question))
			}
		}
		if q.sort == ignored {
			return
		}
		r := new(dns.Msg)
		if err := r.Unpack(q.refusal(nil, message, 1232)); err != nil {
			t.Errorf("a reply that cannot be read: %v", err)
		}
		if !r.Response || r.AuthenticatedData || r.Id != binary.BigEndian.Uint16(message) {
			t.Errorf("reply %v", r)
		}
	})
}
