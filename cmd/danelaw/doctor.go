package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "examine this host: does its mail server really get validated answers, and does it use them",
		Flags: slices.Concat(askFlags(), []cli.Flag{stringFlag("resolver",
			"examine the resolver at `ADDR[:PORT]` (default: the first nameserver of resolv.conf)")}, examineFlags(),
			[]cli.Flag{boolFlag("json", "print the findings for a program")}),
		Action: noArguments(doctor),
	}
}

// examineFlags say by which names a host is examined.
func examineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "signed", Value: "ietf.org",
			Usage: "a signed domain `NAME` for the test of the resolver"},
		&cli.StringFlag{Name: "bogus", Value: "dnssec-failed.org",
			Usage: "a domain `NAME` whose signatures are wrong"},
		&cli.StringSliceFlag{Name: "dnsbl", Value: []string{"zen.spamhaus.org", "bl.spamcop.net"},
			Usage: "a DNSBL `ZONE` that the mail server asks"},
	}
}

// state says how grave a finding is.
type state string

const (
	ok      state = "ok"
	warning state = "warning"
	fault   state = "fault"
)

// finding is one thing that the doctor saw. The order of fields is that of `doctor --json`.
type finding struct {
	Topic  string `json:"topic"`
	State  state  `json:"state"`
	Why    string `json:"why"`              // one sentence
	Remedy string `json:"remedy,omitempty"` // what to do; empty if all is well
}

// of is a finding of such a state, still without what to do.
func (s state) of(topic, format string, args ...any) finding {
	return finding{Topic: topic, State: s, Why: fmt.Sprintf(format, args...)}
}

// do adds what to do.
func (f finding) do(remedy string) finding {
	f.Remedy = remedy
	return f
}

// graver makes a fault of a warning in some cases.
func (f finding) graver(when bool) finding {
	if when {
		f.State = fault
	}
	return f
}

// machine is the host as the doctor sees it.
type machine struct {
	root string // of the file system
	run  func(ctx context.Context, program string, args ...string) (string, error)
	has  func(program string) bool
}

// thisMachine is the one that danelaw runs on.
func thisMachine() *machine {
	return &machine{
		root: "/",
		run: func(ctx context.Context, program string, args ...string) (string, error) {
			var stderr bytes.Buffer
			command := exec.CommandContext(ctx, programPath(program), args...)
			command.Stderr = &stderr
			out, err := command.Output()
			if err != nil {
				err = fmt.Errorf("%s: %w %s", program, err, bytes.TrimSpace(stderr.Bytes()))
			}
			return string(out), err
		},
		has: func(program string) bool { _, err := exec.LookPath(programPath(program)); return err == nil },
	}
}

// programDirs are where MTAs have their programs. On Debian they are not in a user's PATH.
var programDirs = []string{"/usr/sbin", "/usr/local/sbin", "/sbin"}

// programPath is what a program is run by: its name if it is in PATH, else where it is.
func programPath(program string) string {
	if _, err := exec.LookPath(program); err == nil {
		return program
	}
	for _, dir := range programDirs {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return program
}

// read returns the content of a file.
func (m *machine) read(file string) (string, error) {
	content, err := os.ReadFile(filepath.Join(m.root, file))
	return string(content), err
}

// examination is one part of the doctor's work. All go on at once.
type examination func(ctx context.Context) []finding

// examineFor bounds the whole examination, however many servers do not answer.
const examineFor = 30 * time.Second

func doctor(ctx context.Context, c *cli.Command) error {
	subject, end, err := newSubject(ctx, c)
	if err != nil {
		return err
	}
	defer end()
	m := thisMachine()
	ctx, cancel := context.WithTimeout(ctx, examineFor)
	defer cancel()
	found := examineAll(ctx, m.listeners, m.resolverConfiguration, subject.resolverValidates, subject.corefile,
		subject.upstreams, m.clock, subject.lists, m.postfix, m.exim)
	if err := context.Cause(ctx); err != nil && ctx.Err() == context.Canceled {
		return err
	}
	isFault := func(f finding) bool { return f.State == fault }
	return cmp.Or(show(c, found, func(to io.Writer) { printFindings(to, found, painterFor(to), widthOf(to)) }),
		toldUnless(!slices.ContainsFunc(found, isFault)))
}

// examineAll runs all parts at once and returns what they found in their order.
func examineAll(ctx context.Context, parts ...examination) (all []finding) {
	found := make([][]finding, len(parts))
	var running sync.WaitGroup
	for i, part := range parts {
		running.Go(func() { found[i] = part(ctx) })
	}
	running.Wait()
	for _, f := range slices.Concat(found...) { // programs, files and servers have their words in it
		f.Why, f.Remedy = printable.Text(f.Why), printable.Text(f.Remedy)
		all = append(all, f)
	}
	return all
}

// findingAt is the column at which the text of a finding begins.
const findingAt = 21

func printFindings(to io.Writer, found []finding, p painter, width int) {
	count := map[state]int{}
	for _, f := range found {
		count[f.State]++
		word := string(f.State)
		head := fmt.Sprintf("%s%*s%-11s ", p.paint(drawing.ToneOf(word), word), 9-len(word), "", f.Topic)
		fmt.Fprintln(to, head+strings.TrimLeft(wrapped(f.Why, findingAt, width), " "))
		if f.Remedy != "" {
			fmt.Fprintf(to, "%*s→ %s\n", findingAt, "", strings.TrimLeft(wrapped(f.Remedy, findingAt+2, width), " "))
		}
	}
	fmt.Fprintf(to, "\n%d ok, %s, %s\n", count[ok], counted(count[warning], "warning"), counted(count[fault], "fault"))
}

// listeners tells who answers on port 53 of this host.
func (*machine) listeners(context.Context) (found []finding) {
	everywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), 53)
	for _, network := range []string{"udp", "tcp"} {
		names, over := holders(network, everywhere), strings.ToUpper(network)
		all := strings.Join(names, ", ")
		f := ok.of("port 53", "%s listens over %s", all, over)
		switch {
		case len(names) == 0:
			f = warning.of("port 53", "nobody is seen to listen on port 53 over %s", over).
				do("start danelaw, or run this as root if a process of another user should be there")
		case !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "danelaw ") }):
			f = warning.of("port 53", "over %s it is not danelaw that listens, but %s", over, all).
				do("stop that, or have danelaw listen on an address of its own, as with `bind 127.0.0.5`")
		}
		found = append(found, f)
	}
	return found
}

// resolverConfiguration looks at what the resolver library reads (D-15).
func (m *machine) resolverConfiguration(context.Context) (found []finding) {
	text, _ := m.read(resolvConf) // without it programs ask 127.0.0.1
	servers, options := readResolvConf(text)
	found, add := nameserverFindings(servers), "add `options trust-ad edns0` to "+resolvConf
	switch {
	case slices.Contains(options, "trust-ad"):
		found = append(found, ok.of("resolv.conf", "`options trust-ad` lets the AD bit through"))
	case m.eximProgram() != "":
		found = append(found, fault.of("resolv.conf",
			"`options trust-ad` is missing: glibc takes the AD bit from answers, so Exim never uses DANE").do(add))
	default:
		found = append(found, warning.of("resolv.conf", "`options trust-ad` is missing: glibc takes the AD bit from "+
			"answers, and only Postfix asks for it to stay").do(add))
	}
	if !slices.Contains(options, "edns0") {
		found = append(found, warning.of("resolv.conf",
			"`options edns0` is missing: large answers need a second question over TCP").do(add))
	}
	return found
}

// readResolvConf returns the addresses and options of a resolv.conf (resolv.conf(5)).
func readResolvConf(text string) (servers, options []string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			servers = append(servers, words[1])
		case "options":
			options = append(options, words[1:]...)
		}
	}
	return servers, options
}

// nameserverFindings judges the nameserver lines. glibc asks the second when the first is slow.
func nameserverFindings(servers []string) (found []finding) {
	const topic, one = "resolv.conf", "let `nameserver 127.0.0.1`, where danelaw listens, be the only nameserver"
	if len(servers) == 0 {
		return []finding{
			warning.of(topic, "%s names no nameserver: programs ask 127.0.0.1", resolvConf).
				do("write `nameserver 127.0.0.1`"),
		}
	}
	for _, s := range servers {
		f := ok.of(topic, "%s is on this host", s)
		switch addr, err := netip.ParseAddr(s); {
		case err != nil:
			f = fault.of(topic, "nameserver %q is no IP address", s).do(one)
		case addr == resolvedStub:
			f = fault.of(topic, "127.0.0.53 is systemd-resolved, whose AD bit is not the proof that DANE needs").
				do(one + "; a symlink to /run/systemd/resolve has to be replaced by a file")
		case addr == netip.AddrFrom4([4]byte{127, 0, 0, 11}):
			f = fault.of(topic, "127.0.0.11 is Docker's resolver: it validates nothing, and hands no signatures on").
				do("run danelaw in the container's network, and name its address with `dns:` in the container's " +
					"settings")
		case !addr.IsLoopback():
			f = warning.of(topic, "%s is not on this host: an AD bit can be forged on the way", s).do(one)
		}
		found = append(found, f)
	}
	if len(servers) > 1 {
		found = append(found, fault.of(topic, "%d nameservers are named: the others are asked whenever the first is "+
			"slow or says SERVFAIL, and what they say of a bogus domain is believed", len(servers)).do(one))
	}
	return found
}

// clock looks at time and its synchronisation.
func (*machine) clock(context.Context) []finding {
	now, built := time.Now().UTC(), danelaw.BuildDate().UTC()
	synchronised, known := clockSynchronised()
	f := ok.of("clock", "it is %s UTC, synchronised", now.Format(time.DateTime))
	switch {
	case now.Before(built):
		f = fault.of("clock", "it is %s by this host's clock, before danelaw was built (%s): no signature is valid yet",
			now.Format(time.DateOnly), built.Format(time.DateOnly)).do("set the clock, and name NTP servers by address")
	case !known:
		f = ok.of("clock", "it is %s UTC; whether it is synchronised the system does not tell",
			now.Format(time.DateTime))
	case !synchronised:
		f = warning.of("clock", "it is %s UTC, and nothing keeps the clock right: a wrong one makes signatures "+
			"expired, or not yet valid", now.Format(time.DateTime)).do("run systemd-timesyncd, chrony or ntpd")
	}
	return []finding{f}
}
