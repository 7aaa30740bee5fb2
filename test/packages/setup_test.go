package packages

import (
	"strings"
)

// questions are what the doctor asks at the end of setup, on an internet that has no other domains.
var questions = []string{"--signed", "good.dane", "--bogus", "bogus.dane", "--dnsbl", "bl.good.dane"}

// before is what was in /etc and Postfix's chroot before setup.
var before string

// configuration is all that setup may change: names, modes, owners, links, contents.
func (m *machine) configuration() string {
	m.t.Helper()
	return m.run("sh", "-c", `cd / && find etc var/spool/postfix/etc -printf '%p %M %U:%G %l\n' | sort &&
		find etc var/spool/postfix/etc -type f -exec sha256sum {} + | sort -k 2`)
}

// setup runs danelaw setup with flags, and what the doctor asks. It must not fail.
func (m *machine) setup(flags ...string) string {
	m.t.Helper()
	return m.run(append(append([]string{"danelaw", "setup"}, flags...), questions...)...)
}

// asIt returns an error unless all is as it was.
func (m *machine) sameAs(before, when string) {
	m.t.Helper()
	if now := m.configuration(); now != before {
		m.t.Errorf("%s there are other files:\n%s", when, differing(before, now))
	}
}

// differing are the lines that only one of two texts has.
func differing(a, b string) string {
	var all []string
	for _, of := range []struct{ sign, text, other string }{{"-", a, b}, {"+", b, a}} {
		for line := range strings.Lines(of.text) {
			if !strings.Contains("\n"+of.other, "\n"+line) {
				all = append(all, of.sign+line)
			}
		}
	}
	return strings.Join(all, "")
}

// setup: a mail host with a resolv.conf of its own and a Postfix that knows nothing of DANE is set up, once somebody
// has said so.
func setup(m *machine, _ *stage) {
	m.write("/etc/resolv.conf", "# by hand\nsearch sender.dane\nnameserver "+nameserver+"\n")
	m.run("chmod", "640", "/etc/resolv.conf")
	m.run("postconf", "-e", "smtp_tls_security_level = may", "smtp_tls_loglevel = 1",
		"maillog_file = /var/log/mail.log",
		"myhostname = mail.sender.dane", "mydestination = localhost", "inet_interfaces = loopback-only", "alias_maps =")
	m.run("systemctl", "restart", "postfix")
	before = m.configuration()

	plan := m.setup("--dry-run")
	for _, want := range []string{"Have danelaw ask " + nameserver + ", which /etc/resolv.conf names",
		"+         upstream . " + nameserver, "file: /etc/resolv.conf", "+ options trust-ad edns0",
		"+ smtp_dns_support_level=dnssec", "command: systemctl restart postfix", "undone: "} {
		if !strings.Contains(strings.ReplaceAll(plan, " = ", "="), want) {
			m.t.Errorf("the plan lacks %q:\n%s", want, plan)
		}
	}
	m.t.Log(plan)
	if out, err := m.try(append([]string{"danelaw", "setup"}, questions...)...); err == nil || !strings.Contains(out,
		"there is no terminal to ask on; give --yes") {
		m.t.Errorf("without a terminal: %v\n%s", err, out)
	}
	asked := []string{"script", "--quiet", "--return", "--command", "danelaw setup " + strings.Join(questions, " "),
		"/dev/null"}
	if out, err := m.with("no\n", asked...); err == nil || !strings.Contains(out, "Nothing has been changed") {
		m.t.Errorf("at a terminal, whose answer is no: %v\n%s", err, out)
	}
	if out, err := m.try("danelaw", "setup", "--yes", "--upstream", "192.0.2.99"); err == nil ||
		!strings.Contains(out, "nothing has been changed, as danelaw could not validate by the upstreams") {
		m.t.Errorf("with an upstream that does not answer: %v\n%s", err, out)
	}
	m.sameAs(before, "before anybody has said yes")

	out, err := m.with("yes\n", asked...)
	if err != nil {
		m.t.Fatal(err)
	}
	if !strings.Contains(out, " 0 faults") || !strings.Contains(out, "Postfix's chroot has the same nameservers") {
		m.t.Errorf("the doctor finds\n%s", out)
	}
	const want = "search sender.dane\nnameserver 127.0.0.1\noptions trust-ad edns0\n"
	if text := m.run("cat", "/etc/resolv.conf"); !strings.HasSuffix(text, want) {
		m.t.Errorf("resolv.conf is\n%s", text)
	}
	if out := m.setup("--yes"); !strings.Contains(out, "nothing is to be changed") {
		m.t.Errorf("a second time it says\n%s", out)
	}
}

// undone: the host is as it was, to the octet, and danelaw serves with its Corefile as it was.
func undone(m *machine, _ *stage) {
	m.write("/etc/resolv.conf", "nameserver 192.0.2.1\n") // by somebody else
	if out, err := m.try("danelaw", "setup", "--undo", "--yes"); err == nil || !strings.Contains(out,
		"nothing has been undone: /etc/resolv.conf is no longer as setup left it") {
		m.t.Errorf("undone although somebody has changed a file: %v\n%s", err, out)
	}
	m.run("postconf", "-e", "smtpd_banner = hello") // another setting stays as it is
	m.t.Log(m.run("danelaw", "setup", "--undo", "--force", "--yes"))
	m.run("postconf", "-e", "smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)")
	m.answers()
	m.sameAs(before, "after the undoing")
	if out := m.run("danelaw", "setup", "--undo", "--yes"); !strings.Contains(out, "nothing to undo") {
		m.t.Errorf("a second time it says\n%s", out)
	}
}

// resolver installs a program that writes resolv.conf, has danelaw set up beside it, does something that has the
// program write the file, and undoes the setup. At the end the program is gone.
func (m *machine) resolver(name string, prepare, disturb func(), purge ...string) {
	m.t.Helper()
	m.run("sh", "-c", "dpkg --install "+packagesDir+"/"+name+"_*.deb")
	prepare()
	if text := m.run("cat", "/etc/resolv.conf"); strings.Contains(text, "nameserver 127.0.0.1\n") {
		m.t.Errorf("resolv.conf is not what %s writes:\n%s", name, text)
	}
	m.run("systemctl", "restart", "postfix") // which copies the file into its chroot
	before := m.configuration()
	out := m.setup("--yes")
	if !strings.Contains(out, "have danelaw ask "+nameserver) || !strings.Contains(out, " 0 faults") {
		m.t.Errorf("beside %s setup says\n%s", name, out)
	}
	disturb()
	text := m.run("cat", "/etc/resolv.conf")
	if strings.Count(text, "nameserver ") != 1 || !strings.Contains(text, "nameserver 127.0.0.1\n") ||
		!strings.Contains(text, "trust-ad") {
		m.t.Errorf("after %s was disturbed, resolv.conf is\n%s", name, text)
	}
	m.answers()
	m.run("danelaw", "setup", "--undo", "--yes")
	m.sameAs(before, "after the undoing beside "+name)
	m.run(append([]string{"dpkg", "--purge", name}, purge...)...)
}

// resolved: systemd-resolved, whose link resolv.conf is, reads the file that takes its place, and leaves it alone.
func resolved(m *machine, _ *stage) {
	m.resolver("systemd-resolved", func() {
		m.write("/etc/systemd/resolved.conf.d/dns.conf", "[Resolve]\nDNS="+nameserver+"\n")
		m.run("systemctl", "restart", "systemd-resolved")
		m.eventually("its stub", func() bool {
			text, err := m.try("cat", "/etc/resolv.conf")
			return err == nil && strings.Contains(text, "nameserver 127.0.0.53\n")
		})
	}, func() { m.run("systemctl", "restart", "systemd-resolved") })
	m.run("rm", "-rf", "/etc/systemd/resolved.conf.d", "/etc/resolv.conf")
	m.write("/etc/resolv.conf", "nameserver "+nameserver+"\n")
}

// resolvconf: resolvconf makes the file of danelaw's nameserver, whatever interfaces come.
func resolvconf(m *machine, _ *stage) {
	record := func(name, server string) {
		if out, err := m.with("nameserver "+server+"\n", "resolvconf", "-a", name); err != nil {
			m.t.Error(err, out)
		}
	}
	m.resolver("resolvconf", func() {
		m.run("sh", "-c", "rm /etc/resolv.conf && ln -s ../run/resolvconf/resolv.conf /etc/resolv.conf")
		m.run("resolvconf", "--enable-updates")
		record("eth0.inet", nameserver)
	}, func() {
		record("eth1.dhclient", "192.0.2.99")
		if text := m.run("cat", "/etc/resolv.conf"); strings.Contains(text, "192.0.2.99") {
			m.t.Errorf("with another interface resolv.conf is\n%s", text)
		}
		m.run("resolvconf", "-d", "eth1.dhclient") // it would be there after the undoing
	})
	m.run("rm", "-f", "/etc/resolv.conf")
	m.write("/etc/resolv.conf", "nameserver "+nameserver+"\n")
}

// dhclient: dhclient gets a lease with a nameserver of the network, and does not write it into resolv.conf.
func dhclient(m *machine, _ *stage) {
	m.run("sh", "-c", "ip link add dhcp0 type veth peer name dhcp1 && ip addr add 198.51.100.1/24 dev dhcp0 && "+
		"ip link set dhcp0 up && ip link set dhcp1 up")
	m.run("systemd-run", "--unit=dhcp", "--service-type=exec", "dnsmasq", "--keep-in-foreground",
		"--conf-file=/dev/null",
		"--port=0", "--interface=dhcp0", "--bind-interfaces", "--user=root", "--pid-file", "--leasefile-ro",
		"--dhcp-range=198.51.100.10,198.51.100.20", "--dhcp-option=option:dns-server,"+nameserver, "--dhcp-option=3")
	lease := func() {
		m.run("sh", "-c", "rm -f /run/dhcp.pid; timeout 60 dhclient -1 -v -lf /run/dhcp.leases -pf /run/dhcp.pid "+
			"dhcp1 && "+
			"for i in $(seq 100); do [ -s /run/dhcp.pid ] && break; sleep 0.1; done && kill $(cat /run/dhcp.pid)")
	}
	m.resolver("isc-dhcp-client", func() {
		m.write("/etc/resolv.conf", "# by hand\n")
		lease()
	}, lease)
	m.run("systemctl", "stop", "dhcp")
	m.run("ip", "link", "del", "dhcp0")
}
