package servers

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// difference is one verdict of another validator that is not danelaw's.
type difference struct {
	question, oracle, upstream string
	verdict                    string
}

// explained is a line of the section "Cases" of test/DISAGREEMENTS.md.
type explained struct {
	question           string // a pattern
	oracles, upstreams []string
	verdict            string
	always             bool // else it hangs on the order in which others ask, or on what a signature begins with
}

// explanations reads that section.
func explanations(t *testing.T) (all []explained) {
	t.Helper()
	text, err := os.ReadFile("../DISAGREEMENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Cases\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(cells) != 6 || cells[0] == "question" || strings.HasPrefix(cells[0], "-") {
			continue
		}
		verdict, always := strings.CutSuffix(cells[3], " (at times)")
		always = !always
		for _, question := range strings.Split(cells[0], ", ") {
			all = append(all, explained{question, strings.Split(cells[1], ", "), behind(cells[2]), verdict, always})
		}
	}
	return all
}

// behind lists upstreams.
func behind(cell string) (names []string) {
	if cell != "all" {
		return strings.Split(cell, ", ")
	}
	for _, u := range upstreams {
		names = append(names, u.name)
	}
	return names
}

func (e explained) covers(d difference) bool {
	matched, err := path.Match(e.question, d.question)
	return err == nil && matched && slices.Contains(e.oracles, d.oracle) && slices.Contains(e.upstreams, d.upstream) &&
		e.verdict == d.verdict
}

// checkDifferences fails for those that nobody has explained, and for explanations of what is no longer so behind one upstream.
func checkDifferences(t *testing.T, upstream string, found []difference) {
	t.Helper()
	known := explanations(t)
	for _, d := range found {
		if !slices.ContainsFunc(known, func(e explained) bool { return e.covers(d) }) {
			t.Errorf("not in DISAGREEMENTS.md: | %s | %s | %s | %s |", d.question, d.oracle, d.upstream, d.verdict)
		}
	}
	for _, e := range known {
		if !e.always || !slices.Contains(e.upstreams, upstream) {
			continue
		}
		for _, oracle := range e.oracles {
			one := e
			one.oracles = []string{oracle}
			if !slices.ContainsFunc(found, one.covers) {
				t.Errorf("no longer so: | %s | %s | %s | %s |", e.question, oracle, upstream, e.verdict)
			}
		}
	}
}
