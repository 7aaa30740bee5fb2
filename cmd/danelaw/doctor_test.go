package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/zones"
)

// host is a machine with these files and these outputs of programs, by command line.
func host(t *testing.T, files, outputs map[string]string) *machine {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &machine{
		root: root,
		has: func(program string) bool {
			for line := range outputs {
				if strings.Fields(line)[0] == program {
					return true
				}
			}
			return false
		},
		run: func(_ context.Context, program string, args ...string) (string, error) {
			if out, ok := outputs[strings.Join(append([]string{program}, args...), " ")]; ok {
				return out, nil
			}
			return "", errors.New(program + ": no such thing")
		},
	}
}

// wants checks that of the findings that are not ok there is, for each text, one, and no other.
func wants(t *testing.T, name string, found []finding, texts ...string) {
	t.Helper()
	bad := slices.DeleteFunc(slices.Clone(found), func(f finding) bool { return f.State == ok })
	for _, f := range found {
		if f.Why == "" || (f.State == ok) != (f.Remedy == "") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	for _, text := range texts {
		i := slices.IndexFunc(bad, func(f finding) bool { return strings.Contains(string(f.State)+": "+f.Why, text) })
		if i < 0 {
			t.Errorf("%s: nothing says %q in %+v", name, text, bad)
			continue
		}
		bad = slices.Delete(bad, i, i+1)
	}
	if len(bad) > 0 {
		t.Errorf("%s: also found %+v", name, bad)
	}
}

// TestDoctorResolvConf: each fault of resolv.conf that takes the AD bit away.
func TestDoctorResolvConf(t *testing.T) {
	const good = "# by hand\nnameserver 127.0.0.1\noptions trust-ad edns0\n"
	for name, tt := range map[string]struct {
		text string
		exim bool
		want []string
	}{
		"good": {good, true, nil},
		"IPv6": {"nameserver ::1\noptions edns0\noptions trust-ad\n", true, nil},
		"empty": {"options trust-ad edns0\n", false,
			[]string{"warning: /etc/resolv.conf names no nameserver"}},
		"elsewhere": {"nameserver 192.0.2.53\noptions trust-ad edns0\n", false,
			[]string{"warning: 192.0.2.53 is not on this host"}},
		"no address": {"nameserver localhost\noptions trust-ad edns0\n", false,
			[]string{`fault: nameserver "localhost" is no IP address`}},
		"systemd-resolved": {"nameserver 127.0.0.53\noptions trust-ad edns0\n", false,
			[]string{"fault: 127.0.0.53 is systemd-resolved"}},
		"Docker": {"nameserver 127.0.0.11\noptions trust-ad edns0\n", false,
			[]string{"fault: 127.0.0.11 is Docker's resolver"}},
		"two": {"nameserver 127.0.0.1\nnameserver ::1\noptions trust-ad edns0\n", false,
			[]string{"fault: 2 nameservers are named"}},
		"no trust-ad": {"nameserver 127.0.0.1\noptions edns0\n", false,
			[]string{"warning: `options trust-ad` is missing"}},
		"no trust-ad, Exim": {
			"nameserver 127.0.0.1\noptions edns0\n", true,
			[]string{"fault: `options trust-ad` is missing: glibc takes the AD bit from answers, so Exim"},
		},
		"no edns0": {"nameserver 127.0.0.1\noptions trust-ad\n", false,
			[]string{"warning: `options edns0` is missing"}},
	} {
		files, programs := map[string]string{resolvConf: tt.text}, map[string]string{}
		if tt.exim {
			programs["exim4 -bV"] = ""
		}
		wants(t, name, host(t, files, programs).resolverConfiguration(t.Context()), tt.want...)
	}
}

// debianMaster is the part of Debian's master.cf that sends mail, as postconf -M prints it.
const debianMaster = "smtp       inet  n       -       y       -       -       smtpd\n" +
	"pickup     unix  n       -       y       60      1       pickup\n" +
	"smtp       unix  -       -       y       -       -       smtp\n" +
	"relay      unix  -       -       y       -       -       smtp -o syslog_name=postfix/$service_name\n" +
	"lmtp       unix  -       -       y       -       -       lmtp\n" +
	"error      unix  -       -       y       -       -       error\n" +
	"local      unix  -       n       n       -       -       local\n"

// postfixOutputs are what postconf prints, with main.cf changed, services added, and overrides.
func postfixOutputs(flags string, change map[string]string, services, overrides string) map[string]string {
	set := map[string]string{
		"mail_version": "3.10.5", "compatibility_level": "3.6", "queue_directory": "/var/spool/postfix",
		"smtp_dns_support_level": "dnssec",
		"smtp_host_lookup":       "dns", "smtp_tls_security_level": "dane", "tls_dane_digests": "sha512 sha256",
		"default_transport": "smtp",
		"relay_transport":   "relay", "local_transport": "local:mail.here.dane", "multi_instance_enable": "no",
		"smtp_never_send_ehlo": "no", "ignore_mx_lookup_error": "no",
		"smtp_tls_dane_insecure_mx_policy": "dane", "smtp_tls_connection_reuse": "no",
	}
	maps.Copy(set, change)
	var out strings.Builder
	for _, setting := range postfixNames {
		out.WriteString(setting + " = " + set[setting] + "\n")
	}
	raw := "${{$smtp_tls_security_level} == {dane} ? {dane} : {may}}"
	if policy, changed := change["smtp_tls_dane_insecure_mx_policy"]; changed {
		raw = policy
	}
	return map[string]string{
		"postconf " + flags + "-x " + strings.Join(postfixNames, " "): out.String(),
		"postconf -T compile-version":                                 "OpenSSL 3.5.4 30 Sep 2025\n",
		"postconf " + flags + "-M":                                    debianMaster + services, "postconf " + flags +
			"-Px": overrides,
		"postconf " + flags + "smtp_tls_dane_insecure_mx_policy": "smtp_tls_dane_insecure_mx_policy = " + raw + "\n",
	}
}

// TestDoctorPostfix: what doctor makes of the output of Postfix's commands. What Postfix makes of such settings is in
// test/mta.
func TestDoctorPostfix(t *testing.T) {
	const slow = "slow unix - - y - - smtp -o smtp_tls_security_level=may\n"
	for name, tt := range map[string]struct {
		change              map[string]string
		services, overrides string
		files, more         map[string]string
		want                []string
		remedy              string
	}{
		"good":      {},
		"dane-only": {change: map[string]string{"smtp_tls_security_level": "dane-only"}},
		"any case": {change: map[string]string{"smtp_tls_security_level": "DANE", "smtp_dns_support_level": "DNSSEC",
			"ignore_mx_lookup_error": "No"}},
		"YES": {change: map[string]string{"ignore_mx_lookup_error": "YES"},
			want: []string{`fault: ignore_mx_lookup_error is "YES"`}},
		"levels": {change: map[string]string{"smtp_tls_policy_maps": "hash:/policy"},
			more: map[string]string{"postmap -s hash:/policy": "a.org\tDane-Only\nb.org\tdane,protocols=TLSv1.3\n" +
				"c.org\tdane-onyl\nd.org\tmay\tciphers=high\n"},
			want: []string{"has dane-onyl for c.org", "has may for d.org"}},
		"a relay for all": {change: map[string]string{"sender_dependent_relayhost_maps": "static:{[192.0.2.1]:587}"},
			want: []string{"fault: sender_dependent_relayhost_maps sends all mail to [192.0.2.1]:587: an address"}},
		"native": {change: map[string]string{"smtp_host_lookup": "dns, native"}},
		"may": {change: map[string]string{"smtp_tls_security_level": "may"},
			want:   []string{`fault: smtp_tls_security_level is "may"`},
			remedy: "postconf -e smtp_tls_security_level=dane && postfix reload"},
		"no TLS": {more: map[string]string{"postconf -T compile-version": "\n"},
			want: []string{"fault: this Postfix was built without TLS"}},
		"relayhost": {change: map[string]string{"relayhost": "[mail.example.net]", "relay_domains": "example.org"},
			want: []string{"warning: relayhost sends all mail to [mail.example.net]",
				"warning: relayhost sends example.org to [mail.example.net]"}},
		"relayhosts": {change: map[string]string{"relayhost": "[::1]:26, [ipv6:2001:db8::1]"},
			want: []string{"warning: relayhost sends all mail to [::1]:26, on this host",
				"fault: relayhost sends all mail to [ipv6:2001:db8::1]: an address"}},
		"content_filter": {change: map[string]string{"content_filter": "amavis:[127.0.0.1]:10024",
			"transport_maps": "inline:{lists.example.org=amavis:[::1]:2525}"},
			services:  "amavis unix - - y - 2 smtp -o smtp_tls_security_level=none\n",
			overrides: "amavis/unix/smtp_tls_security_level = none\n",
			more: map[string]string{
				"postmap -s inline:{lists.example.org=amavis:[::1]:2525}": "lists.example.org\tamavis:[::1]:2525\n",
			}},
		"a filter elsewhere": {change: map[string]string{"content_filter": "smtp:[192.0.2.1]:10024"},
			want: []string{"warning: content_filter sends all mail to [192.0.2.1]:10024: an address"}},
		"a pipe": {change: map[string]string{"default_transport": "uucp"},
			services: "uucp unix - n n - - pipe flags=F\n",
			want:     []string{"warning: default_transport is uucp: all mail leaves by it"}},
		"insecure MX": {change: map[string]string{"smtp_tls_dane_insecure_mx_policy": "may"},
			want:   []string{"warning: smtp_tls_dane_insecure_mx_policy"},
			remedy: "postconf -X smtp_tls_dane_insecure_mx_policy && postfix reload"},
		"master.cf": {overrides: "smtp/unix/smtp_dns_resolver_options = res_dnsrch\n",
			want:   []string{`fault: in master.cf, smtp/unix: smtp_dns_resolver_options`},
			remedy: "postconf -PX smtp/unix/smtp_dns_resolver_options && postfix reload"},
		"main.cf, for another service": {change: map[string]string{"transport_maps": "inline:{example.org=slow:}"},
			services:  slow,
			overrides: "slow/unix/smtp_tls_security_level = may\n",
			more:      map[string]string{"postmap -s inline:{example.org=slow:}": "example.org\tslow:\n"},
			want: []string{`warning: in master.cf, slow/unix: smtp_tls_security_level is "may": TLSA records ` +
				`are not looked up (for example.org)`}},
		"a secure map": {change: map[string]string{"smtp_tls_policy_maps": "hash:/etc/postfix/policy, " +
			"socketmap:unix:postfix"},
			more: map[string]string{"postmap -s hash:/etc/postfix/policy": "example.org\tsecure match=nexthop\n" +
				"example.net\tdane-only\n"},
			want: []string{"warning: smtp_tls_policy_maps (hash:/etc/postfix/policy) has secure for example.org",
				"warning: smtp_tls_policy_maps has socketmap:unix:postfix, which lists no entries"}},
		"a file of patterns": {change: map[string]string{"transport_maps": "pcre:/etc/postfix/ways"},
			files: map[string]string{"/etc/postfix/ways": "# ways\n/example\\/(.*)/i  smtp:[192.0.2.1]\n\nif /x/\n" +
				"!/y/ slow:\n  gone\nendif\n"},
			want: []string{`warning: transport_maps sends /example\/(.*)/ to [192.0.2.1]`}},
		"no file": {change: map[string]string{"transport_maps": "pcre:/etc/postfix/ways"},
			want: []string{"warning: transport_maps has pcre:/etc/postfix/ways, which lists no entries"}},
		"a chroot": {files: map[string]string{resolvConf: "nameserver 127.0.0.1\n",
			"/var/spool/postfix/etc/resolv.conf": "nameserver 192.0.2.53\n"},
			want:   []string{"fault: Postfix's copy /var/spool/postfix/etc/resolv.conf names 192.0.2.53"},
			remedy: "cp /etc/resolv.conf /var/spool/postfix/etc/resolv.conf && postfix reload"},
		"a chroot without a copy": {files: map[string]string{resolvConf: "nameserver 127.0.0.5\n"},
			want: []string{"fault: Postfix's copy /var/spool/postfix/etc/resolv.conf names 127.0.0.1"}},
	} {
		outputs := postfixOutputs("", tt.change, tt.services, tt.overrides)
		maps.Copy(outputs, tt.more)
		found := host(t, tt.files, outputs).postfix(t.Context())
		wants(t, name, found, tt.want...)
		if tt.remedy != "" && !slices.ContainsFunc(found, func(f finding) bool { return f.Remedy == tt.remedy }) {
			t.Errorf("%s: no %q in %+v", name, tt.remedy, found)
		}
	}
	wants(t, "unreadable",
		host(t, nil, map[string]string{"postconf -T compile-version": "OpenSSL\n"}).postfix(t.Context()),
		"warning: its settings cannot be read: postconf: no such thing")
	wants(t, "not installed", host(t, nil, nil).postfix(t.Context()))
}

// TestDoctorPostfixInstances: each instance that is enabled has settings of its own.
func TestDoctorPostfixInstances(t *testing.T) {
	outputs := postfixOutputs("", map[string]string{"multi_instance_directories": "/etc/postfix-out /etc/postfix-off"},
		"", "")
	maps.Copy(outputs, postfixOutputs("-c /etc/postfix-out ", map[string]string{"multi_instance_enable": "yes",
		"smtp_tls_security_level": "may"}, "", ""))
	maps.Copy(outputs, postfixOutputs("-c /etc/postfix-off ", map[string]string{"smtp_tls_security_level": "may"}, "",
		""))
	found := host(t, nil, outputs).postfix(t.Context())
	wants(t, "instances", found, `fault: /etc/postfix-out: smtp_tls_security_level is "may"`)
	const remedy = "postconf -c /etc/postfix-out -e smtp_tls_security_level=dane && postfix -c /etc/postfix-out reload"
	if !slices.ContainsFunc(found, func(f finding) bool { return f.Remedy == remedy }) {
		t.Errorf("no %q in %+v", remedy, found)
	}
}

// TestPostfixWords: lists as Postfix reads them.
func TestPostfixWords(t *testing.T) {
	for list, want := range map[string][]string{
		"": nil, " dns,native ": {"dns", "native"}, "a:b, {c d}\te": {"a:b", "{c d}", "e"},
		"inline:{ {a.b = may x=y}, c=d }, static:dane": {"inline:{ {a.b = may x=y}, c=d }", "static:dane"},
		"}a b{ c": {"}a", "b{ c"},
	} {
		if got := postfixWords(list); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
}

// TestNexthop: hosts and domains as transports have them.
func TestNexthop(t *testing.T) {
	for text, want := range map[string]string{
		"example.org": "example.org ", "example.org:587": "example.org ", "[mx.example.org]": "mx.example.org ",
		"[mx.example.org]:smtp": "mx.example.org ",
		"[192.0.2.1]":           "192.0.2.1 192.0.2.1", "192.0.2.1:25": "192.0.2.1 192.0.2.1",
		"[IPv6:2001:db8::1]:25": "IPv6:2001:db8::1 2001:db8::1", "[::1]": "::1 ::1",
	} {
		h := nexthopOf(text)
		if got := h.name + " " + strings.TrimPrefix(h.address.String(), "invalid IP"); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// Exim's lists of drivers, with the options that count.
const (
	eximAbout = "Exim version 4.98\nSupport for: crypteq IPv6 GnuTLS TLS_resume " +
		"move_frozen_messages DANE DKIM DNSSEC\n"
	eximDNSLookup = "dnslookup router:\ndriver = dnslookup\ntransport = remote_smtp\ndnssec_request_domains = *\n" +
		"no_verify_only\nno_pass_on_timeout\n\n"
	eximLocal      = "local_user router:\ndriver = accept\ntransport = mail_spool\ndnssec_request_domains =\n\n"
	eximTransports = "remote_smtp transport:\ndriver = smtp\ndnssec_request_domains = *\nhosts_try_dane = *\n" +
		"no_hosts_override\nhosts_avoid_tls =\n\n" +
		"spare transport:\ndriver = smtp\nhosts_try_dane =\n\nmail_spool transport:\ndriver = appendfile\n"
)

// TestDoctorExim: what doctor makes of Exim's answers. What Exim makes of such settings is in test/mta.
func TestDoctorExim(t *testing.T) {
	hub := func(lines string) string {
		return "hub router:\ndriver = manualroute\ntransport = remote_smtp\ndnssec_request_domains = *\n" +
			"domains = ! +local_domains\n" + lines + "\n" + eximDNSLookup
	}
	for name, tt := range map[string]struct {
		routers, transports string // "" for the good ones
		main                map[string]string
		want                []string
	}{
		"good": {},
		"no DNSSEC": {routers: strings.Replace(eximDNSLookup, "domains = *", "domains =", 1),
			want: []string{"fault: router dnslookup has no dnssec_request_domains"}},
		"no DANE": {transports: strings.Replace(eximTransports, "dane = *", "dane =", 1),
			want: []string{"fault: transport remote_smtp has no hosts_try_dane"}},
		"all but": {transports: strings.Replace(eximTransports, "dane = *", "dane = !mx.example.org : *", 1),
			want: []string{"warning: transport remote_smtp has hosts_try_dane = !mx.example.org"}},
		"required": {transports: strings.Replace(eximTransports, "hosts_try_dane = *",
			"hosts_try_dane =\nhosts_require_dane = *", 1)},
		"passes": {routers: strings.Replace(eximDNSLookup, "no_pass", "pass", 1),
			want: []string{"warning: router dnslookup has pass_on_timeout"}},
		"avoids TLS": {transports: strings.Replace(eximTransports, "avoid_tls =", "avoid_tls = *", 1),
			want: []string{"warning: transport remote_smtp has hosts_avoid_tls"}},
		"avoids it where danelaw says so": {transports: strings.Replace(eximTransports, "hosts_avoid_tls =",
			avoidsByDanelaw(t), 1)},
		"hub": {routers: hub("route_list = * mail.example.net"),
			want: []string{
				"warning: router hub sends all mail to mail.example.net: DANE protects the way to it alone",
			}},
		"hubs": {routers: hub("route_list = *.example.org \"192.0.2.1::26 : mail.example.net/MX\" randomize ; "),
			want: []string{"warning: router hub sends *.example.org to 192.0.2.1:26: an address",
				"warning: router hub sends *.example.org to mail.example.net/MX: DANE"}},
		"hub byname": {routers: hub("route_list = * mail.example.net byname"),
			want: []string{"fault: router hub sends all mail to mail.example.net byname"}},
		"hub by address": {routers: hub("route_data = \"<; 2001:db8::1\""),
			want: []string{"fault: router hub sends all mail to 2001:db8::1: an address"}},
		"hub here": {routers: hub("route_data = 127.0.0.1"),
			want: []string{"warning: router hub sends all mail to 127.0.0.1, on this host"}},
		"hub by lookup": {routers: hub("route_data = ${lookup{$domain}lsearch{/etc/hubs}}"),
			want: []string{"warning: router hub sends all mail to what ${lookup"}},
		"a file not there": {
			routers: hub("domains = ${if exists{/etc/hubs}{lsearch;/etc/hubs}fail}\n" +
				"route_data = ${lookup{$domain}lsearch{/etc/hubs}}"),
		},
		"verification": {routers: hub("verify_only\nroute_list = * 192.0.2.1")},
		"by expansion": {routers: strings.Replace(eximDNSLookup, "= remote_smtp", "= ${if eq{$domain}{x}{a}{b}}",
			1), want: []string{"warning: router dnslookup chooses its transport by mail"}},
		"nothing goes out": {routers: eximLocal},
		"main": {main: map[string]string{"dns_dnssec_ok": "0", "dns_again_means_nonexist": "!+x : *"},
			want: []string{"warning: dns_dnssec_ok is 0", "warning: dns_again_means_nonexist is !+x : *"}},
		"fallback": {transports: strings.Replace(eximTransports, "no_hosts_override",
			"no_hosts_override\nfallback_hosts = 192.0.2.1", 1),
			want: []string{"warning: transport remote_smtp has fallback_hosts = 192.0.2.1"}},
		"hosts": {transports: strings.Replace(eximTransports, "no_hosts_override",
			"hosts_override\ngethostbyname\nhosts = mail.example.net", 1),
			want: []string{"fault: transport remote_smtp sends all mail to mail.example.net byname"}},
	} {
		for _, program := range []string{"exim", "exim4"} {
			outputs := map[string]string{
				program + " -bV": eximAbout, program + " -bP routers": cmp.Or(tt.routers, eximLocal+eximDNSLookup),
				program + " -bP transports": cmp.Or(tt.transports, eximTransports),
				program + " -be ${if exists{/etc/hubs}{lsearch;/etc/hubs}fail}": `Failed: "if" failed and "fail" ` +
					`requested` + "\n",
			}
			for _, option := range []string{"dns_dnssec_ok", "dns_again_means_nonexist"} {
				outputs[program+" -bP "+option] = option + " = " + tt.main[option] + "\n"
			}
			wants(t, name, host(t, nil, outputs).exim(t.Context()), tt.want...)
		}
	}
	wants(t, "built without",
		host(t, nil, map[string]string{"exim -bV": strings.Replace(eximAbout, "DANE ", "", 1)}).exim(t.Context()),
		"fault: this Exim was built without DANE")
	wants(t, "unreadable", host(t, nil, map[string]string{"exim -bV": eximAbout}).exim(t.Context()),
		"warning: its routers cannot be read", "warning: its transports cannot be read")
	wants(t, "not installed", host(t, nil, nil).exim(t.Context()))
}

// TestEximCovers: how much a list covers. The first item that matches decides.
func TestEximCovers(t *testing.T) {
	for list, want := range map[string]coverage{
		"": nothing, "*": everything, " * ": everything, "<; *": everything, "x.org : *": everything,
		"!x.org : *": partial, "x.org": partial, "* : !x.org": everything,
		"0.0.0.0/0": partial, "<; 0.0.0.0/0 ; ::/0": everything, "0.0.0.0/0 : ::::/0": everything,
		"+ignore_unknown : *": everything, "${if eq{a}{b}{*}}": partial,
	} {
		if got := covers(list); got != want {
			t.Errorf("%q: %d, want %d", list, got, want)
		}
	}
}

// findings returns those of one topic from the output of doctor -json.
func findings(t *testing.T, out string, topics ...string) (found []finding) {
	t.Helper()
	var all []finding
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, f := range all {
		if slices.Contains(topics, f.Topic) {
			found = append(found, f)
		}
	}
	return found
}

// TestDoctorLab: a danelaw before the lab is in order, with the list that refuses found out.
func TestDoctorLab(t *testing.T) {
	_, out, stderr := here("doctor", "-lab", "-json")
	if stderr != "" {
		t.Error(stderr)
	}
	found := findings(t, out, "resolver", "upstreams", "anchors", "DNSBL")
	wants(t, "lab", found, "warning: refusing.dane answers 127.255.255.254")
	if len(found) != 8 {
		t.Errorf("%d findings: %+v", len(found), found)
	}
	code, out, _ := here("doctor", "-lab", "-bogus", "good.dane", "-dnsbl", "absent.dane", "-signed", "unsigned.dane")
	for _, want := range []string{"good.dane. MX has wrong signatures", "unsigned.dane. MX, asked with DO: 127.0.0.1:",
		"answers without AD", "absent.dane does not list", "faults\n"} {
		if code != exitFailure || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, out)
		}
	}
}

// TestDoctorResolver: a resolver that does not validate is found out, and so is one that is not there.
func TestDoctorResolver(t *testing.T) {
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	s := &subject{resolver: lab.Addr(), signed: labSigned, bogus: labBogus}
	wants(t, "a forwarder", s.resolverValidates(t.Context()), "fault: good.dane. MX, asked with DO:",
		"fault: good.dane. MX, asked with AD only:",
		"fault: . NS", "fault: expired.dane. MX has wrong signatures")
	s.resolver = "127.0.0.1:1"
	wants(t, "nobody", s.resolverValidates(t.Context()), "fault: 127.0.0.1:1 does not answer")
	s.unconfigured = errors.New("no upstream")
	wants(t, "no configuration", s.upstreams(t.Context()), "warning: they are not examined: no upstream")
}

// TestDoctorUsage: what is wrong with the command line.
func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{
		{"now"}, {"-resolver", "localhost"}, {"-signed", "a..b"}, {"-dnsbl", "."}, {"-lab", "-resolver", "127.0.0.1"},
		{"-lab", "-conf", "x"}, {"-lab", "-signed", "https://good.dane/"}, {"-lab", "-bogus", "192.0.2.1"},
		{"-lab", "-dnsbl", "https://dnsbl.dane/"},
	} {
		if code, _, stderr := here(append([]string{"doctor"}, args...)...); code != exitUsage ||
			!strings.HasPrefix(stderr, "danelaw: ") {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
	if code, _, stderr := here("doctor", "-conf", "/nonexistent"); code != exitFailure ||
		!strings.Contains(stderr, "/nonexistent") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	for given, want := range map[string]string{"127.0.0.5": "127.0.0.5:53", "::1": "[::1]:53",
		"[::1]:5300": "[::1]:5300"} {
		if got, err := resolverAddress(given); got != want || err != nil {
			t.Errorf("%s: %s, %v", given, got, err)
		}
	}
}

// TestFindings: findings are in colours on a terminal, fit its columns, and stand one below the other.
func TestFindings(t *testing.T) {
	found := []finding{
		{State: ok, Topic: "clock", Why: "it is kept right"},
		{State: warning, Topic: "Postfix", Why: "relayhost = [smarthost.example]: mail goes there and DANE is theirs",
			Remedy: "unset it with postconf -X relayhost"},
		{State: fault, Topic: "resolv.conf", Why: "no nameserver"},
	}
	var out, colours strings.Builder
	printFindings(&out, found, newPainter(false), 60)
	want := `ok       clock       it is kept right
warning  Postfix     relayhost = [smarthost.example]: mail
                     goes there and DANE is theirs
                     → unset it with postconf -X relayhost
fault    resolv.conf no nameserver

1 ok, 1 warning, 1 fault
`
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", &out, want)
	}
	printFindings(&colours, found, newPainter(true), 60)
	for _, want := range []string{"\x1b[32mok\x1b[0m", "\x1b[33mwarning\x1b[0m", "\x1b[31mfault\x1b[0m"} {
		if !strings.Contains(colours.String(), want) {
			t.Errorf("lacks %q: %q", want, &colours)
		}
	}
}

// TestDoctorCorefile: root is told how to check a Corefile whose trust_anchor_state is the daemon's, which root's own
// --validate refuses.
func TestDoctorCorefile(t *testing.T) {
	needs.Root(t)
	dir := t.TempDir()
	own := filepath.Join(dir, "own")
	file := write(t, filepath.Join(dir, "Corefile"), ".:5300 {\n    danelaw {\n        upstream . 192.0.2.1\n        "+
		"trust_anchor_state "+
		own+"\n    }\n}\n")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if found := (&subject{conf: file}).corefile(t.Context()); len(found) > 0 {
		t.Errorf("of one that root may check: %v", found)
	}
	if err := os.Chown(own, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	found := (&subject{conf: file}).corefile(t.Context())
	if len(found) != 1 || found[0].State != ok || !strings.Contains(found[0].Why, "trust_anchor_state") ||
		!strings.Contains(found[0].Why, "`danelaw --user danelaw --validate --conf "+file+"`") {
		t.Errorf("of one with the daemon's state: %v", found)
	}
}
