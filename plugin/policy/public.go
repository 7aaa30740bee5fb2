package policy

import "net/netip"

// prefixes reads networks.
func prefixes(all ...string) (read []netip.Prefix) {
	for _, p := range all {
		read = append(read, netip.MustParsePrefix(p))
	}
	return read
}

var (
	// special4 are the networks of IPv4 that nobody reaches across the internet (IANA's registry of special purpose
	// addresses, RFC 6890), multicast and what is reserved among them.
	special4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "224.0.0.0/3")
	// global6 is what IANA has given out of IPv6; special6 is what of that is not reached, or leads elsewhere: protocol
	// assignments with Teredo, documentation, 6to4.
	global6  = netip.MustParsePrefix("2000::/3")
	special6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
	// nat64 leads to an address of IPv4, its last 32 bits (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// public reports whether an address is one of the internet (D-27).
func public(a netip.Addr) bool {
	a = a.Unmap()
	switch {
	case a.Zone() != "":
		return false
	case a.Is4():
		return !within(special4, a)
	case nat64.Contains(a):
		octets := a.As16()
		return public(netip.AddrFrom4([4]byte(octets[12:])))
	}
	return global6.Contains(a) && !within(special6, a)
}

func within(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
