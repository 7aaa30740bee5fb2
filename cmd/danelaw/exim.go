package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// exim is Exim as `exim -bP` describes it.
type exim struct {
	machine             *machine
	program             string
	routers, transports []eximDriver
}

// eximProgram is its name on this machine, which Debian changes; "" if it is not there.
func (m *machine) eximProgram() string {
	for _, program := range []string{"exim4", "exim"} {
		if m.has(program) {
			return program
		}
	}
	return ""
}

// eximDriver is one router or transport.
type eximDriver struct {
	name    string // such as "transport remote_smtp"
	options map[string]string
}

// on reports whether an option is set that is either set or not.
func (d eximDriver) on(option string) bool { return d.options[option] == "true" }

// eximDrivers reads the list: a title such as "remote_smtp transport:", then an option a line, NAME = VALUE, NAME or
// no_NAME.
func eximDrivers(text string) (all []eximDriver) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, value, assigned := strings.Cut(line, "=")
		title, titled := strings.CutSuffix(line, ":")
		switch {
		case titled && !assigned && strings.Count(title, " ") == 1:
			name, kind, _ := strings.Cut(title, " ")
			all = append(all, eximDriver{kind + " " + name, map[string]string{}})
		case len(all) == 0 || line == "":
		case assigned:
			all[len(all)-1].options[strings.TrimSpace(name)] = strings.TrimSpace(value)
		case strings.HasPrefix(line, "no_"):
			all[len(all)-1].options[line[3:]] = "false"
		default:
			all[len(all)-1].options[line] = "true"
		}
	}
	return all
}

// transport is that of a router; nil if there is none.
func (e *exim) transport(r eximDriver) *eximDriver {
	for i := range e.transports {
		if e.transports[i].name == "transport "+r.options["transport"] {
			return &e.transports[i]
		}
	}
	return nil
}

// skipped reports whether a router takes no mail: its conditions ask for a file that is not there, for example.
func (e *exim) skipped(ctx context.Context, r eximDriver) bool {
	if r.on("verify_only") {
		return true
	}
	domains := r.options["domains"]
	if !strings.Contains(domains, "$") {
		return false
	}
	out, err := e.machine.run(ctx, e.program, "-be", domains)
	return err == nil && strings.HasPrefix(out, "Failed: ") && strings.Contains(out, `"fail" requested`)
}

// main is an option of the main section; "" if it cannot be asked for.
func (e *exim) main(ctx context.Context, option string) string {
	out, err := e.machine.run(ctx, e.program, "-bP", option)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(out), option+" ="))
}

// eximList splits a list at colons, which are doubled to be one of an item, or at what follows a < at its beginning.
func eximList(list string) (items []string) {
	list = strings.TrimSpace(list)
	separator := ":"
	if len(list) > 1 && list[0] == '<' {
		separator, list = list[1:2], list[2:]
	}
	const doubled = "\x00"
	list = strings.ReplaceAll(list, separator+separator, doubled)
	for item := range strings.SplitSeq(list, separator) {
		if item = strings.TrimSpace(strings.ReplaceAll(item, doubled, separator)); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// coverage is how much a list of domains or hosts covers.
type coverage uint8

const (
	nothing coverage = iota
	partial
	everything
)

// covers judges a list. The first item that matches decides, and one with an exclamation mark says no.
func covers(list string) coverage {
	if strings.TrimSpace(list) == "" {
		return nothing
	}
	networks := map[int]bool{} // those of all addresses, by their length
	for _, item := range eximList(list) {
		switch prefix, err := netip.ParsePrefix(item); {
		case item == "*" && !strings.Contains(list, "$"):
			return everything
		case err == nil && prefix.Bits() == 0:
			networks[prefix.Addr().BitLen()] = true
			if len(networks) == 2 {
				return everything
			}
		case item == "+include_unknown" || item == "+ignore_unknown":
		case strings.HasPrefix(item, "!"):
			return partial
		}
	}
	return partial
}

// eximRoute is a way that a router gives mail.
type eximRoute struct {
	whose  string // a pattern of domains; "*" for all
	hosts  []string
	byName bool   // they are looked up by the system's functions, not in DNS
	odd    string // what is not a list of hosts but an expansion
}

// eximRoutes reads route_list and route_data of a manualroute router.
func eximRoutes(r eximDriver) (all []eximRoute) {
	list := r.options["route_list"]
	separator := ";"
	if len(list) > 1 && list[0] == '<' {
		separator, list = list[1:2], list[2:]
	}
	for item := range strings.SplitSeq(list, separator) {
		pattern, rest, _ := strings.Cut(strings.TrimSpace(item), " ")
		if pattern != "" {
			all = append(all, newEximRoute(pattern, rest))
		}
	}
	if data := r.options["route_data"]; data != "" {
		all = append(all, newEximRoute("*", data))
	}
	return all
}

// newEximRoute reads HOSTS OPTIONS. Hosts that are several words are in quotes.
func newEximRoute(whose, rest string) eximRoute {
	rest = strings.TrimSpace(rest)
	route := eximRoute{whose: whose}
	if strings.Contains(rest, "$") {
		route.odd = rest
		return route
	}
	hosts, options, _ := strings.Cut(rest, " ")
	if strings.HasPrefix(rest, `"`) {
		hosts, options, _ = strings.Cut(rest[1:], `"`)
	}
	for _, host := range eximList(hosts) {
		if host != "+" { // it parts groups
			route.hosts = append(route.hosts, host)
		}
	}
	for _, option := range strings.Fields(options) {
		route.byName = route.byName || option == "byname"
	}
	return route
}

// eximHost is the host of an item: NAME, NAME/MX, ADDRESS or [ADDRESS], with a port or without.
func eximHost(item string) nexthop {
	if addr, err := netip.ParseAddr(item); err == nil {
		return nexthop{item, addr}
	}
	name, _, _ := strings.Cut(item, "/")
	return nexthopOf(name)
}

// exim examines routers, transports and the binary itself.
func (m *machine) exim(ctx context.Context) []finding {
	program := m.eximProgram()
	if program == "" {
		return []finding{ok.of("Exim", "it is not installed")}
	}
	about, err := m.run(ctx, program, "-bV")
	if err != nil {
		return []finding{warning.of("Exim", "it does not tell about itself: %v", err).do("run this as root")}
	}
	if !strings.Contains(about, "DANE") {
		return []finding{fault.of("Exim", "this Exim was built without DANE").
			do("install one that was, such as Debian's exim4-daemon-heavy or -light")}
	}
	e, found := m.openExim(ctx, program)
	if len(found) > 0 {
		return found
	}
	return e.examine(ctx)
}

// openExim reads its drivers.
func (m *machine) openExim(ctx context.Context, program string) (e *exim, found []finding) {
	e = &exim{machine: m, program: program}
	for list, into := range map[string]*[]eximDriver{"routers": &e.routers, "transports": &e.transports} {
		out, err := m.run(ctx, program, "-bP", list)
		if err != nil {
			found = append(found, warning.of("Exim", "its %s cannot be read: %v", list, err).do("run this as root"))
		}
		*into = eximDrivers(out)
	}
	return e, found
}

// examine looks at the main section, and at the drivers that send mail.
func (e *exim) examine(ctx context.Context) []finding {
	found := e.mainSection(ctx)
	sends := false
	for _, r := range e.routers {
		if e.skipped(ctx, r) {
			continue
		}
		switch t := e.transport(r); {
		case t != nil && (t.options["driver"] != "smtp" || t.options["protocol"] == "lmtp"):
		case t != nil:
			sends = true
			found = slices.Concat(found, e.router(r), r.routes(), t.sending(r))
		case strings.Contains(r.options["transport"], "$") || r.options["driver"] == "queryprogram":
			found = append(found, warning.of("Exim", "%s chooses its transport by mail: whether that does DANE is "+
				"not seen here", r.name).do("see to it that each has `hosts_try_dane = *`"))
		}
	}
	switch {
	case len(found) == 0 && !sends:
		return []finding{ok.of("Exim", "no router of it sends mail by SMTP")}
	case len(found) == 0:
		return []finding{ok.of("Exim", "DANE is on")}
	}
	return unique(found)
}

// mainSection examines what holds for all of Exim.
func (e *exim) mainSection(ctx context.Context) (found []finding) {
	if e.main(ctx, "dns_dnssec_ok") == "0" {
		found = append(found, warning.of("Exim", "dns_dnssec_ok is 0: Exim asks without DO, and hears of AD by the "+
			"`trust-ad` of resolv.conf alone").do("write `dns_dnssec_ok = 1`"))
	}
	if domains := e.main(ctx, "dns_again_means_nonexist"); domains != "" {
		found = append(found, warning.of("Exim", "dns_again_means_nonexist is %s: SERVFAIL then means that there is "+
			"no record, so that mail bounces which should wait, and who suppresses MX records chooses another host",
			domains).do("take `dns_again_means_nonexist` out").graver(covers(domains) == everything))
	}
	return found
}

// off is the finding of an option that covers nothing, or not everything.
func (d eximDriver) off(option, without string, c coverage) finding {
	remedy := fmt.Sprintf("write `%s = *` into %s", option, d.name)
	if c == nothing {
		return fault.of("Exim", "%s has no %s: %s, and DANE is off", d.name, option, without).do(remedy)
	}
	return warning.of("Exim", "%s has %s = %s: for all else %s, and DANE is off", d.name, option, d.options[option],
		without).do(remedy)
}

// asks judges with which names a driver wants DNSSEC (D-14). What it requires it requests, too.
func (d eximDriver) asks(what string) []finding {
	requested, required := covers(d.options["dnssec_request_domains"]), covers(d.options["dnssec_require_domains"])
	if c := max(requested, required); c != everything {
		return []finding{d.off("dnssec_request_domains", what+" are not looked up with DNSSEC", c)}
	}
	return nil
}

// router judges how a router finds hosts.
func (e *exim) router(r eximDriver) (found []finding) {
	switch r.options["driver"] {
	case "dnslookup":
		found = r.asks("MX records and addresses")
	case "manualroute":
		if slices.ContainsFunc(eximRoutes(r), eximRoute.looked) {
			found = r.asks("addresses")
		}
	}
	if r.on("pass_on_timeout") {
		found = append(found, warning.of("Exim", "%s has pass_on_timeout: a domain that is SERVFAIL goes to the next "+
			"router, so that an attacker chooses it", r.name).do("take `pass_on_timeout` out of "+r.name))
	}
	return found
}

// looked reports whether a route has hosts that are looked up in DNS.
func (r eximRoute) looked() bool {
	return r.odd != "" || !r.byName &&
		slices.ContainsFunc(r.hosts, func(h string) bool { return !eximHost(h).address.IsValid() })
}

// routes judges the hosts that a manualroute router names, and those that get mail when others fail.
func (d eximDriver) routes() (found []finding) {
	if d.options["driver"] == "manualroute" {
		for _, r := range eximRoutes(d) {
			domains := d.options["domains"]
			if r.whose == "*" && domains != "" && domains[0] != '!' {
				r.whose = domains
			}
			found = append(found, d.route(r)...)
		}
	}
	return append(found, d.fallbacks()...)
}

// fallbacks judges the hosts that get mail when others fail.
func (d eximDriver) fallbacks() (found []finding) {
	for _, host := range eximList(d.options["fallback_hosts"]) {
		found = append(found, warning.of("Exim", "%s has fallback_hosts = %s: %s", d.name, host,
			eximHost(host).asFallback()).do("take `fallback_hosts` out of "+d.name))
	}
	return found
}

// route judges one way.
func (d eximDriver) route(r eximRoute) (found []finding) {
	what := r.whose
	if r.whose == "*" {
		what = "all mail"
	}
	if r.odd != "" {
		return []finding{warning.of("Exim", "%s sends %s to what %s says: whether DANE is on there is not seen here",
			d.name, what, r.odd).do("see to it that these are names of hosts with TLSA records, not addresses")}
	}
	for _, item := range r.hosts {
		h := eximHost(item)
		from := fmt.Sprintf("%s sends %s to %s", d.name, what, item)
		switch {
		case h.local() && r.whose != "*":
		case r.byName && !h.local() && !h.address.IsValid():
			found = append(found, warning.of("Exim", "%s byname, which is without DNSSEC, and DANE is off", from).
				do("write `bydns` in place of `byname`, and see to it that the host has TLSA records and does DANE "+
					"as well").graver(r.whose == "*"))
		default:
			found = append(found, h.asRelay("Exim", from, r.whose == "*"))
		}
	}
	return found
}

// asksDanelaw is in an option that danelaw's policy service decides on. By the lines of deploy/mailhost/README.md it
// keeps mail from hosts that a policy of MTA-STS does not cover.
const asksDanelaw = "}{exim $domain $host\\n}"

// sending judges the transport of a router.
func (d eximDriver) sending(r eximDriver) (found []finding) {
	if c := max(covers(d.options["hosts_try_dane"]), covers(d.options["hosts_require_dane"])); c != everything {
		found = append(found, d.off("hosts_try_dane", "TLSA records are not looked up", c))
	}
	if hosts := d.options["hosts_avoid_tls"]; hosts != "" && !strings.Contains(hosts, asksDanelaw) {
		found = append(found, warning.of("Exim", "%s has hosts_avoid_tls = %s: mail to such a host with DANE stays "+
			"in the queue", d.name, hosts).do("take `hosts_avoid_tls` out of "+d.name))
	}
	if d.options["hosts"] != "" && (d.on("hosts_override") || r.options["driver"] == "accept") {
		route := newEximRoute("*", `"`+d.options["hosts"]+`"`)
		route.byName = d.on("gethostbyname")
		found = append(found, d.route(route)...)
		if route.looked() {
			found = append(found, d.asks("addresses")...)
		}
	}
	if r.options["fallback_hosts"] == "" {
		found = append(found, d.fallbacks()...)
	}
	return found
}
