package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "examine this host: does its mail server really get validated answers, and does it use them",
		Description: "Looks at who answers on port 53, at resolv.conf, at the resolver that it names, at the " +
			"upstreams, trust anchors and clock of danelaw, at DNSBLs, and at Postfix and Exim where they are " +
			"installed. Nothing is changed. Each finding is ok, a warning or a fault, with the reason and what to " +
			"do. With --lab the resolver and the upstreams examined are those of a lab.\n\n" +
			"Exit codes: 0 if there is no fault, 1 if there is one, 2 for a wrong command line.",
		Flags: append(askFlags(), stringFlag("resolver", "examine the resolver at `ADDR[:PORT]` (default: the first "+
			"nameserver of resolv.conf)"), &cli.StringFlag{Name: "signed", Value: "ietf.org",
			Usage: "a signed domain `NAME` for the test of the resolver"},
			&cli.StringFlag{Name: "bogus", Value: "dnssec-failed.org",
				Usage: "a domain `NAME` whose signatures are wrong"},
			&cli.StringSliceFlag{Name: "dnsbl", Value: []string{"zen.spamhaus.org", "bl.spamcop.net"},
				Usage: "a DNSBL `ZONE` that the mail server asks"},
			boolFlag("json", "print the findings for a program"),
		),
		Action: noArguments(doctor),
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

func fine(topic, format string, args ...any) finding {
	return finding{Topic: topic, State: ok, Why: fmt.Sprintf(format, args...)}
}

// warn is a warning, and faulty a fault, each still without what to do.
func warn(topic, format string, args ...any) finding {
	return finding{Topic: topic, State: warning, Why: fmt.Sprintf(format, args...)}
}

func faulty(topic, format string, args ...any) finding {
	return finding{Topic: topic, State: fault, Why: fmt.Sprintf(format, args...)}
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
	found := examineAll(ctx, m.listeners, m.resolverConfiguration, subject.resolverValidates, subject.upstreams,
		m.clock, subject.lists, m.postfix, m.exim)
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
		head := fmt.Sprintf("%s%*s%-11s ", p.paint(tones[word], word), 9-len(word), "", f.Topic)
		fmt.Fprintln(to, head+strings.TrimLeft(wrapped(f.Why, findingAt, width), " "))
		if f.Remedy != "" {
			fmt.Fprintf(to, "%*s→ %s\n", findingAt, "", strings.TrimLeft(wrapped(f.Remedy, findingAt+2, width), " "))
		}
	}
	fmt.Fprintf(to, "\n%d ok, %s, %s\n", count[ok], counted(count[warning], "warning"), counted(count[fault], "fault"))
}
