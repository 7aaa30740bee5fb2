package zones

import (
	"crypto/x509"
	"encoding/base64"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Fault is what is wrong with one zone of a world. Each field that is set is one way to break it; the faults that have
// a name are in [Faults].
type Fault struct {
	Signing func(*Config)             // how it is signed; the times are filled in
	DS      func([]*dns.DS) []*dns.DS // the DS that the zone above publishes
	Zone    func(*Zone)               // the zone, once it is signed
	Parent  func(parent, zone *Zone)  // the zone above, once both are signed
	// Certificate changes those that the mail hosts of the zone present.
	Certificate func(*x509.Certificate)
}

// Faults are the faults of the lab by name, each what operators, broken servers or attackers do.
var Faults = map[string]Fault{
	"expired":                     {Signing: inThePast},
	"not-yet-valid":               {Signing: inTheFuture},
	"expiration-before-inception": {Signing: backwards},
	"no-zone-key-bit":             {Signing: func(c *Config) { c.Flags = dns.SEP }},

	"no-ds":            {DS: func([]*dns.DS) []*dns.DS { return nil }},
	"ds-without-key":   {DS: func(all []*dns.DS) []*dns.DS { return []*dns.DS{otherKey(all[0])} }},
	"unused-ds":        {DS: func(all []*dns.DS) []*dns.DS { return append(all, otherKey(all[0])) }},
	"unknown-digest":   {DS: unknownDigest},
	"digest-downgrade": {DS: digestDowngrade},
	"unusable-sha256":  {DS: unusableSHA256},
	"stripped-ds":      {Parent: stripDS},

	"wrong-signature":     {Zone: func(z *Zone) { z.Edit(z.Name, dns.TypeMX, corrupt) }},
	"wrong-key-signature": {Zone: func(z *Zone) { z.Edit(z.Name, dns.TypeDNSKEY, corrupt) }},
	"missing-signature":   {Zone: func(z *Zone) { z.Edit(z.Name, dns.TypeMX, unsigned) }},
	"stripped-signatures": {Zone: without(dns.TypeRRSIG)},
	"stripped-denial":     {Zone: without(dns.TypeNSEC, dns.TypeNSEC3)},
	"bad-tlsa-denial":     {Zone: badTLSADenial},
	"tlsa-servfail":       {Zone: tlsaServfail},
	"collated-denial":     {Parent: collate},

	"expired-certificate": {Certificate: expireCertificate},
	"other-name":          {Certificate: func(c *x509.Certificate) { c.DNSNames = []string{"mx.elsewhere.dane"} }},
}

// FaultNames returns the names of [Faults], sorted.
func FaultNames() []string { return slices.Sorted(maps.Keys(Faults)) }

// inThePast ends the signatures two days ago: Unbound forgives a day.
func inThePast(c *Config) {
	c.Expiration = c.Inception.Add(-48 * time.Hour)
	c.Inception = c.Expiration.Add(-validity)
}

// expireCertificate ends a certificate two days before the lab starts, and an hour, so that they are over in whatever
// second one looks.
func expireCertificate(c *x509.Certificate) {
	c.NotAfter = c.NotBefore.Add(certificateAge - 49*time.Hour)
	c.NotBefore = c.NotAfter.Add(-certificateLife)
}

func inTheFuture(c *Config) { c.Inception, c.Expiration = c.Expiration, c.Expiration.Add(validity) }

func backwards(c *Config) { c.Inception, c.Expiration = c.Expiration, c.Inception }

// otherKey is the DS of a key that the zone does not have.
func otherKey(ds *dns.DS) *dns.DS {
	other := *ds
	other.KeyTag ^= 1
	other.Digest = ds.Digest[1:] + ds.Digest[:1]
	return &other
}

// unknownDigest makes the digest type one that nobody verifies (5 is GOST R 34.11-2012).
func unknownDigest(all []*dns.DS) []*dns.DS {
	all[0].DigestType = 5
	return all[:1]
}

// digestDowngrade is an attempt to have a SHA-1 DS used although there is a SHA-256 one, which matches no key (RFC 4509
// section 3). The zone has DS of types 1 and 2.
func digestDowngrade(all []*dns.DS) []*dns.DS {
	for i, ds := range all {
		if ds.DigestType != dns.SHA1 {
			all[i] = otherKey(ds)
		}
	}
	return all
}

// unusableSHA256 makes all but the SHA-1 DS of an algorithm that nobody verifies, so that SHA-1 is the strongest usable
// one.
func unusableSHA256(all []*dns.DS) []*dns.DS {
	all = digestDowngrade(all)
	for _, ds := range all {
		if ds.DigestType != dns.SHA1 {
			ds.Algorithm = unknownAlgorithm
		}
	}
	return all
}

// unknownAlgorithm is one that no validator of today verifies: GOST R 34.10-2012 (RFC 9558).
const unknownAlgorithm = 23

// corrupt changes one octet of each signature.
func corrupt(rrs, sigs []dns.RR) (_, _ []dns.RR) {
	for _, rr := range sigs {
		sig := rr.(*dns.RRSIG)
		raw, err := base64.StdEncoding.DecodeString(sig.Signature)
		if err != nil {
			panic(err) // we made it
		}
		raw[len(raw)/2] ^= 0x10
		sig.Signature = base64.StdEncoding.EncodeToString(raw)
	}
	return rrs, sigs
}

// unsigned takes the signatures away.
func unsigned(rrs, _ []dns.RR) (_, _ []dns.RR) { return rrs, nil }

// without makes a server lose all records of some types, and the signatures over them.
func without(types ...uint16) func(*Zone) {
	lost := func(rr dns.RR) bool {
		sig, ok := rr.(*dns.RRSIG)
		return slices.Contains(types, rr.Header().Rrtype) || ok && slices.Contains(types, sig.TypeCovered)
	}
	return func(z *Zone) {
		z.Spoil(func(_ dns.Question, m *dns.Msg) *dns.Msg {
			m.Answer, m.Ns = slices.DeleteFunc(m.Answer, lost), slices.DeleteFunc(m.Ns, lost)
			return m
		})
	}
}

// badTLSADenial makes a server deny the TLSA records that there are, with the proof for another name.
func badTLSADenial(z *Zone) {
	z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if q.Qtype == dns.TypeTLSA {
			q.Name = child("zzz", z.Name)
			m.Answer, m.Ns = nil, z.respond(q, true).Ns
		}
		return m
	})
}

// tlsaServfail is a server that fails on questions for TLSA.
func tlsaServfail(z *Zone) {
	z.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if q.Qtype == dns.TypeTLSA {
			return nil
		}
		return m
	})
}

// stripDS takes the DS out of replies without proof that there is none, as one who wants the zone to pass for unsigned.
func stripDS(parent, zone *Zone) {
	parent.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if q.Qtype == dns.TypeDS && strings.EqualFold(q.Name, zone.Name) {
			r := &response{zone: parent, do: true, msg: m}
			m.Answer, m.Ns = nil, nil
			r.soa()
		}
		return m
	})
}

// collate adds to the NODATA of an unsigned zone the proof of the zone above that it is unsigned, as recursors do that
// put together what they have.
func collate(parent, zone *Zone) {
	proof := parent.respond(dns.Question{Name: zone.Name, Qtype: dns.TypeDS, Qclass: dns.ClassINET}, true).Ns
	zone.Spoil(func(_ dns.Question, m *dns.Msg) *dns.Msg {
		if len(m.Answer) > 0 {
			return m
		}
		for _, rr := range proof {
			if t := rr.Header().Rrtype; t != dns.TypeSOA {
				m.Ns = append(m.Ns, dns.Copy(rr))
			}
		}
		return m
	})
}
