package dnssec

import "github.com/miekg/dns"

// Key is a zone key whose public key has been parsed once.
type Key struct {
	RR  *dns.DNSKEY
	Tag uint16 // RFC 4034 appendix B
	// the parsed public key follows
}
