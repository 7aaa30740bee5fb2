package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

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

// Domain is its name, for the template of the page.
func (r result) Domain() string { return r.domain }

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
	stderr, ok := c.Root().ErrWriter.(*os.File)
	if !ok || n < 2 || !term.IsTerminal(int(stderr.Fd())) {
		return func() {}
	}
	bar := progressbar.NewOptions(n, progressbar.OptionSetWriter(stderr), progressbar.OptionShowCount(),
		progressbar.OptionSetDescription(what), progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetWidth(30))
	bar.RenderBlank() //nolint:errcheck // it is for looks
	return func() { bar.Add(1) }
}

// printLines prints a line for each domain, and how many there are of each decision.
func printLines(to io.Writer, results []result, p painter) {
	width := 0
	for _, r := range results {
		width = max(width, len(r.domain))
	}
	for _, r := range results {
		word, text, tone := r.word(), "", neutral
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
	fmt.Fprintf(to, "\n%s\n", summary(results, result.word))
}

// line is what there is to say of a domain in one line.
func (v *view) line() string {
	if worse := v.worse(); v.Culprit == nil && len(worse) > 0 {
		return worse[0].Name + " " + worse[0].Text
	}
	return v.told()
}

// summary counts the results, those of each word too.
func summary(results []result, word func(result) string) string {
	count, unwanted := map[string]uint64{}, 0
	for _, r := range results {
		count[word(r)]++
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
