package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// postfix is an instance of Postfix as its files describe it. It has many methods: each looks at one setting or table.
type postfix struct {
	machine  *machine
	dir      string // of its configuration; "" for the default
	settings map[string]string
	master   map[string]postfixService
	routes   []postfixRoute               // the first is that of mail to the domains of others
	unlisted []finding                    // of tables that route mail and cannot be read
	answers  map[string]map[string]string // of tables, by table and key
}

// postfixService is a line of master.cf.
type postfixService struct {
	command  string
	chroot   bool
	settings map[string]string // by -o
}

// sends reports whether it is a client of SMTP or LMTP.
func (s postfixService) sends() bool { return s.command == "smtp" || s.command == "lmtp" }

// postfixRoute is a way that mail takes.
type postfixRoute struct {
	setting string // that makes it
	whose   string // recipients or senders; "" if all
	service string
	nexthop string // "" if it is the recipient's domain
}

// postfixNames are the settings that are read.
var postfixNames = strings.Fields(`mail_version compatibility_level queue_directory multi_instance_directories
	multi_instance_enable smtp_dns_support_level smtp_host_lookup smtp_tls_security_level smtp_tls_policy_maps
	smtp_tls_per_site smtp_fallback_relay smtp_tls_dane_insecure_mx_policy ignore_mx_lookup_error
	smtp_dns_resolver_options tls_dane_digests smtp_discard_ehlo_keywords smtp_never_send_ehlo smtp_dns_reply_filter
	smtp_tls_connection_reuse default_transport relayhost relay_domains relay_transport transport_maps
	sender_dependent_relayhost_maps sender_dependent_default_transport_maps content_filter mydestination
	local_transport virtual_mailbox_domains virtual_transport`)

// openPostfix reads main.cf and master.cf.
func (m *machine) openPostfix(ctx context.Context, dir string) (*postfix, error) {
	p := &postfix{machine: m, dir: dir, settings: map[string]string{}, master: map[string]postfixService{},
		answers: map[string]map[string]string{}}
	for _, part := range []struct {
		args []string
		read func(line string)
	}{
		{append([]string{"-x"}, postfixNames...), p.readSetting}, {[]string{"-M"}, p.readService},
		{[]string{"-Px"}, p.readOverride},
		{[]string{"smtp_tls_dane_insecure_mx_policy"}, p.readSetting}, // its default depends on what -x does not see
	} {
		out, err := p.run(ctx, "postconf", part.args...)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out) {
			part.read(strings.TrimSpace(line))
		}
	}
	p.findRoutes(ctx)
	return p, nil
}

func (p *postfix) readSetting(line string) {
	name, value, _ := strings.Cut(line, "=")
	p.settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
}

// readService reads a line of postconf -M: name, type, private, unprivileged, chroot, wakeup, maxproc, command and
// arguments.
func (p *postfix) readService(line string) {
	f := strings.Fields(line)
	if len(f) < 8 || f[1] == "inet" {
		return
	}
	level := p.settings["compatibility_level"] // below 1 all is chrooted unless it says otherwise
	chroot := f[4] == "y" || f[4] == "-" && (level == "" || strings.HasPrefix(level, "0"))
	p.master[f[0]] = postfixService{f[7], chroot, map[string]string{}}
}

// readOverride reads a line of postconf -P, such as smtp/unix/NAME = VALUE.
func (p *postfix) readOverride(line string) {
	name, value, _ := strings.Cut(line, "=")
	if parts := strings.SplitN(strings.TrimSpace(name), "/", 3); len(parts) == 3 && parts[1] != "inet" &&
		p.master[parts[0]].command != "" {
		p.master[parts[0]].settings[parts[2]] = strings.TrimSpace(value)
	}
}

// of is a setting as a service has it.
func (p *postfix) of(service, setting string) string {
	if value, own := p.master[service].settings[setting]; own {
		return value
	}
	return p.settings[setting]
}

// overridden reports whether a service has a setting of its own.
func (p *postfix) overridden(service, setting string) bool {
	_, own := p.master[service].settings[setting]
	return own
}

// flag names the instance to Postfix's commands.
func (p *postfix) flag() string {
	if p.dir == "" {
		return ""
	}
	return " -c " + p.dir
}

// run runs one of Postfix's commands for the instance.
func (p *postfix) run(ctx context.Context, program string, args ...string) (string, error) {
	if p.dir != "" {
		args = append([]string{"-c", p.dir}, args...)
	}
	return p.machine.run(ctx, program, args...)
}

// findRoutes finds all ways that mail takes, as trivial-rewrite(8) does.
func (p *postfix) findRoutes(ctx context.Context) {
	set := func(name string) string { return p.of("rewrite", name) }
	p.route("default_transport", "", set("default_transport"), set("relayhost"))
	if domains := set("relay_domains"); domains != "" {
		p.route("relay_transport", domains, set("relay_transport"), set("relayhost"))
	}
	if filter := p.settings["content_filter"]; filter != "" {
		p.route("content_filter", "", filter, "")
	}
	for _, e := range p.routing(ctx, "transport_maps") {
		if strings.Trim(e.value, ":") != "" { // what is empty changes nothing
			p.route("transport_maps", e.key, e.value, "")
		}
	}
	for _, e := range p.routing(ctx, "sender_dependent_default_transport_maps") {
		p.route("sender_dependent_default_transport_maps", e.key, e.value, set("relayhost"))
	}
	for _, e := range p.routing(ctx, "sender_dependent_relayhost_maps") {
		p.route("sender_dependent_relayhost_maps", e.key, p.routes[0].service+":"+e.value, "")
	}
}

// route adds TRANSPORT:NEXTHOP; where there is no next hop it is another.
func (p *postfix) route(setting, whose, transport, other string) {
	service, nexthop, _ := strings.Cut(transport, ":")
	if nexthop == "" && other != "" {
		setting, nexthop = "relayhost", other
	}
	if service == "" {
		service, _, _ = strings.Cut(p.of("rewrite", "default_transport"), ":")
	}
	if whose == "*" {
		whose = ""
	}
	p.routes = append(p.routes, postfixRoute{setting, whose, service, nexthop})
}

// routing are the entries of all tables of a setting that routes mail.
func (p *postfix) routing(ctx context.Context, setting string) (all []tableEntry) {
	for _, table := range postfixWords(p.of("rewrite", setting)) {
		entries, err := p.entries(ctx, table)
		if err != nil {
			p.unlisted = append(p.unlisted,
				p.unreadable(setting, table, "whether mail goes another way by it is not seen"))
		}
		for _, e := range entries {
			if !strings.EqualFold(e.value, "DUNNO") {
				all = append(all, e)
			}
		}
	}
	return all
}

// here reports whether a route leads to a program of this host alone, such as a filter: there is nothing to protect on
// the way.
func (r postfixRoute) here() bool {
	hops := postfixWords(strings.TrimPrefix(r.nexthop, "inet:"))
	away := func(to string) bool { return !strings.HasPrefix(to, "unix:") && !nexthopOf(to).local() }
	return len(hops) > 0 && !slices.ContainsFunc(hops, away)
}

// senders are the services that mail leaves by, that of all mail first.
func (p *postfix) senders() (all []string) {
	for i, r := range p.routes {
		if i == 0 || !r.here() {
			all = append(all, r.service)
		}
	}
	return unique(all)
}

// whose tells whose mail a service sends; "" if it is everybody's.
func (p *postfix) whose(service string) string {
	var all []string
	for _, r := range p.routes {
		if r.service == service && !slices.Contains(all, r.whose) {
			all = append(all, r.whose)
		}
	}
	if slices.Contains(all, "") {
		return ""
	}
	return several(all)
}

// tableEntry is a line of a lookup table.
type tableEntry struct{ key, value string }

// entries lists what a table holds, if that can be known.
func (p *postfix) entries(ctx context.Context, table string) ([]tableEntry, error) {
	table = strings.TrimPrefix(table, "proxy:")
	kind, name, _ := strings.Cut(table, ":")
	switch kind {
	case "static":
		return []tableEntry{{"*", inBraces(name)}}, nil
	case "regexp", "pcre":
		return p.patterns(name)
	}
	out, err := p.run(ctx, "postmap", "-s", table)
	if err != nil {
		return nil, err
	}
	var all []tableEntry
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			all = append(all, tableEntry{key, strings.TrimSpace(value)})
		}
	}
	return all, nil
}

// patterns reads a table of regular expressions: a file, or rules in braces (regexp_table(5)).
func (p *postfix) patterns(name string) (all []tableEntry, err error) {
	var lines []string
	if strings.HasPrefix(name, "{") {
		for _, rule := range postfixWords(inBraces(name)) {
			lines = append(lines, inBraces(rule))
		}
	} else if lines, err = p.machine.logicalLines(name); err != nil {
		return nil, err
	}
	for _, line := range lines {
		if e, ok := pattern(line); ok {
			all = append(all, e)
		}
	}
	return all, nil
}

// logicalLines reads a file of Postfix: a line that begins with white space continues the one before, # begins a
// comment (postconf(5)).
func (m *machine) logicalLines(name string) (lines []string, err error) {
	text, err := m.read(name)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "" || trimmed[0] == '#':
		case len(lines) > 0 && strings.ContainsAny(line[:1], " \t"):
			lines[len(lines)-1] += " " + trimmed
		default:
			lines = append(lines, trimmed)
		}
	}
	return lines, nil
}

// pattern reads /PATTERN/FLAGS RESULT, whose delimiter may be any character. if and endif have no result.
func pattern(line string) (e tableEntry, ok bool) {
	text := strings.TrimPrefix(line, "!")
	if text == "" || strings.HasPrefix(text, "if") || strings.HasPrefix(text, "endif") {
		return e, false
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			_, value, found := strings.Cut(text[i+1:], " ")
			return tableEntry{line[:len(line)-len(text)+i+1], inBraces(strings.TrimSpace(value))}, found
		}
	}
	return e, false
}

// postfixWords splits a list at commas and white space, but not within braces (mystrtokq).
func postfixWords(list string) (words []string) {
	depth := 0
	return strings.FieldsFunc(list, func(r rune) bool {
		switch r {
		case '{':
			depth++
		case '}':
			depth = max(0, depth-1)
		case ',', ' ', '\t', '\r', '\n':
			return depth == 0
		}
		return false
	})
}

// inBraces takes braces away that enclose all of a text.
func inBraces(text string) string {
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		return strings.TrimSpace(text[1 : len(text)-1])
	}
	return text
}

// nexthop is a host or domain that mail goes to.
type nexthop struct {
	name    string     // without brackets and port
	address netip.Addr // if it is one
}

// nexthopOf reads DOMAIN, [HOST] or [ADDRESS], with a port or without.
func nexthopOf(text string) (h nexthop) {
	name, port, _ := strings.Cut(text, "]")
	if name, bracketed := strings.CutPrefix(name, "["); bracketed {
		h.name = name
	} else {
		h.name, _, _ = strings.Cut(name+port, ":")
	}
	literal := h.name
	if len(literal) > 5 && strings.EqualFold(literal[:5], "ipv6:") {
		literal = literal[5:]
	}
	h.address, _ = netip.ParseAddr(literal) // it is none for a name
	return h
}

// local reports whether it is this host.
func (h nexthop) local() bool { return h.name == "localhost" || h.address.IsLoopback() }

// asRelay judges it as where mail is sent to: all mail, or some.
func (h nexthop) asRelay(topic, from string, all bool) finding {
	switch {
	case h.local():
		return warning.of(topic, "%s, on this host: whether what is there does DANE is not seen here", from).
			do("see to it that it does")
	case h.address.IsValid():
		return warning.of(topic, "%s: an address has no TLSA records, and DANE is off", from).
			do("name the host instead, and see to it that it has TLSA records and does DANE as well").graver(all)
	}
	return warning.of(topic, "%s: DANE protects the way to it alone", from).
		do("see to it that it does DANE as well, and has TLSA records: danelaw check " + h.name)
}

// asFallback says what it means that it gets the mail when others fail.
func (h nexthop) asFallback() string {
	why := "it gets the mail to every host that fails, also if it is DANE that fails there"
	if h.address.IsValid() {
		why += ", and an address has no TLSA records"
	}
	return why
}

// several names the first of many.
func several(all []string) string {
	const shown = 4
	if len(all) > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:shown], ", "), len(all)-shown)
	}
	return strings.Join(all, ", ")
}

// askable is the key of a table as an argument of danelaw check, as far as that is a domain.
func askable(key string) string {
	if name, err := parseName(nexthopOf(key).name); err == nil && !strings.HasPrefix(key, "/") && name != "*." {
		return strings.TrimSuffix(name, ".")
	}
	return "DOMAIN"
}

// destinationOf is where Postfix delivers a message to, as trivial-rewrite(8) decides.
func (p *postfix) destinationOf(ctx context.Context, d deferred) (kind, to string) {
	domain := domainOf(d.recipient)
	setting, relays := p.class(ctx, domain)
	transport := p.of("rewrite", setting)
	nexthop := domain
	if relays {
		if other := p.lookup(ctx, "sender_dependent_default_transport_maps", senderKeys(d.sender)); other != "" &&
			setting == "default_transport" {
			transport = other
		}
		nexthop = cmp.Or(p.lookup(ctx, "sender_dependent_relayhost_maps", senderKeys(d.sender)),
			p.of("rewrite", "relayhost"), domain)
	}
	service, own, _ := strings.Cut(transport, ":")
	nexthop = cmp.Or(own, nexthop)
	if other := p.lookup(ctx, "transport_maps", transportKeys(d.recipient)); strings.Trim(other, ":") != "" {
		transport, own, _ := strings.Cut(other, ":")
		service, nexthop = cmp.Or(transport, service), cmp.Or(own, domain)
	}
	if known, there := p.master[service]; there && known.command != "smtp" {
		return toLocal, service
	}
	first := append(postfixWords(nexthop), "")[0] // the others are for when it fails
	return kindOf(first, false)
}

// class is the setting for the transport of a domain, and whether a relayhost gets its mail.
func (p *postfix) class(ctx context.Context, domain string) (setting string, relays bool) {
	switch {
	case p.listed(ctx, "mydestination", domain):
		return "local_transport", false
	case p.listed(ctx, "virtual_mailbox_domains", domain):
		return "virtual_transport", false
	case p.listed(ctx, "relay_domains", domain):
		return "relay_transport", true
	}
	return "default_transport", true
}

// listed reports whether a domain is in a list, as a word or a key of a table.
func (p *postfix) listed(ctx context.Context, setting, domain string) bool {
	for _, word := range postfixWords(p.of("rewrite", setting)) {
		if strings.EqualFold(word, domain) || strings.Contains(word, ":") && p.query(ctx, word, domain) != "" {
			return true
		}
	}
	return false
}

// lookup returns what the tables of a setting have for the first key that is there; "" if there is none, or it is
// DUNNO.
func (p *postfix) lookup(ctx context.Context, setting string, keys []string) string {
	tables := postfixWords(p.of("rewrite", setting))
	for _, key := range keys {
		for _, table := range tables {
			if value := p.query(ctx, table, key); value != "" {
				if strings.EqualFold(value, "DUNNO") {
					return ""
				}
				return value
			}
		}
	}
	return ""
}

// query asks a table; "" if it has nothing, or cannot be asked. One that lists what it holds is read once.
func (p *postfix) query(ctx context.Context, table, key string) string {
	key = strings.ToLower(key)
	kind, _, _ := strings.Cut(strings.TrimPrefix(table, "proxy:"), ":")
	byPattern := kind == "regexp" || kind == "pcre" || kind == "static" || kind == "cidr"
	answers, known := p.answers[table]
	if !known {
		answers = map[string]string{}
		p.answers[table] = answers
		if entries, err := p.entries(ctx, table); err == nil && !byPattern {
			for _, e := range entries {
				answers[strings.ToLower(e.key)] = e.value
			}
			answers[listedWhole] = "yes"
		}
	}
	if value, asked := answers[key]; asked || answers[listedWhole] != "" {
		return value
	}
	out, err := p.run(ctx, "postmap", "-q", key, table)
	if err != nil { // also where there is nothing
		out = ""
	}
	answers[key] = strings.TrimSpace(out)
	return answers[key]
}

// listedWhole marks the answers of a table that are all there are. It is no key.
const listedWhole = "\x00"

// transportKeys are what transport_maps is asked for (transport(5)).
func transportKeys(recipient string) []string {
	domain := domainOf(recipient)
	keys := []string{recipient, domain}
	for rest := domain; ; {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			return append(keys, "*")
		}
		keys = append(keys, "."+parent)
		rest = parent
	}
}

// senderKeys are what tables of senders are asked for.
func senderKeys(sender string) []string {
	if sender == "" {
		return []string{"<>"}
	}
	return []string{sender, "@" + domainOf(sender)}
}
