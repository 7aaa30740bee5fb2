package danelaw

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/unbound"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// oddData are values that a text form loses, changes or refuses, and plain ones beside them.
var oddData = []struct {
	rrtype uint16
	rdata  string
}{
	{dns.TypeCAA, "\x00\x05issueca.example; policy=a\\b"}, {dns.TypeCAA, "\x80\x05issue\\"},
	{dns.TypeCAA, "\x00\x05issue\\064\\\""},
	{dns.TypeCAA, "\x00\x05iodef\x00\x1b[31m\xff\n"}, {dns.TypeCAA, "\x00\x05issue"}, {dns.TypeCAA, "\x00\x00value"},
	{dns.TypeCAA, "\x00"},
	{dns.TypeURI, "\x00\x0a\x00\x01ftp://ftp.example/\\\"x"}, {dns.TypeURI, "\x00\x0a\x00\x01"},
	{dns.TypeURI, "\x00\x0a\x00\x01\x00\x7f\xff\\0"},
	{dns.TypeTXT, "\x05a\\b\"c"}, {dns.TypeTXT, "\x00"}, {dns.TypeTXT, ""},
	{dns.TypeTXT, "\x03\x00\x7f\xff\x00\x02\\0"}, {dns.TypeTXT, "\x05abc"},
	{dns.TypeTXT, "\x04\\065"}, {dns.TypeSPF, "\x09v=spf1 \\\\"}, {dns.TypeSPF, "\x00\x00"},
	{dns.TypeHINFO, "\x03c\\d\x02\"\xfe"}, {dns.TypeHINFO, "\x03cpu"}, {dns.TypeHINFO, "\x00\x00\x00"},
	{dns.TypeHINFO, "\x08\\RFC8482\x00"},
	{dns.TypeISDN, "\x0f150862028003217"}, {dns.TypeISDN, "\x0f150862028003217\x00"}, {dns.TypeISDN, "\x01\\\x01\\"},
	{dns.TypeX25, "\x0c311061700956"}, {dns.TypeX25, "\x02\\\""}, {dns.TypeX25, "\x01a\x01b"},
	{dns.TypeGPOS, "\x07-32.688\x07116.865\x0410.0"}, {dns.TypeGPOS, "\x01\\\x00\x02\x00\xff"}, {dns.TypeGPOS, "\x01a"},
	{dns.TypeLOC, "\x00\x12\x16\x13\x8b\x0d\xb2\xa0\x7f\xf8\xfc\x65\x00\x98\x96\x80"},
	{dns.TypeLOC, "\x01\x99\xff\xff"}, {dns.TypeLOC, "\x00"},
	{dns.TypeLOC, "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"},
	{dns.TypeAPL, ""}, {dns.TypeAPL, "\x00\x01\x15\x03\xc0\xa8\x20"}, {dns.TypeAPL, "\x00\x01\x18\x04\xc0\x00\x02\x00"},
	{dns.TypeAPL, "\x00\x01\x08\x84\x0a\x01\x02\x03"}, {dns.TypeAPL, "\x00\x09\xff\x00"},
	{dns.TypeAPL, "\x00\x01\x15\x7f"},
	{dns.TypeSVCB, "\x00\x01\x03www\x01s\x00\x00\x03\x00\x02\x01\xbb\x00\x01\x00\x03\x02h2"}, // keys in no order
	{dns.TypeHTTPS, "\x00\x01\x00\x00\x04\x00\x04\xc0\x00\x02\x01\x00\x04\x00\x00"},          // one twice, once empty
	{dns.TypeHTTPS, "\x00\x00\x03WWW\x01s\x00"}, {dns.TypeHTTPS, "\x00\x01\x00\x00\x06\x00\x01\x00"},
	{dns.TypeTLSA, "\x03\x01\x01\xab"}, {dns.TypeTLSA, "\x03\x01\x01"}, {dns.TypeTLSA, "\x03\x01"}, {dns.TypeTLSA, ""},
	{dns.TypeSMIMEA, "\x03"},
	{dns.TypeSSHFP, "\x01"}, {dns.TypeSSHFP, "\x01\x01\xab\xcd"}, {dns.TypeCERT, "\x00\x01\x00"},
	{dns.TypeCERT, "\x00\x01\x00\x02\x08\xff\xfe"},
	{dns.TypeOPENPGPKEY, ""}, {dns.TypeOPENPGPKEY, "\xff\xfe\xfd\xfc"}, {dns.TypeCDS, "\x00\x00\x00\x00\x00"},
	{dns.TypeCDS, "\x00"},
	{dns.TypeCDNSKEY, "\x00\x00\x03\x00\x00"}, {dns.TypeCDNSKEY, "\x01\x01"}, {dns.TypeKEY, "\xc0\x00\x03"},
	{dns.TypeRKEY, "\x00\x00"},
	{dns.TypeCSYNC, "\x00\x00\x00\x42\x00\x03\x00\x01\x60\x00\x02\x01\x00"},
	{dns.TypeCSYNC, "\x00\x00\x00\x42\x00\x03\x00\x02\x60\x00"},
	{dns.TypeZONEMD, "\x00\x00\x00"}, {dns.TypeEUI48, "\x00"}, {dns.TypeEUI64, "\x00\x01\x02\x03\x04\x05\x06\x07\x08"},
	{dns.TypeNID, "\x00\x0a\x00"},
	{dns.TypeL32, "\x00\x0a\x0a"}, {dns.TypeL64, "\x00"}, {dns.TypeLP, "\x00\x0a\x01L\x01s\x00"},
	{dns.TypeHIP, "\x04\x02\x00\x02\x20\x01\x00\x10\xab\xcd\x02RV\x00\xc0"}, {dns.TypeHIP, "\xff\x02\xff\xff"},
	{dns.TypeIPSECKEY, "\x0a\x03\x02\x02GW\x00\x01\x03"},
	{dns.TypeIPSECKEY, "\x0a\x09\x02\xff\xff"}, {dns.TypeIPSECKEY, "\x0a"}, {dns.TypeAMTRELAY, "\x0a\x83\x02GW\x00"},
	{dns.TypeAMTRELAY, "\x0a\xff\x01"},
	{dns.TypeDHCID, ""}, {dns.TypeUINFO, "\x02\\\""}, {dns.TypeUID, "\x00"}, {dns.TypeGID, "\x00\x00\x00\x01\x02"},
	{dns.TypeTALINK, "\x01A\x00\x01\\\x00"},
	{dns.TypeEID, ""}, {dns.TypeNIMLOC, "\x5c"}, {dns.TypeNINFO, "\x02\\\\\x01"}, {dns.TypeRESINFO, "\x05\\qname"},
	{dns.TypeAVC, ""},
	{dns.TypeNSAPPTR, "\x02NS\x00"}, {dns.TypeNSAPPTR, "\xc0\x0c"}, {dns.TypeNULL, ""},
	{dns.TypeNULL, "\x00\\\x1b\xff"}, {65280, ""}, {65280, "\x00\\\"\xff"},
	// A6, NSAP, ATMA, SINK
	{38, "\x00\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"}, {22, "\x47\x00\x05"}, {34, "\x00"},
	{40, "\x01\x00"},

	{dns.TypeNAPTR, "\x00\x64\x00\x32\x01s\x08http+N2L\x00\x03www\x01s\x00"},
	{dns.TypeNAPTR, "\x00\x64\x00\x32\x02\\\"\x01\xff\x0e!^(.*)$!\\1\\\\!i\x00"},
	{dns.TypeSRV, "\x00\x00\x00\x05\x00\x19\x02mx\x01s\x00"},
	{dns.TypeSRV, "\x00\x00\x00\x05\x00\x19\x03a.\\\x01s\x00"}, {dns.TypeRP, "\x02\"@\x00\x00"},
	{dns.TypeAFSDB, "\x00\x01\x02db\x00trailing"}, {dns.TypeRT, "\x00\x02\x00"}, {dns.TypeKX, "\x00\x02\x02kx\x00"},
	{dns.TypePX, "\x00\x0a\x01a\x00\x01b\x00\x00"},
	{dns.TypeNXT, "\x01n\x00\x62\x01\x80\x08\x00"}, {dns.TypeMINFO, "\x01a\x00\x02b\xff\x00"},
	{dns.TypeMG, "\x01\\\x00"}, {dns.TypeMB, "\x02m \x00"},
	{dns.TypeMX, "\x00\x0a\x04m\\.x\x00"}, {dns.TypePTR, "\x03\x00.\xff\x00"}, {dns.TypeDNAME, "\x02d\\\x00"},
}

// oddWorld has the values in a signed zone s. and in an unsigned one u., each at a name of its own.
func oddWorld() *world.Tree {
	add := func(z *zones.Zone) {
		for i, odd := range oddData {
			z.Add(&dns.RFC3597{
				Hdr:   dns.RR_Header{Name: oddName(i, z.Name), Rrtype: odd.rrtype, Class: dns.ClassINET, Ttl: 300},
				Rdata: hex.EncodeToString([]byte(odd.rdata)),
			})
		}
	}
	return world.New(time.Now, world.Zone("."), zones.Plan{Name: "s.", Text: world.Base, Edit: add},
		zones.Plan{Name: "u.", Text: world.Base, Edit: add, Config: zones.Config{Unsigned: true}})
}

func oddName(i int, zone string) string { return fmt.Sprintf("n%d.%s", i, zone) }

// overTCP exchanges one message and returns the reply as it came.
func overTCP(t *testing.T, server string, m *dns.Msg) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // the reading tells
	wire := pack(t, m)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)); err != nil {
		t.Fatal(err)
	}
	var size uint16
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, size)
	if _, err := io.ReadFull(conn, reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

// rdataOf returns the RDATA of the records of a type in the answer section, without looking into it.
func rdataOf(t *testing.T, wire []byte, rrtype uint16) (all []string) {
	t.Helper()
	_, off, err := dns.UnpackDomainName(wire, 12)
	off += 4
	for range binary.BigEndian.Uint16(wire[6:]) {
		if err != nil || off > len(wire) {
			t.Fatalf("not a message: %v", err)
		}
		_, off, err = dns.UnpackDomainName(wire, off)
		size := int(binary.BigEndian.Uint16(wire[off+8:]))
		if binary.BigEndian.Uint16(wire[off:]) == rrtype {
			all = append(all, string(wire[off+10:off+10+size]))
		}
		off += 10 + size
	}
	return all
}

// checkOctets asks a server twice for all values: they are to be as they were, and in the signed zone Secure.
func checkOctets(t *testing.T, server string) {
	t.Helper()
	for i, odd := range oddData {
		for _, zone := range []string{"s.", "u."} {
			for _, state := range []string{"cold", "cached"} {
				wire := overTCP(t, server, newMsg(oddName(i, zone), odd.rrtype, withDO))
				var head dns.Msg
				if err := head.Unpack(wire[:12]); err != nil {
					t.Fatal(err)
				}
				got := rdataOf(t, wire, odd.rrtype)
				if head.Rcode != 0 || head.AuthenticatedData != (zone == "s.") || len(got) != 1 || got[0] != odd.rdata {
					t.Errorf("%s %s %q, %s: %s AD=%v %q", oddName(i, zone), dns.Type(odd.rrtype), odd.rdata, state,
						dns.RcodeToString[head.Rcode], head.AuthenticatedData, got)
				}
			}
		}
	}
}

// V-29, RFC 3597 section 4: RDATA goes out as the octets that came in, from a signed zone with AD, from the judge and
// from the cache.
func TestOctets(t *testing.T) {
	tree := oddWorld()
	c := config(t, tree.Caching().Serve(t, world.AnyPort))
	c.Anchors = tree.Anchors()
	checkOctets(t, serve(t, open(t, c)))
}

// TestOctetsOfUnbound has Unbound hand on the same, and find it Secure too.
func TestOctetsOfUnbound(t *testing.T) {
	needs.Tools(t, "unbound")
	tree := oddWorld()
	checkOctets(t, unbound.Start(t, tree.Caching().Serve(t, world.AnyPort), tree.DS(".")[0]))
}
