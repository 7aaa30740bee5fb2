//go:build linux

package servers

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// difference is a verdict of another validator that differs from danelaw's.
type difference struct {
	question, oracle, upstream string
	verdict                    string
}

// explained is a line of the section "Cases" of test/DISAGREEMENTS.md.
type explained struct {
	question           string // a pattern
	oracles, upstreams []string
	verdict            string
	always             bool // false: "at times"
}

// explanations reads that section of the file.
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

// behind returns the upstreams that a cell of the table names.
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

// review complains of wrong answers by danelaw, of differences that are not explained, and of explanations for
// differences that did not occur. The questions that it complains of stay open.
func (tr *trial) review(known []explained, rows []row) {
	tr.open, tr.complaints = nil, nil
	for _, r := range rows {
		tr.found = append(tr.found, r.differences...)
		if complaints := r.review(known); len(complaints) > 0 {
			tr.open = append(tr.open, r.question)
			tr.complaints = append(tr.complaints, complaints...)
		}
	}
	for _, e := range known {
		for _, oracle := range tr.outdated(e) {
			tr.complaints = append(tr.complaints, fmt.Sprintf("no longer so: | %s | %s | %s | %s |", e.question, oracle,
				tr.upstream, e.verdict))
			tr.reopen(e.question)
		}
	}
}

// review returns the complaints about one row.
func (r *row) review(known []explained) (complaints []string) {
	if r.complaint != "" {
		complaints = append(complaints, r.complaint)
	}
	for _, d := range r.differences {
		if !slices.ContainsFunc(known, func(e explained) bool { return e.covers(d) }) {
			complaints = append(complaints, fmt.Sprintf("not in DISAGREEMENTS.md: | %s | %s | %s | %s |", d.question,
				d.oracle, d.upstream, d.verdict))
		}
	}
	return complaints
}

// outdated returns the oracles that have never differed in the way that e explains.
func (tr *trial) outdated(e explained) (names []string) {
	if !e.always || !slices.Contains(e.upstreams, tr.upstream) {
		return nil
	}
	for _, oracle := range e.oracles {
		one := e
		one.oracles = []string{oracle}
		if !slices.ContainsFunc(tr.found, one.covers) {
			names = append(names, oracle)
		}
	}
	return names
}

// reopen opens the questions again that match a pattern.
func (tr *trial) reopen(pattern string) {
	for _, q := range tr.all {
		open := slices.ContainsFunc(tr.open, func(o question) bool { return o.id() == q.id() })
		if matched, err := path.Match(pattern, q.id()); err == nil && matched && !open {
			tr.open = append(tr.open, q)
		}
	}
}
