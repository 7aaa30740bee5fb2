package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mailServers are those of the host that are to be set up.
type mailServers struct {
	planner *planner
	postfix *postfix // nil if it is not to be
	exim    bool
	restart [][]string // of Postfix, if it runs
	dir     string     // of its configuration
}

func (p *planner) mailServers(ctx context.Context) (*mailServers, error) {
	wanted, m := p.c.String("mta"), p.machine
	servers := &mailServers{planner: p}
	if wanted == "postfix" && !m.has("postconf") || wanted == "exim" && m.eximProgram() == "" {
		return nil, fmt.Errorf("--mta %s: it is not installed: install it, or leave out --mta", wanted)
	}
	servers.exim = (wanted == "all" || wanted == "exim") && m.eximProgram() != ""
	if wanted != "all" && wanted != "postfix" || !m.has("postconf") {
		return servers, nil
	}
	var err error
	if servers.postfix, err = m.openPostfix(ctx, ""); err != nil {
		return nil, fmt.Errorf("the settings of Postfix cannot be read: %w", err)
	}
	if servers.dir = m.says(ctx, "postconf", "-h", "config_directory"); servers.dir == "" {
		return nil, errors.New("postconf does not tell its config_directory")
	}
	switch {
	case m.active(ctx, "postfix"):
		servers.restart = [][]string{{"systemctl", "restart", "postfix"}}
	case m.systemd():
	case m.has("rc-service") && m.works(ctx, "rc-service", "postfix", "status"):
		servers.restart = [][]string{{"rc-service", "postfix", "restart"}}
	case m.works(ctx, "postfix", "status"):
		servers.restart = [][]string{{"postfix", "stop"}, {"postfix", "start"}}
	}
	return servers, nil
}

// planBefore plans what is undone after resolv.conf: Postfix is started again, when all of what it reads is as it was.
func (v *mailServers) planBefore(context.Context) error {
	if v.restart != nil {
		v.planner.steps = append(v.planner.steps, step{alteration: alteration{
			Back: "Postfix is started again", Undo: v.restart}})
	}
	return nil
}

// plan plans the settings of the MTAs, and what they have of resolv.conf.
func (v *mailServers) plan(ctx context.Context) error {
	s := v.planner
	if v.postfix != nil {
		if err := v.planPostfix(ctx); err != nil {
			return err
		}
	}
	if v.exim {
		if err := v.planExim(ctx); err != nil {
			return err
		}
	}
	// what is noted for the undoing alone needs no note if nothing is done
	only := func(st step) bool { return st.File == "" && len(st.Do) == 0 }
	if !slices.ContainsFunc(s.steps, func(st step) bool { return !only(st) }) {
		s.steps = slices.DeleteFunc(s.steps, func(st step) bool { return st.check == nil })
	}
	return nil
}

// postfixValues are the settings of deploy/mailhost/README.md, with what is as good (D-11).
var postfixValues = []struct{ name, value, asGood string }{
	{"smtp_dns_support_level", "dnssec", "dnssec"}, {"smtp_tls_security_level", "dane", "dane-only"},
}

// wasSet is a setting of main.cf that was changed.
type wasSet struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Was   string `json:"was"`
	Set   bool   `json:"set"` // in main.cf; else it was the default
}

func (v *mailServers) planPostfix(ctx context.Context) error {
	p, s := v.postfix, v.planner
	service := p.routes[0].service
	var inMain, inMaster []string
	for _, want := range postfixValues {
		good := func(value string) bool {
			return slices.Contains([]string{want.value, want.asGood}, strings.ToLower(value))
		}
		if !good(p.settings[want.name]) {
			inMain = append(inMain, want.name+"="+want.value)
		}
		if p.overridden(service, want.name) && !good(p.of(service, want.name)) {
			inMaster = append(inMaster, service+"/unix/"+want.name+"="+want.value)
		}
	}
	for _, part := range []struct {
		file, option string
		args         []string
	}{{"main.cf", "-e", inMain}, {"master.cf", "-P", inMaster}} {
		if err := v.planSettings(ctx, part.file, part.option, part.args); err != nil {
			return err
		}
	}
	changed := slices.ContainsFunc(s.steps, func(st step) bool {
		return st.File == resolvConf || strings.HasPrefix(st.File, v.dir+"/") ||
			strings.HasPrefix(st.File, "/etc/resolvconf")
	})
	copied := p.settings["queue_directory"] + resolvConf
	apart := p.chrooted() && !slices.Equal(s.machine.nameservers(resolvConf), s.machine.nameservers(copied))
	if !changed && !apart {
		return nil
	}
	if p.chrooted() {
		before, err := look(s.machine.path(copied))
		if err != nil {
			return err
		}
		if err := s.directory(filepath.Dir(copied)); err != nil {
			return err
		}
		s.steps = append(s.steps, step{alteration: alteration{What: "copy " + resolvConf + " into Postfix's chroot",
			Back: "Postfix's copy of " + resolvConf + " is what it was", File: copied, Before: before},
			late: func() (string, error) { return s.machine.read(resolvConf) }})
	}
	if v.restart != nil {
		s.steps = append(s.steps, step{alteration: alteration{What: "start Postfix again", Do: v.restart}})
	}
	return nil
}

// planSettings plans what postconf makes of a file, with settings, an argument each.
func (v *mailServers) planSettings(ctx context.Context, file, option string, args []string) error {
	if len(args) == 0 {
		return nil
	}
	what := fmt.Sprintf("have Postfix authenticate by DANE: postconf %s '%s'", option, strings.Join(args, "' '"))
	e := alteration{What: what, Back: "Postfix's settings are what they were", File: filepath.Join(v.dir, file)}
	if option == "-e" {
		for _, arg := range args {
			name, value, _ := strings.Cut(arg, "=")
			was, set := strings.CutPrefix(v.planner.machine.says(ctx, "postconf", "-n", name), name+" =")
			e.Settings = append(e.Settings, wasSet{name, value, strings.TrimSpace(was), set})
		}
	}
	_, err := v.planner.change(e, func(now fileState) (fileState, error) {
		content, err := postconf(ctx, v.planner.machine, v.dir, file, now.Content, append([]string{option}, args...))
		return now.with(content), err
	})
	return err
}

// postconf returns what postconf makes of a file of a configuration: it works on a copy.
func postconf(ctx context.Context, m *machine, dir, file string, content []byte, args []string) (string, error) {
	tmp, err := os.MkdirTemp("", "danelaw-setup-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	for _, name := range []string{"main.cf", "master.cf"} {
		text := content
		if name != file {
			if text, err = os.ReadFile(m.path(filepath.Join(dir, name))); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(filepath.Join(tmp, name), text, 0o644); err != nil {
			return "", err
		}
	}
	if _, err := m.run(ctx, "postconf", append([]string{"-c", tmp}, args...)...); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(tmp, file))
	return string(text), err
}

// settingsBack returns what undoes the settings of an entry in a main.cf in which somebody has changed others since. It
// fails if it is none, or somebody has changed these.
func (e alteration) settingsBack(ctx context.Context, m *machine, now fileState) (fileState, error) {
	if len(e.Settings) == 0 || now.Kind != kindFile {
		return now, e.changed()
	}
	dir, content := filepath.Dir(e.File), string(now.Content)
	for _, was := range e.Settings {
		value := m.says(ctx, "postconf", "-c", m.path(dir), "-n", was.Name)
		if value != was.Name+" = "+was.Value {
			return now, fmt.Errorf("%s: %w: %s is %q", e.File, e.changed(), was.Name, value)
		}
		args := []string{"-X", was.Name}
		if was.Set {
			args = []string{"-e", was.Name + "=" + was.Was}
		}
		var err error
		if content, err = postconf(ctx, m, dir, filepath.Base(e.File), []byte(content), args); err != nil {
			return now, err
		}
	}
	return now.with(content), nil
}

// planExim: Exim does DANE by itself, and what Debian writes is good. What somebody has switched off in the main
// section is switched on; what stands in routers and transports was written there on purpose, and the doctor tells of
// it.
func (v *mailServers) planExim(ctx context.Context) error {
	m, s := v.planner.machine, v.planner
	e := &exim{machine: m, program: m.eximProgram()}
	if e.main(ctx, "dns_dnssec_ok") != "0" {
		s.notes = append(s.notes, "Exim does DANE by itself, once resolv.conf says trust-ad: its configuration stays")
		return nil
	}
	fragments, _ := filepath.Glob(m.path("/etc/exim4/conf.d/main/*")) // the pattern is sound
	files := []string{"/etc/exim4/exim4.conf.template", "/etc/exim4/exim4.conf", "/etc/exim/exim.conf"}
	for _, f := range fragments {
		files = append(files, strings.TrimPrefix(f, strings.TrimSuffix(m.root, "/")))
	}
	commands := [][]string{}
	if m.has("update-exim4.conf") {
		commands = append(commands, []string{"update-exim4.conf"})
	}
	for _, file := range files {
		if !m.exists(file) {
			continue
		}
		if _, err := s.change(alteration{What: "have Exim ask for DNSSEC: dns_dnssec_ok = 1",
			Back: "the option is what it was", File: file, Do: commands, Undo: commands},
			func(now fileState) (fileState, error) {
				return now.with(dnssecOK(string(now.Content))), nil
			}); err != nil {
			return err
		}
	}
	return nil
}

// dnssecOK has the option on where it stands in a configuration of Exim.
func dnssecOK(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok &&
			strings.TrimSpace(name) == "dns_dnssec_ok" && strings.TrimSpace(value) == "0" {
			line = "dns_dnssec_ok = 1\n"
		}
		b.WriteString(line)
	}
	return b.String()
}
