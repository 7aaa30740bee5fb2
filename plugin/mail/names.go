package mail

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What Postfix 3.7 and Exim 4.96 make of the names in MX records and of the domains of recipients; test/mta shows it. A
// name is compared in its zone-file form, as the C library hands it to both: what is no letter of ASCII has a backslash
// there.

// refuses says why a sender takes no mail for a domain of such a name, "" if it does.
func (s Sender) refuses(domain string) string {
	switch {
	case s == Postfix && (!postfixDomain.MatchString(domain) || numeric.MatchString(domain)):
		return fmt.Sprintf("to Postfix %s is no domain name", domain)
	case s == Exim && !eximDomain.MatchString(domain):
		return fmt.Sprintf("to Exim %s is no domain name", domain)
	}
	return ""
}

// malformed says why a sender passes over an MX record with such a name, "" if it does not.
func (s Sender) malformed(name string) string {
	switch {
	case s == Postfix && postfixLiteral(name).IsValid():
	case s == Postfix && (!postfixHost.MatchString(name) || numeric.MatchString(name)):
		return fmt.Sprintf("to Postfix %s is no host name, and it passes over the MX record", name)
	case s == Exim && anyLiteral(name):
		return fmt.Sprintf("%s is an address, and Exim passes over such an MX record", name)
	case s == Exim && !eximHost.MatchString(name):
		return fmt.Sprintf("to Exim %s is no host name, and it passes over the MX record", name)
	}
	return ""
}

var (
	// Postfix's valid_hostname: letters, digits, underscores, and hyphens within labels; not digits alone. The first
	// label of a host may be a wildcard.
	postfixDomain = regexp.MustCompile(`^(\w([\w-]*\w)?\.?)+$`)
	postfixHost   = regexp.MustCompile(`^(\*\.?|(\*\.)?(\w([\w-]*\w)?\.?)+)$`)
	numeric       = regexp.MustCompile(`^[\d.]+$`)
	eximDomain    = regexp.MustCompile(`^([[:alnum:]][[:alnum:]-]*\.?)+$`)
	eximHost      = regexp.MustCompile(`^(\w([\w/-]*\w)?\.?)+$`) // its check_dns_names_pattern, as it comes
)

// postfixLiteral is the address that Postfix takes an MX name for, which it connects to without a lookup; invalid if it
// is a name.
func postfixLiteral(name string) netip.Addr {
	name = strings.TrimSuffix(name, ".")
	if a, err := netip.ParseAddr(name); strings.Contains(name, ":") && err == nil && a.Zone() == "" {
		return a
	}
	return ipv4(name)
}

// ipv4 reads an IPv4 address as the C library does, which takes 010 for 8; Postfix lets all of 0.0.0.0/8 but 0.0.0.0
// out.
func ipv4(name string) netip.Addr {
	parts := strings.Split(name, ".")
	var octets [4]byte
	if len(parts) != len(octets) {
		return netip.Addr{}
	}
	for i, p := range parts {
		base := 10
		if len(p) > 1 && p[0] == '0' {
			base = 8
		}
		n, err := strconv.ParseUint(p, base, 8)
		if err != nil {
			return netip.Addr{}
		}
		octets[i] = byte(n)
	}
	if a := netip.AddrFrom4(octets); octets[0] != 0 || a == netip.IPv4Unspecified() {
		return a
	}
	return netip.Addr{}
}

// anyLiteral reports whether a name has the form of an address.
func anyLiteral(name string) bool {
	a, err := netip.ParseAddr(strings.TrimSuffix(name, "."))
	return err == nil && a.Zone() == ""
}

// local reports whether who connects to an address reaches oneself.
func local(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }

// ignored are the networks in which no host is to Debian's configuration of Exim (ignore_target_hosts of the router
// dnslookup).
var ignored = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("100::/64"),
}

// Ignores reports whether a sender takes no host to be at an address.
func (s Sender) Ignores(a netip.Addr) bool {
	return s == Exim && slices.ContainsFunc(ignored, func(net netip.Prefix) bool { return net.Contains(a.Unmap()) })
}
