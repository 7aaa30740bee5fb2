package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// exim examines routers, transports and the binary itself.
func (m *machine) exim(ctx context.Context) []finding {
	program := m.eximProgram()
	if program == "" {
		return []finding{fine("Exim", "it is not installed")}
	}
	about, err := m.run(ctx, program, "-bV")
	if err != nil {
		return []finding{{"Exim", warning, "it does not tell about itself: " + err.Error(), "run this as root"}}
	}
	if !strings.Contains(about, "DANE") {
		return []finding{
			{"Exim", fault, "this Exim was built without DANE",
				"install one that was, such as Debian's exim4-daemon-heavy or -light"},
		}
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
			found = append(found, finding{"Exim", warning, fmt.Sprintf("its %s cannot be read: %v", list, err),
				"run this as root"})
		}
		*into = eximDrivers(out)
	}
	return e, found
}

// examine looks at the main section, and at the drivers that send mail.
func (e *exim) examine(ctx context.Context) (found []finding) {
	found = e.mainSection(ctx)
	sends := false
	told := map[string]bool{}
	for _, r := range e.routers {
		if e.skipped(ctx, r) {
			continue
		}
		t := e.transport(r)
		if t != nil && (t.options["driver"] != "smtp" || t.options["protocol"] == "lmtp") {
			continue
		}
		var more []finding
		switch {
		case t != nil:
			sends = true
			more = slices.Concat(e.router(r), r.routes(), t.sending(r))
		case strings.Contains(r.options["transport"], "$") || r.options["driver"] == "queryprogram":
			more = []finding{{"Exim", warning,
				r.name + " chooses its transport by mail: whether that does DANE is not seen here",
				"see to it that each has `hosts_try_dane = *`"}}
		}
		for _, f := range more {
			if !told[f.Why] {
				told[f.Why] = true
				found = append(found, f)
			}
		}
	}
	if len(found) == 0 && !sends {
		return []finding{fine("Exim", "no router of it sends mail by SMTP")}
	}
	if len(found) == 0 {
		return []finding{fine("Exim", "DANE is on")}
	}
	return found
}

// mainSection examines what holds for all of Exim.
func (e *exim) mainSection(ctx context.Context) (found []finding) {
	if e.main(ctx, "dns_dnssec_ok") == "0" {
		found = append(found,
			finding{"Exim", warning, "dns_dnssec_ok is 0: Exim asks without DO, and hears of AD by the `trust-ad` " +
				"of resolv.conf alone",
				"write `dns_dnssec_ok = 1`"})
	}
	if domains := e.main(ctx, "dns_again_means_nonexist"); domains != "" {
		f := finding{"Exim", warning,
			fmt.Sprintf("dns_again_means_nonexist is %s: SERVFAIL then means that there is no record, "+
				"so that mail bounces "+
				"which should wait, and who suppresses MX records chooses another host", domains),
			"take `dns_again_means_nonexist` out"}
		if covers(domains) == everything {
			f.State = fault
		}
		found = append(found, f)
	}
	return found
}

// off is the finding of an option that covers nothing, or not everything.
func (d eximDriver) off(option, without string, c coverage) finding {
	remedy := fmt.Sprintf("write `%s = *` into %s", option, d.name)
	if c == nothing {
		return finding{"Exim", fault, fmt.Sprintf("%s has no %s: %s, and DANE is off", d.name, option, without), remedy}
	}
	return finding{"Exim", warning, fmt.Sprintf("%s has %s = %s: for all else %s, and DANE is off", d.name, option,
		d.options[option], without), remedy}
}

// asks judges with which names a driver wants DNSSEC (D-14). What it requires it requests, too.
func (d eximDriver) asks(what string) []finding {
	if c := max(covers(d.options["dnssec_request_domains"]),
		covers(d.options["dnssec_require_domains"])); c != everything {
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
		found = append(found,
			finding{"Exim", warning, r.name + " has pass_on_timeout: a domain that is SERVFAIL goes to the next " +
				"router, so that an attacker chooses it",
				"take `pass_on_timeout` out of " + r.name})
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
		why := fmt.Sprintf("%s has fallback_hosts = %s: it gets the mail to every host that fails, also if it is "+
			"DANE that fails there", d.name, host)
		if eximHost(host).address.IsValid() {
			why += ", and an address has no TLSA records"
		}
		found = append(found, finding{"Exim", warning, why, "take `fallback_hosts` out of " + d.name})
	}
	return found
}

// route judges one way.
func (d eximDriver) route(r eximRoute) (found []finding) {
	what, state := "all mail", fault
	if r.whose != "*" {
		what, state = r.whose, warning
	}
	if r.odd != "" {
		return []finding{{"Exim", warning,
			fmt.Sprintf("%s sends %s to what %s says: whether DANE is on there is not seen here", d.name, what, r.odd),
			"see to it that these are names of hosts with TLSA records, not addresses"}}
	}
	for _, item := range r.hosts {
		h := eximHost(item)
		from := fmt.Sprintf("%s sends %s to %s", d.name, what, item)
		switch {
		case h.local() && r.whose != "*":
		case h.local():
			found = append(found,
				finding{"Exim", warning, from + ", on this host: whether what is there does DANE is not seen here",
					"see to it that it does"})
		case h.address.IsValid():
			found = append(found, finding{"Exim", state, from + ": an address has no TLSA records, and DANE is off",
				"name the host instead, and see to it that it has TLSA records and does DANE as well"})
		case r.byName:
			found = append(found, finding{"Exim", state, from + " byname, which is without DNSSEC, and DANE is off",
				"write `bydns` in place of `byname`, and see to it that the host has TLSA records " +
					"and does DANE as well"})
		default:
			found = append(found, finding{"Exim", warning, from + ": DANE protects the way to it alone",
				"see to it that it does DANE as well, and has TLSA records: danelaw check " + h.name})
		}
	}
	return found
}

// sending judges the transport of a router.
func (d eximDriver) sending(r eximDriver) (found []finding) {
	if c := max(covers(d.options["hosts_try_dane"]), covers(d.options["hosts_require_dane"])); c != everything {
		found = append(found, d.off("hosts_try_dane", "TLSA records are not looked up", c))
	}
	if hosts := d.options["hosts_avoid_tls"]; hosts != "" {
		found = append(found,
			finding{"Exim", warning,
				fmt.Sprintf("%s has hosts_avoid_tls = %s: mail to such a host with DANE stays in the queue", d.name,
					hosts),
				"take `hosts_avoid_tls` out of " + d.name})
	}
	named := d.options["hosts"] != "" && (d.on("hosts_override") || r.options["driver"] == "accept")
	if named {
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
