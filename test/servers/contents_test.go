//go:build linux

package servers

import (
	"crypto"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// contents is a signed zone in which something is to be broken. The first error of its methods is kept.
type contents struct {
	name string
	dir  string // where the private keys are
	rrs  []dns.RR
	err  error
}

func read(name, dir, file string) (*contents, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z := &contents{name: name, dir: dir}
	p := dns.NewZoneParser(f, name, file)
	p.SetDefaultTTL(3600)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if nsec3, ok := rr.(*dns.NSEC3); ok {
			nsec3.NextDomain = strings.ToUpper(nsec3.NextDomain) // the DNS library compares it in upper case
		}
		z.rrs = append(z.rrs, rr)
	}
	return z, p.Err()
}

// String returns the zone file. The SOA comes first, since some servers insist on it.
func (z *contents) String() string {
	slices.SortStableFunc(z.rrs, func(a, b dns.RR) int { return rank(a) - rank(b) })
	var text strings.Builder
	for _, rr := range z.rrs {
		// Knot does not read CLASS1, which the DNS library writes for unknown types
		fmt.Fprintln(&text, strings.Replace(rr.String(), "\tCLASS1\t", "\tIN\t", 1))
	}
	return text.String()
}

func rank(rr dns.RR) int {
	if rr.Header().Rrtype == dns.TypeSOA {
		return 0
	}
	return 1
}

// at returns the absolute name of a relative one; @ is the apex.
func (z *contents) at(name string) string {
	if name == "@" {
		return z.name
	}
	return name + "." + strings.TrimPrefix(z.name, ".")
}

// set returns the indices of the records and of the signatures of an RRset.
func (z *contents) set(owner string, t uint16) (records, sigs []int) {
	for i, rr := range z.rrs {
		if !strings.EqualFold(rr.Header().Name, owner) {
			continue
		}
		if sig, ok := rr.(*dns.RRSIG); ok && sig.TypeCovered == t {
			sigs = append(sigs, i)
		} else if rr.Header().Rrtype == t {
			records = append(records, i)
		}
	}
	return records, sigs
}

func (z *contents) fail(format string, args ...any) {
	if z.err == nil {
		z.err = fmt.Errorf(format, args...)
	}
}

// records returns an RRset, which must be there.
func (z *contents) records(owner string, t uint16) (rrs []dns.RR) {
	places, _ := z.set(owner, t)
	for _, i := range places {
		rrs = append(rrs, z.rrs[i])
	}
	if len(rrs) == 0 {
		z.fail("no %s %s", owner, dns.Type(t))
	}
	return rrs
}

// signatures calls f for each RRSIG over an RRset. There must be at least one.
func (z *contents) signatures(owner string, t uint16, f func(*dns.RRSIG)) {
	_, sigs := z.set(owner, t)
	for _, i := range sigs {
		f(z.rrs[i].(*dns.RRSIG))
	}
	if len(sigs) == 0 {
		z.fail("no RRSIG over %s %s", owner, dns.Type(t))
	}
}

// remove removes an RRset with its signatures, or the signatures alone.
func (z *contents) remove(owner string, t uint16, onlySignatures bool) {
	records, sigs := z.set(owner, t)
	if len(sigs) == 0 {
		z.fail("no RRSIG over %s %s to remove", owner, dns.Type(t))
	}
	gone := sigs
	if !onlySignatures {
		gone = append(gone, records...)
	}
	slices.Sort(gone)
	for _, i := range slices.Backward(gone) {
		z.rrs = slices.Delete(z.rrs, i, i+1)
	}
}

// key returns a key of the zone with the given flags, and the private key, from a file in the format of BIND and ldns.
func (z *contents) key(flags uint16) (*dns.DNSKEY, crypto.Signer) {
	for _, rr := range z.records(z.name, dns.TypeDNSKEY) {
		if key := rr.(*dns.DNSKEY); key.Flags == flags {
			return key, z.private(key)
		}
	}
	z.fail("no key with flags %d", flags)
	return nil, nil
}

func (z *contents) private(key *dns.DNSKEY) crypto.Signer {
	file := fmt.Sprintf("K%s+%03d+%05d.private", strings.ToLower(z.name), key.Algorithm, key.KeyTag())
	f, err := os.Open(filepath.Join(z.dir, file))
	if err != nil {
		z.fail("%w", err)
		return nil
	}
	defer f.Close()
	private, err := key.ReadPrivateKey(f, file)
	if err != nil {
		z.fail("%s: %w", file, err)
	}
	signer, _ := private.(crypto.Signer)
	return signer
}

// sign replaces the signatures over an RRset by one of the zone-signing key. change may change its fields before it is
// made.
func (z *contents) sign(owner string, t uint16, change func(*dns.RRSIG)) {
	rrs := z.records(owner, t)
	flags := uint16(dns.ZONE)
	if t == dns.TypeDNSKEY {
		flags |= dns.SEP
	}
	key, private := z.key(flags)
	if z.err != nil {
		return
	}
	now := time.Now()
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: rrs[0].Header().Ttl}, Algorithm: key.Algorithm, KeyTag: key.KeyTag(),
		SignerName: key.Hdr.Name,
		Inception:  uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(validity).Unix()),
	}
	if change != nil {
		change(sig)
	}
	if err := sig.Sign(private, rrs); err != nil {
		z.fail("%s %s: %w", owner, dns.Type(t), err)
	}
	z.remove(owner, t, true)
	z.rrs = append(z.rrs, sig)
}

// delegationSigners returns the DS of the keys with the SEP flag, of one digest type.
func (z *contents) delegationSigners(digest uint8) (all []*dns.DS) {
	for _, rr := range z.rrs {
		if key, ok := rr.(*dns.DNSKEY); ok && key.Flags&dns.SEP != 0 {
			all = append(all, key.ToDS(digest))
		}
	}
	return all
}

// corrupt changes one octet of a signature.
func corrupt(sig *dns.RRSIG) {
	raw, err := base64.StdEncoding.DecodeString(sig.Signature)
	if err != nil {
		panic(err) // it was parsed
	}
	raw[len(raw)/2] ^= 0x10
	sig.Signature = base64.StdEncoding.EncodeToString(raw)
}

// shorten removes the last octets of a signature.
func shorten(sig *dns.RRSIG) { sig.Signature = sig.Signature[:len(sig.Signature)-4] }
