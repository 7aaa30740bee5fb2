package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "show how a sender of mail sees a domain, or the chain of trust of a name, and what is wrong",
		ArgsUsage: "DOMAIN... | NAME TYPE | --queue",
		Flags: append(slices.Concat(askFlags(), probeFlags(implicitFlag())),
			stringFlag("file", "check the domains in `FILE` too, or in stdin, and print a line for each"),
			boolFlag("smtp", "connect to the mail hosts, too, and compare their certificates with the TLSA records"),
			intFlag("smtp-port", mail.Port, "connect to port `N`, whose TLSA records these are then", checkPort),
			boolFlag("json", "print JSON, whose fields keep their names and meaning"),
			stringFlag("html", "write a page with the chain of trust drawn to `FILE`, too"),
			boolFlag("queue", "explain the deferred mail of this host: why, whose fault, and what mends it"),
			stringFlag("mta", "with --queue: read the queue of `NAME` alone, postfix or exim"),
			boolFlag("require-dane", "exit with 1 for a domain whose hosts do not all have DANE, too"),
		),
		Action: check,
	}
}

// forDomains are the flags that NAME TYPE has no use for.
var forDomains = []string{"file", "smtp", "smtp-port", "require-dane", "helo", "wait", "implicit-tls"}

func check(ctx context.Context, c *cli.Command) error {
	switch {
	case c.Bool("queue"):
		return checkQueue(ctx, c, thisMachine())
	case c.IsSet("mta"):
		return wrong("--mta is for --queue")
	}
	q, single, err := checkQuestion(c.Args().Slice())
	if err != nil {
		return err
	}
	if single {
		for _, name := range forDomains {
			if c.IsSet(name) {
				return wrong("--%s is for domains, not for NAME TYPE", name)
			}
		}
		return withAsker(ctx, c, func(a *asker) error { return checkName(ctx, c, a, q) })
	}
	domains, err := checkDomains(c)
	if err != nil {
		return err
	}
	return withAsker(ctx, c, func(a *asker) error { return checkAll(ctx, c, a, domains) })
}

// checkQuestion reads NAME TYPE, or finds that the arguments are something else: domains.
func checkQuestion(args []string) (q dns.Question, single bool, err error) {
	if len(args) != 2 || strings.Contains(args[1], ".") {
		return q, false, nil
	}
	q = dns.Question{Qclass: dns.ClassINET}
	if q.Name, err = parseName(args[0]); err != nil {
		return q, true, usageError{err}
	}
	if q.Qtype, err = parseType(args[1]); err != nil {
		return q, true, usageError{err}
	}
	return q, true, nil
}

// withAsker runs f with the configuration that the flags ask for.
func withAsker(ctx context.Context, c *cli.Command, f func(*asker) error) error {
	a, err := openAsker(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	return f(a)
}

// checkName tells the chain of trust of one answer.
func checkName(ctx context.Context, c *cli.Command, a *asker, q dns.Question) error {
	found, err := a.explain(ctx, q.Name, q.Qtype)
	if err != nil {
		return err
	}
	v := drawing.NewChain(q, found, a.now(q.Name))
	if err := writePage(c.String("html"), v.Page); err != nil {
		return err
	}
	return cmp.Or(show(c, v, func(to io.Writer) { printChain(to, v) }), toldUnless(found.Answer.Status > dnssec.Bogus))
}

// checkAll checks domains and tells of them in the form asked for.
func checkAll(ctx context.Context, c *cli.Command, a *asker, domains []string) error {
	o := lookOptions{smtp: c.Bool("smtp"), port: c.Int("smtp-port"), requireDANE: c.Bool("require-dane")}
	results, err := lookAll(ctx, a, domains, o, progressBar(c, "checking", len(domains)))
	if err != nil {
		return err
	}
	if err := writePage(c.String("html"), func() *drawing.Page { return newPage(results) }); err != nil {
		return err
	}
	print := printViews
	if c.IsSet("file") {
		print = printLines
	}
	out := newCheckJSON(results)
	return cmp.Or(show(c, out, func(to io.Writer) { print(to, results, painterFor(to)) }), toldUnless(out.Wanted))
}

// printViews prints what was found of each domain.
func printViews(to io.Writer, results []result, paint painter) {
	for i, r := range results {
		if i > 0 {
			fmt.Fprintln(to)
		}
		if r.err != nil {
			fmt.Fprintf(to, "%s  %s\n%s\n", r.domain, paint.paint(drawing.Bad, "cannot be checked"), r.Error())
		} else {
			printView(to, r.view, paint)
		}
	}
}

// The form of `danelaw check --json`.
type (
	checkJSON struct {
		Domains []*domainView `json:"domains"`
		Errors  []errorJSON   `json:"errors"` // of domains that cannot be checked
		Wanted  bool          `json:"wanted"` // whether the exit code is 0
	}
	errorJSON struct {
		Domain string `json:"domain"`
		Error  string `json:"error"`
	}
)

func newCheckJSON(results []result) checkJSON {
	out := checkJSON{[]*domainView{}, []errorJSON{}, !slices.ContainsFunc(results, result.unwanted)}
	for _, r := range results {
		if r.err != nil {
			out.Errors = append(out.Errors, errorJSON{r.domain, r.Error()})
		} else {
			out.Domains = append(out.Domains, &r.view.domainView)
		}
	}
	return out
}

// errInterrupted is the end of a command by Ctrl-C.
var errInterrupted = errors.New("interrupted")

// checkDomains are the domains of the command line and of --file, each once.
func checkDomains(c *cli.Command) (domains []string, err error) {
	for _, arg := range c.Args().Slice() {
		name, err := parseName(arg)
		if err != nil {
			return nil, usageError{err}
		}
		domains = append(domains, name)
	}
	if c.IsSet("file") {
		more, err := openDomains(c.String("file"))
		if err != nil {
			return nil, err
		}
		domains = append(domains, more...)
	}
	if len(domains) == 0 {
		return nil, misused(c, "check takes domains, or a name and a type")
	}
	return unique(domains), nil
}

// unique leaves out what was there before.
func unique[T comparable](all []T) []T {
	seen := map[T]bool{}
	return slices.DeleteFunc(all, func(one T) bool {
		twice := seen[one]
		seen[one] = true
		return twice
	})
}

func openDomains(file string) ([]string, error) {
	if file == "stdin" || file == "-" {
		return readDomains("stdin", os.Stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("the domains cannot be read: %w", err)
	}
	defer f.Close()
	return readDomains(file, f)
}

// readDomains reads a domain a line. What follows a # is a comment; empty lines are passed over.
func readDomains(file string, from io.Reader) (domains []string, err error) {
	lines := bufio.NewScanner(from)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "\ufeff"), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		name, err := parseName(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		domains = append(domains, name)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(domains) == 0 {
		return nil, fmt.Errorf("%s names no domain; it takes one a line", file)
	}
	return domains, nil
}

// result is what came of one domain: a view or an error.
type result struct {
	domain string
	view   *view
	err    error
}

// Error is why it could not be checked.
func (r result) Error() string { return printable.Text(r.err.Error()) }

// unwanted reports whether the domain is not as it should be, for all that is known.
func (r result) unwanted() bool { return r.err != nil || !r.view.Wanted }

// word is the decision, if it is known.
func (r result) word() string {
	if r.err != nil || r.view.Blind || r.view.unknowable {
		return "unknown"
	}
	return r.view.Decision
}

// atOnce is how many domains are checked at the same time.
const atOnce = 8

// lookAll checks domains, some at a time; done is called after each. The error is for a ctx that ends.
func lookAll(ctx context.Context, a *asker, domains []string, o lookOptions, done func()) ([]result, error) {
	results := make([]result, len(domains))
	next := make(chan int)
	var work sync.WaitGroup
	for range min(atOnce, len(domains)) {
		work.Go(func() {
			for i := range next {
				v, err := a.look(ctx, domains[i], o)
				results[i] = result{domains[i], v, err}
				done()
			}
		})
	}
	for i := range domains {
		next <- i
	}
	close(next)
	work.Wait()
	if ctx.Err() != nil {
		return nil, errInterrupted
	}
	return results, nil
}

// progressBar returns what is called after each of so many steps: it draws on a terminal, and only if there is
// something to wait for.
func progressBar(c *cli.Command, what string, n int) (done func()) {
	bar := newBar(c, what, n)
	if bar == nil {
		return func() {}
	}
	return func() { bar.Add(1) } //nolint:errcheck // it is for looks
}

// newBar is a progress bar of n steps; nil if there is nobody to look at it, or next to nothing to see.
func newBar(c *cli.Command, what string, n int) *progressbar.ProgressBar {
	stderr, ok := c.Root().ErrWriter.(*os.File)
	if !ok || n < 2 || !term.IsTerminal(int(stderr.Fd())) {
		return nil
	}
	bar := progressbar.NewOptions(n, progressbar.OptionSetWriter(stderr), progressbar.OptionShowCount(),
		progressbar.OptionSetDescription(what), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
	bar.RenderBlank() //nolint:errcheck // it is for looks
	return bar
}

// printLines prints a line for each domain, and how many there are of each decision.
func printLines(to io.Writer, results []result, p painter) {
	width := 0
	for _, r := range results {
		width = max(width, len(r.domain))
	}
	for _, r := range results {
		word, text, tone := r.word(), "", drawing.Neutral
		if r.err != nil {
			text = r.Error()
		} else {
			text = r.view.line()
			_, tone = r.view.headline()
		}
		line := fmt.Sprintf("%-*s  %s%*s  %s", width, r.domain, p.paint(tone, word), len("opportunistic")-len(word), "",
			printable.Text(text))
		fmt.Fprintln(to, strings.TrimRight(line, " "))
	}
	fmt.Fprintf(to, "\n%s\n", summary(results))
}

// line is what there is to say of a domain in one line.
func (v *view) line() string {
	if worse := v.worse(); v.Culprit == nil && len(worse) > 0 {
		return worse[0].Name + " " + worse[0].Text
	}
	return v.told()
}

// summary counts the results, those of each word too.
func summary(results []result) string {
	count, unwanted := map[string]uint64{}, 0
	for _, r := range results {
		count[r.word()]++
		if r.unwanted() {
			unwanted++
		}
	}
	end := "all are as wanted"
	if unwanted > 0 {
		end = fmt.Sprintf("%d not as wanted", unwanted)
	}
	return fmt.Sprintf("%s: %s; %s", counted(len(results), "domain"), mostFirst(count), end)
}

// mostFirst lists counts, the most first.
func mostFirst(count map[string]uint64) string {
	var all []string
	for _, word := range slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	}) {
		all = append(all, fmt.Sprintf("%d %s", count[word], word))
	}
	return strings.Join(all, ", ")
}
