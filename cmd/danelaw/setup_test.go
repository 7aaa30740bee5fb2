package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// staged is a host on which setup is tried: files in a root of their own, and programs that note how they were called.
type staged struct {
	t        *testing.T
	machine  *machine
	commands []string
	active   []string // units
	fails    string   // a command
	silent   int      // danelaw does not answer the question with this number
	asked    int
	held     []string
}

const stagedCorefile = `# a comment
.:53 {
    bind 127.0.0.1
    danelaw {
        # Whom to ask.
        upstream . tls://9.9.9.9%dns.quad9.net
        trust_anchor_state /var/lib/danelaw
    }
}
`

// stage makes a host with files, a Corefile and a master.cf among them. A name that ends with " ->" is a link.
func stage(t *testing.T, files map[string]string, programs ...string) *staged {
	t.Helper()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm") // a disk takes long to sync
	}
	links := map[string]string{}
	files = maps.Clone(files)
	for name, target := range files {
		if link, isLink := strings.CutSuffix(name, " ->"); isLink {
			links[link] = target
			delete(files, name)
		}
	}
	files["/run/systemd/system/here"] = ""
	files["/var/lib/here"] = ""
	if _, own := files[packagedCorefile]; !own {
		files[packagedCorefile] = stagedCorefile
	}
	outputs := map[string]string{"systemctl": ""}
	for _, p := range programs {
		outputs[p] = ""
	}
	h := &staged{t: t, machine: host(t, files, outputs), active: []string{"danelaw"}}
	for link, target := range links {
		if err := os.MkdirAll(filepath.Dir(h.machine.path(link)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, h.machine.path(link)); err != nil {
			t.Fatal(err)
		}
	}
	h.machine.run = h.run
	return h
}

// run stands for the programs of the host.
func (h *staged) run(_ context.Context, program string, args ...string) (string, error) {
	line := strings.Join(append([]string{program}, args...), " ")
	switch {
	case line == "systemctl show danelaw --property=LoadState --value":
		return "loaded\n", nil
	case line == "systemctl is-enabled danelaw":
		return "enabled\n", nil
	case strings.HasPrefix(line, "systemctl is-active "):
		if slices.Contains(h.active, args[1]) {
			return "active\n", nil
		}
		return "inactive\n", errors.New("exit status 3")
	case line == "resolvconf --version":
		return "systemd 252\n", nil // which has one, too
	case program == "postconf":
		return h.postconf(args)
	}
	h.commands = append(h.commands, line)
	if line == h.fails {
		return "", errors.New("exit status 1")
	}
	if line == "resolvconf -u" {
		h.resolvconf()
	}
	return "", nil
}

// postconf stands for Postfix's: it has two settings, in /etc/postfix/main.cf or its copy.
func (h *staged) postconf(args []string) (string, error) {
	dir := h.machine.path("/etc/postfix")
	if args[0] == "-c" {
		dir, args = args[1], args[2:]
	}
	file := filepath.Join(dir, "main.cf")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	set := func(name string) (value string, at string) {
		for line := range strings.Lines(string(text)) {
			if n, v, ok := strings.Cut(line, " = "); ok && n == name {
				return strings.TrimSpace(v), line
			}
		}
		return "", ""
	}
	level, _ := set("smtp_tls_security_level")
	support, _ := set("smtp_dns_support_level")
	switch args[0] {
	case "-h":
		return "/etc/postfix\n", nil
	case "-n":
		_, line := set(args[1])
		return line, nil
	case "-e", "-X":
		for _, arg := range args[1:] {
			name, value, _ := strings.Cut(arg, "=")
			_, line := set(name)
			next := name + " = " + value + "\n"
			if args[0] == "-X" {
				next = ""
			}
			if line == "" {
				text = append(text, next...)
			} else {
				text = []byte(strings.Replace(string(text), line, next, 1))
			}
		}
		return "", os.WriteFile(file, text, 0o644)
	}
	all := postfixOutputs("", map[string]string{"smtp_tls_security_level": level, "smtp_dns_support_level": support},
		"",
		"")
	return all["postconf "+strings.Join(args, " ")], nil
}

// resolvconf stands for Debian's: it makes the file of base, and of records if interface-order has a pattern for them.
func (h *staged) resolvconf() {
	text, _ := h.machine.read("/etc/resolvconf/resolv.conf.d/base")
	order, _ := h.machine.read("/etc/resolvconf/interface-order")
	if !strings.HasPrefix(order, "#") {
		record, _ := h.machine.read("/run/resolvconf/interface/eth0.inet")
		text += record
	}
	if err := os.WriteFile(h.machine.path("/run/resolvconf/resolv.conf"), []byte(text), 0o644); err != nil {
		h.t.Error(err)
	}
}

// network stands for danelaw and the internet: 192.0.2.66 is not fit for validation.
func (h *staged) network() setupNetwork {
	return setupNetwork{
		examine: func(_ context.Context, _, corefile string) (*examined, error) {
			x := &examined{hosts: []string{"127.0.0.1"}, port: "53"}
			for line := range strings.Lines(corefile) {
				if words := strings.Fields(line); len(words) > 2 && words[0] == "upstream" {
					for _, u := range words[2:] {
						r := upstream.Report{Upstream: called(u), Fit: u != "192.0.2.66"}
						if !r.Fit {
							r.Faults = []string{u + " drops signatures"}
						}
						x.upstreams = append(x.upstreams, r)
					}
				}
			}
			return x, nil
		},
		validate: func(context.Context, string, string) error { return nil },
		answers: func(context.Context, netip.Addr, []string) error {
			if h.asked++; h.asked == h.silent {
				return errors.New("danelaw does not answer")
			}
			return nil
		},
		holders: func(netip.Addr) []string { return h.held },
	}
}

// setup runs danelaw setup on the host, and returns what it prints.
func (h *staged) setup(args ...string) (string, error) { return h.setupUntil(h.t.Context(), args...) }

func (h *staged) setupUntil(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	c := setupCommand()
	c.Writer, c.Reader = &out, strings.NewReader("")
	c.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	c.Action = func(ctx context.Context, c *cli.Command) error {
		if err := contradicting(c); err != nil {
			return err
		}
		j, err := readJournal(h.machine.root)
		if err != nil {
			return err
		}
		s := &setup{machine: h.machine, journal: j, out: &out, c: c}
		if c.Bool("undo") {
			return s.undo(ctx)
		}
		return s.run(ctx, h.network())
	}
	err := c.Run(ctx, append([]string{"setup"}, args...))
	return out.String(), err
}

// must is setup that does not fail.
func (h *staged) must(args ...string) string {
	h.t.Helper()
	out, err := h.setup(args...)
	if err != nil {
		h.t.Fatalf("setup %v: %v\n%s", args, err, out)
	}
	return out
}

// tree is all that is on the host: names, modes, owners, links and contents.
func (h *staged) tree() string {
	h.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(h.machine.root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		s, err := look(path)
		fmt.Fprintf(&b, "%s: %s %v %d:%d %s %q\n", strings.TrimPrefix(path, h.machine.root), s.Kind, s.Mode, s.UID,
			s.GID,
			s.Target, s.Content)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return b.String()
}

// same checks that the host is as it was.
func (h *staged) same(want, when string) {
	h.t.Helper()
	if now := h.tree(); now != want {
		a, b := differing(want, now)
		h.t.Errorf("%s: it was\n%s\nand is\n%s", when, a, b)
	}
}

// whole is a host with all that setup changes.
func whole(t *testing.T) *staged {
	t.Helper()
	h := stage(t, map[string]string{
		"/etc/resolv.conf ->":                     "../run/NetworkManager/resolv.conf",
		"/run/NetworkManager/resolv.conf":         "search corp.example\nnameserver 192.0.2.53\noptions timeout:3\n",
		"/etc/NetworkManager/NetworkManager.conf": "[main]\n",
		"/etc/cloud/cloud.cfg":                    "users: []\n",
		"/etc/postfix/main.cf":                    "myhostname = a\nsmtp_tls_security_level = may\n",
		"/etc/postfix/master.cf":                  debianMaster,
		"/var/spool/postfix/etc/resolv.conf":      "nameserver 192.0.2.53\n",
	}, "NetworkManager", "postconf")
	h.active = append(h.active, "NetworkManager", "postfix")
	return h
}

// TestSetupWriters: each program that writes resolv.conf is told to leave it alone by its own means, danelaw is named,
// and the undoing brings all back to the octet.
func TestSetupWriters(t *testing.T) {
	const plain = "nameserver 192.0.2.53\n"
	const named = "nameserver 127.0.0.1\noptions trust-ad edns0\n"
	for name, tt := range map[string]struct {
		files    map[string]string
		programs []string
		active   []string
		want     map[string]string // a part of a file
		commands []string
	}{
		"a plain file": {map[string]string{resolvConf: "search a.example\n" + plain + "options rotate\n"}, nil, nil,
			map[string]string{resolvConf: "search a.example\nnameserver 127.0.0.1\noptions rotate trust-ad edns0\n"},
			nil},
		"NetworkManager": {map[string]string{resolvConf: plain, "/etc/NetworkManager/conf.d/a.conf": ""},
			[]string{"NetworkManager"}, []string{"NetworkManager"},
			map[string]string{"/etc/NetworkManager/conf.d/zz-danelaw.conf": "[main]\ndns=none\n", resolvConf: named},
			[]string{"systemctl reload NetworkManager"}},
		"NetworkManager with dnsmasq": {map[string]string{resolvConf: "nameserver 127.0.0.1\n",
			"/run/NetworkManager/no-stub-resolv.conf": plain, "/etc/NetworkManager/conf.d/a.conf": ""},
			[]string{"NetworkManager"}, nil,
			map[string]string{"/etc/NetworkManager/conf.d/zz-danelaw.conf": "[main]\ndns=none\n", resolvConf: named},
			nil},
		"dhclient": {map[string]string{resolvConf: plain, "/etc/dhcp/dhclient-enter-hooks.d/debug": ""},
			[]string{"dhclient"}, nil, map[string]string{
				"/etc/dhcp/dhclient-enter-hooks.d/zz-danelaw": "\nmake_resolv_conf() { :; }\n", resolvConf: named},
			nil},
		"cloud-init": {map[string]string{resolvConf: plain, "/etc/cloud/cloud.cfg": "",
			"/etc/cloud/templates/resolv.conf.tmpl": cloudTemplate}, nil, nil, map[string]string{
			"/etc/cloud/templates/resolv.conf.tmpl": named, resolvConf: named}, nil},
		"dhcpcd": {map[string]string{resolvConf: plain, "/etc/dhcpcd.conf": "hostname"}, []string{"dhcpcd"}, nil,
			map[string]string{"/etc/dhcpcd.enter-hook": "skip_hooks=\"$skip_hooks resolv.conf\"\n",
				resolvConf: named}, nil},
		"udhcpc": {map[string]string{resolvConf: plain, "/usr/share/udhcpc/default.script": ""}, nil, nil,
			map[string]string{"/etc/udhcpc/udhcpc.conf": "RESOLV_CONF=\"no\"\n", resolvConf: named}, nil},
		"systemd-resolved": {map[string]string{resolvConf + " ->": "../run/systemd/resolve/stub-resolv.conf",
			"/run/systemd/resolve/stub-resolv.conf": "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n",
			"/run/systemd/resolve/resolv.conf":      plain}, nil, []string{"systemd-networkd"},
			map[string]string{resolvConf: "search .\nnameserver 127.0.0.1\noptions edns0 trust-ad\n"}, nil},
		"resolvconf": {map[string]string{resolvConf + " ->": "../run/resolvconf/resolv.conf",
			"/run/resolvconf/resolv.conf": plain, "/run/resolvconf/interface/eth0.inet": plain,
			"/etc/resolvconf/interface-order": "lo*\n*\n", "/etc/resolvconf/resolv.conf.d/base": "",
			"/etc/resolvconf/resolv.conf.d/head": "# generated\nnameserver 192.0.2.7\n"}, []string{"resolvconf"}, nil,
			map[string]string{resolvConf: named, "/etc/resolvconf/resolv.conf.d/head": "# generated\n"},
			[]string{"resolvconf -u"}},
		"resolvconf, passed by": {map[string]string{resolvConf + " ->": "../run/resolvconf/resolv.conf",
			"/run/resolvconf/resolv.conf": plain, "/run/resolvconf/interface/eth0.inet": plain,
			"/etc/resolvconf/interface-order":   "lo*\n",
			"/etc/NetworkManager/conf.d/a.conf": "[main]\nrc-manager=file\n", "/etc/cloud/cloud.cfg": "",
			"/etc/dhcp/dhclient-enter-hooks.d/resolvconf": ""}, []string{"resolvconf", "NetworkManager", "dhclient"},
			[]string{"NetworkManager"}, map[string]string{resolvConf: named,
				"/etc/NetworkManager/conf.d/zz-danelaw.conf": "[main]\nrc-manager=resolvconf\n",
				"/etc/cloud/templates/resolv.conf.tmpl":      "## template:basic\n# danelaw setup"},
			[]string{"systemctl reload NetworkManager", "resolvconf -u"}},
		"openresolv's file, left behind": {map[string]string{resolvConf: plain, "/etc/resolvconf.conf": ""},
			[]string{"resolvconf"}, nil, map[string]string{resolvConf: named}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := stage(t, tt.files, tt.programs...)
			h.active = append(h.active, tt.active...)
			before := h.tree()
			out := h.must("--yes", "--mta", "none")
			tt.want[packagedCorefile] = "        upstream . 192.0.2.53\n        trust_anchor_state"
			for file, want := range tt.want {
				if text, err := h.machine.read(file); err != nil || !strings.Contains(text, want) ||
					file == resolvConf && strings.Count(text, "nameserver") != 1 {
					t.Errorf("%s is (%v)\n%s\nit lacks\n%s\n%s", file, err, text, want, out)
				}
			}
			if want := append([]string{"systemctl reload danelaw"}, tt.commands...); !slices.Equal(h.commands, want) {
				t.Errorf("the commands were %q, not %q", h.commands, want)
			}
			now := h.tree()
			if out := h.must("--yes", "--mta", "none"); !strings.Contains(out, "nothing is to be changed") {
				t.Errorf("the second time it says\n%s", out)
			}
			h.same(now, "after the second time")
			h.must("--undo", "--yes")
			h.same(before, "after the undoing")
		})
	}
}

// cloudTemplate is a part of cloud-init's.
const cloudTemplate = "## template:jinja\n{% for server in nameservers %}\nnameserver {{server}}\n{% endfor %}\n"

// TestSetupCloudTemplate: cloud-init makes of its template what setup has written, and a second setup lets it be, also
// where resolv.conf is not made of the same text.
func TestSetupCloudTemplate(t *testing.T) {
	named := resolvConfFor("search a.example\nnameserver 192.0.2.53\n", loopback)
	made := asTemplate(cloudTemplate, named)
	if made != "## template:basic\n"+named {
		t.Errorf("the template is\n%s", made)
	}
	if again := asTemplate(made, "# by resolvconf\nnameserver 127.0.0.1\noptions trust-ad edns0\n"); again != made {
		t.Errorf("the second time it is\n%s", again)
	}
	if other := asTemplate(made, "nameserver 127.0.0.5\n"); other != "## template:basic\nnameserver 127.0.0.5\n" {
		t.Errorf("for another address it is\n%s", other)
	}
}

// TestSetupOpenresolv: the other resolvconf is told in its own configuration, in which the last line counts, unless it
// is switched off there.
func TestSetupOpenresolv(t *testing.T) {
	for name, tt := range map[string]struct{ conf, want string }{
		"on": {"prepend_nameservers=192.0.2.7", "prepend_nameservers=192.0.2.7\n# danelaw setup\n" +
			"name_servers=127.0.0.1\nprepend_nameservers=\nresolv_conf_options=\"rotate trust-ad edns0\"\n" +
			"resolv_conf_local_only=YES\nresolv_conf_passthrough=NO\n"},
		"off": {"#resolvconf=YES\nresolvconf='No'\n", "#resolvconf=YES\nresolvconf='No'\n"},
	} {
		h := stage(t, map[string]string{resolvConf: "nameserver 192.0.2.53\noptions rotate $(reboot)\n",
			"/etc/resolvconf.conf": tt.conf}, "resolvconf")
		run := h.machine.run
		h.machine.run = func(ctx context.Context, program string, args ...string) (string, error) {
			switch {
			case program != "resolvconf":
				return run(ctx, program, args...)
			case args[0] == "--version":
				return "openresolv 3.12.0\n", nil
			}
			text, _ := h.machine.read("/etc/resolvconf.conf")
			content := "nameserver 192.0.2.53\noptions rotate $(reboot)\n"
			if strings.Contains(text, "\nname_servers=127.0.0.1\n") {
				content = "options rotate trust-ad edns0\nnameserver 127.0.0.1\n"
			}
			return "", os.WriteFile(h.machine.path(resolvConf), []byte(content), 0o600)
		}
		before := h.tree()
		h.must("--yes")
		if text, _ := h.machine.read("/etc/resolvconf.conf"); text != tt.want {
			t.Errorf("%s: resolvconf.conf is\n%s", name, text)
		}
		if out := h.must("--yes"); !strings.Contains(out, "nothing is to be changed") {
			t.Errorf("%s: the second time it says\n%s", name, out)
		}
		h.must("--undo", "--yes")
		h.same(before, name+", after the undoing")
	}
}

// TestSetupPostfix: Postfix gets its settings and the copy in its chroot, is started again, and gets all back, main.cf
// also where somebody has changed other settings since.
func TestSetupPostfix(t *testing.T) {
	h := whole(t)
	before := h.tree()
	h.must("--yes")
	for file, want := range map[string]string{
		"/etc/postfix/main.cf": "myhostname = a\nsmtp_tls_security_level = " +
			"dane\nsmtp_dns_support_level = dnssec\n",
		"/var/spool/postfix/etc/resolv.conf": "search corp.example\nnameserver 127.0.0.1\noptions timeout:3 " +
			"trust-ad edns0\n",
	} {
		if text, err := h.machine.read(file); err != nil || !strings.HasSuffix(text, want) {
			t.Errorf("%s is (%v)\n%s", file, err, text)
		}
	}
	if last := h.commands[len(h.commands)-1]; last != "systemctl restart postfix" {
		t.Errorf("the last command was %s", last)
	}
	main := h.machine.path("/etc/postfix/main.cf")
	text, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(main, append(text, "mynetworks = 192.0.2.0/24\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	h.commands = nil
	h.must("--undo", "--yes")
	h.same(strings.Replace(before, `security_level = may\n`, `security_level = may\nmynetworks = 192.0.2.0/24\n`, 1),
		"after the undoing")
	want := []string{"systemctl reload NetworkManager", "systemctl restart postfix", "systemctl reload danelaw"}
	if !slices.Equal(h.commands, want) {
		t.Errorf("the commands of the undoing were %q, not %q", h.commands, want)
	}

	h.must("--yes")
	if err := os.WriteFile(main, []byte("smtp_tls_security_level = encrypt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.setup("--undo", "--yes"); err == nil || !strings.Contains(err.Error(), "/etc/postfix/main.cf") {
		t.Errorf("undone although somebody has changed the settings themselves: %v", err)
	}
}

// TestSetupInterrupted: whatever moment ends setup, as a power cut does, it can be undone to the octet, and can be run
// again, with the same result as one that was not interrupted; so can the undoing (S-30).
func TestSetupInterrupted(t *testing.T) {
	defer func() { reached = func(string) {} }()
	complete := whole(t)
	original := complete.tree()
	points := 0
	reached = func(string) { points++ }
	complete.must("--yes")
	done, forward := complete.tree(), points
	complete.must("--undo", "--yes")
	if points < 20 {
		t.Fatalf("there are only %d points", points)
	}
	journalless := func(tree string) string { // what undoes an interrupted one differs
		var kept []string
		for line := range strings.Lines(tree) {
			if !strings.HasPrefix(line, setupDir) {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	cut := func(h *staged, at int, args ...string) {
		n := 0
		reached = func(string) {
			if n++; n == at {
				panic("power cut")
			}
		}
		defer func() {
			recover()
			reached = func(string) {}
		}()
		h.must(args...)
	}
	for at := 1; at <= forward; at++ {
		h := whole(t)
		cut(h, at, "--yes")
		h.must("--undo", "--yes")
		h.same(original, fmt.Sprintf("cut at %d and undone", at))

		h = whole(t)
		cut(h, at, "--yes")
		h.must("--yes")
		if now := journalless(h.tree()); now != journalless(done) {
			a, b := differing(journalless(done), now)
			t.Errorf("cut at %d and run again, it is\n%s\nand should be\n%s", at, b, a)
		}
		cut(h, 1+at%(points-forward), "--undo", "--yes")
		h.must("--undo", "--yes")
		h.same(original, fmt.Sprintf("cut at %d, run again, and undone", at))
	}
}

// TestSetupFails: if a step fails, those before it are undone, and that is said (S-30).
func TestSetupFails(t *testing.T) {
	for name, spoil := range map[string]func(h *staged){
		"danelaw does not answer":            func(h *staged) { h.silent = 1 },
		"nor once resolv.conf names it":      func(h *staged) { h.silent = 2 },
		"NetworkManager reads nothing anew":  func(h *staged) { h.fails = "systemctl reload NetworkManager" },
		"Postfix cannot be started":          func(h *staged) { h.fails = "systemctl restart postfix" },
		"danelaw does not take its Corefile": func(h *staged) { h.fails = "systemctl reload danelaw" },
	} {
		h := whole(t)
		before := h.tree()
		spoil(h)
		run := h.machine.run
		h.machine.run = func(ctx context.Context, program string, args ...string) (string, error) {
			out, err := run(ctx, program, args...)
			if err != nil && program+" "+strings.Join(args, " ") == h.fails {
				h.fails = "" // it works again
			}
			return out, err
		}
		out, err := h.setup("--yes")
		if err == nil || !strings.Contains(err.Error(), "what was done is undone") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		h.same(before, name)
	}
}

// TestSetupEnded: Ctrl-C undoes what was done, whenever it comes.
func TestSetupEnded(t *testing.T) {
	defer func() { reached = func(string) {} }()
	for at := range 30 {
		h := whole(t)
		before := h.tree()
		ctx, end := context.WithCancel(t.Context())
		n := 0
		reached = func(string) {
			if n++; n == at {
				end()
			}
		}
		out, err := h.setupUntil(ctx, "--yes")
		end()
		if n < at {
			if at < 15 || err != nil {
				t.Errorf("it was done after %d points: %v", n, err)
			}
			return
		}
		if at > 0 && err != nil {
			if !strings.Contains(err.Error(), "interrupted; what was done is undone") {
				t.Errorf("ended at %d: %v\n%s", at, err, out)
			}
			h.same(before, fmt.Sprintf("ended at %d", at))
		}
	}
	t.Error("it never came to its end")
}

// TestSetupConflicts: what somebody has changed since is not overwritten, and nothing else is undone either, unless by
// --force.
func TestSetupConflicts(t *testing.T) {
	for _, file := range []string{resolvConf, packagedCorefile, "/etc/NetworkManager/conf.d/zz-danelaw.conf"} {
		h := whole(t)
		before := h.tree()
		h.must("--yes")
		if err := os.WriteFile(h.machine.path(file), []byte("# by hand\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		changed := h.tree()
		_, err := h.setup("--undo", "--yes")
		if err == nil || !strings.Contains(err.Error(), "nothing has been undone: "+file+" is no longer as setup "+
			"left it") ||
			!strings.Contains(err.Error(), "--force") {
			t.Errorf("%s: %v", file, err)
		}
		h.same(changed, file+" was changed by somebody")
		h.must("--undo", "--yes", "--force")
		h.same(before, file+", by force")
	}
}

// TestSetupUpstreams: those that danelaw could not validate by are not taken, and nothing changes before that is known.
func TestSetupUpstreams(t *testing.T) {
	for name, tt := range map[string]struct {
		servers string
		args    []string
		want    string // in the Corefile
		err     string
	}{
		"IPv6 too":      {"192.0.2.1 2001:db8::1", nil, "upstream . 192.0.2.1 [2001:db8::1]\n", ""},
		"one is unfit":  {"192.0.2.66 192.0.2.1", nil, "upstream . 192.0.2.1\n", ""},
		"all are unfit": {"192.0.2.66", nil, "", "192.0.2.66 drops signatures: name others with --upstream"},
		"the given is": {"192.0.2.1", []string{"--upstream", "192.0.2.66"}, "",
			"as --upstream says: 192.0.2.66 drops"},
		"none": {"127.0.0.1", nil, "", "names no nameserver beyond this host that danelaw could ask: name " +
			"one with --upstream"},
		"Docker's": {"127.0.0.11", nil, "", "name one with --upstream"},
		"given":    {"127.0.0.1", []string{"--upstream", "127.0.0.1:5335"}, "upstream . 127.0.0.1:5335\n", ""},
		"given over TLS": {"192.0.2.1", []string{"--upstream", "tls://192.0.2.2%a.example"},
			"upstream . tls://192.0.2.2%a.example\n", ""},
		"kept": {"192.0.2.1", []string{"--keep-upstreams"}, "upstream . tls://9.9.9.9%dns.quad9.net\n", ""},
		"no upstream": {"192.0.2.1", []string{"--upstream", "tls://192.0.2.2"}, "",
			"the name that its certificate must hold"},
		"contradicting": {"192.0.2.1", []string{"--upstream", "192.0.2.2", "--keep-upstreams"}, "",
			"contradict each other"},
	} {
		text := "nameserver " + strings.ReplaceAll(tt.servers, " ", "\nnameserver ") + "\n"
		h := stage(t, map[string]string{resolvConf: text})
		before := h.tree()
		out, err := h.setup(append([]string{"--yes"}, tt.args...)...)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			h.same(before, name)
			continue
		}
		corefile, _ := h.machine.read(packagedCorefile)
		if err != nil || !strings.Contains(corefile, tt.want) {
			t.Errorf("%s: %v\n%s", name, err, corefile)
		}
	}
}

// TestSetupRefuses: setup says what is in its way, and changes nothing.
func TestSetupRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(h *staged)
		args  []string
		err   string
	}{
		"no yes": {func(*staged) {}, nil, "there is no terminal to ask on; give --yes"},
		"dry":    {func(*staged) {}, []string{"--dry-run"}, ""},
		"no Corefile": {func(h *staged) { os.Remove(h.machine.path(packagedCorefile)) }, []string{"--yes"},
			"install danelaw's package"},
		"port held": {func(h *staged) { h.active, h.held = nil, []string{"unbound (process 7)"} }, []string{"--yes"},
			"port 53 of 127.0.0.1 is held by unbound (process 7)"},
		"no service": {func(h *staged) { os.RemoveAll(h.machine.path("/run/systemd")) }, []string{"--yes"},
			"danelaw is no service"},
		"no Exim":    {func(*staged) {}, []string{"--yes", "--mta", "exim"}, "--mta exim: it is not installed"},
		"an odd MTA": {func(*staged) {}, []string{"--mta", "qmail"}, "give postfix, exim, none or all"},
	} {
		h := whole(t)
		tt.spoil(h)
		before := h.tree()
		out, err := h.setup(tt.args...)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		h.same(before, name)
	}
}

// TestSetupJournalOfOthers: a journal in a directory that others may write to is not believed: it has commands for
// root.
func TestSetupJournalOfOthers(t *testing.T) {
	h := whole(t)
	h.must("--yes")
	if err := os.Chmod(h.machine.path(setupDir), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := h.setup("--undo", "--yes"); err == nil || !strings.Contains(err.Error(), "may be written by others") {
		t.Errorf("the undoing: %v", err)
	}
}

// TestSetupExim: what is switched off in Exim's main section is switched on.
func TestSetupExim(t *testing.T) {
	h := stage(t, map[string]string{resolvConf: "nameserver 192.0.2.53\n",
		"/etc/exim4/exim4.conf.template":                 "a = b\n  dns_dnssec_ok = 0\n",
		"/etc/exim4/conf.d/main/02_exim4-config_options": "dns_dnssec_ok=0\n"}, "exim4", "update-exim4.conf")
	run := h.machine.run
	h.machine.run = func(ctx context.Context, program string, args ...string) (string, error) {
		if program == "exim4" {
			return "dns_dnssec_ok = 0\n", nil
		}
		return run(ctx, program, args...)
	}
	before := h.tree()
	h.must("--yes")
	for file, want := range map[string]string{"/etc/exim4/exim4.conf.template": "a = b\ndns_dnssec_ok = 1\n",
		"/etc/exim4/conf.d/main/02_exim4-config_options": "dns_dnssec_ok = 1\n"} {
		if text, _ := h.machine.read(file); text != want {
			t.Errorf("%s is %q", file, text)
		}
	}
	if !slices.Contains(h.commands, "update-exim4.conf") {
		t.Errorf("the commands were %q", h.commands)
	}
	h.must("--undo", "--yes")
	h.same(before, "after the undoing")
}

// TestWithUpstreams: only the lines about the root change in a Corefile.
func TestWithUpstreams(t *testing.T) {
	for name, tt := range map[string]struct{ text, want, err string }{
		"one": {".:53 {\n\tdanelaw {\n\t\tupstream . 192.0.2.1 # old\n\t}\n}\n",
			".:53 {\n\tdanelaw {\n\t\tupstream . U V\n\t}\n}\n", ""},
		"two, and another zone": {". {\n danelaw {\n  upstream . 192.0.2.1\n  upstream corp.example 10.0.0.1\n" +
			"  upstream . 192.0.2.2\n  # upstream . 192.0.2.3\n }\n}", ". {\n danelaw {\n  upstream . U V\n" +
			"  upstream corp.example 10.0.0.1\n  # upstream . 192.0.2.3\n }\n}", ""},
		"none": {". {\n    danelaw {\n    }\n}\n", ". {\n    danelaw {\n        upstream . U V\n    }\n}\n",
			""},
		"no block": {". {\n    danelaw\n    errors\n}\n",
			". {\n    danelaw {\n        upstream . U V\n    }\n    errors\n}\n", ""},
		"two of danelaw": {". {\n danelaw\n}\nexample {\n danelaw\n}\n", "", "more than one danelaw"},
		"no danelaw":     {". {\n forward . 192.0.2.1\n}\n", "", "no server block has danelaw"},
	} {
		got, err := withUpstreams(tt.text, []string{"U", "V"})
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// TestSetupLock: of many who want it at once one at a time has the lock, though its file is removed each time (S-30).
func TestSetupLock(t *testing.T) {
	m := &machine{root: t.TempDir()}
	if err := os.Mkdir(m.path("/run"), 0o755); err != nil {
		t.Fatal(err)
	}
	var holders, had atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				unlock, err := lockSetup(m, false)
				if err != nil {
					continue
				}
				if had.Add(1); holders.Add(1) != 1 {
					t.Error("two have it")
				}
				runtime.Gosched()
				holders.Add(-1)
				unlock()
			}
		})
	}
	all.Wait()
	if left, err := os.ReadDir(m.path("/run")); had.Load() == 0 || len(left) > 0 || err != nil {
		t.Errorf("%d had it; %v is left; %v", had.Load(), left, err)
	}
}
