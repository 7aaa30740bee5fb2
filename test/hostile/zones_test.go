package hostile

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// expensive are the zones that are made to cost work.
func expensive() []*misdeed {
	all := append(trapped(), aliasesAcross()...)
	for _, m := range all {
		m.over = []string{plain}
	}
	return all
}

func trapped() []*misdeed {
	const colliding = 100
	return []*misdeed{
		{name: "100 keys of one tag and 100 signatures (CVE-2023-50387)", fault: zones.Fault{Zone: func(z *zones.Zone) {
			addKeys(z, fakeKeys(z.Name, colliding, 2, 128))
			z.Edit(z.Name, dns.TypeMX, fakeSignatures(colliding, 128))
		}}, want: told(servfail, badProof)},
		{name: "80 keys of 4096 bits, of one tag", fault: zones.Fault{Zone: func(z *zones.Zone) {
			addKeys(z, fakeKeys(z.Name, 80, 4, 512))
			z.Edit(z.Name, dns.TypeMX, fakeSignatures(80, 512))
		}}, want: told(servfail, badProof)}, // V-14 asks for all of it again, which is too much (L-11)
		{name: "the same at every name", fault: zones.Fault{Zone: func(z *zones.Zone) {
			addKeys(z, fakeKeys(z.Name, colliding, 2, 128))
			for _, t := range []uint16{dns.TypeSOA, dns.TypeNSEC} {
				z.Edit(z.Name, t, fakeSignatures(colliding, 128))
			}
		}}, qtype: dns.TypeTXT, want: told(servfail, badProof)},
		trappedDelegation(colliding),
		{name: "300 keys", fault: zones.Fault{Zone: func(z *zones.Zone) { addKeys(z, fakeKeys(z.Name, 300, 2, 128)) }},
			want: secure(dns.RcodeSuccess)},

		{name: "2500 iterations of NSEC3", config: zones.Config{NSEC3: &zones.NSEC3{Iterations: 2500}}, ask: "nothing",
			want: told(dns.RcodeNameError, tooManyIt)},
		{name: "2500 iterations, data", config: zones.Config{NSEC3: &zones.NSEC3{Iterations: 2500}},
			want: secure(dns.RcodeSuccess)},
		{name: "50 iterations, name of 110 labels (CVE-2023-50868)",
			config: zones.Config{NSEC3: &zones.NSEC3{Iterations: 50, Salt: strings.Repeat("ab", 100)}},
			ask:    strings.Repeat("a.", 109) + "a", want: told(servfail, other), hashes: 101},
		{name: "250 NSEC3 in each denial", config: zones.Config{NSEC3: &zones.NSEC3{}}, text: mailZone + names(250),
			fault: zones.Fault{Zone: allProofs(250)}, ask: "nothing", want: told(servfail, other), hashes: 101},

		{name: "eleven aliases", text: aliases(11), ask: "c0", qtype: dns.TypeA, want: secure(dns.RcodeSuccess),
			checks: 60},
		{name: "twelve aliases", text: aliases(12), ask: "c0", qtype: dns.TypeA, want: told(servfail, other),
			checks: 60},
		{name: "aliases in a circle", text: mailZone + "a CNAME b\nb CNAME a\n", ask: "a", qtype: dns.TypeA,
			want: told(servfail, other)},
		{name: "an alias of itself", text: mailZone + "a CNAME a\n", ask: "a", qtype: dns.TypeA,
			want: told(servfail, other)},
		{name: "a DNAME into itself", text: mailZone + "d DNAME xyz.d\n", ask: "y.d", qtype: dns.TypeA,
			want: told(servfail, other)},
	}
}

// aliasesAcross are alias chains through one zone for each alias. The upstream answers with one alias at a time.
func aliasesAcross() []*misdeed {
	link := func(hop int) string { return fmt.Sprintf("%slink CNAME link.hop%d.com.\n", mailZone, hop) }
	act := change(firstLinkOnly)
	return []*misdeed{
		{name: "eleven aliases in eleven zones", act: act, text: link(2), ask: "link", qtype: dns.TypeA,
			want: secure(dns.RcodeSuccess), checks: 60, questions: 100},
		{name: "twelve aliases in twelve zones", act: act, text: link(1), ask: "link", qtype: dns.TypeA,
			want: told(servfail, other), checks: 60, questions: 100},
	}
}

// hops are zones with an alias to the next one each; the last one has the data.
func hops() (plans []zones.Plan) {
	for i := range 13 {
		text := mailZone + fmt.Sprintf("link CNAME link.hop%d.com.\n", i+1)
		if i == 12 {
			text = mailZone + "link A 192.0.2.25\n"
		}
		plans = append(plans, zones.Plan{Name: fmt.Sprintf("hop%d.com.", i), Text: text})
	}
	return plans
}

func aliases(n int) string {
	var b strings.Builder
	b.WriteString(mailZone)
	for i := range n {
		fmt.Fprintf(&b, "c%d CNAME c%d\n", i, i+1)
	}
	fmt.Fprintf(&b, "c%d A 192.0.2.25\n", n)
	return b.String()
}

func names(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "n%d A 192.0.2.25\n", i)
	}
	return b.String()
}

// allProofs makes a zone deny each name with the NSEC3 records of n names.
func allProofs(n int) func(z *zones.Zone) {
	return func(z *zones.Zone) {
		var all []dns.RR
		for i := range n {
			for _, rr := range z.Proof(fmt.Sprintf("n%d.%s", i, z.Name)) {
				if covered(rr) == dns.TypeNSEC3 {
					all = append(all, rr)
				}
			}
		}
		z.Spoil(func(_ dns.Question, m *dns.Msg) *dns.Msg {
			if len(m.Answer) == 0 {
				m.Ns = slices.Concat(all, m.Ns)
			}
			return m
		})
	}
}

// covered returns the type of a record; for a signature, the type that it covers.
func covered(rr dns.RR) uint16 {
	if sig, ok := rr.(*dns.RRSIG); ok {
		return sig.TypeCovered
	}
	return rr.Header().Rrtype
}

// tag is the key tag of all keys that are made to collide.
const tag = 12345

// fakeKeys makes RSA keys with one key tag, without private keys: a validator may try each of them all the same. Their
// exponent is 65537, or 2^32+1, which takes long.
func fakeKeys(zone string, n, exponentWords, modulus int) (keys []*dns.DNSKEY) {
	exponent := []byte{3, 1, 0, 1}
	if exponentWords > 2 {
		exponent = []byte{5, 1, 0, 0, 0, 1}
	}
	for len(keys) < n {
		raw := append(slices.Clone(exponent), make([]byte, modulus)...)
		rand.Read(raw[len(exponent):])
		raw[len(exponent)] |= 0x80
		raw[len(raw)-1] |= 1
		if k := collide(zone, raw, len(exponent)+8); k != nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// collide sets the 16-bit word at an even offset so that the key has the tag. It returns nil if no value does.
func collide(zone string, raw []byte, at int) *dns.DNSKEY {
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: dns.ZONE, Protocol: 3, Algorithm: dns.RSASHA256,
	}
	set := func(word uint16) uint16 {
		binary.BigEndian.PutUint16(raw[at:], word)
		key.PublicKey = base64.StdEncoding.EncodeToString(raw)
		return key.KeyTag()
	}
	word := tag - set(0)
	for _, w := range []uint16{word, word - 1, word + 1} { // the carry may be one more or less
		if set(w) == tag {
			return key
		}
	}
	return nil
}

// addKeys adds keys to the DNSKEY RRset, which the zone's own key signs.
func addKeys(z *zones.Zone, fake []*dns.DNSKEY) {
	z.Edit(z.Name, dns.TypeDNSKEY, func(rrs, _ []dns.RR) (_, sigs []dns.RR) {
		for _, k := range fake {
			rrs = append(rrs, k)
		}
		return rrs, world.Sign(rrs, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour), z.Keys[0])
	})
}

// fakeSignatures replaces a signature by many with the key tag of the fake keys. None of them verifies.
func fakeSignatures(n, octets int) func(rrs, sigs []dns.RR) (_, _ []dns.RR) {
	return func(rrs, sigs []dns.RR) (_, _ []dns.RR) {
		model, fakes := sigs[0].(*dns.RRSIG), []dns.RR{}
		for range n {
			sig := *model
			raw := make([]byte, octets)
			rand.Read(raw[1:]) // below the modulus
			sig.Algorithm, sig.KeyTag, sig.Signature = dns.RSASHA256, tag, base64.StdEncoding.EncodeToString(raw)
			fakes = append(fakes, &sig)
		}
		return rrs, fakes
	}
}

// trappedDelegation is a zone whose DS point to keys with one key tag, and whose DNSKEY RRset has a false signature by
// each.
func trappedDelegation(n int) *misdeed {
	var fake []*dns.DNSKEY
	return &misdeed{name: "100 DS for 100 keys of one tag", fault: zones.Fault{
		DS: func(all []*dns.DS) (ds []*dns.DS) {
			fake = fakeKeys(all[0].Hdr.Name, n, 2, 128)
			for _, k := range fake {
				ds = append(ds, k.ToDS(dns.SHA256))
			}
			return ds
		},
		Zone: func(z *zones.Zone) {
			addKeys(z, fake)
			z.Edit(z.Name, dns.TypeDNSKEY, fakeSignatures(n, 128))
		},
	}, want: told(servfail, badProof)}
}
