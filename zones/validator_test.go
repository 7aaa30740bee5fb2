package zones_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"
)

// validator is a second opinion on what ought to be Secure: strict, simple, and with the DNS library's cryptography.
type validator struct {
	ask      func(name string, qtype uint16) *dns.Msg
	now      time.Time
	anchors  []*dns.DS // of the root
	keys     map[string][]*dns.DNSKEY
	problems []string
}

func newValidator(now time.Time, anchors []*dns.DS, ask func(name string, qtype uint16) *dns.Msg) *validator {
	return &validator{ask: ask, now: now, anchors: anchors, keys: map[string][]*dns.DNSKEY{}}
}

func (v *validator) problem(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// judge checks that every RRset of the reply is signed, and that it answers or denies the question. It returns what is
// wrong; nothing if it is Secure.
func (v *validator) judge(name string, qtype uint16) []string {
	v.problems = nil
	m := v.ask(name, qtype)
	if m.Rcode == dns.RcodeServerFailure {
		return []string{"SERVFAIL"}
	}
	expanded := v.verified(m.Answer)
	v.verified(m.Ns)
	p := proofOf(m.Ns)
	for owner, labels := range expanded {
		if !p.expansion(owner, labels) {
			v.problem("no proof for the wildcard answer at %s\n%v", owner, m)
		}
	}
	last, answered := end(m.Answer, name, qtype)
	switch {
	case answered:
	case m.Rcode == dns.RcodeNameError && p.nameError(last):
	case m.Rcode == dns.RcodeSuccess && p.nodata(last, qtype):
	default:
		v.problem("no proof of the denial\n%v", m)
	}
	return v.problems
}

// end follows the aliases from name on.
func end(answer []dns.RR, name string, qtype uint16) (last string, answered bool) {
	for range answer {
		for _, rr := range answer {
			cname, alias := rr.(*dns.CNAME)
			switch {
			case rr.Header().Name != name:
			case rr.Header().Rrtype == qtype:
				return name, true
			case alias:
				name = cname.Target
			}
		}
	}
	return name, false
}

// verified checks the signatures of a section; it returns the owners that come from wildcards, with the labels signed.
func (v *validator) verified(section []dns.RR) map[string]int {
	expanded := map[string]int{}
	for _, set := range sets(section) {
		h := set[0].Header()
		if h.Rrtype == dns.TypeCNAME && underDNAME(section, h.Name) {
			continue
		}
		sigs := signatures(section, h.Name, h.Rrtype)
		if len(sigs) == 0 {
			v.problem("%s %s: no signature", h.Name, dns.Type(h.Rrtype))
			continue
		}
		for _, sig := range sigs {
			if !v.holds(sig, set, v.zoneKeys(sig.SignerName)) {
				v.problem("%s %s: %s does not hold", h.Name, dns.Type(h.Rrtype), sig)
			}
			if int(sig.Labels) < dns.CountLabel(h.Name) && h.Name[0] != '*' {
				expanded[h.Name] = int(sig.Labels)
			}
		}
	}
	return expanded
}

func sets(section []dns.RR) (all [][]dns.RR) {
	type key struct {
		owner string
		rtype uint16
	}
	index := map[key]int{}
	for _, rr := range section {
		k := key{rr.Header().Name, rr.Header().Rrtype}
		if k.rtype == dns.TypeRRSIG {
			continue
		}
		i, ok := index[k]
		if !ok {
			i = len(all)
			index[k] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], rr)
	}
	return all
}

func signatures(section []dns.RR, owner string, rtype uint16) (sigs []*dns.RRSIG) {
	for _, rr := range section {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.Hdr.Name == owner && sig.TypeCovered == rtype {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

func underDNAME(section []dns.RR, name string) bool {
	return slices.ContainsFunc(section, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeDNAME && rr.Header().Name != name &&
			dns.IsSubDomain(rr.Header().Name, name)
	})
}

// holds says whether sig is a valid signature over set by one of keys.
func (v *validator) holds(sig *dns.RRSIG, set []dns.RR, keys []*dns.DNSKEY) bool {
	if !sig.ValidityPeriod(v.now) || !dns.IsSubDomain(sig.SignerName, set[0].Header().Name) {
		return false
	}
	return slices.ContainsFunc(keys, func(key *dns.DNSKEY) bool {
		switch {
		case key.KeyTag() != sig.KeyTag || key.Flags&dns.ZONE == 0:
			return false
		case key.Algorithm == dns.ED448:
			return verifyEd448(key, sig, set)
		}
		return sig.Verify(key, set) == nil
	})
}

// verifyEd448 verifies what the DNS library cannot (RFC 8080). Names in the set are in lower case.
func verifyEd448(key *dns.DNSKEY, sig *dns.RRSIG, set []dns.RR) bool {
	unsigned := *sig
	unsigned.Signature = ""
	data := rdata(&unsigned)
	set = slices.SortedFunc(slices.Values(set), func(a, b dns.RR) int { return bytes.Compare(rdata(a), rdata(b)) })
	for _, rr := range set {
		rr = dns.Copy(rr)
		rr.Header().Ttl = sig.OrigTtl
		if owner := rr.Header().Name; int(sig.Labels) < dns.CountLabel(owner) && owner[0] != '*' {
			rr.Header().Name = wildcard(suffix(owner, int(sig.Labels)))
		}
		data = append(data, packed(rr)...)
	}
	public, _ := base64.StdEncoding.DecodeString(key.PublicKey)
	signature, _ := base64.StdEncoding.DecodeString(sig.Signature)
	return len(public) == ed448.PublicKeySize && ed448.Verify(public, data, signature, "")
}

func packed(rr dns.RR) []byte {
	wire := make([]byte, 4096)
	end, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		panic(err)
	}
	return wire[:end]
}

func rdata(rr dns.RR) []byte {
	owner := make([]byte, 256)
	end, err := dns.PackDomainName(rr.Header().Name, owner, 0, nil, false)
	if err != nil {
		panic(err)
	}
	return packed(rr)[end+10:] // type, class, TTL and length
}

// zoneKeys returns the keys of a zone, by its DS up to the anchor.
func (v *validator) zoneKeys(zone string) []*dns.DNSKEY {
	if keys, known := v.keys[zone]; known {
		return keys
	}
	anchors := v.anchors
	if zone != "." {
		m := v.ask(zone, dns.TypeDS)
		before := len(v.problems)
		if v.verified(m.Answer); len(v.problems) > before {
			v.keys[zone] = nil
			return nil
		}
		anchors = usable(m.Answer)
	}
	v.keys[zone] = v.authenticated(zone, anchors)
	return v.keys[zone]
}

// authenticated returns the DNSKEY of a zone if one that a DS names has signed them.
func (v *validator) authenticated(zone string, anchors []*dns.DS) (keys []*dns.DNSKEY) {
	m := v.ask(zone, dns.TypeDNSKEY)
	var set []dns.RR
	for _, rr := range m.Answer {
		if key, ok := rr.(*dns.DNSKEY); ok {
			keys, set = append(keys, key), append(set, rr)
		}
	}
	for _, key := range keys {
		named := slices.ContainsFunc(anchors, func(ds *dns.DS) bool {
			own := key.ToDS(ds.DigestType)
			return own != nil && strings.EqualFold(own.Digest, ds.Digest) && own.KeyTag == ds.KeyTag
		})
		for _, sig := range signatures(m.Answer, zone, dns.TypeDNSKEY) {
			if named && v.holds(sig, set, []*dns.DNSKEY{key}) {
				return keys
			}
		}
	}
	v.problem("%s: no DS leads to the DNSKEY", zone)
	return nil
}

// usable returns the DS that count: SHA-1 only where there is nothing better (RFC 4509 section 3).
func usable(answer []dns.RR) (all []*dns.DS) {
	const unknownAlgorithm = 23
	weak := func(ds *dns.DS) bool { return ds.DigestType == dns.SHA1 }
	for _, rr := range answer {
		if ds, ok := rr.(*dns.DS); ok && ds.Algorithm != unknownAlgorithm {
			all = append(all, ds)
		}
	}
	if slices.ContainsFunc(all, func(ds *dns.DS) bool { return !weak(ds) }) {
		return slices.DeleteFunc(all, weak)
	}
	return all
}
