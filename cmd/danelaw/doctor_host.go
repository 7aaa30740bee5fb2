package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// listeners tells who answers on port 53 of this host.
func (*machine) listeners(context.Context) []finding {
	const topic = "port 53"
	var found []finding
	everywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), 53)
	for _, network := range []string{"udp", "tcp"} {
		names := holders(network, everywhere, overlap)
		switch {
		case len(names) == 0:
			found = append(found, finding{topic, warning, "nobody is seen to listen on port 53 over " +
				strings.ToUpper(network),
				"start danelaw, or run this as root if a process of another user should be there"})
		case !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "danelaw ") }):
			found = append(found, finding{topic, warning, fmt.Sprintf("over %s it is not danelaw that listens, but %s",
				strings.ToUpper(network),
				strings.Join(names, ", ")),
				"stop that, or have danelaw listen on an address of its own, as with `bind 127.0.0.5`"})
		default:
			found = append(found, fine(topic, "%s listens over %s", strings.Join(names, ", "),
				strings.ToUpper(network)))
		}
	}
	return found
}

// resolverConfiguration looks at what the resolver library reads (D-15).
func (m *machine) resolverConfiguration(context.Context) (found []finding) {
	const topic = "resolv.conf"
	text, _ := m.read(resolvConf) // without it programs ask 127.0.0.1
	servers, options := readResolvConf(text)
	found = append(found, nameserverFindings(servers)...)
	if !slices.Contains(options, "trust-ad") {
		f := finding{topic, warning, "`options trust-ad` is missing: glibc takes the AD bit from answers, and only " +
			"Postfix asks for it to stay",
			"add `options trust-ad edns0` to " + resolvConf}
		if m.has("exim") || m.has("exim4") {
			f.State, f.Why = fault, "`options trust-ad` is missing: glibc takes the AD bit from answers, so "+
				"Exim never uses DANE"
		}
		found = append(found, f)
	} else {
		found = append(found, fine(topic, "`options trust-ad` lets the AD bit through"))
	}
	if !slices.Contains(options, "edns0") {
		found = append(found,
			finding{topic, warning, "`options edns0` is missing: large answers need a second question over TCP",
				"add `options trust-ad edns0` to " + resolvConf})
	}
	return found
}

// readResolvConf returns the addresses and options of a resolv.conf (resolv.conf(5)).
func readResolvConf(text string) (servers, options []string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			servers = append(servers, words[1])
		case "options":
			options = append(options, words[1:]...)
		}
	}
	return servers, options
}

// nameserverFindings judges the nameserver lines. glibc asks the second when the first is slow.
func nameserverFindings(servers []string) (found []finding) {
	const topic = "resolv.conf"
	const one = "let `nameserver 127.0.0.1`, where danelaw listens, be the only nameserver"
	if len(servers) == 0 {
		return []finding{{topic, warning, resolvConf + " names no nameserver: programs ask 127.0.0.1",
			"write `nameserver 127.0.0.1`"}}
	}
	for _, s := range servers {
		addr, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			found = append(found, finding{topic, fault, fmt.Sprintf("nameserver %q is no IP address", s), one})
		case addr == resolvedStub:
			found = append(found,
				finding{topic, fault, "127.0.0.53 is systemd-resolved, whose AD bit is not the proof that DANE needs",
					one + "; a symlink to /run/systemd/resolve has to be replaced by a file"})
		case addr == netip.AddrFrom4([4]byte{127, 0, 0, 11}):
			found = append(found,
				finding{topic, fault, "127.0.0.11 is Docker's resolver: it validates nothing, and " +
					"hands no signatures on",
					"run danelaw in the container's network, and name its address with `dns:` in the " +
						"container's settings"})
		case !addr.IsLoopback():
			found = append(found,
				finding{topic, warning, s + " is not on this host: an AD bit can be forged on the way", one})
		default:
			found = append(found, fine(topic, "%s is on this host", s))
		}
	}
	if len(servers) > 1 {
		found = append(found,
			finding{topic, fault,
				fmt.Sprintf("%d nameservers are named: the others are asked whenever the first is "+
					"slow or says SERVFAIL, "+
					"and what they say of a bogus domain is believed", len(servers)), one})
	}
	return found
}

// clock looks at time and its synchronisation.
func (*machine) clock(context.Context) []finding {
	const topic = "clock"
	now, built := time.Now(), danelaw.BuildDate()
	if now.Before(built) {
		return []finding{{topic, fault,
			fmt.Sprintf("it is %s by this host's clock, before danelaw was built (%s): no signature is valid yet",
				now.UTC().Format(time.DateOnly), built.UTC().Format(time.DateOnly)),
			"set the clock, and name NTP servers by address"}}
	}
	synchronised, known := clockSynchronised()
	switch {
	case !known:
		return []finding{fine(topic, "it is %s UTC; whether it is synchronised the system does not tell",
			now.UTC().Format(time.DateTime))}
	case !synchronised:
		return []finding{{topic, warning,
			fmt.Sprintf("it is %s UTC, and nothing keeps the clock right: a wrong one makes signatures "+
				"expired, or not yet valid",
				now.UTC().Format(time.DateTime)), "run systemd-timesyncd, chrony or ntpd"}}
	}
	return []finding{fine(topic, "it is %s UTC, synchronised", now.UTC().Format(time.DateTime))}
}
