//go:build linux

package servers

import (
	"cmp"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// upstreams are the resolvers that are danelaw's upstream in turn. Those that only forward ask the first one.
var upstreams = []struct {
	name string
	resolver
}{
	{"unbound", resolver{kind: "unbound", address: "127.0.1.1"}},
	{"bind", resolver{kind: "bind", address: "127.0.1.2"}},
	{"knot", resolver{kind: "knot", address: "127.0.1.3"}},
	{"pdns", resolver{kind: "pdns", address: "127.0.1.4"}},
	{"unbound-validating", resolver{kind: "unbound", validate: true, address: "127.0.1.5"}},
	{"bind-validating", resolver{kind: "bind", validate: true, address: "127.0.1.8"}},
	{"dnsmasq", resolver{kind: "dnsmasq", address: "127.0.1.6", to: "127.0.1.1"}},
	{"coredns", resolver{kind: "forward", address: "127.0.1.7", to: "127.0.1.1"}},
}

// product is danelaw's address.
const product = "127.0.0.53"

// oracles are the other validators that are asked each case.
var oracles = []string{"unbound", "bind", "knot", "pdns"}

// TestVerdicts asks danelaw and the other validators every case, behind every upstream.
func TestVerdicts(t *testing.T) {
	suite.Needs(t)
	tr := grown(t)
	tr.serve(t)
	for _, u := range upstreams {
		t.Run(u.name, func(t *testing.T) {
			u.anchors = ofRoot
			verdicts(t, trial{upstream: u.name, anchors: ofRoot, all: questions()}, u.resolver)
		})
	}
	t.Run("anchors", func(t *testing.T) {
		verdicts(t, trial{upstream: "anchors", anchors: ofSome, all: anchorQuestions}, upstreams[0].resolver)
	})
}

// grown starts the scripted server, and signs and writes the tree of the other servers, with the trust anchors.
func grown(t *testing.T) tree {
	t.Helper()
	tr := plant(t, planted(tell(t)))
	if t.Failed() {
		t.FailNow()
	}
	tr.anchors(t)
	return tr
}

// row is the result of one question.
type row struct {
	question    question
	text        string
	complaint   string // what is wrong with danelaw's answer
	differences []difference
}

// tries is how often a question is asked until its answer counts as wrong. Each time all programs but the authoritative
// servers are started again, since other validators depend on what they have cached, and on a busy machine datagrams
// come late. A fault of danelaw's shows each time.
const tries = 3

// trial is all questions behind one upstream.
type trial struct {
	upstream   string
	anchors    anchors // of danelaw and the oracles
	all        []question
	open       []question // the questions without the right outcome so far
	complaints []string   // about their answers
	found      []difference
}

// verdicts runs one trial: danelaw and the oracles behind one upstream.
func verdicts(t *testing.T, tr trial, upstream resolver) {
	tr.open = tr.all
	for n := 1; n <= tries && len(tr.open) > 0; n++ {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			if upstream.to != "" {
				upstreams[0].run(t)
			}
			upstream.run(t)
			runDanelaw(t, product, upstream.address, tr.anchors, "", "")
			for i, kind := range oracles {
				resolver{kind: kind, validate: true, to: upstream.address, address: oracle(i),
					anchors: tr.anchors}.run(t)
			}
			relapse()
			tr.ask(t)
			report := t.Log
			if n == tries {
				report = t.Error
			}
			for _, c := range tr.complaints {
				report(c)
			}
		})
	}
}

// ask asks the open questions, and leaves those open that still have the wrong outcome.
func (tr *trial) ask(t *testing.T) {
	begun, rows := time.Now(), make([]row, len(tr.open))
	inParallel(slices.Collect(indices(rows)), func(i int) { rows[i] = judge(t, tr.upstream, tr.open[i]) })
	var table strings.Builder
	for _, r := range rows {
		fmt.Fprintln(&table, r.text)
	}
	t.Logf("behind %s, %d questions in %v\n%s", tr.upstream, len(rows), time.Since(begun).Round(time.Second), &table)
	tr.review(explanations(t), rows)
}

func indices[T any](all []T) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := range all {
			if !yield(i) {
				return
			}
		}
	}
}

// oracle returns the address of the i-th oracle.
func oracle(i int) string { return fmt.Sprintf("127.0.2.%d", 1+i) }

// judge asks danelaw one question, by dig, and the oracles as well.
func judge(t *testing.T, upstream string, q question) row {
	got, out := digs(t, product, q)
	if q.options != nil {
		return judgeManners(upstream, q, out)
	}
	r := row{question: q, text: fmt.Sprintf("%-16s %-42s %-22s", q.rules, q.id(), got)}
	if want := q.expected(upstream); !got.meets(want) {
		r.complaint = fmt.Sprintf("behind %s: %s (%s): %s, want %s\n%s", upstream, q.id(), q.rules, got, want, out)
	}
	for i, kind := range oracles {
		verdict, sign := consult(oracle(i), q).verdict(), ""
		if verdict != seen(got) {
			sign = " !"
			r.differences = append(r.differences, difference{q.id(), kind, upstream, verdict})
		}
		r.text += fmt.Sprintf(" | %s: %s%s", kind, verdict, sign)
	}
	return r
}

// judgeManners judges the form of a reply, of a question with options of dig.
func judgeManners(upstream string, q question, out string) row {
	got := manners(out)
	r := row{question: q, text: fmt.Sprintf("%-16s %-42s %-22s", q.rules, q.id(), got)}
	if want := q.expected(upstream); got != want {
		r.complaint = fmt.Sprintf("behind %s: %s (%s): %s, want %s\n%s", upstream, q.id(), q.rules, got, want, out)
	}
	return r
}

// seen returns the verdict as a client sees it, who cannot tell Indeterminate from Bogus.
func seen(o outcome) string { return strings.Replace(o.verdict(), "Indeterminate", "Bogus", 1) }

// meets reports whether an outcome is one of those wanted. If a wanted failure has no Extended DNS Error, any will do.
func (o outcome) meets(want outcome) bool {
	return slices.ContainsFunc(strings.Split(string(want), " or "), func(one string) bool {
		if seen(o) != seen(outcome(one)) {
			return false
		}
		code := strings.Fields(one)[2:]
		return slices.Equal(strings.Fields(string(o))[2:], code) || failed.verdict() == seen(o) && len(code) == 0
	})
}

var (
	status = regexp.MustCompile(`(?m)status: ([A-Z]+),`)
	flags  = regexp.MustCompile(`(?m)^;; flags: ([a-z ]*)`)
	ede    = regexp.MustCompile(`(?m)^; EDE: (\d+)`)
)

// faultOf returns the code of the first Extended DNS Error that dig prints, or "" if there is none. It ignores code 29
// (synthesized), which depends on what was asked before (C-9).
func faultOf(out string) string {
	for _, code := range ede.FindAllStringSubmatch(out, -1) {
		if code[1] != "29" {
			return code[1]
		}
	}
	return ""
}

// hasAD reports whether AD is among the flags that dig or drill prints.
func hasAD(out string) bool {
	f := flags.FindStringSubmatch(out)
	return f != nil && slices.Contains(strings.Fields(f[1]), "ad")
}

// digs asks a question with dig, and returns the outcome and dig's output.
func digs(t *testing.T, address string, q question) (outcome, string) {
	t.Helper()
	options := q.options
	if options == nil {
		options = []string{"+dnssec"}
	}
	line := slices.Concat(options, []string{"@" + address, "+tries=1", "+timeout=8", q.name,
		fmt.Sprint("TYPE", q.qtype)})
	out, err := exec.CommandContext(t.Context(), "dig", line...).CombinedOutput()
	rcode := status.FindSubmatch(out)
	if err != nil || rcode == nil {
		return silent, fmt.Sprint(err, string(out))
	}
	m := dns.Msg{}
	m.Rcode = dns.StringToRcode[string(rcode[1])]
	m.AuthenticatedData = hasAD(string(out))
	result := told(&m)
	if code := faultOf(string(out)); code != "" {
		result += outcome(" " + code)
	}
	return result, string(out)
}

// told returns the outcome that a reply shows.
func told(m *dns.Msg) outcome {
	verdict := "Insecure"
	switch {
	case m.Rcode == dns.RcodeServerFailure:
		verdict = "Bogus"
	case m.AuthenticatedData:
		verdict = "Secure"
	}
	return outcome(verdict + " " + cmp.Or(dns.RcodeToString[m.Rcode], "?"))
}

// consult asks an oracle.
func consult(address string, q question) outcome {
	m, err := exchange(address, q.name, q.qtype, 10*time.Second)
	if err != nil {
		return failed // no reply counts as a failure: no mail is delivered either way
	}
	return told(m)
}
