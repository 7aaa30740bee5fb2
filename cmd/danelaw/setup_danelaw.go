package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// examined is what is known of a Corefile.
type examined struct {
	hosts     []string // that it binds for the root; "" for all
	port      string
	upstreams []upstream.Report
}

// planDanelaw has danelaw ask its upstreams, and answer.
func (p *planner) planDanelaw(ctx context.Context) error {
	text, err := p.corefile()
	if err != nil {
		return err
	}
	upstreams, from, err := p.chooseUpstreams()
	if err != nil {
		return err
	}
	text, upstreams, asked, err := p.fitting(ctx, text, upstreams, from)
	if err != nil {
		return err
	}
	if err := p.network.validate(ctx, p.conf, text); err != nil {
		return fmt.Errorf("%s, as it would be, cannot be served: %w", p.conf, err)
	}
	p.upstreams = upstreams
	service, err := p.service(ctx)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("have danelaw ask %s, %s", strings.Join(upstreams, ", "), from)
	_, err = p.change(alteration{What: what, Back: "the Corefile is as it was, and danelaw is told", File: p.conf,
		Do: service.reload, Undo: service.reload},
		func(now fileState) (fileState, error) { return now.with(text), nil })
	if err != nil {
		return err
	}
	p.steps = append(p.steps, service.steps...)
	p.steps = append(p.steps, step{
		alteration: alteration{What: fmt.Sprintf("see that danelaw answers on %v, with AD", p.listen)},
		check:      func(ctx context.Context) error { return p.network.answers(ctx, p.listen, asked) },
	})
	return nil
}

// corefile reads it.
func (p *planner) corefile() (string, error) {
	text, err := p.machine.read(p.conf)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is not there: install danelaw's package, name the Corefile with --conf, or make "+
			"one with danelaw --print-default-config --upstream ADDR", p.conf)
	}
	return text, err
}

// chooseUpstreams returns what is to stand in the Corefile, and where it comes from; none if what stands there is to
// stay.
func (p *planner) chooseUpstreams() (all []string, from string, err error) {
	if given := p.c.StringSlice("upstream"); len(given) > 0 {
		return given, "as --upstream says", nil
	}
	switch j := p.journal; {
	case p.c.Bool("keep-upstreams"), len(j.Entries) > 0 && (j.Complete || len(j.Upstreams) == 0):
		return nil, "", nil
	case len(j.Entries) > 0:
		return j.Upstreams, "as the setup that was interrupted has found out", nil
	}
	for _, file := range nameserverFiles(p.machine) {
		servers, err := nameservers(p.machine.path(file))
		for _, server := range servers {
			if text := address(server); err == nil && !server.IsLoopback() {
				if _, err := upstream.Parse(text); err == nil {
					all = append(all, text)
				}
			}
		}
		if len(all) > 0 {
			return unique(all), "which " + file + " names", nil
		}
	}
	return nil, "", fmt.Errorf("%s names no nameserver beyond this host that danelaw could ask: name one with "+
		"--upstream, such as tls://9.9.9.9%%dns.quad9.net, or give --keep-upstreams to leave those in %s", resolvConf,
		p.conf)
}

// nameserverFiles are where nameservers of the network stand: resolv.conf, and what stands behind a resolver on this
// host that resolv.conf names.
func nameserverFiles(m *machine) []string {
	files := []string{resolvConf, resolvedResolvConf, "/run/NetworkManager/no-stub-resolv.conf"}
	records, _ := filepath.Glob(m.path("/run/resolvconf/interface/*")) // the pattern is sound
	for _, record := range records {
		files = append(files, strings.TrimPrefix(record, strings.TrimSuffix(m.root, "/")))
	}
	return files
}

// fitting returns the Corefile with the upstreams that are fit for validation (S-13), and how the daemon calls all
// that it asks.
func (p *planner) fitting(ctx context.Context, text string, upstreams []string, from string) (
	_ string, kept, asked []string, err error) {
	for {
		next, err := withUpstreams(text, upstreams)
		if err != nil {
			return "", nil, nil, fmt.Errorf("%s: %w", p.conf, err)
		}
		x, err := p.network.examine(ctx, p.conf, next)
		if err != nil {
			return "", nil, nil, err
		}
		if p.listen, err = x.listens(); err != nil {
			return "", nil, nil, fmt.Errorf("%s: %w", p.conf, err)
		}
		asked = nil
		for _, r := range x.upstreams {
			asked = append(asked, r.Upstream)
		}
		if !inForce(upstreams, asked) {
			return "", nil, nil, fmt.Errorf("%s is not as setup can change it: write `upstream . %s` into its "+
				"danelaw { } yourself, and give --keep-upstreams", p.conf, strings.Join(upstreams, " "))
		}
		unfit := x.unfit(upstreams)
		if len(unfit) == 0 {
			return next, upstreams, asked, nil
		}
		if upstreams, err = p.without(unfit, upstreams, from); err != nil {
			return "", nil, nil, err
		}
	}
}

// unfit are those of upstreams that are of no use, with the reason. Of those that stay only the whole is judged: one
// may be for a zone of its own.
func (x *examined) unfit(upstreams []string) map[string]string {
	all, fit := map[string]string{}, false
	for _, r := range x.upstreams {
		fit = fit || r.Fit
		chosen := slices.ContainsFunc(upstreams, func(u string) bool { return called(u) == r.Upstream })
		if !r.Fit && (chosen || len(upstreams) == 0) {
			all[r.Upstream] = strings.Join(r.Faults, "; ")
		}
	}
	if len(upstreams) == 0 && fit {
		return nil
	}
	return all
}

// inForce reports whether all upstreams are among those that the daemon would ask.
func inForce(upstreams, asked []string) bool {
	return !slices.ContainsFunc(upstreams, func(u string) bool { return !slices.Contains(asked, called(u)) })
}

// called is how the daemon calls an upstream.
func called(u string) string {
	a, err := upstream.Parse(u)
	if err != nil {
		return u
	}
	return a.String()
}

// without leaves out what is not fit, if somebody else has chosen it and others are left.
func (p *planner) without(unfit map[string]string, upstreams []string, from string) (left []string, err error) {
	for _, u := range upstreams {
		if why, bad := unfit[called(u)]; bad {
			p.notes = append(p.notes, fmt.Sprintf("%s is left out, as it is not fit for validation: %s", u, why))
		} else {
			left = append(left, u)
		}
	}
	if len(left) > 0 && len(left) < len(upstreams) && len(p.c.StringSlice("upstream")) == 0 {
		return left, nil
	}
	var why []string
	for _, text := range unfit {
		why = append(why, text)
	}
	slices.Sort(why)
	if from == "" {
		from = "which " + p.conf + " names"
	}
	return nil, fmt.Errorf("nothing has been changed, as danelaw could not validate by the upstreams, %s: %s: name "+
		"others with --upstream, such as tls://9.9.9.9%%dns.quad9.net", from, strings.Join(why, "; "))
}

// listens is the address for resolv.conf, which knows no other port than 53.
func (x *examined) listens() (netip.Addr, error) {
	for _, host := range x.hosts {
		if addr, err := netip.ParseAddr(host); err == nil && addr.IsLoopback() && x.port == "53" {
			return addr, nil
		}
		if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() && x.port == "53" {
			return loopback, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("danelaw listens on %s, port %s, and resolv.conf can name port 53 alone: write "+
		"`bind 127.0.0.1` into the server block of `.:53`", strings.Join(x.hosts, " "), x.port)
}

// withUpstreams returns a Corefile whose danelaw asks these for the root; without any, it is as it was.
func withUpstreams(text string, upstreams []string) (string, error) {
	if len(upstreams) == 0 {
		return text, nil
	}
	lines := slices.Collect(strings.Lines(text))
	d, err := findDirective(lines)
	if err != nil {
		return "", fmt.Errorf("%w: write the upstreams into it yourself, and give --keep-upstreams", err)
	}
	line := "upstream . " + strings.Join(upstreams, " ") + "\n"
	indent := indentOf(lines[d.at])
	switch {
	case d.bare:
		lines[d.at] = indent + pluginName + " {\n" + indent + "    " + line + indent + "}\n"
	case len(d.root) == 0:
		lines[d.at] += indent + "    " + line
	default:
		lines[d.root[0]] = indentOf(lines[d.root[0]]) + line
		for _, i := range d.root[1:] {
			lines[i] = ""
		}
	}
	return strings.Join(lines, ""), nil
}

// directive is where danelaw stands in a Corefile.
type directive struct {
	at   int   // the line at which it begins; -1 if there is none
	bare bool  // without a block
	root []int // the lines about the root's upstreams
}

func findDirective(lines []string) (d directive, err error) {
	d.at = -1
	depth, within := 0, false
	for i, line := range lines {
		text, _, _ := strings.Cut(line, "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		switch {
		case depth == 1 && words[0] == pluginName && d.at >= 0:
			return d, errors.New("it has more than one danelaw")
		case depth == 1 && words[0] == pluginName:
			d.at, d.bare, within = i, len(words) == 1, true
		case depth == 1:
			within = false
		case depth == 2 && within && len(words) > 1 && words[0] == "upstream" && words[1] == ".":
			d.root = append(d.root, i)
		}
		if words[len(words)-1] == "{" {
			depth++
		} else if words[0] == "}" {
			depth--
		}
	}
	if d.at < 0 {
		return d, errors.New("no server block has danelaw")
	}
	return d, nil
}

// pluginName is the directive of the Corefile.
const pluginName = "danelaw"

func indentOf(line string) string { return line[:len(line)-len(strings.TrimLeft(line, " \t"))] }

// service is how danelaw is started here.
type service struct {
	reload [][]string // if it runs
	steps  []step     // to have it run, now and after a boot
}

// service looks for systemd's or OpenRC's.
func (p *planner) service(ctx context.Context) (v service, err error) {
	m := p.machine
	var started, enabled bool
	var reload, start, stop, enable, disable []string
	switch {
	case m.systemd() && m.says(ctx, "systemctl", "show", "danelaw", "--property=LoadState", "--value") == "loaded":
		started = m.active(ctx, "danelaw")
		enabled = m.says(ctx, "systemctl", "is-enabled", "danelaw") == "enabled"
		reload, start = []string{"systemctl", "reload", "danelaw"}, []string{"systemctl", "restart", "danelaw"}
		stop = []string{"systemctl", "stop", "danelaw"}
		enable, disable = []string{"systemctl", "enable", "danelaw"}, []string{"systemctl", "disable", "danelaw"}
	case m.has("rc-service") && m.exists("/etc/init.d/danelaw"):
		started = m.works(ctx, "rc-service", "danelaw", "status")
		enabled = strings.Contains(m.says(ctx, "rc-update", "show", "default"), "danelaw")
		reload, start = []string{"rc-service", "danelaw", "reload"}, []string{"rc-service", "danelaw", "restart"}
		stop = []string{"rc-service", "danelaw", "stop"}
		enable, disable = []string{"rc-update", "add", "danelaw"}, []string{"rc-update", "del", "danelaw"}
	default:
		return v, errors.New("danelaw is no service of this host, neither of systemd nor of OpenRC: install its " +
			"package (deploy/package), or write a unit, as deploy/mailhost/README.md shows")
	}
	if !enabled {
		v.steps = append(v.steps, step{alteration: alteration{What: "have danelaw started at each boot",
			Back: "it is started no more", Do: [][]string{enable}, Undo: [][]string{disable}}})
	}
	if started {
		v.reload = [][]string{reload}
		return v, nil
	}
	if others := p.network.holders(p.listen); len(others) > 0 {
		return v, fmt.Errorf("port 53 of %v is held by %s, so that danelaw cannot listen there: stop that first, or "+
			"have danelaw `bind` another loopback address, such as 127.0.0.5, in %s", p.listen,
			strings.Join(others, ", "), p.conf)
	}
	v.steps = append(v.steps, step{alteration: alteration{What: "start danelaw", Back: "danelaw is stopped",
		Do: [][]string{start}, Undo: [][]string{stop}}})
	return v, nil
}

// systemd reports whether it runs the host (sd_booted(3)).
func (m *machine) systemd() bool { return m.exists("/run/systemd/system") }

// active reports whether a unit of systemd is.
func (m *machine) active(ctx context.Context, unit string) bool {
	return m.systemd() && m.says(ctx, "systemctl", "is-active", unit) == "active"
}

// says is what a program prints.
func (m *machine) says(ctx context.Context, program string, args ...string) string {
	out, _ := m.run(ctx, program, args...) // some tell a state by their exit code, too
	return strings.TrimSpace(out)
}

// works reports whether a program ends with 0.
func (m *machine) works(ctx context.Context, program string, args ...string) bool {
	_, err := m.run(ctx, program, args...)
	return err == nil
}

// exists reports whether there is such a file, directory or link.
func (m *machine) exists(file string) bool {
	_, err := os.Lstat(m.path(file))
	return err == nil
}

// thisNetwork asks danelaw and the internet.
func thisNetwork() setupNetwork {
	return setupNetwork{examine: examineCorefile, validate: validateAsDaemon, answers: awaitAnswers,
		holders: otherHolders}
}

func examineCorefile(ctx context.Context, name, corefile string) (*examined, error) {
	ctx, cancel := context.WithTimeout(ctx, examineFor)
	defer cancel()
	to := log.Writer()
	log.SetOutput(io.Discard) // what it says is in the reports
	defer log.SetOutput(to)
	blocks, err := setUp(ctx, fixedSource(name, corefile), danelaw.Load)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	h, err := blocks.Handler(".")
	if err != nil {
		return nil, err
	}
	x := &examined{upstreams: h.Fit(ctx)}
	if x.hosts, x.port, err = blocks.Listens("."); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(x.upstreams, func(r upstream.Report) bool { return r.Fit }) {
		return x, nil // which says more than that the anchors fail
	}
	if err := h.Resolver().Prime(ctx); err != nil {
		return nil, fmt.Errorf("nothing has been changed: %w: check the clock, the upstreams, and `trust_anchor` in %s",
			err, name)
	}
	return x, nil
}

// daemonUser is whom the packages have danelaw run as.
const daemonUser = "danelaw"

// validateAsDaemon has the daemon's user look at a Corefile, if there is that user: what the daemon keeps is not
// root's.
func validateAsDaemon(ctx context.Context, name, corefile string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"--validate", "--conf", "-"}
	if _, err := user.Lookup(daemonUser); err == nil && os.Geteuid() == 0 {
		args = append(args, "--user", daemonUser)
	}
	c := exec.CommandContext(ctx, self, args...)
	c.Dir, c.Stdin = filepath.Dir(name), strings.NewReader(corefile) // what it names may be relative
	if out, err := c.CombinedOutput(); err != nil {
		return errors.New(strings.TrimPrefix(strings.TrimSpace(string(out)), "danelaw: "))
	}
	return nil
}

// answerPatience is how long danelaw may take to answer with new upstreams.
const answerPatience = 30 * time.Second

// awaitAnswers waits until danelaw answers with AD, and says that it asks such upstreams.
func awaitAnswers(ctx context.Context, at netip.Addr, upstreams []string) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	s := &subject{resolver: netip.AddrPortFrom(at, 53).String()}
	for {
		r, err := s.ask(ctx, ".", dns.TypeNS, withDO)
		switch {
		case err == nil && r.Rcode == dns.RcodeSuccess && r.AuthenticatedData:
			if err = asks(ctx, upstreams); err == nil {
				return nil
			}
		case err == nil:
			err = fmt.Errorf("it answers %s without AD%s", dns.RcodeToString[r.Rcode], because(r))
		}
		if !pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("danelaw does not serve on %s with its Corefile within %v: %w: see its log, with "+
				"`journalctl -u danelaw`", s.resolver, answerPatience, err)
		}
	}
}

// asks fails if the daemon tells that its upstreams are others: a reload is not done yet, or was refused. A daemon
// without control socket tells nothing.
func asks(ctx context.Context, upstreams []string) error {
	text, err := request(ctx, danelaw.DefaultControl, "GET", "/v1/status", nil)
	if err != nil {
		return nil //nolint:nilerr // it answers, which is what matters
	}
	var reply danelaw.StatusReply
	if err := json.Unmarshal(text, &reply); err != nil {
		return err
	}
	var all []string
	for _, block := range reply.Blocks {
		for _, u := range block.Upstreams {
			all = append(all, u.Upstream)
		}
	}
	for _, u := range upstreams {
		if !slices.Contains(all, u) {
			return fmt.Errorf("it does not ask %s, but %s", printable.Text(u), printable.Text(strings.Join(all, ", ")))
		}
	}
	return nil
}

// otherHolders names whoever but danelaw has port 53 of an address.
func otherHolders(at netip.Addr) []string {
	addr := netip.AddrPortFrom(at, 53)
	return slices.DeleteFunc(unique(append(holders("udp", addr), holders("tcp", addr)...)), func(name string) bool {
		return strings.HasPrefix(name, "danelaw ")
	})
}
