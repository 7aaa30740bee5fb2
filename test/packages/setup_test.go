//go:build linux

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

// plainPostfix has Postfix run that knows nothing of DANE.
func (m *machine) plainPostfix() {
	m.t.Helper()
	m.run("postconf", "-e", "smtp_tls_security_level = may", "smtp_tls_loglevel = 1",
		"maillog_file = /var/log/mail.log",
		"myhostname = mail.sender.dane", "mydestination = localhost", "inet_interfaces = loopback-only", "alias_maps =")
	m.run("systemctl", "restart", "postfix")
}

// setup: a mail host with a resolv.conf of its own and a Postfix that knows nothing of DANE is set up, once somebody
// has said so.
func setup(m *machine, _ *stage) {
	m.write("/etc/resolv.conf", "# by hand\nsearch sender.dane\nnameserver "+nameserver+"\n")
	m.run("chmod", "640", "/etc/resolv.conf")
	m.plainPostfix()
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

// resolver is a program that writes resolv.conf.
type resolver struct {
	name    string // of its package
	prepare func() // has it write the file
	disturb func() // has it write the file again
	calm    func() // takes back what disturb did, if there is anything
}

// beside has danelaw set up beside a program that writes resolv.conf, and undone. The program writes the file before
// and after, but not while danelaw is set up.
func (m *machine) beside(r resolver) {
	m.t.Helper()
	m.run("apt-get", "install", "--yes", "--no-download", "--no-install-recommends", "--option",
		"Dir::Cache::archives="+packagesDir, "--option", "Dpkg::Options::=--force-unsafe-io", r.name)
	r.prepare()
	m.writes(r)
	m.run("systemctl", "restart", "postfix") // which copies the file into its chroot
	before := m.configuration()
	out := m.setup("--yes")
	if !strings.Contains(out, "have danelaw ask "+nameserver) || !strings.Contains(out, " 0 faults") {
		m.t.Errorf("beside %s setup says\n%s", r.name, out)
	}
	r.disturb()
	text := m.run("cat", "/etc/resolv.conf")
	if strings.Count(text, "nameserver ") != 1 || !strings.Contains(text, "nameserver 127.0.0.1\n") ||
		!strings.Contains(text, "trust-ad") {
		m.t.Errorf("after %s was disturbed, resolv.conf is\n%s", r.name, text)
	}
	m.answers()
	r.calm()
	m.run("danelaw", "setup", "--undo", "--yes")
	m.sameAs(before, "after the undoing beside "+r.name)
	m.writes(r)
}

// writes checks that the program writes resolv.conf, whatever is there.
func (m *machine) writes(r resolver) {
	m.t.Helper()
	m.run("sh", "-c", "echo '# by hand' >/etc/resolv.conf") // by the link, if it is one
	r.disturb()
	m.eventually("what "+r.name+" writes", func() bool {
		text, err := m.try("cat", "/etc/resolv.conf")
		return err == nil && !strings.Contains(text, "# by hand") && strings.Contains(text, "nameserver ") &&
			!strings.Contains(text, "nameserver 127.0.0.1\n")
	})
	r.calm()
}

// purge removes the program of a package, and what resolv.conf was with it.
func (m *machine) purge(name string) {
	m.t.Helper()
	m.run("dpkg", "--purge", name)
	m.run("rm", "-f", "/etc/resolv.conf")
	m.write("/etc/resolv.conf", "nameserver "+nameserver+"\n")
}

// resolved: systemd-resolved, whose link resolv.conf is, reads the file that takes its place, and leaves it alone.
func resolved(m *machine, _ *stage) {
	m.beside(resolver{"systemd-resolved", func() {
		m.write("/etc/systemd/resolved.conf.d/dns.conf", "[Resolve]\nDNS="+nameserver+"\n")
	}, func() { m.run("systemctl", "restart", "systemd-resolved") }, func() {}})
	m.run("rm", "-rf", "/etc/systemd/resolved.conf.d")
	m.purge("systemd-resolved")
}

// record hands a record of an interface to resolvconf.
func (m *machine) record(name, server string) {
	m.t.Helper()
	if out, err := m.with("nameserver "+server+"\n", "resolvconf", "-a", name); err != nil {
		m.t.Error(err, out)
	}
}

// resolvconf: resolvconf makes the file of danelaw's nameserver, whatever interfaces come.
func resolvconf(m *machine, _ *stage) {
	m.beside(resolver{"resolvconf", func() {
		m.run("sh", "-c", "rm /etc/resolv.conf && ln -s ../run/resolvconf/resolv.conf /etc/resolv.conf")
		m.run("resolvconf", "--enable-updates")
		m.record("eth0.inet", nameserver)
	}, func() { m.record("eth1.dhclient", "192.0.2.99") }, func() { m.run("resolvconf", "-d", "eth1.dhclient") }})
	m.purge("resolvconf")
}

// leases has a DHCP server that gives the nameserver of the network to who asks on the interface dhcp1.
func (m *machine) leases() (stop func()) {
	m.t.Helper()
	m.run("sh", "-c", "ip link add dhcp0 type veth peer name dhcp1 && ip addr add 198.51.100.1/24 dev dhcp0 && "+
		"ip link set dhcp0 up && ip link set dhcp1 up")
	m.run("systemd-run", "--unit=dhcp", "--service-type=exec", "dnsmasq", "--keep-in-foreground",
		"--conf-file=/dev/null", "--port=0", "--interface=dhcp0", "--bind-interfaces", "--user=root", "--pid-file",
		"--leasefile-ro", "--no-ping", "--dhcp-range=198.51.100.10,198.51.100.20",
		"--dhcp-option=option:dns-server,"+nameserver, "--dhcp-option=3")
	return func() {
		m.t.Helper()
		m.run("systemctl", "stop", "dhcp")
		m.run("ip", "link", "del", "dhcp0")
	}
}

// dhclient: dhclient gets a lease with a nameserver of the network, and does not write it into resolv.conf.
func dhclient(m *machine, _ *stage) {
	stop := m.leases()
	m.beside(resolver{"isc-dhcp-client", func() {}, func() {
		m.run("sh", "-c", "rm -f /run/dhcp.pid; timeout 60 dhclient -1 -v -lf /run/dhcp.leases -pf /run/dhcp.pid "+
			"dhcp1 && "+
			"for i in $(seq 100); do [ -s /run/dhcp.pid ] && break; sleep 0.1; done && kill $(cat /run/dhcp.pid)")
	}, func() {}})
	stop()
	m.purge("isc-dhcp-client")
}

// dhcpcd: a dhcpcd that ran before setup loses its network and finds it again, and does not write resolv.conf.
func dhcpcd(m *machine, _ *stage) {
	stop := m.leases()
	const seen = "/run/dhcpcd.seen"
	m.write("/etc/dhcpcd.exit-hook", "echo $reason >>"+seen+"\n") // when the other hooks are done
	awaited := func(reason string) {
		m.eventually(reason, func() bool {
			text, err := m.try("cat", seen)
			return err == nil && strings.Contains(text, reason+"\n")
		})
	}
	m.beside(resolver{"dhcpcd-base", func() {
		m.run("dhcpcd", "--ipv4only", "--noarp", "dhcp1")
		awaited("BOUND")
	}, func() {
		m.run("sh", "-c", "rm -f "+seen+" && ip link set dhcp0 down")
		awaited("NOCARRIER")
		m.run("ip", "link", "set", "dhcp0", "up")
		awaited("REBOOT")
	}, func() {}})
	m.run("dhcpcd", "--ipv4only", "--exit", "dhcp1")
	m.run("rm", "/etc/dhcpcd.exit-hook")
	stop()
	m.purge("dhcpcd-base")
}

// lan has NetworkManager bring up a network with a nameserver.
func (m *machine) lan() {
	m.t.Helper()
	m.run("nmcli", "--wait", "60", "connection", "up", "lan")
}

// networkManager: NetworkManager brings up a network with a nameserver, and leaves resolv.conf alone.
func networkManager(m *machine, _ *stage) {
	m.run("sh", "-c", "ip link add lan0 type veth peer name lan1 && ip link set lan1 up")
	m.beside(resolver{"network-manager", func() {
		m.write("/etc/NetworkManager/conf.d/test.conf", "[main]\nno-auto-default=*\n")
		m.run("nmcli", "connection", "add", "type", "ethernet", "con-name", "lan", "ifname", "lan0", "ipv4.method",
			"manual", "ipv4.addresses", "198.51.100.2/24", "ipv4.dns", nameserver, "ipv6.method", "disabled")
	}, func() {
		m.run("systemctl", "reset-failed", "NetworkManager") // which may be started five times in ten seconds
		m.run("systemctl", "restart", "NetworkManager")
		m.lan()
	}, func() {}})
}

// openresolv: openresolv names danelaw alone, whatever interfaces come, and whatever the administrator has stand first.
// A NetworkManager that would write the file by itself hands it to openresolv.
func openresolv(m *machine, _ *stage) {
	m.beside(resolver{"openresolv", func() {
		m.write("/etc/NetworkManager/conf.d/test.conf", "[main]\nrc-manager=file\n")
		m.run("systemctl", "reload", "NetworkManager")
		// what it writes for Unbound tells of records that went, too, such as NetworkManager's
		m.run("sh", "-c", "cd /etc && sed -i /^unbound_conf/d resolvconf.conf && "+
			"echo prepend_nameservers="+nameserver+" >>resolvconf.conf")
	}, func() {
		m.record("eth1", "192.0.2.99")
		m.lan()
	}, func() {
		m.run("resolvconf", "-d", "eth1")
		m.lan()
	}})
	m.run("ip", "link", "del", "lan0")
	m.purge("openresolv")
	m.purge("network-manager")
}

// cloudInit: the host becomes another instance, whose user data name nameservers, and cloud-init names danelaw.
func cloudInit(m *machine, _ *stage) {
	m.beside(resolver{"cloud-init", func() {
		m.write("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: one\n")
		m.write("/var/lib/cloud/seed/nocloud/user-data", "#cloud-config\nmanage_resolv_conf: true\n"+
			"resolv_conf: {nameservers: ["+nameserver+"], options: {rotate: true}}\n")
		m.write("/etc/cloud/cloud.cfg.d/test.cfg", "datasource_list: [NoCloud]\nnetwork: {config: disabled}\n"+
			"cloud_init_modules: [resolv_conf]\nunverified_modules: [resolv_conf]\n")
	}, func() {
		m.run("cloud-init", "clean", "--logs")
		m.run("cloud-init", "init", "--local")
		m.run("cloud-init", "init")
	}, func() {}})
}
