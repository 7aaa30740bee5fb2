package mail

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// What Postfix 3.7 and Exim 4.96 make of the names in MX records and of the domains of recipients; test/mta shows it. A
// name is compared in its zone-file form, as the C library hands it to both: what is no letter of ASCII has a backslash
// there.

// refuses says why a sender takes no mail for a domain of such a name, "" if it does.
func (s Sender) refuses(domain string) string {
	labels := strings.Split(strings.TrimSuffix(domain, "."), ".")
	switch {
	case s == Postfix && !hostname(labels, false):
		return fmt.Sprintf("to Postfix %s is no domain name", domain)
	case s == Exim && !every(labels, func(l string) bool { return l != "" && l[0] != '-' && every([]byte(l), isLDH) }):
		return fmt.Sprintf("to Exim %s is no domain name", domain)
	}
	return ""
}

// malformed says why a sender passes over an MX record with such a name, "" if it does not.
func (s Sender) malformed(name string) string {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	switch {
	case s == Postfix && !postfixLiteral(name).IsValid() && !hostname(labels, true):
		return fmt.Sprintf("to Postfix %s is no host name, and it passes over the MX record", name)
	case s == Exim && anyLiteral(name):
		return fmt.Sprintf("%s is an address, and Exim passes over such an MX record", name)
	case s == Exim && !every(labels, eximLabel):
		return fmt.Sprintf("to Exim %s is no host name, and it passes over the MX record", name)
	}
	return ""
}

func every[T any](all []T, ok func(T) bool) bool {
	for _, one := range all {
		if !ok(one) {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isLDH(c byte) bool   { return isAlnum(c) || c == '-' }

// hostname is valid_hostname of Postfix: letters, digits, underscores, and hyphens within labels; not digits alone;
// where a wildcard is allowed, the first label may be one.
func hostname(labels []string, wildcard bool) bool {
	numeric := true
	for i, l := range labels {
		switch {
		case wildcard && i == 0 && l == "*":
			numeric = false
		case l == "" || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-"):
			return false
		case !every([]byte(l), func(c byte) bool { return isLDH(c) || c == '_' }):
			return false
		case !every([]byte(l), isDigit):
			numeric = false
		}
	}
	return !numeric
}

// eximLabel is what Exim's check_dns_names_pattern, as it comes, takes for a label.
func eximLabel(l string) bool {
	word := func(c byte) bool { return isAlnum(c) || c == '_' }
	return l != "" && word(l[0]) && word(l[len(l)-1]) &&
		every([]byte(l), func(c byte) bool { return word(c) || c == '-' || c == '/' })
}

// postfixLiteral is the address that Postfix takes an MX name for, which it connects to without a lookup; invalid if it
// is a name.
func postfixLiteral(name string) netip.Addr {
	name = strings.TrimSuffix(name, ".")
	if strings.Contains(name, ":") {
		a, err := netip.ParseAddr(name)
		if err != nil || a.Zone() != "" {
			return netip.Addr{}
		}
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
		if err != nil || !every([]byte(p), isDigit) {
			return netip.Addr{}
		}
		octets[i] = byte(n)
	}
	a := netip.AddrFrom4(octets)
	if octets[0] == 0 && a != netip.IPv4Unspecified() {
		return netip.Addr{}
	}
	return a
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
	if s != Exim {
		return false
	}
	for _, net := range ignored {
		if net.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}
