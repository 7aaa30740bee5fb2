package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// postfix examines the settings that decide about DANE, above all those that silently switch it off, in every instance
// (postmulti(1)).
func (m *machine) postfix(ctx context.Context) []finding {
	if !m.has("postconf") {
		return []finding{ok.of("Postfix", "it is not installed")}
	}
	if library, err := m.run(ctx, "postconf", "-T", "compile-version"); err != nil || strings.TrimSpace(library) == "" {
		return []finding{fault.of("Postfix", "this Postfix was built without TLS: it can do no DANE").
			do("install one that was built with OpenSSL, such as Debian's")}
	}
	found, others := m.postfixInstance(ctx, "")
	for _, dir := range others {
		more, _ := m.postfixInstance(ctx, dir)
		found = append(found, more...)
	}
	return found
}

// postfixInstance examines the instance of a directory, "" for the default; others are the directories of the rest.
func (m *machine) postfixInstance(ctx context.Context, dir string) (found []finding, others []string) {
	p, err := m.openPostfix(ctx, dir)
	if err != nil {
		why := strings.TrimLeft(fmt.Sprintf("%s its settings cannot be read: %v", dir, err), " ")
		return []finding{warning.of("Postfix", "%s", why).do("run this as root")}, nil
	}
	if dir != "" && !strings.EqualFold(p.settings["multi_instance_enable"], "yes") {
		return []finding{ok.of("Postfix", "%s: this instance is not enabled", dir)}, nil
	}
	found = slices.Concat(p.services(ctx), p.destinations(), p.unlisted)
	if len(found) == 0 {
		found = append(found,
			ok.of("Postfix", "DANE is on: level %s", p.of(p.routes[0].service, "smtp_tls_security_level")))
	}
	found = append(found, p.chroots()...)
	for i := range found {
		found[i].Why = strings.TrimPrefix(dir+": ", ": ") + found[i].Why
	}
	return found, postfixWords(p.settings["multi_instance_directories"])
}

// postfixRule is a fault of a setting, with the value that mends it; "" is the default. Values are compared in lower
// case, since Postfix reads levels and booleans without case (name_code, get_mail_conf_bool).
type postfixRule struct {
	setting string
	wrong   func(value string, of func(string) string) bool
	why     string // %q is the value
	value   string
	grave   bool // DANE is off, or mail stops; else some of it is lost
}

func is(bad string) func(string, func(string) string) bool {
	return func(value string, _ func(string) string) bool { return value == bad }
}

func isNot(good ...string) func(string, func(string) string) bool {
	return func(value string, _ func(string) string) bool { return !slices.Contains(good, value) }
}

// lists is for a value that has one of some words.
func lists(some ...string) func(string, func(string) string) bool {
	return func(value string, _ func(string) string) bool { return hasWord(value, some...) }
}

// hasWord reports whether a value has one of some words, perhaps with an = behind it.
func hasWord(value string, some ...string) bool {
	return slices.ContainsFunc(postfixWords(value), func(word string) bool {
		name, _, _ := strings.Cut(word, "=")
		return slices.Contains(some, name)
	})
}

// postfixRules are for each service that sends by SMTP (D-11, D-13; smtp_tls_policy.c, dane_init).
var postfixRules = []postfixRule{
	{"smtp_tls_security_level", isNot("dane", "dane-only"), "%q: TLSA records are not looked up", "dane", true},
	{"smtp_dns_support_level", isNot("dnssec"), "%q: DANE is off whatever the security level says", "dnssec", true},
	{"smtp_host_lookup", func(v string, _ func(string) string) bool { return !hasWord(v, "dns") },
		"%q: addresses from elsewhere than DNS are never secure, and DANE is off", "dns", true},
	{"ignore_mx_lookup_error", is("yes"), "%q: Postfix then takes no answer for secure, and DANE is off", "no", true},
	{"smtp_dns_resolver_options", lists("res_defnames", "res_dnsrch"),
		"%q: names that the resolver completes cannot be secure, and DANE is off", "", true},
	{"tls_dane_digests", func(v string, _ func(string) string) bool { return !hasWord(v, "sha256") },
		"%q: without sha256 nearly all TLSA records are unusable, and mail is encrypted to whoever answers",
		"sha512 sha256", true},
	{"tls_dane_digests", func(v string, _ func(string) string) bool {
		return hasWord(v, "sha256") && !hasWord(v, "sha512")
	}, "%q: without sha512 the TLSA records of matching type 2 are unusable", "sha512 sha256", false},
	{"smtp_tls_dane_insecure_mx_policy", func(v string, of func(string) string) bool {
		return of("smtp_tls_security_level") == "dane" && v != "dane" && !strings.HasPrefix(v, "${")
	}, "%q: TLSA records of hosts behind an unsigned MX are not used", "", false},
	{"smtp_discard_ehlo_keywords", lists("starttls"),
		"%q: no host is seen to offer STARTTLS, and mail to those with DANE stays in the queue", "", true},
	{"smtp_never_send_ehlo", is("yes"),
		"%q: no host is asked for STARTTLS, and mail to those with DANE stays in the queue", "no", true},
}

// services examines the settings of each service that sends mail, and its tables of levels.
func (p *postfix) services(ctx context.Context) (found []finding) {
	told := map[string]bool{} // what is wrong in main.cf is told once
	for i, name := range p.senders() {
		if p.master[name].command != "smtp" {
			continue
		}
		lower := func(setting string) string { return strings.ToLower(p.of(name, setting)) }
		for _, rule := range postfixRules {
			value := p.of(name, rule.setting)
			overridden, key := p.overridden(name, rule.setting), rule.why+value
			if !rule.wrong(lower(rule.setting), lower) || !overridden && told[key] {
				continue
			}
			told[key] = told[key] || !overridden
			found = append(found, p.broken(name, rule, value, rule.grave && i == 0))
		}
		for _, f := range slices.Concat(p.reuse(name), p.filters(ctx, name), p.policies(ctx, name), p.fallbacks(name)) {
			if !told[f.Why] {
				told[f.Why] = true
				found = append(found, f)
			}
		}
	}
	return found
}

// broken is the finding of a rule. The remedy is for the file that has the setting.
func (p *postfix) broken(service string, rule postfixRule, value string, grave bool) finding {
	why := rule.setting + " is " + fmt.Sprintf(rule.why, value)
	if p.overridden(service, rule.setting) {
		why = "in master.cf, " + service + "/unix: " + why
	} else if service != p.routes[0].service {
		why = "service " + service + ": " + why
	}
	if whose := p.whose(service); whose != "" {
		why += " (for " + whose + ")"
	}
	return warning.of("Postfix", "%s", why).do(p.mend(service, rule.setting, rule.value)).graver(grave)
}

// mend is the command that gives a setting its value, or its default.
func (p *postfix) mend(service, setting, value string) string {
	option, name := "-e", setting
	overridden := p.overridden(service, setting)
	if overridden {
		option, name = "-P", service+"/unix/"+setting
	}
	switch {
	case value == "" && overridden:
		option = "-PX"
	case value == "":
		option = "-X"
	default:
		name += "=" + value
	}
	if strings.Contains(name, " ") {
		name = "'" + name + "'"
	}
	return fmt.Sprintf("postconf%s %s %s && postfix%s reload", p.flag(), option, name, p.flag())
}

// reuse judges whether there is the service that holds TLS connections open.
func (p *postfix) reuse(service string) []finding {
	const setting = "smtp_tls_connection_reuse"
	if _, there := p.master["tlsproxy"]; there || !strings.EqualFold(p.of(service, setting), "yes") {
		return nil
	}
	return []finding{fault.of("Postfix", "%s is \"yes\", but master.cf has no tlsproxy: TLS cannot be started, and "+
		"mail to hosts with DANE stays in the queue", setting).do(p.mend(service, setting, "no"))}
}

// filters looks for a filter of DNS replies that takes TLSA records out.
func (p *postfix) filters(ctx context.Context, service string) (found []finding) {
	const setting = "smtp_dns_reply_filter"
	for _, table := range postfixWords(p.of(service, setting)) {
		entries, err := p.entries(ctx, table)
		if err != nil {
			found = append(found, p.unreadable(setting, table, "whether it takes TLSA records out is not seen"))
		}
		tlsa := func(e tableEntry) bool { return strings.Contains(strings.ToUpper(e.key), "TLSA") }
		if slices.ContainsFunc(entries, tlsa) {
			found = append(found, fault.of("Postfix", "%s (%s) is about TLSA records: those that it takes out make a "+
				"lookup fail, and mail stays in the queue", setting, table).do(p.mend(service, setting, "")))
		}
	}
	return found
}

// levels of smtp_tls_per_site that take the place of DANE; MAY does not.
var perSiteLevels = []string{"NONE", "MUST", "MUST_NOPEERMATCH"}

// policies looks for destinations to which a level other than DANE applies. Postfix reads smtp_tls_per_site only where
// there is nothing in smtp_tls_policy_maps.
func (p *postfix) policies(ctx context.Context, service string) (found []finding) {
	setting := policyMaps
	if p.of(service, setting) == "" {
		setting = "smtp_tls_per_site"
	}
	for _, table := range postfixWords(p.of(service, setting)) {
		if judged, known := p.policyService(ctx, service, table); known {
			found = append(found, judged...)
			continue
		}
		entries, err := p.entries(ctx, table)
		if err != nil {
			found = append(found, p.unreadable(setting, table, "what it returns takes the place of DANE"))
			continue
		}
		byLevel := map[string][]string{}
		for _, e := range entries {
			level := firstWord(e.value)
			known := setting == "smtp_tls_per_site" && !slices.Contains(perSiteLevels, strings.ToUpper(level))
			if !known && !slices.Contains([]string{"dane", "dane-only"}, strings.ToLower(level)) {
				byLevel[level] = append(byLevel[level], e.key)
			}
		}
		for _, level := range slices.Sorted(maps.Keys(byLevel)) {
			keys := byLevel[level]
			found = append(found, warning.of("Postfix", "%s (%s) has %s for %s: no TLSA record is used there",
				setting, table, level, several(keys)).
				do("take the entry out if there are TLSA records: danelaw check "+askable(keys[0])))
		}
	}
	return found
}

// firstWord is where Postfix has the level of an entry (CHARS_COMMA_SP).
func firstWord(value string) string {
	return append(strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) }), "")[0]
}

// unreadable is the finding of a table that does not list what it holds.
func (p *postfix) unreadable(setting, table, meaning string) finding {
	return warning.of("Postfix", "%s has %s, which lists no entries: %s", setting, table, meaning).
		do(fmt.Sprintf("ask it for the domains you care for: postmap%s -q DOMAIN '%s'", p.flag(), table))
}

// fallbacks judges the relays that get mail when the hosts of a domain fail, as those do whose certificate is not the
// right one.
func (p *postfix) fallbacks(service string) (found []finding) {
	const setting = "smtp_fallback_relay"
	for _, to := range postfixWords(p.of(service, setting)) {
		found = append(found, warning.of("Postfix", "%s is %s: %s", setting, to, nexthopOf(to).asFallback()).
			do(p.mend(service, setting, "")))
	}
	return found
}

// destinations judges where mail goes that does not go to the hosts of its domain.
func (p *postfix) destinations() (found []finding) {
	var order []postfixRoute
	whose := map[postfixRoute][]string{}
	for _, r := range p.routes {
		group := r
		group.whose = ""
		order, whose[group] = append(order, group), append(whose[group], r.whose)
	}
	for _, group := range unique(order) {
		if all := whose[group]; !slices.Contains(all, "") {
			group.whose = several(all)
		}
		found = append(found, p.destination(group)...)
	}
	return found
}

// destination judges one of them.
func (p *postfix) destination(r postfixRoute) (found []finding) {
	what := cmp.Or(r.whose, "all mail")
	service, known := p.master[r.service]
	if !known || !service.sends() {
		if r.whose == "" && r.setting == "default_transport" {
			return []finding{warning.of("Postfix", "default_transport is %s: %s leaves by it, not by "+
				"Postfix's own SMTP, and whether that does DANE is not seen here", r.service, what).
				do(p.mend(r.service, r.setting, "smtp"))}
		}
		return nil
	}
	for _, to := range postfixWords(strings.TrimPrefix(r.nexthop, "inet:")) {
		if f, bad := r.judge(what, to); bad {
			found = append(found, f)
		}
	}
	return found
}

// judge judges a next hop.
func (r postfixRoute) judge(what, to string) (f finding, bad bool) {
	h, all := nexthopOf(to), r.whose == "" && r.setting != "content_filter"
	if h.name == r.whose || strings.HasPrefix(to, "unix:") || h.local() && !all {
		return f, false
	}
	return h.asRelay("Postfix", fmt.Sprintf("%s sends %s to %s", r.setting, what, to), all), true
}

// chroots compares the copy of resolv.conf that a chrooted smtp reads with the host's. Of the options Postfix needs
// none.
func (p *postfix) chroots() []finding {
	if !p.chrooted() {
		return nil
	}
	file := p.settings["queue_directory"] + resolvConf
	servers, copied := p.machine.nameservers(resolvConf), p.machine.nameservers(file)
	if slices.Equal(servers, copied) {
		return []finding{ok.of("resolv.conf", "Postfix's chroot has the same nameservers")}
	}
	return []finding{fault.of("resolv.conf", "Postfix's copy %s names %s: its chrooted processes ask other resolvers",
		file, strings.Join(copied, ", ")).do(fmt.Sprintf("cp %s %s && postfix%s reload", resolvConf, file, p.flag()))}
}

// chrooted reports whether an smtp that mail leaves by reads the copy.
func (p *postfix) chrooted() bool {
	return slices.ContainsFunc(p.senders(), func(name string) bool {
		return p.master[name].command == "smtp" && p.master[name].chroot
	})
}

// nameservers are those that a resolv.conf makes programs ask (resolv.conf(5)).
func (m *machine) nameservers(file string) []string {
	text, _ := m.read(file) // without a file it is as with an empty one
	servers, _ := readResolvConf(text)
	if len(servers) == 0 {
		return []string{"127.0.0.1"}
	}
	return servers
}
