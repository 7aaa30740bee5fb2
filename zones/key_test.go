package zones

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"testing"

	"github.com/miekg/dns"
)

// TestKeyTagZero: a zone whose share of the common RSA key would have key tag 0, which the DNS library does not sign with, gets a
// key of its own.
func TestKeyTagZero(t *testing.T) {
	shared := &Key{DNSKEY: &dns.DNSKEY{
		Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}, Flags: 257, Protocol: 3, Algorithm: dns.RSASHA256,
	}}
	for n := range uint32(math.MaxUint16 + 2) {
		shared.DNSKEY.PublicKey = base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, 0xffff0000|n))
		if !shared.canSign() {
			break
		}
	}
	if shared.canSign() {
		t.Fatal("no key with tag 0 was found")
	}
	k, err := (&ring{shared}).key("example.", dns.RSASHA256, 257)
	if err != nil || !k.canSign() {
		t.Errorf("%v: the key has tag %d", err, k.DNSKEY.KeyTag())
	}
}
