package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// writer is a program that writes resolv.conf, and the file by which it is told, in its own words, to leave that alone.
type writer struct {
	name    string
	here    func(m *machine) bool
	file    string
	content rewritten
	// beside is the content where resolvconf makes resolv.conf; nil if the program hands its nameservers to resolvconf
	beside rewritten
	unit   string // that has to read the file anew; "" if the program reads it whenever it would write
}

// rewritten is what becomes of a file; named is the resolv.conf that names danelaw.
type rewritten func(before, named string) string

// alone is a file of danelaw's own.
func alone(content string) rewritten { return func(string, string) string { return content } }

// appended is a line at the end of a file of others.
func appended(line string) rewritten {
	return func(before, _ string) string {
		if slices.Contains(strings.Split(before, "\n"), line) {
			return before
		}
		if before != "" && !strings.HasSuffix(before, "\n") {
			before += "\n"
		}
		return before + line + "\n"
	}
}

// asTemplate is a template of cloud-init's that makes a resolv.conf that names danelaw. It is of the kind that runs
// nothing, as a network may have given the search list.
func asTemplate(before, named string) string {
	was, _ := readResolvConf(before)
	if servers, _ := readResolvConf(named); slices.Equal(was, servers) {
		return before
	}
	return "## template:basic\n" + named
}

// writers are those that need a word of their own. The names of their files have them read last, where that counts.
var writers = []writer{
	{
		name: "NetworkManager",
		here: func(m *machine) bool { return m.exists("/etc/NetworkManager") && m.has("NetworkManager") },
		file: "/etc/NetworkManager/conf.d/zz-danelaw.conf",
		// NetworkManager.conf(5)
		content: alone("# danelaw setup: /etc/resolv.conf names danelaw, and is not NetworkManager's.\n[main]\n" +
			"dns=none\nrc-manager=unmanaged\n"),
		beside: alone("# danelaw setup: /etc/resolv.conf is resolvconf's, not NetworkManager's.\n[main]\n" +
			"rc-manager=resolvconf\n"),
		unit: "NetworkManager",
	},
	{
		// To supersede domain-name-servers would not do: dhclient-script would still write the file, without trust-ad.
		name: "dhclient",
		here: func(m *machine) bool { return m.exists("/etc/dhcp/dhclient-enter-hooks.d") && m.has("dhclient") },
		file: "/etc/dhcp/dhclient-enter-hooks.d/zz-danelaw", // dhclient-script(8)
		content: alone("# danelaw setup: /etc/resolv.conf names danelaw, and is not dhclient's.\n" +
			"make_resolv_conf() { :; }\n"),
	},
	{
		// `manage_resolv_conf: false` would not do: what the cloud gives as user data has more weight than files here.
		name: "cloud-init",
		here: func(m *machine) bool {
			return m.exists("/etc/cloud/cloud.cfg") && !m.exists("/etc/cloud/cloud-init.disabled")
		},
		file:    "/etc/cloud/templates/resolv.conf.tmpl", // its module resolv_conf
		content: asTemplate, beside: asTemplate,
	},
	{
		// `nohook resolv.conf` in dhcpcd.conf would not do: a dhcpcd that runs has read that when it began.
		name: "dhcpcd", here: func(m *machine) bool { return m.exists("/etc/dhcpcd.conf") && m.has("dhcpcd") },
		file:    "/etc/dhcpcd.enter-hook", // dhcpcd-run-hooks(8)
		content: appended(`skip_hooks="$skip_hooks resolv.conf"`),
	},
	{
		name: "udhcpc", here: func(m *machine) bool { return m.exists("/usr/share/udhcpc/default.script") },
		file: "/etc/udhcpc/udhcpc.conf", content: appended(`RESOLV_CONF="no"`), // Alpine's script
	},
}

// planResolver makes danelaw the host's only nameserver, by the means of whoever writes resolv.conf.
func (p *planner) planResolver(ctx context.Context) error {
	link, err := look(p.machine.path(resolvConf))
	if err != nil {
		return err
	}
	debians := strings.Contains(link.Target, "resolvconf/") && p.machine.exists("/etc/resolvconf/interface-order")
	others := !debians && openresolv(ctx, p.machine)
	if err := p.planWriters(ctx, debians || others); err != nil {
		return err
	}
	switch {
	case debians:
		return p.planResolvconf(link)
	case others:
		return p.planOpenresolv()
	}
	return p.planFile(ctx, link)
}

// planWriters has all who write resolv.conf leave it alone, or to resolvconf where that makes it.
func (p *planner) planWriters(ctx context.Context, resolvconf bool) error {
	text, _ := p.machine.read(resolvConf) // by the link; without a file it is as with an empty one
	named := resolvConfFor(text, p.listen)
	for _, w := range writers {
		content := w.content
		if resolvconf {
			content = w.beside
		}
		if content == nil || !w.here(p.machine) {
			continue
		}
		e := alteration{What: fmt.Sprintf("have %s leave %s alone", w.name, resolvConf),
			Back: w.name + " writes it again, as it did", File: w.file}
		if w.unit != "" && p.machine.active(ctx, w.unit) {
			e.Do = [][]string{{"systemctl", "reload", w.unit}}
			e.Undo = e.Do
		}
		if _, err := p.change(e, func(now fileState) (fileState, error) {
			return now.with(content(string(now.Content), named)), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// planFile has resolv.conf be a file. In the place of a link to what systemd-resolved writes, a file makes that a
// client of the nameserver that it names (systemd-resolved.service(8)).
func (p *planner) planFile(ctx context.Context, link fileState) error {
	what := "name danelaw in " + resolvConf + " as the only nameserver, with trust-ad"
	if strings.Contains(link.Target, "systemd/") {
		what += ": as a file instead of a link, so that systemd-resolved reads it and writes it no more"
	}
	if p.machine.active(ctx, "systemd-networkd") {
		p.notes = append(p.notes, "systemd-networkd hands nameservers to systemd-resolved alone, and needs no change")
	}
	return p.resolvConfStep(alteration{What: what, Back: resolvConf + " is what it was", File: resolvConf},
		func(now fileState) (fileState, error) {
			text, _ := p.machine.read(resolvConf) // by the link; without a file it is as with an empty one
			if next := resolvConfFor(text, p.listen); next != text || now.Kind != kindFile {
				return now.with(next), nil
			}
			return now, nil
		})
}

// resolvConfStep is the change after which resolv.conf names danelaw; it is looked at whether it does.
func (p *planner) resolvConfStep(e alteration, made func(now fileState) (fileState, error)) error {
	planned, err := p.change(e, made)
	if planned {
		p.steps[len(p.steps)-1].check = p.named
	}
	return err
}

// named fails unless resolv.conf names danelaw alone, which answers.
func (p *planner) named(ctx context.Context) error {
	text, err := p.machine.read(resolvConf)
	if err != nil {
		return err
	}
	if servers, options := readResolvConf(text); !slices.Equal(servers, []string{p.listen.String()}) ||
		!slices.Contains(options, "trust-ad") {
		return fmt.Errorf("%s still names %s, with options %s: whoever writes it is none that setup knows", resolvConf,
			strings.Join(servers, ", "), strings.Join(options, " "))
	}
	return p.network.answers(ctx, p.listen, nil)
}

// resolvConfFor is a resolv.conf that names danelaw (D-15). What it says of search lists and other options stays.
func resolvConfFor(text string, at netip.Addr) string {
	servers, options := readResolvConf(text)
	if slices.Equal(servers, []string{at.String()}) && slices.Contains(options, "trust-ad") &&
		slices.Contains(options, "edns0") {
		return text
	}
	var b strings.Builder
	b.WriteString("# danelaw setup: danelaw validates here, and asks the upstreams of its Corefile.\n" +
		"# danelaw setup --undo brings back what was here before.\n")
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && slices.Contains([]string{"search", "domain", "sortlist"},
			words[0]) {
			b.WriteString(strings.Join(words, " ") + "\n")
		}
	}
	fmt.Fprintf(&b, "nameserver %v\noptions %s\n", at, strings.Join(unique(append(options, "trust-ad", "edns0")), " "))
	return b.String()
}

// planResolvconf is for Debian's resolvconf (resolvconf(8)), which makes the file of records that programs hand to it,
// in the order of interface-order(5), and of files of the administrator's. Records that are not in that order are not
// taken: it lists none, and the nameserver comes from the file base.
func (p *planner) planResolvconf(link fileState) error {
	const dir = "/etc/resolvconf/resolv.conf.d/"
	text, err := p.machine.read(resolvConf)
	if err != nil {
		return err
	}
	back := "resolvconf makes " + resolvConf + " again of what it is told, as it did"
	if planned, err := p.change(alteration{What: "have resolvconf take its nameserver from " + dir + "base", Back: back,
		File: dir + "base", Undo: [][]string{{"resolvconf", "-u"}}}, func(now fileState) (fileState, error) {
		if servers, _ := readResolvConf(string(now.Content)); slices.Equal(servers, []string{p.listen.String()}) {
			return now, nil
		}
		return now.with(resolvConfFor(text, p.listen)), nil
	}); err != nil {
		return err
	} else if planned && link.Kind != kindLink {
		p.notes = append(p.notes, resolvConf+" is no link to resolvconf's file")
	}
	for _, file := range []string{dir + "head", dir + "tail"} {
		if _, err := p.change(alteration{What: "take the nameservers out of " + file, Back: "they stand there again",
			File: file}, func(now fileState) (fileState, error) { return now.without("nameserver"), nil }); err != nil {
			return err
		}
	}
	return p.resolvConfStep(alteration{What: "have resolvconf take no nameservers of interfaces, and make " +
		resolvConf +
		" anew", Back: back, File: "/etc/resolvconf/interface-order", Do: [][]string{{"resolvconf", "-u"}}},
		func(now fileState) (fileState, error) {
			return now.with("# danelaw setup: records of interfaces are not taken, see resolv.conf.d/base.\n"), nil
		})
}

// without is a file without the lines that begin with a word; what is no file stays.
func (s fileState) without(word string) fileState {
	var kept strings.Builder
	for line := range strings.Lines(string(s.Content)) {
		if words := strings.Fields(line); len(words) == 0 || words[0] != word {
			kept.WriteString(line)
		}
	}
	if s.Kind != kindFile {
		return s
	}
	return s.with(kept.String())
}

// resolvconfOff is how resolvconf.conf has openresolv write nothing.
var resolvconfOff = regexp.MustCompile(`(?mi)^\s*resolvconf=["']?(no|false|off|0)\b`)

// plainOption is an option of resolv.conf that a shell may read.
var plainOption = regexp.MustCompile(`^[\w:-]+$`)

// openresolv reports whether that makes resolv.conf. systemd-resolved has a resolvconf, too, and where it came in the
// place of openresolv the file stays behind.
func openresolv(ctx context.Context, m *machine) bool {
	text, err := m.read("/etc/resolvconf.conf")
	return err == nil && m.has("resolvconf") && !resolvconfOff.MatchString(text) &&
		strings.HasPrefix(m.says(ctx, "resolvconf", "--version"), "openresolv")
}

// planOpenresolv is for the other resolvconf (resolvconf.conf(5)): a nameserver on this host is the only one by
// default, but for those that are to stand before it.
func (p *planner) planOpenresolv() error {
	text, err := p.machine.read(resolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, options := readResolvConf(text)
	options = slices.DeleteFunc(options, func(o string) bool { return !plainOption.MatchString(o) })
	lines := fmt.Sprintf("# danelaw setup\nname_servers=%v\nprepend_nameservers=\nresolv_conf_options=\"%s\"\n"+
		"resolv_conf_local_only=YES\nresolv_conf_passthrough=NO\n", p.listen,
		strings.Join(unique(append(options, "trust-ad", "edns0")), " "))
	return p.resolvConfStep(alteration{What: "have resolvconf name danelaw as the only nameserver, with trust-ad",
		Back: "resolvconf makes " + resolvConf + " again as it did", File: "/etc/resolvconf.conf",
		Do: [][]string{{"resolvconf", "-u"}}, Undo: [][]string{{"resolvconf", "-u"}}},
		func(now fileState) (fileState, error) {
			before := string(now.Content)
			if strings.Contains(before, lines) {
				return now, nil
			}
			if before != "" && !strings.HasSuffix(before, "\n") {
				before += "\n"
			}
			return now.with(before + lines), nil
		})
}
