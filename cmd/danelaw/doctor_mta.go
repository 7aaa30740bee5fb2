package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// postfix examines the settings that decide about DANE, above all those that silently switch it off.
func (m *machine) postfix(ctx context.Context) []finding {
	const topic = "Postfix"
	if !m.has("postconf") {
		return []finding{fine(topic, "it is not installed")}
	}
	settings, err := m.postfixSettings(ctx)
	if err != nil {
		return []finding{{topic, warning, "its settings cannot be read: " + err.Error(), "run this as root"}}
	}
	if library, err := m.run(ctx, "postconf", "-T", "compile-version"); err != nil || strings.TrimSpace(library) == "" {
		return []finding{{topic, fault, "this Postfix was built without TLS: it can do no DANE", "install one that was built with OpenSSL, such as Debian's"}}
	}
	found := []finding{}
	for _, rule := range postfixRules {
		if f, applies := rule(settings); applies {
			found = append(found, f)
		}
	}
	found = append(found, m.policyMaps(ctx, settings["smtp_tls_policy_maps"])...)
	if !slices.ContainsFunc(found, func(f finding) bool { return f.State != ok }) {
		found = append(found, fine(topic, "DANE is on: level %s", settings["smtp_tls_security_level"]))
	}
	return found
}

// postfixNames are the settings that are read.
var postfixNames = []string{"mail_version", "smtp_dns_support_level", "smtp_host_lookup", "smtp_tls_security_level", "smtp_tls_policy_maps", "relayhost",
	"smtp_tls_dane_insecure_mx_policy", "smtp_use_tls", "disable_dns_lookups"}

// postfixSettings are those of main.cf, with what master.cf has for the service smtp in their place.
func (m *machine) postfixSettings(ctx context.Context) (map[string]string, error) {
	out, err := m.run(ctx, "postconf", append([]string{"-x"}, postfixNames...)...)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(line, "=")
		settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	overrides, err := m.run(ctx, "postconf", "-P", "smtp/unix/*")
	if err != nil {
		return settings, nil // an older Postfix; it has none that -P would show
	}
	for line := range strings.Lines(overrides) {
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "smtp/unix/"), "=")
		settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return settings, nil
}

// postfixRules judge settings; a rule that has nothing to say does not apply.
var postfixRules = []func(map[string]string) (f finding, applies bool){
	func(s map[string]string) (finding, bool) {
		level := s["smtp_tls_security_level"]
		return finding{"Postfix", fault, fmt.Sprintf("smtp_tls_security_level is %q: TLSA records are not looked up", level),
			"postconf -e smtp_tls_security_level=dane"}, !dane(s)
	},
	func(s map[string]string) (finding, bool) {
		return finding{"Postfix", fault, fmt.Sprintf("smtp_dns_support_level is %q: DANE is off whatever the security level says", s["smtp_dns_support_level"]),
			"postconf -e smtp_dns_support_level=dnssec"}, s["smtp_dns_support_level"] != "dnssec"
	},
	func(s map[string]string) (finding, bool) {
		return finding{"Postfix", fault, fmt.Sprintf("smtp_host_lookup is %q: addresses from elsewhere than DNS are never secure, and DANE is off", s["smtp_host_lookup"]),
			"postconf -e smtp_host_lookup=dns"}, s["smtp_host_lookup"] != "dns"
	},
	func(s map[string]string) (finding, bool) {
		return finding{"Postfix", fault, "disable_dns_lookups is yes: no MX and no TLSA records are looked up", "postconf -e disable_dns_lookups=no"},
			s["disable_dns_lookups"] == "yes"
	},
	func(s map[string]string) (finding, bool) {
		relay := s["relayhost"]
		return finding{"Postfix", warning, fmt.Sprintf("relayhost is %s: all mail goes there, and DANE protects the way to it alone", relay),
			"see to it that the relay does DANE as well, and has TLSA records"}, relay != ""
	},
	func(s map[string]string) (finding, bool) {
		policy := s["smtp_tls_dane_insecure_mx_policy"]
		return finding{"Postfix", warning, fmt.Sprintf("smtp_tls_dane_insecure_mx_policy is %q: TLSA records of hosts behind an unsigned MX are not used", policy),
			"postconf -X smtp_tls_dane_insecure_mx_policy"}, dane(s) && policy != "" && policy != "dane"
	},
}

func dane(s map[string]string) bool {
	return slices.Contains([]string{"dane", "dane-only"}, s["smtp_tls_security_level"])
}

// policyMaps looks for domains to which a policy other than DANE applies. Only maps that list their entries can be looked into.
func (m *machine) policyMaps(ctx context.Context, maps string) (found []finding) {
	const topic = "Postfix"
	for _, table := range strings.FieldsFunc(maps, func(r rune) bool { return r == ',' || r == ' ' }) {
		entries, err := m.run(ctx, "postmap", "-s", table)
		if err != nil {
			found = append(found, finding{topic, warning, fmt.Sprintf("smtp_tls_policy_maps has %s, which lists no entries: what it returns takes the place of DANE", table),
				fmt.Sprintf("ask it for the domains you care for: postmap -q DOMAIN %s", table)})
			continue
		}
		for line := range strings.Lines(entries) {
			words := strings.Fields(line)
			if len(words) >= 2 && !strings.HasPrefix(words[1], "dane") {
				found = append(found, finding{topic, warning, fmt.Sprintf("smtp_tls_policy_maps (%s) has %s for %s: no TLSA record is used there", table, words[1], words[0]),
					"take the entry out if the domain has TLSA records: danelaw check " + words[0]})
			}
		}
	}
	return found
}

// exim examines routers, transports and the binary itself.
func (m *machine) exim(ctx context.Context) []finding {
	const topic = "Exim"
	program := "exim4"
	if !m.has(program) {
		program = "exim"
	}
	if !m.has(program) {
		return []finding{fine(topic, "it is not installed")}
	}
	about, err := m.run(ctx, program, "-bV")
	if err != nil {
		return []finding{{topic, warning, "it does not tell about itself: " + err.Error(), "run this as root"}}
	}
	if !strings.Contains(about, "DANE") {
		return []finding{{topic, fault, "this Exim was built without DANE", "install one that was, such as Debian's exim4-daemon-heavy or -light"}}
	}
	return m.eximSettings(ctx, program)
}

// eximSettings examines the drivers that send mail.
func (m *machine) eximSettings(ctx context.Context, program string) (found []finding) {
	const topic = "Exim"
	for _, part := range []struct {
		list, driver string
		options      map[string]string // what silently switches DANE off when it is empty
	}{
		{"routers", "dnslookup", map[string]string{"dnssec_request_domains": "MX records"}},
		{"transports", "smtp", map[string]string{"dnssec_request_domains": "addresses", "hosts_try_dane": "TLSA records"}},
	} {
		out, err := m.run(ctx, program, "-bP", part.list)
		if err != nil {
			found = append(found, finding{topic, warning, fmt.Sprintf("its %s cannot be read: %v", part.list, err), "run this as root"})
			continue
		}
		for _, d := range eximDrivers(out) {
			if d.options["driver"] != part.driver {
				continue
			}
			for _, option := range []string{"dnssec_request_domains", "hosts_try_dane"} {
				if what := part.options[option]; what != "" && d.options[option] == "" {
					found = append(found, finding{topic, fault, fmt.Sprintf("%s has no %s: %s are not looked up with DNSSEC, and DANE is off", d.name, option, what),
						fmt.Sprintf("write `%s = *` into %s", option, d.name)})
				}
			}
		}
	}
	if out, err := m.run(ctx, program, "-bP", "dns_dnssec_ok"); err == nil && strings.TrimSpace(strings.TrimPrefix(out, "dns_dnssec_ok =")) != "1" {
		found = append(found, finding{topic, warning, "dns_dnssec_ok is not 1: Exim leaves it to the resolver library whether DO is set", "write `dns_dnssec_ok = 1`"})
	}
	if len(found) == 0 {
		found = append(found, fine(topic, "DANE is on"))
	}
	return found
}

// eximDriver is one router or transport of `exim -bP`.
type eximDriver struct {
	name    string // such as "transport remote_smtp"
	options map[string]string
}

// eximDrivers reads the list: a title such as "remote_smtp transport:", then an option a line.
func eximDrivers(text string) (all []eximDriver) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, is := strings.CutSuffix(line, ":"); is && strings.Count(title, " ") == 1 {
			name, kind, _ := strings.Cut(title, " ")
			all = append(all, eximDriver{kind + " " + name, map[string]string{}})
		} else if name, value, is := strings.Cut(line, "="); is && len(all) > 0 {
			all[len(all)-1].options[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return all
}
