package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// listeners tells who answers on port 53 of this host.
func (*machine) listeners(context.Context) (found []finding) {
	everywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), 53)
	for _, network := range []string{"udp", "tcp"} {
		names, over := holders(network, everywhere, overlap), strings.ToUpper(network)
		all := strings.Join(names, ", ")
		f := fine("port 53", "%s listens over %s", all, over)
		switch {
		case len(names) == 0:
			f = warn("port 53", "nobody is seen to listen on port 53 over %s", over).
				do("start danelaw, or run this as root if a process of another user should be there")
		case !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "danelaw ") }):
			f = warn("port 53", "over %s it is not danelaw that listens, but %s", over, all).
				do("stop that, or have danelaw listen on an address of its own, as with `bind 127.0.0.5`")
		}
		found = append(found, f)
	}
	return found
}

// resolverConfiguration looks at what the resolver library reads (D-15).
func (m *machine) resolverConfiguration(context.Context) (found []finding) {
	text, _ := m.read(resolvConf) // without it programs ask 127.0.0.1
	servers, options := readResolvConf(text)
	found, add := nameserverFindings(servers), "add `options trust-ad edns0` to "+resolvConf
	switch {
	case slices.Contains(options, "trust-ad"):
		found = append(found, fine("resolv.conf", "`options trust-ad` lets the AD bit through"))
	case m.eximProgram() != "":
		found = append(found, faulty("resolv.conf",
			"`options trust-ad` is missing: glibc takes the AD bit from answers, so Exim never uses DANE").do(add))
	default:
		found = append(found, warn("resolv.conf", "`options trust-ad` is missing: glibc takes the AD bit from "+
			"answers, and only Postfix asks for it to stay").do(add))
	}
	if !slices.Contains(options, "edns0") {
		found = append(found, warn("resolv.conf", "`options edns0` is missing: large answers need a second question "+
			"over TCP").do(add))
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
	const topic, one = "resolv.conf", "let `nameserver 127.0.0.1`, where danelaw listens, be the only nameserver"
	if len(servers) == 0 {
		return []finding{
			warn(topic, "%s names no nameserver: programs ask 127.0.0.1", resolvConf).
				do("write `nameserver 127.0.0.1`"),
		}
	}
	for _, s := range servers {
		f := fine(topic, "%s is on this host", s)
		switch addr, err := netip.ParseAddr(s); {
		case err != nil:
			f = faulty(topic, "nameserver %q is no IP address", s).do(one)
		case addr == resolvedStub:
			f = faulty(topic, "127.0.0.53 is systemd-resolved, whose AD bit is not the proof that DANE needs").
				do(one + "; a symlink to /run/systemd/resolve has to be replaced by a file")
		case addr == netip.AddrFrom4([4]byte{127, 0, 0, 11}):
			f = faulty(topic, "127.0.0.11 is Docker's resolver: it validates nothing, and hands no signatures on").
				do("run danelaw in the container's network, and name its address with `dns:` in the container's " +
					"settings")
		case !addr.IsLoopback():
			f = warn(topic, "%s is not on this host: an AD bit can be forged on the way", s).do(one)
		}
		found = append(found, f)
	}
	if len(servers) > 1 {
		found = append(found, faulty(topic, "%d nameservers are named: the others are asked whenever the first is "+
			"slow or says SERVFAIL, and what they say of a bogus domain is believed", len(servers)).do(one))
	}
	return found
}

// clock looks at time and its synchronisation.
func (*machine) clock(context.Context) []finding {
	now, built := time.Now().UTC(), danelaw.BuildDate().UTC()
	synchronised, known := clockSynchronised()
	f := fine("clock", "it is %s UTC, synchronised", now.Format(time.DateTime))
	switch {
	case now.Before(built):
		f = faulty("clock", "it is %s by this host's clock, before danelaw was built (%s): no signature is valid yet",
			now.Format(time.DateOnly), built.Format(time.DateOnly)).do("set the clock, and name NTP servers by address")
	case !known:
		f = fine("clock", "it is %s UTC; whether it is synchronised the system does not tell",
			now.Format(time.DateTime))
	case !synchronised:
		f = warn("clock", "it is %s UTC, and nothing keeps the clock right: a wrong one makes signatures expired, or "+
			"not yet valid", now.Format(time.DateTime)).do("run systemd-timesyncd, chrony or ntpd")
	}
	return []finding{f}
}
