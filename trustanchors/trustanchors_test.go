package trustanchors

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// today is between the making of key 38696 and the revocation of 20326 (T-3).
var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const (
	digest20326 = "e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d"
	digest38696 = "683d2d0acb8c9b712a1948b27f741219298d0a450d612c483af444a4c0fb2b16"
	digest19036 = "49aac11d7b6f6446702e54a1607371607a1a41855200fd2ce1cdde32f24e8fb5"
)

// load is Load of a file with this content.
func load(t *testing.T, name, content string, now time.Time, sha1 bool) (Set, []string, error) {
	t.Helper()
	return Load(name, []byte(content), now, sha1)
}

// text is a set as sorted lines.
func text(s Set) []string {
	var lines []string
	for zone, anchors := range s {
		for _, ds := range anchors {
			lines = append(lines, fmt.Sprintf("%s %d %d %d %s", zone, ds.KeyTag, ds.Algorithm,
				ds.DigestType, ds.Digest))
		}
	}
	slices.Sort(lines)
	return lines
}

var rootAnchors = []string{". 20326 8 2 " + digest20326, ". 38696 8 2 " + digest38696}

// rootKeys are the published keys, as root-anchors.xml has them.
func rootKeys(t *testing.T) []*dns.DNSKEY {
	t.Helper()
	content, err := files.ReadFile("root-anchors.xml")
	if err != nil {
		t.Fatal(err)
	}
	var keys []*dns.DNSKEY
	for element := range strings.SplitSeq(string(content), "<PublicKey>") {
		if key, _, found := strings.Cut(element, "</PublicKey>"); found {
			keys = append(keys, &dns.DNSKEY{Hdr: dns.RR_Header{Name: "."}, Flags: 257, Protocol: 3, Algorithm: 8,
				PublicKey: key})
		}
	}
	if len(keys) != 2 {
		t.Fatalf("%d keys", len(keys))
	}
	return keys
}

// T-1
func TestEmbedded(t *testing.T) {
	if got := text(Embedded()); !slices.Equal(got, rootAnchors) {
		t.Errorf("got %q", got)
	}
	Embedded()["."] = nil
	if len(Embedded()["."]) != 2 {
		t.Error("one caller's set is another's")
	}
}

// X-11, T-4: digests and tags of the published root keys.
func TestRootKeys(t *testing.T) {
	keys := rootKeys(t)
	for _, tt := range []struct {
		key    *dns.DNSKEY
		digest uint8
		want   string
	}{
		{keys[0], dns.SHA256, digest20326},
		{keys[1], dns.SHA256, digest38696},
		{keys[0], dns.SHA1, "ae1ea5b974d4c858b740bd03e3ced7ebfcbd1724"},
		{keys[0], dns.SHA384, "538f47ba9bb88908e1dc335d6dfd51ca66b4d824192e6e6e210ae8cc18ece46a0f62b9f0d2f88dfc87d4" +
			"bb8b8aed21cb"},
	} {
		if got := tt.key.ToDS(tt.digest).Digest; got != tt.want {
			t.Errorf("key %d, digest type %d: %s, want %s", tt.key.KeyTag(), tt.digest, got, tt.want)
		}
	}
	for i, tags := range [][2]uint16{{20326, 20454}, {38696, 38824}} {
		key := *keys[i]
		before := key.KeyTag()
		key.Flags |= dns.REVOKE
		if got := [2]uint16{before, key.KeyTag()}; got != tags {
			t.Errorf("tags before and after revocation: %v, want %v", got, tags)
		}
	}
}

// The anchors of the root in all forms are those built in: T-1, T-12, T-15.
func TestLoadRoot(t *testing.T) {
	xml, err := files.ReadFile("root-anchors.xml")
	if err != nil {
		t.Fatal(err)
	}
	ds, err := files.ReadFile("root.ds")
	if err != nil {
		t.Fatal(err)
	}
	var keys string
	for _, k := range rootKeys(t) {
		keys += fmt.Sprintf(". 172800 IN DNSKEY 257 3 8 ( %s\n\t%s ) ; a comment\n", k.PublicKey[:100],
			k.PublicKey[100:])
	}
	for name, content := range map[string]string{
		"XML":             string(xml),
		"XML after space": "\n \t" + strings.TrimPrefix(string(xml), `<?xml version="1.0" encoding="UTF-8"?>`),
		"DS":              string(ds),
		"DNSKEY":          keys,
		"both":            keys + string(ds),
	} {
		got, warnings, err := load(t, "anchors", content, today, false)
		if err != nil || len(warnings) > 0 || !slices.Equal(text(got), rootAnchors) {
			t.Errorf("%s: %q, %q, %v", name, text(got), warnings, err)
		}
	}
}

// T-2, T-12: an entry of root-anchors.xml counts from validFrom until before validUntil.
func TestValidity(t *testing.T) {
	const old = ". 19036 8 2 " + digest19036
	content, err := files.ReadFile("root-anchors.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		now  string
		want []string
	}{
		{"2010-07-14T23:59:59Z", nil},
		{"2010-07-15T00:00:00Z", []string{old}},
		{"2017-02-01T23:59:59Z", []string{old}},
		{"2017-02-02T00:00:00Z", []string{old, rootAnchors[0]}},
		{"2019-01-10T23:59:59Z", []string{old, rootAnchors[0]}},
		{"2019-01-11T00:00:00Z", rootAnchors[:1]},
		{"2024-07-17T23:59:59Z", rootAnchors[:1]},
		{"2024-07-18T00:00:00Z", rootAnchors},
		{"2026-10-11T00:00:00Z", rootAnchors},
	} {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := load(t, "root-anchors.xml", string(content), now, false)
		if !slices.Equal(text(got), tt.want) || (err != nil) != (tt.want == nil) {
			t.Errorf("at %s: %q, %v; want %q", tt.now, text(got), err, tt.want)
		}
		if tt.want == nil && !strings.Contains(err.Error(),
			"root-anchors.xml:18: no usable trust anchor is left for the root: "+
				"38696 is valid from 2024-07-18T00:00:00+00:00 until further notice, and now it is "+
				"2010-07-14T23:59:59Z;") {
			t.Errorf("at %s: %v", tt.now, err)
		}
	}
}

// vectors are keys of every supported algorithm with their DS: ..X-10.
var vectors = []struct{ key, ds string }{
	{"example. DNSKEY 257 3 5 " +
		"AQOeX7+baTmvpVHb2CcLnL1dMRWbuscRvHXlLnXwDzvqp4tZVKp1sZMepFb8MvxhhW3y/0QZsyCjczGJ1qk8vJe52iOhInKROVLRwxGpMf" +
		"zPRLMlGybr51bOV/1se0ODacj3DomyB4QB5gKTYot/K9alk5/j8vfd4jWCWD+E1Sze0Q==",
		"example. 9465 5 2 40d68db5c39f036f09d72d945e9541f3396cc822baf6b1a058865feb5864ce6b"},
	{"EXAMPLE. DNSKEY 257 3 7 " +
		"AwEAAcUlFV1vhmqx6NSOUOq2R/dsR7Xm3upJj7IommWSpJABVfW8Q0rOvXdM6kzt+TAu92L9AbsUdblMFin8CVF3n4s=",
		"example. 12708 7 2 e91b0008a43024435de9c7f2c0dd88d29270368d8bd8eb1ee7d41b67139a988d"},
	{"example.net. DNSKEY 257 3 13 " +
		"GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
		"example.net. 55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17"},
	{"example.com. DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
		"example.com. 3613 15 2 3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b"},
	{"example.com. DNSKEY 257 3 16 3kgROaDjrh0H2iuixWBrc8g2EpBBLCdGzHmn+G2MpTPhpj/OiBVHHSfPodx1FYYUcJKm1MDpJtIA",
		"example.com. 9713 16 2 6ccf18d5bc5d7fc2fceb1d59d17321402f2aa8d368048db93dd811f5cb2b19c7"},
	{"example.net. DNSKEY 256 3 8 " +
		"AwEAAcFcGsaxxdgiuuGmCkVImy4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8PkxUdp6p/DlUmObdk=",
		"example.net. 9033 8 2 "},
	{"example.net. DNSKEY 256 3 10 " +
		"AwEAAdHoNTOW+et86KuJOWRDp1pndvwb6Y83nSVXXyLA3DLroROUkN6X0O6pnWnjJQujX/AyhqFDxj13tOnD9u/1kTg7cV6rklMrZDtJCQ" +
		"5PCl/D7QNPsgVsMu1J2Q8gpMpztNFLpPBz1bWXjDtaR7ZQBlZ3PFY12ZTSncorffcGmhOL",
		"example.net. 3740 10 2 "},
	{"example.net. DNSKEY 257 3 14 " +
		"xKYaNhWdGOfJ+nPrL8/arkwf2EY3MDJ+SErKivBVSum1w/egsXvSADtNJhyem5RCOpgQ6K8X1DRSEkrbYQ+OB+v8/uX45NBwY8rp65F6Gl" +
		"ur8I/mlVNgF6W/qTI37m40",
		"example.net. 10771 14 2 "},
}

// T-15: a DNSKEY of every supported algorithm becomes its DS, of whatever zone (V-1a, V-12).
func TestLoadKeys(t *testing.T) {
	for _, v := range vectors {
		got, warnings, err := load(t, "anchors.key", v.key, today, true)
		if err != nil || len(warnings) > 0 || len(text(got)) != 1 || !strings.HasPrefix(text(got)[0], v.ds) {
			t.Errorf("%s: %q, %q, %v", v.key, text(got), warnings, err)
		}
	}
}

// V-38: DS of every supported digest, upper or lower case, in pieces; several zones in a file.
func TestLoadDS(t *testing.T) {
	got, warnings, err := load(t, "anchors.ds", `$ORIGIN net.
Example 3600 IN DS 10771 14 4 (
	72d7b62976ce06438e9c0bf319013cf801f09ecc84b8d7e9 495f27e305c6a9b0563a9b5f4d288405c3008a946df983d6 )
example IN DS 55648 13 2 (
	B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17 ) ; ECDSA
. DS 20326 RSASHA256 1 AE1EA5B974D4C858B740BD03E3CED7EBFCBD1724`, today, false)
	want := []string{
		". 20326 8 1 ae1ea5b974d4c858b740bd03e3ced7ebfcbd1724",
		"example.net. 10771 14 4 " +
			"72d7b62976ce06438e9c0bf319013cf801f09ecc84b8d7e9495f27e305c6a9b0563a9b5f4d288405c3008a946df983d6",
		"example.net. 55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17",
	}
	if err != nil || len(warnings) > 0 || !slices.Equal(text(got), want) {
		t.Errorf("%q, %q, %v", text(got), warnings, err)
	}
}

// T-15: unsupported entries are left out and told; V-35, V-36, V-37, V-38.
func TestUnsupportedIsLeftOut(t *testing.T) {
	const good = "example. DS 1 13 2 " + digest20326 + "\n"
	for _, tt := range []struct{ entry, reason string }{
		{"DS 2 1 2 " + digest20326, "algorithm 1 is not supported"},
		{"DS 2 3 2 " + digest20326, "algorithm 3 is not supported"},
		{"DS 2 5 2 " + digest20326, "algorithm 5 (RSASHA1) is not supported unless the option sha1 says `verify`"},
		{"DS 2 6 2 " + digest20326, "algorithm 6 is not supported"},
		{"DS 2 7 2 " + digest20326, "algorithm 7 (RSASHA1-NSEC3-SHA1) is not supported unless the option sha1 says " +
			"`verify`"},
		{"DS 2 12 2 " + digest20326, "algorithm 12 is not supported"},
		{"DS 2 23 2 " + digest20326, "algorithm 23 is not supported"},
		{"DS 2 253 2 " + digest20326, "algorithm 253 is not supported"},
		{"DS 2 13 0 " + digest20326, "digest type 0 is not supported"},
		{"DS 2 13 3 " + digest20326, "digest type 3 is not supported"},
		{"DS 2 13 5 00", "digest type 5 is not supported"},
		{"DNSKEY 257 3 17 AAEC", "algorithm 17 is not supported"},
	} {
		got, warnings, err := load(t, "a.ds", good+"example. "+tt.entry+"\n", today, false)
		if err != nil || len(got["example."]) != 1 || len(warnings) != 1 ||
			!strings.Contains(warnings[0], "a.ds:2: trust anchor ") ||
			!strings.HasSuffix(warnings[0], " of example. is left out: "+tt.reason) {
			t.Errorf("%s: %q, %q, %v", tt.entry, text(got), warnings, err)
		}
		got, warnings, err = load(t, "a.ds", ". DS 3 8 2 "+digest20326+"\n\n\nexample. "+tt.entry+"\n", today, false)
		if err != nil || len(got["example."]) != 1 || len(warnings) != 1 ||
			!strings.Contains(warnings[0], "a.ds:4: trust anchor ") {
			t.Errorf("%s alone: %q, %q, %v", tt.entry, text(got), warnings, err)
		}
		_, _, err = load(t, "a.ds", "example. DS 3 8 2 "+digest20326+"\n\n\n. "+tt.entry+"\n", today, false)
		if err == nil || !strings.Contains(err.Error(), "a.ds:4: no usable trust anchor is left for the root: "+
			tt.reason) {
			t.Errorf("%s alone for the root: %v", tt.entry, err)
		}
	}
}

// A record that ends with the file right after its type is not passed over.
func TestRecordCutShort(t *testing.T) {
	_, _, err := load(t, "a.ds", ". DS 38696 8 2 "+digest38696+"\nexample. DS", today, false)
	if err == nil || !strings.Contains(err.Error(), "a.ds:2: the digest is missing") {
		t.Errorf("got %v", err)
	}
}

// Directives, comments and empty lines are no records, and the line told is the one where the record begins.
func TestLineOfRecord(t *testing.T) {
	_, _, err := load(t, "a.ds", "$TTL 60\n$ORIGIN org.\n; comment\n\n \t\nexample DS ( 1 8\n\t2 "+digest20326+
		"00 )\n\n", today, false)
	if err == nil || !strings.Contains(err.Error(), "a.ds:6: the digest") {
		t.Errorf("got %v", err)
	}
}

// A zone below the root with unsupported entries alone is told, and stays an anchor point with all of them (T-15, X-5).
func TestUnsupportedAlone(t *testing.T) {
	got, warnings, err := load(t, "a.ds", vectors[0].key+"\n"+vectors[1].key+"\n"+vectors[2].key+"\n", today, false)
	if err != nil || len(warnings) != 2 || len(got["example."]) != 2 {
		t.Errorf("%q, %q, %v", text(got), warnings, err)
	}
}

// T-15: what is malformed is an error with file, line, value and remedy.
func TestMalformedRecords(t *testing.T) {
	const above, key = "; a comment\n. DS 1 8 2 (\n" + digest20326 + " )\n",
		"GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA=="
	rsa := func(exponent, modulus string) string { return toBase64(exponent + modulus) }
	modulus := "\x80" + strings.Repeat("m", 127)
	for _, tt := range []struct{ line, want string }{
		{"example. DS abc 8 2 " + digest20326, `bad DS KeyTag: "abc"; write`},
		{"example. DS 65536 8 2 " + digest20326, `bad DS KeyTag: "65536"`},
		{"example. DS 1 RSA 2 " + digest20326, `bad DS Algorithm: "RSA"`},
		{"example. DS 1 8 SHA256 " + digest20326, `bad DS DigestType: "SHA256"`},
		{"example. DS 1 8 2", "the digest is missing; copy the whole record again"},
		{"example. DS 1 8", `bad DS Digest`},
		{"example. DS ;", ""},
		{"example. DS 1 8 2 ( ; the digest follows\n\n" + digest20326 + "00 )", "has 33 octets"},
		{"example. DS 1 8 2 (\n" + digest20326 + " ))", ""},
		{"example. DS 1 8 2 " + digest20326[1:], "is not hexadecimal"},
		{"example. DS 1 8 2 x" + digest20326[1:], "is not hexadecimal"},
		{"example. DS 1 8 2 " + digest20326[2:], `the digest "` + digest20326[2:] +
			`" has 31 octets, and digest type 2 has 32; copy it again`},
		{"example. DS 1 8 1 " + digest20326, "has 32 octets, and digest type 1 has 20"},
		{"example. DS 1 8 4 " + digest20326, "has 32 octets, and digest type 4 has 48"},
		{"example. DS 1 250 2 00", "has 1 octets, and digest type 2 has 32"},
		{"example. A 192.0.2.1", "example. A is neither DS nor DNSKEY; remove it"},
		{"example. CDS 1 8 2 " + digest20326, "example. CDS is neither DS nor DNSKEY"},
		{"example. CH DS 1 8 2 " + digest20326, "class CH has no trust anchors; write IN"},
		{"$INCLUDE /etc/passwd", "INCLUDE"},
		{"example DNSKEY 257 3 ECDSAP256SHA256 " + key, `bad DNSKEY Algorithm: "ECDSAP256SHA256"`},
		{"example DNSKEY 1 3 13 " + key, "flags 1 lack the zone bit (256)"},
		{"example DNSKEY 385 3 13 " + key, "flags 385 have the bit of a revoked key (128)"},
		{"example DNSKEY 257 4 13 " + key, "protocol is 4; it must be 3"},
		{"example DNSKEY 257 3 13 *" + key[1:], "is not base64"},
		{"example DNSKEY 257 3 13 " + key[:84], `is none of algorithm 13: `},
		{"example DNSKEY 257 3 13 A" + key[1:], `is none of algorithm 13: `},
		{"example DNSKEY 257 3 14 " + key, `is none of algorithm 14: `},
		{"example DNSKEY 257 3 15 " + key, `is none of algorithm 15: it has 64 octets instead of 32`},
		{"example DNSKEY 257 3 16 " + key, `is none of algorithm 16: it has 64 octets instead of 57`},
		{"example DNSKEY 257 3 8 AwE=", `is none of algorithm 8: it ends in its exponent`},
		{"example DNSKEY 257 3 8 AAA=", `is none of algorithm 8: it has no exponent`},
		{"example DNSKEY 257 3 8 " + rsa("\x01\x01", modulus),
			`its exponent 1 is not an odd number from 3 to 4294967297`},
		{"example DNSKEY 257 3 8 " + rsa("\x01\x04", modulus), `its exponent 4 is not`},
		{"example DNSKEY 257 3 8 " + rsa("\x05\x01\x00\x00\x00\x03", modulus), `its exponent 4294967299 is not`},
		{"example DNSKEY 257 3 8 " + rsa("\x01\x03", modulus[:63]),
			`its modulus of 504 bits is not one of 512 to 4096`},
		{"example DNSKEY 257 3 10 " + rsa("\x01\x03", modulus[:127]),
			`its modulus of 1016 bits is not one of 1024 to 4096`},
		{"example DNSKEY 257 3 8 " + rsa("\x01\x03", strings.Repeat("m", 513)),
			`its modulus of 4103 bits is not one of 512 to 4096`},
		{"example DNSKEY 257 3 17 " + toBase64(strings.Repeat("k", 5000)), "is too long to be one"},
		{"<TrustAnchor>", "anchors.ds:4: "},
	} {
		for _, below := range []string{"", "\n", "\n\n. DS 1 8 2 xyz\n"} {
			set, _, err := load(t, "anchors.ds", above+tt.line+below, today, true)
			if err == nil || set != nil || !strings.Contains(err.Error(), "anchors.ds:4: ") ||
				!strings.Contains(err.Error(), tt.want) {
				t.Errorf("%.60s: %v", tt.line, err)
			}
		}
	}
}

func toBase64(octets string) string { return base64.StdEncoding.EncodeToString([]byte(octets)) }

// V-42: both forms of the exponent's length and the bounds are accepted.
func TestRSABounds(t *testing.T) {
	long := strings.Repeat("\xff", 512)
	for name, key := range map[string]string{
		"exponent 3":              "\x01\x03" + long,
		"exponent 2^32+1":         "\x05\x01\x00\x00\x00\x01" + long,
		"long form":               "\x00\x00\x01\x03" + long,
		"modulus of 512 bits":     "\x01\x03" + long[:64],
		"modulus with leading 0s": "\x01\x03\x00" + long,
	} {
		if _, _, err := load(t, "a", "example. DNSKEY 257 3 8 "+toBase64(key), today, false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// T-12, T-15: every fault of root-anchors.xml is told with file and line.
func TestMalformedXML(t *testing.T) {
	content, err := files.ReadFile("root-anchors.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ old, new, want string }{
		{"<Zone>.</Zone>", "<Zone>example.</Zone>", `:3: the Zone is "example." and not the root; write`},
		{"    <Zone>.</Zone>\n", "", `:1: the Zone is "" and not the root`},
		{"<TrustAnchor", "<html", ":2: expected element type <TrustAnchor> but have <html>"},
		{"</TrustAnchor>", "", ":27: "},
		{"<Algorithm>8</Algorithm>", "<Algorithm>8", "syntax error"},
		{"<KeyTag>20326</KeyTag>", "<KeyTag>x</KeyTag>",
			`:10: KeyTag is "x" and not a number of 16 bits; fetch the file anew`},
		{"<KeyTag>20326</KeyTag>", "", `:10: KeyTag is ""`},
		{"<KeyTag>20326</KeyTag>", "<KeyTag>20327</KeyTag>", ":10: PublicKey and Flags have KeyTag 20326 and Digest " +
			digest20326 + ", and not 20327 and"},
		{"<Algorithm>8</Algorithm>", "<Algorithm>256</Algorithm>", `Algorithm is "256" and not a number of 8 bits`},
		{"<DigestType>2</DigestType>", "<DigestType></DigestType>", `DigestType is ""`},
		{"<Digest>E06D", "<Digest>E16D", ":10: PublicKey and Flags have KeyTag 20326 and Digest " + digest20326 +
			", and not 20326 and e16d"},
		{"<Digest>49AA", "<Digest>49A", `root-anchors.xml:4: the digest "49AC11D`},
		{"<Digest>49AA", "<Digest>49Ax", `root-anchors.xml:4: the digest "49AxC11D`},
		{"<PublicKey>AwEAAa9", "<PublicKey>AwEAAa8", ":18: PublicKey and Flags have KeyTag "},
		{"<PublicKey>AwEAAa9", "<PublicKey>*wEAAa9", ":18: the key "},
		{"<Flags>257</Flags>", "<Flags>256</Flags>", ":10: PublicKey and Flags have KeyTag 20325 "},
		{"<Flags>257</Flags>", "<Flags>385</Flags>", ":10: the key's flags 385 have the bit of a revoked key"},
		{"<Flags>257</Flags>", "<Flags>ksk</Flags>", `:10: Flags is "ksk"`},
		{"<Flags>257</Flags>", "", ":10: PublicKey and Flags must stand together"},
		{` validFrom="2017-02-02T00:00:00+00:00"`, "", `:10: validFrom is "" and no time such as`},
		{"2019-01-11T00:00:00+00:00", "2019-01-11", `:4: validUntil is "2019-01-11" and no time such as`},
	} {
		broken := strings.Replace(string(content), tt.old, tt.new, 1)
		set, _, err := load(t, "root-anchors.xml", broken, today, false)
		if err == nil || set != nil || !strings.Contains(err.Error(), "root-anchors.xml:") ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s for %s: %v", tt.new, tt.old, err)
		}
	}
}

// T-12, T-15: in root-anchors.xml, too, an unsupported entry is left out, and key and flags may be missing.
func TestUnsupportedXML(t *testing.T) {
	content, err := files.ReadFile("root-anchors.xml")
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(content, []byte(`<KeyDigest id="Kmyv6jo"`))
	last := strings.NewReplacer("<DigestType>2", "<DigestType>6").Replace(string(content[at:]))
	got, warnings, err := load(t, "a.xml", string(content[:at])+last, today, false)
	if err != nil || !slices.Equal(text(got), rootAnchors[:1]) || len(warnings) != 1 ||
		!strings.HasSuffix(warnings[0], "a.xml:18: trust anchor 38696 of . is left out: "+
			"digest type 6 is not supported") {
		t.Errorf("%q, %q, %v", text(got), warnings, err)
	}
	plain := string(content[:at])
	plain = plain[:strings.Index(plain, "<PublicKey>")] + plain[strings.Index(plain, "</Flags>")+len("</Flags>"):] +
		"</TrustAnchor>"
	got, warnings, err = load(t, "a.xml", plain, today, false)
	if err != nil || len(warnings) > 0 || !slices.Equal(text(got), rootAnchors[:1]) {
		t.Errorf("%q, %q, %v", text(got), warnings, err)
	}
}

// A file without anchors is an error that names it.
func TestNothingToLoad(t *testing.T) {
	for _, content := range []string{"", "\n; only a comment\n", "<TrustAnchor><Zone>.</Zone></TrustAnchor>"} {
		if _, _, err := load(t, "empty.ds", content, today, false); err == nil ||
			!strings.Contains(err.Error(), "empty.ds: there is no trust anchor in it; it needs") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// Merge brings in other zones and other keys, and nothing twice.
func TestMerge(t *testing.T) {
	other, _, err := load(t, "a.ds", vectors[2].key+"\n. DS 38696 8 2 "+digest38696+"\n. DS 19036 8 2 "+
		digest19036, today, false)
	if err != nil {
		t.Fatal(err)
	}
	s := Embedded()
	s.Merge(other)
	want := slices.Concat([]string{". 19036 8 2 " + digest19036}, rootAnchors, []string{vectors[2].ds})
	if got := text(s); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzLoad: no content of a file makes it panic, and what it takes is well-formed.
func FuzzLoad(f *testing.F) {
	for _, file := range []string{"root.ds", "root-anchors.xml"} {
		content, err := files.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	for _, v := range vectors {
		f.Add([]byte(v.key))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		set, _, err := Load("fuzzed", content, today, true)
		if (len(set) == 0) != (err != nil) {
			t.Fatalf("%v, %v", set, err)
		}
		for zone, anchors := range set {
			for _, ds := range anchors {
				octets, known := digestOctets[ds.DigestType]
				if ds.Hdr.Name != zone || zone != dns.CanonicalName(zone) || known && len(ds.Digest) != 2*octets {
					t.Errorf("%q: %v", zone, ds)
				}
			}
		}
	})
}
