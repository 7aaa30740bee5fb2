package main

import (
	"context"
	"net/netip"
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
