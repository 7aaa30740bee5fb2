package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
		text, chroot string
		exim         bool
		want         []string
	}{
		"good":             {good, good, true, nil},
		"IPv6":             {"nameserver ::1\noptions edns0\noptions trust-ad\n", "", true, nil},
		"empty":            {"options trust-ad edns0\n", "", false, []string{"warning: /etc/resolv.conf names no nameserver"}},
		"elsewhere":        {"nameserver 192.0.2.53\noptions trust-ad edns0\n", "", false, []string{"warning: 192.0.2.53 is not on this host"}},
		"no address":       {"nameserver localhost\noptions trust-ad edns0\n", "", false, []string{`fault: nameserver "localhost" is no IP address`}},
		"systemd-resolved": {"nameserver 127.0.0.53\noptions trust-ad edns0\n", "", false, []string{"fault: 127.0.0.53 is systemd-resolved"}},
		"Docker":           {"nameserver 127.0.0.11\noptions trust-ad edns0\n", "", false, []string{"fault: 127.0.0.11 is Docker's resolver"}},
		"two":              {"nameserver 127.0.0.1\nnameserver ::1\noptions trust-ad edns0\n", "", false, []string{"fault: 2 nameservers are named"}},
		"no trust-ad":      {"nameserver 127.0.0.1\noptions edns0\n", "", false, []string{"warning: `options trust-ad` is missing"}},
		"no trust-ad, Exim": {
			"nameserver 127.0.0.1\noptions edns0\n", "", true, []string{"fault: `options trust-ad` is missing: glibc takes the AD bit from answers, so Exim"},
		},
		"no edns0":       {"nameserver 127.0.0.1\noptions trust-ad\n", "", false, []string{"warning: `options edns0` is missing"}},
		"another chroot": {good, "nameserver 192.0.2.53\n", false, []string{"fault: Postfix's copy /var/spool/postfix/etc/resolv.conf is another (192.0.2.53)"}},
	} {
		files, programs := map[string]string{resolvConf: tt.text}, map[string]string{}
		if tt.chroot != "" {
			files[chrootResolvConf] = tt.chroot
		}
		if tt.exim {
			programs["exim4 -bV"] = ""
		}
		wants(t, name, host(t, files, programs).resolverConfiguration(t.Context()), tt.want...)
	}
}

// TestDoctorPostfix: each setting that switches DANE off without a word.
func TestDoctorPostfix(t *testing.T) {
	good := map[string]string{
		"mail_version": "3.10.5", "smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns", "smtp_tls_security_level": "dane", "smtp_tls_policy_maps": "",
		"relayhost": "", "smtp_tls_dane_insecure_mx_policy": "${{$smtp_tls_security_level} == {dane} ? {dane} : {may}}", "disable_dns_lookups": "no",
	}
	good["smtp_tls_dane_insecure_mx_policy"] = "dane" // as -x expands it
	for name, tt := range map[string]struct {
		change map[string]string
		more   map[string]string // outputs
		want   []string
	}{
		"good":         {},
		"dane-only":    {change: map[string]string{"smtp_tls_security_level": "dane-only"}},
		"may":          {change: map[string]string{"smtp_tls_security_level": "may"}, want: []string{`fault: smtp_tls_security_level is "may"`}},
		"no DNSSEC":    {change: map[string]string{"smtp_dns_support_level": ""}, want: []string{`fault: smtp_dns_support_level is ""`}},
		"native":       {change: map[string]string{"smtp_host_lookup": "dns, native"}, want: []string{`fault: smtp_host_lookup is "dns, native"`}},
		"no TLS":       {more: map[string]string{"postconf -T compile-version": "\n"}, want: []string{"fault: this Postfix was built without TLS"}},
		"no DNS":       {change: map[string]string{"disable_dns_lookups": "yes"}, want: []string{"fault: disable_dns_lookups is yes"}},
		"relayhost":    {change: map[string]string{"relayhost": "[mail.example.net]"}, want: []string{"warning: relayhost is [mail.example.net]"}},
		"insecure MX":  {change: map[string]string{"smtp_tls_dane_insecure_mx_policy": "may"}, want: []string{"warning: smtp_tls_dane_insecure_mx_policy"}},
		"master.cf":    {more: map[string]string{"postconf -P smtp/unix/*": "smtp/unix/smtp_dns_support_level = enabled\n"}, want: []string{`fault: smtp_dns_support_level is "enabled"`}},
		"a secure map": {change: map[string]string{"smtp_tls_policy_maps": "hash:/etc/postfix/policy, socketmap:inet:localhost:8461:postfix"}, more: map[string]string{"postmap -s hash:/etc/postfix/policy": "example.org\tsecure match=nexthop\nexample.net\tdane-only\n"}, want: []string{"warning: smtp_tls_policy_maps (hash:/etc/postfix/policy) has secure for example.org", "warning: smtp_tls_policy_maps has socketmap:inet:localhost:8461:postfix, which lists no entries"}},
	} {
		var out strings.Builder
		for _, setting := range postfixNames {
			value, changed := tt.change[setting]
			if !changed {
				value = good[setting]
			}
			out.WriteString(setting + " = " + value + "\n")
		}
		outputs := map[string]string{
			"postconf -x " + strings.Join(postfixNames, " "): out.String(), "postconf -T compile-version": "OpenSSL 3.5.4 30 Sep 2025\n",
		}
		for line, text := range tt.more {
			outputs[line] = text
		}
		wants(t, name, host(t, nil, outputs).postfix(t.Context()), tt.want...)
	}
	wants(t, "unreadable", host(t, nil, map[string]string{"postconf": ""}).postfix(t.Context()), "warning: its settings cannot be read: postconf: no such thing")
	wants(t, "not installed", host(t, nil, nil).postfix(t.Context()))
}

// TestDoctorExim: a binary without DANE, and each setting that switches it off.
func TestDoctorExim(t *testing.T) {
	const about = "Exim version 4.98\nSupport for: crypteq IPv6 GnuTLS TLS_resume move_frozen_messages DANE DKIM DNSSEC\n"
	const routers = "dnslookup router:\ndriver = dnslookup\ndnssec_request_domains = *\n\nlocal_user router:\ndriver = accept\ndnssec_request_domains =\n"
	const transports = "remote_smtp transport:\ndriver = smtp\ndnssec_request_domains = *\nhosts_try_dane = *\n\naddress_pipe transport:\ndriver = pipe\n"
	for name, tt := range map[string]struct {
		about, routers, transports, ok string
		want                           []string
	}{
		"good":     {about, routers, transports, "dns_dnssec_ok = 1", nil},
		"no DANE":  {strings.Replace(about, "DANE ", "", 1), routers, transports, "dns_dnssec_ok = 1", []string{"fault: this Exim was built without DANE"}},
		"router":   {about, strings.Replace(routers, "domains = *", "domains =", 1), transports, "dns_dnssec_ok = 1", []string{"fault: router dnslookup has no dnssec_request_domains"}},
		"hosts":    {about, routers, strings.Replace(transports, "domains = *", "domains =", 1), "dns_dnssec_ok = 1", []string{"fault: transport remote_smtp has no dnssec_request_domains"}},
		"try_dane": {about, routers, strings.Replace(transports, "dane = *", "dane =", 1), "dns_dnssec_ok = 1", []string{"fault: transport remote_smtp has no hosts_try_dane"}},
		"ok":       {about, routers, transports, "dns_dnssec_ok = -1", []string{"warning: dns_dnssec_ok is not 1"}},
	} {
		for _, program := range []string{"exim", "exim4"} {
			wants(t, name, host(t, nil, map[string]string{
				program + " -bV": tt.about, program + " -bP routers": tt.routers, program + " -bP transports": tt.transports,
				program + " -bP dns_dnssec_ok": tt.ok,
			}).exim(t.Context()), tt.want...)
		}
	}
	wants(t, "unreadable", host(t, nil, map[string]string{"exim -bV": about}).exim(t.Context()),
		"warning: its routers cannot be read", "warning: its transports cannot be read")
	wants(t, "not installed", host(t, nil, nil).exim(t.Context()))
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
	for _, want := range []string{"good.dane. MX has wrong signatures", "unsigned.dane. MX, asked with DO: 127.0.0.1:", "answers without AD", "absent.dane does not list", "faults\n"} {
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
	wants(t, "a forwarder", s.resolverValidates(t.Context()), "fault: good.dane. MX, asked with DO:", "fault: good.dane. MX, asked with AD only:",
		"fault: . NS", "fault: expired.dane. MX has wrong signatures")
	s.resolver = "127.0.0.1:1"
	wants(t, "nobody", s.resolverValidates(t.Context()), "fault: 127.0.0.1:1 does not answer")
	s.unconfigured = errors.New("no upstream")
	wants(t, "no configuration", s.upstreams(t.Context()), "warning: they are not examined: no upstream")
}

// TestDoctorUsage: what is wrong with the command line.
func TestDoctorUsage(t *testing.T) {
	for _, args := range [][]string{
		{"now"}, {"-resolver", "localhost"}, {"-signed", "a..b"}, {"-dnsbl", "."}, {"-lab", "-resolver", "127.0.0.1"}, {"-lab", "-conf", "x"},
	} {
		if code, _, stderr := here(append([]string{"doctor"}, args...)...); code != exitUsage || !strings.HasPrefix(stderr, "danelaw: ") {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
	if code, _, stderr := here("doctor", "-conf", "/nonexistent"); code != exitFailure || !strings.Contains(stderr, "/nonexistent") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	for given, want := range map[string]string{"127.0.0.5": "127.0.0.5:53", "::1": "[::1]:53", "[::1]:5300": "[::1]:5300"} {
		if got, err := resolverAddress(given); got != want || err != nil {
			t.Errorf("%s: %s, %v", given, got, err)
		}
	}
}
