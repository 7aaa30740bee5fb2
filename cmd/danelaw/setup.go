package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// packagedCorefile is the Corefile of the packages.
const packagedCorefile = "/etc/danelaw/Corefile"

func setupCommand() *cli.Command {
	return &cli.Command{
		Name:  "setup",
		Usage: "make danelaw the resolver of this mail host, or undo that",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "conf", Value: packagedCorefile, Usage: "the daemon's Corefile is `FILE`"},
			&cli.StringSliceFlag{Name: "upstream", Usage: "have danelaw ask `ADDR`, such as 192.0.2.53 or " +
				"tls://9.9.9.9%dns.quad9.net (default: the nameservers that resolv.conf names now)"},
			boolFlag("keep-upstreams", "leave the upstreams in the Corefile as they are"),
			&cli.StringFlag{Name: "mta", Value: "all", Usage: "set up `WHICH`: postfix, exim, none, or all that are " +
				"installed", Validator: checkMTA},
			boolFlag("undo", "bring back what was there before"),
			boolFlag("force", "with --undo: also where somebody has changed a file since"),
			boolFlag("dry-run", "print what would be done, and do nothing"),
			boolFlag("yes", "do it without asking"),
		}, examineFlags()...),
		Action: noArguments(runSetup),
	}
}

func checkMTA(name string) error {
	if !slices.Contains([]string{"all", "none", "postfix", "exim"}, name) {
		return errors.New("give postfix, exim, none or all")
	}
	return nil
}

// setup tells what a plan says, and carries it out.
type setup struct {
	machine *machine
	journal *journal
	out     io.Writer
	c       *cli.Command
	plan    []step
}

func runSetup(ctx context.Context, c *cli.Command) error {
	if err := contradicting(c); err != nil {
		return err
	}
	m := thisMachine()
	if os.Geteuid() != 0 && !c.Bool("dry-run") {
		return errors.New("setup changes files of root's: run it as root, or with --dry-run to see what it would do")
	}
	unlock, err := lockSetup(m, c.Bool("dry-run"))
	if err != nil {
		return err
	}
	defer unlock()
	j, err := readJournal(m.root)
	if err != nil {
		return err
	}
	s := &setup{machine: m, journal: j, out: c.Root().Writer, c: c}
	if c.Bool("undo") {
		return s.undo(ctx)
	}
	if err := s.run(ctx, thisNetwork()); err != nil || c.Bool("dry-run") {
		return err
	}
	return s.examine(ctx)
}

// contradicting returns an error for flags that do not go together.
func contradicting(c *cli.Command) error {
	switch {
	case c.Bool("force") && !c.Bool("undo"):
		return misused(c, "--force is for --undo")
	case c.Bool("undo") && (c.IsSet("upstream") || c.IsSet("mta") || c.IsSet("conf") || c.Bool("keep-upstreams")):
		return misused(c, "--undo brings all back: leave out --upstream, --keep-upstreams, --mta and --conf")
	case c.IsSet("upstream") && c.Bool("keep-upstreams"):
		return misused(c, "--upstream and --keep-upstreams contradict each other: leave out one")
	case c.Bool("yes") && c.Bool("dry-run"):
		return misused(c, "--yes and --dry-run contradict each other: leave out one")
	}
	for _, u := range c.StringSlice("upstream") {
		if _, err := upstream.Parse(u); err != nil {
			return wrong("--%w", err)
		}
	}
	return nil
}

// lockSetup has one setup go on at a time.
func lockSetup(m *machine, looking bool) (unlock func(), err error) {
	if looking {
		return func() {}, nil
	}
	name := m.path("/run/danelaw-setup.lock")
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			f.Close()
			return nil, errors.New("another danelaw setup is at work: wait for its end")
		}
		if stillAt(name, f) {
			return func() {
				os.Remove(name) //nolint:errcheck // it lies in /run
				f.Close()
			}, nil
		}
		f.Close() // it was another's, who has ended and removed it: who opens it now has a lock of a new one
	}
}

// stillAt reports whether the file that is open has that name.
func stillAt(name string, f *os.File) bool {
	open, err := f.Stat()
	there, err2 := os.Lstat(name)
	return err == nil && err2 == nil && os.SameFile(open, there)
}

// run plans, tells, asks and does.
func (s *setup) run(ctx context.Context, network setupNetwork) error {
	p := &planner{machine: s.machine, journal: s.journal, c: s.c, conf: s.c.String("conf"), network: network}
	if err := p.makePlan(ctx); err != nil {
		return err
	}
	s.plan = p.steps
	s.printPlan(p.notes)
	if !slices.ContainsFunc(s.plan, step.changes) {
		return s.finish(ctx)
	}
	if proceed, err := s.mayProceed(ctx, "Do this?"); !proceed {
		return err
	}
	return s.carryOut(ctx, p.upstreams)
}

// finish is for a host on which nothing is to be changed any more.
func (s *setup) finish(ctx context.Context) error {
	if s.c.Bool("dry-run") {
		return nil
	}
	for _, st := range s.plan {
		if err := st.check(ctx); err != nil {
			return err
		}
	}
	return s.complete()
}

func (s *setup) complete() error {
	if len(s.journal.Entries) == 0 || s.journal.Complete {
		return nil
	}
	s.journal.Complete = true
	return s.journal.save()
}

// changes reports whether a step is more than a look.
func (st step) changes() bool { return st.File != "" || len(st.Do)+len(st.Undo) > 0 }

// printPlan tells what will be done, and how each part would be undone.
func (s *setup) printPlan(notes []string) {
	if len(s.journal.Entries) > 0 && !s.journal.Complete {
		fmt.Fprintln(s.out, "An earlier setup was interrupted; this one goes on from there. `danelaw setup --undo` "+
			"brings back what was before it.")
	}
	for _, note := range notes {
		s.line(0, note)
	}
	if !slices.ContainsFunc(s.plan, step.changes) {
		fmt.Fprintln(s.out, "This host is set up: nothing is to be changed.")
		return
	}
	fmt.Fprintln(s.out, "danelaw setup changes this host so:")
	number := 0
	for _, st := range s.plan {
		if st.What == "" {
			continue
		}
		number++
		s.heading(number, st.What)
		s.printAlteration(st.alteration, st.late == nil)
		if st.Back != "" {
			s.line(6, "undone: "+st.Back)
		}
	}
	fmt.Fprintln(s.out)
}

func (s *setup) heading(number int, text string) {
	text = printable.Text(strings.ToUpper(text[:1]) + text[1:])
	fmt.Fprintf(s.out, "\n%2d. %s\n", number, strings.TrimLeft(wrapped(text, 4, widthOf(s.out)), " "))
}

// line prints a text within the width of the terminal.
func (s *setup) line(indent int, text string) {
	fmt.Fprintln(s.out, wrapped(printable.Text(text), indent, widthOf(s.out)))
}

// printAlteration shows the file and the lines that change, and the commands.
func (s *setup) printAlteration(e alteration, known bool) {
	if e.File != "" && e.After.Kind != kindDir {
		s.line(6, "file: "+e.File)
		if e.Before.Kind == kindLink {
			s.line(8, "- (a symbolic link to "+e.Before.Target+")")
		}
		if known {
			before, after := differing(string(e.Before.Content), string(e.After.Content))
			for _, lines := range []struct{ sign, text string }{{"- ", before}, {"+ ", after}} {
				for line := range strings.Lines(lines.text) {
					fmt.Fprintln(s.out, "        "+lines.sign+printable.Text(strings.TrimRight(line, "\n")))
				}
			}
		}
	}
	for _, c := range e.Do {
		s.line(6, "command: "+strings.Join(c, " "))
	}
}

// differing are the lines that only one of two texts has.
func differing(before, after string) (onlyBefore, onlyAfter string) {
	lack := func(text, other string) string {
		count := map[string]int{}
		for line := range strings.Lines(other) {
			count[line]++
		}
		var b strings.Builder
		for line := range strings.Lines(text) {
			if count[line]--; count[line] < 0 {
				b.WriteString(line)
			}
		}
		return b.String()
	}
	return lack(before, after), lack(after, before)
}

// mayProceed asks whoever sits at the terminal, unless flags have said it.
func (s *setup) mayProceed(ctx context.Context, question string) (bool, error) {
	if s.c.Bool("dry-run") {
		return false, nil
	}
	if s.c.Bool("yes") {
		return true, nil
	}
	in, isFile := s.c.Root().Reader.(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		return false, errors.New("nothing has been changed: there is no terminal to ask on; give --yes to have it " +
			"done, or --dry-run to look at it only")
	}
	fmt.Fprintf(s.out, "%s [y/N] ", question)
	s.flush()
	var answer string
	ended, err := unlessEnded(ctx, func() (err error) {
		answer, err = bufio.NewReader(in).ReadString('\n')
		return err
	})
	switch {
	case ended || err != nil:
		return false, errors.New("nothing has been changed")
	case slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))):
		return true, nil
	}
	fmt.Fprintln(s.out, "Nothing has been changed.")
	return false, errTold
}

// carryOut does the plan. If a step fails, those before it are undone.
func (s *setup) carryOut(ctx context.Context, upstreams []string) error {
	mark, complete, former := len(s.journal.Entries), s.journal.Complete, s.journal.Upstreams
	s.journal.Complete = false
	if len(upstreams) > 0 {
		s.journal.Upstreams = upstreams
	}
	err := s.carryAll(ctx)
	if err == nil {
		fmt.Fprintln(s.out, "Done. `danelaw setup --undo` brings back what was before.")
		return nil
	}
	err = s.rolledBack(ctx, mark, err)
	if len(s.journal.Entries) == mark && mark > 0 { // an earlier setup is in force
		s.journal.Complete, s.journal.Upstreams = complete, former
		err = errors.Join(err, s.journal.save())
	}
	return err
}

// carryAll does all steps.
func (s *setup) carryAll(ctx context.Context) error {
	for _, st := range s.plan {
		s.tell(st.What)
		if err := s.carry(ctx, st); err != nil {
			return err
		}
	}
	return s.complete()
}

// tell tells at once what goes on, if there is anything to tell.
func (s *setup) tell(what string) {
	if what == "" {
		return
	}
	fmt.Fprintln(s.out, "  "+printable.Text(what))
	s.flush()
}

func (s *setup) flush() {
	if f, buffered := s.out.(interface{ Flush() error }); buffered {
		f.Flush() //nolint:errcheck // see printer
	}
}

// carry does one step.
func (s *setup) carry(ctx context.Context, st step) error {
	if err := ctx.Err(); err != nil {
		return errInterrupted
	}
	if st.File != "" {
		now, err := look(s.machine.path(st.File))
		switch {
		case err != nil:
			return err
		case st.late != nil:
			content, err := st.late()
			if err != nil {
				return err
			}
			st.Before, st.After = now, now.with(content)
		case !now.is(st.Before) && st.After.Kind != kindDir:
			return fmt.Errorf("%s was changed by somebody meanwhile: run danelaw setup again", st.File)
		}
	}
	if st.changes() {
		if err := s.journal.do(ctx, s.machine, st.alteration); err != nil {
			return err
		}
	}
	if st.check == nil {
		return nil
	}
	return st.check(ctx)
}

// rolledBack undoes what this run has done, as a step has failed, also if it is the user who has ended it.
func (s *setup) rolledBack(ctx context.Context, mark int, failure error) error {
	if ctx.Err() != nil {
		failure = errInterrupted
	}
	ctx = context.WithoutCancel(ctx)
	err := s.journal.undo(ctx, s.machine, mark, false, func(e alteration) {
		if e.What != "" {
			s.tell("undone: " + e.What)
		}
	})
	if err != nil {
		return fmt.Errorf("%w; what was done could not be undone: %v: mend that, and run danelaw setup --undo", failure,
			err)
	}
	return fmt.Errorf("%w; what was done is undone: this host is as it was", failure)
}

// undo brings back what was before setup.
func (s *setup) undo(ctx context.Context) error {
	j := s.journal
	if len(j.Entries) == 0 {
		fmt.Fprintln(s.out, "There is nothing to undo: danelaw setup has changed nothing here, or all is undone.")
		return nil
	}
	fmt.Fprintln(s.out, "danelaw setup --undo brings back what was before:")
	number := 0
	for _, e := range slices.Backward(j.Entries) {
		if e.Back == "" {
			continue
		}
		number++
		s.heading(number, e.Back)
		if e.File != "" {
			s.line(6, "file: "+e.File)
		}
		for _, c := range e.Undo {
			s.line(6, "command: "+strings.Join(c, " "))
		}
	}
	fmt.Fprintln(s.out)
	conflicts := j.conflicts(ctx, s.machine, 0)
	if len(conflicts) > 0 && !s.c.Bool("force") {
		return fmt.Errorf("nothing has been undone: %s; look at it, and give --force to have what was there before "+
			"setup all the same", strings.Join(conflicts, "; "))
	}
	for _, conflict := range conflicts {
		s.line(0, conflict+": what is there is lost")
	}
	if proceed, err := s.mayProceed(ctx, "Undo this?"); !proceed {
		return err
	}
	err := j.undo(ctx, s.machine, 0, s.c.Bool("force"), func(e alteration) { s.tell(e.Back) })
	if err != nil {
		return fmt.Errorf("%w: what is not undone yet stays noted; run danelaw setup --undo again", err)
	}
	fmt.Fprintln(s.out, "Undone: this host is as it was.")
	return nil
}

// examine has the doctor look at the host as it is now.
func (s *setup) examine(ctx context.Context) error {
	conf := s.c.String("conf")
	fmt.Fprintf(s.out, "\ndanelaw doctor --conf %s:\n\n", conf)
	args := []string{"doctor", "--conf", conf, "--signed", s.c.String("signed"), "--bogus", s.c.String("bogus")}
	for _, list := range s.c.StringSlice("dnsbl") {
		args = append(args, "--dnsbl", list)
	}
	d := doctorCommand()
	d.Writer, d.ErrWriter, d.ExitErrHandler = s.out, s.c.Root().ErrWriter, s.c.Root().ExitErrHandler
	return d.Run(ctx, args)
}
