package dnssec

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// V-32: the owner that was signed, by the number of Labels.
func TestSignedOwner(t *testing.T) {
	for _, row := range []struct {
		owner  string
		labels uint8
		want   string
	}{
		{"a.b.example.", 3, "a.b.example."}, {"a.b.example.", 2, "*.b.example."}, {"a.b.example.", 1, "*.example."},
		{"a.b.example.", 0, "*."}, {"*.example.", 1, "*.example."}, {"*.", 0, "*."}, {".", 0, "."},
		{"a\\.b.example.", 1, "*.example."},
	} {
		if got := signedOwner(row.owner, &dns.RRSIG{Labels: row.labels}); got != row.want {
			t.Errorf("%s with %d labels: %s, want %s", row.owner, row.labels, got, row.want)
		}
	}
}

// wireRR is a record of any type from its RDATA in hexadecimal.
func wireRR(t testing.TB, rtype uint16, rdata string) dns.RR {
	t.Helper()
	octets, err := hex.DecodeString(rdata)
	if err != nil {
		t.Fatal(err)
	}
	rr, _, err := dns.UnpackRRWithHeader(dns.RR_Header{Name: "A.", Rrtype: rtype, Class: dns.ClassINET, Ttl: 1,
		Rdlength: uint16(len(octets))}, octets, 0)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// V-28, V-29: names in the RDATA of the types of RFC 4034 section 6.2, as RFC 6840 corrects it, are in lower case, and
// nothing else is. In the RDATA here every letter is N, as the label of a name, or X, which is no name.
func TestCanonicalRDATA(t *testing.T) {
	const n, x = "014e00", "5858" // the name N. and two octets X
	soa := strings.Repeat("58585858", 5)
	sig := "5858" + "58" + "58" + "58585858" + "58585858" + "58585858" + "5858" + n + "585858"
	for _, row := range []struct {
		rtype uint16
		rdata string
		names bool
	}{
		{dns.TypeNS, n, true}, {dns.TypeMD, n, true}, {dns.TypeMF, n, true}, {dns.TypeCNAME, n, true},
		{dns.TypeSOA, n + n + soa, true}, {dns.TypeMB, n, true}, {dns.TypeMG, n, true}, {dns.TypeMR, n, true},
		{dns.TypePTR, n, true}, {dns.TypeMINFO, n + n, true}, {dns.TypeMX, x + n, true}, {dns.TypeRP, n + n, true},
		{dns.TypeAFSDB, x + n, true}, {dns.TypeRT, x + n, true}, {dns.TypeSIG, sig, true},
		{dns.TypePX, x + n + n, true},
		{dns.TypeNAPTR, x + x + "0158" + "025858" + "00" + n, true}, {dns.TypeKX, x + n, true},
		{dns.TypeSRV, x + x + x + n, true}, {dns.TypeDNAME, n, true}, {dns.TypeRRSIG, sig, true},
		{typeA6, "0058585858585858585858585858585858", false}, // prefix of no bits: no name
		{typeA6, "7858" + n, true},                            // 120 bits: one octet of suffix
		{typeA6, "40" + strings.Repeat("58", 8) + n, true},
		{typeA6, "80" + n, true},
		{typeA6, "8158585858", false}, {typeA6, "", false}, {typeA6, "40585858", false},
		{dns.TypeNXT, n + "000140", true},

		{dns.TypeNSEC, n + "000140", false}, {dns.TypeHINFO, "0158" + "0158", false}, {dns.TypeTXT, "025858", false},
		{dns.TypeTLSA, "030101" + x, false}, {dns.TypeSVCB, "0001" + n, false}, {dns.TypeHTTPS, "0001" + n, false},
		{dns.TypeTALINK, n + n, false}, {dns.TypeNSAPPTR, n, false}, {dns.TypeLP, x + n, false},
		{65280, "014e00", false},
		{dns.TypeNULL, x, false}, {dns.TypeCAA, "0002" + x + x, false}, {dns.TypeURI, x + x + x, false},
		{dns.TypeHIP, "02010002" + x + x + n, false}, {dns.TypeIPSECKEY, "000302" + n + x, false},
		{dns.TypeAMTRELAY, "0003" + n, false}, {dns.TypeTKEY, "014e00" + strings.Repeat("00", 16), false},
	} {
		want := row.rdata
		if row.names {
			want = strings.ReplaceAll(want, "014e", "016e")
		}
		if got := hex.EncodeToString(canonicalRDATA(wireRR(t, row.rtype, row.rdata))); got != want {
			t.Errorf("%s %s: %s, want %s", dns.Type(row.rtype), row.rdata, got, want)
		}
	}
}

// RDATA that ends too soon, as only a record that no wire carried can have it, is kept as it is, without a panic.
func TestCutRDATA(t *testing.T) {
	for rtype := range uint16(300) {
		for n := range 24 {
			rdata := bytes.Repeat([]byte{63}, n)
			lowerNames(rtype, rdata)
			if !bytes.Equal(rdata, bytes.Repeat([]byte{63}, n)) {
				t.Fatalf("%s of %d octets: %x", dns.Type(rtype), n, rdata)
			}
		}
	}
}

// A name that is none is the root, which nothing but the root may sign.
func TestWireName(t *testing.T) {
	for name, want := range map[string]string{
		".": "00", "Ab.c.": "024162016300", "a\\.b.": "03612e6200", "\\255.": "01ff00",
		"no final dot": "00", "a..": "00",
		strings.Repeat("a", 64) + ".": "00",
	} {
		if got := hex.EncodeToString(wireName(name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// V-30: records sort by their RDATA as unsigned octets, the shorter one first.
func TestRecordOrder(t *testing.T) {
	set := reply(t, 0, rrs(t, `a. TXT "b"`, `a. TXT "\200"`, `a. TXT "aa"`, `a. TXT "a" "a"`, `a. TXT "a"`,
		`a. TXT ""`), nil).Answer[0]
	var got []string
	for _, rdata := range set.rdata {
		got = append(got, hex.EncodeToString(rdata))
	}
	if want := []string{"00", "0161", "01610161", "0162", "01c8", "026161"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// V-27, V-21: the signed data of a set in mixed case: the RRSIG's RDATA without the signature and with the signer in
// lower case, then each record with lower-case owner, its Original TTL and its RDATA.
func TestSignedData(t *testing.T) {
	set := reply(t, 0, rrs(t, "WWW.Example. 5 MX 10 B.Example.", "wWw.eXample. 9 MX 1 A.Example."), nil).Answer[0]
	sig := rrs(t, "www.example. 7 RRSIG MX 13 2 3600 20261121040000 20261119040000 4660 EXAMPLE. AAAA")[0].(*dns.RRSIG)
	rr := "03777777" + "076578616d706c6500" + "000f" + "0001" + "00000e10"
	times := fmt.Sprintf("%08x%08x", sig.Expiration, sig.Inception)
	want := "000f" + "0d" + "02" + "00000e10" + times + "1234" +
		"076578616d706c6500" +
		rr + "000d" + "0001" + "0161" + "076578616d706c6500" +
		rr + "000d" + "000a" + "0162" + "076578616d706c6500"
	if got := hex.EncodeToString(signedOver(set, sig)); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	if sig.Signature != "AAAA" || sig.SignerName != "EXAMPLE." {
		t.Error("the RRSIG was changed")
	}
}
