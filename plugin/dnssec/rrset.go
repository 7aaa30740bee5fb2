package dnssec

import "github.com/miekg/dns"

// verify judges one RRset with the keys of a Secure zone as Signer's Name (V-15a..V-24, V-27..V-32, L-1..L-3). It returns
// the RRSIG that verified, the first in the fixed order of L-3, and cuts set.TTL to it (V-21). The outcome is memoised in
// c, so asking again costs nothing.
func (c *Check) verify(set *RRset, zone *Zone) (*dns.RRSIG, *Failure) { panic("unbuilt") }
