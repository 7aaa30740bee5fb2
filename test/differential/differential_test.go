// Package differential asks danelaw and other validators the same questions about trees of zones that are drawn and
// broken at random, and compares their verdicts.
package differential

import (
	"cmp"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/inprocess"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// Variables of the environment: how many questions danelaw and Unbound are both asked; the seed of a run, from which
// each case draws a seed of its own; and the seed of a single case that is to be repeated.
const (
	questionsVariable = "DANELAW_DIFFERENTIAL"
	seedVariable      = "DANELAW_DIFFERENTIAL_SEED"
	caseVariable      = "DANELAW_DIFFERENTIAL_CASE"
)

const (
	withoutTools = 400 // questions in a plain go test
	workers      = 4
	leastOfKind  = 20    // questions about each kind of fault at least, out of
	ofSoMany     = 10000 // questions
	mostReports  = 12    // disagreements that are shrunk and reported; more are only counted
)

func TestMain(m *testing.M) {
	clog.Discard() // danelaw logs each failure
	os.Exit(m.Run())
}

// rig is the set of validators that questions are put to, with what has come of them.
type rig struct {
	testing.TB
	front            *front
	danelaw, unbound string // addresses; unbound may be ""
	bind             func() string

	mu       sync.Mutex
	asked    int
	ofKind   map[string]int
	known    map[string]int
	fleeting []string
	reports  map[string]int // by complaint
}

func newRig(t testing.TB, unbound bool) *rig {
	t.Helper()
	f := newFront(t)
	r := &rig{TB: t, front: f, ofKind: map[string]int{}, known: map[string]int{}, reports: map[string]int{}}
	_, r.danelaw, _ = inprocess.Start(t, trustanchors.Set{".": {rootKey.DS(dns.SHA256)}}, nil, f.addr)
	if unbound {
		r.unbound = startUnbound(t, f.addr)
		r.bind = sync.OnceValue(func() string { return startBIND(t, f.addr) })
	}
	return r
}

// TestDifferential asks about trees drawn at random.
func TestDifferential(t *testing.T) {
	questions, _ := strconv.Atoi(os.Getenv(questionsVariable))
	r := newRig(t, questions > 0)
	if text := os.Getenv(caseVariable); text != "" {
		t.Log(generate(number(t, text)))
		r.try(number(t, text))
		r.summary()
		return
	}
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		seed = number(t, text)
	}
	t.Logf("%s=%d", seedVariable, seed)
	begun := time.Now()
	r.run(seed, cmp.Or(questions, withoutTools))
	r.summary()
	t.Logf("%.0f questions per second", float64(r.asked)/time.Since(begun).Seconds())
	for _, kind := range kinds {
		if least := leastOfKind * questions / ofSoMany; r.ofKind[kind] < least {
			t.Errorf("%d questions about trees with the fault %s, want %d or more", r.ofKind[kind], kind, least)
		}
	}
}

func number(t testing.TB, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run draws cases from the seed until the given number of questions has been asked.
func (r *rig) run(seed uint64, questions int) {
	seeds := make(chan uint64)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for s := range seeds {
				r.try(s)
			}
		})
	}
	chance := rand.New(rand.NewPCG(seed, 1))
	for i := range uint64(questions+questionsPerTree-1) / questionsPerTree {
		seeds <- chance.Uint64()/shares/2*shares + i%shares // each kind of fault is drawn as often
	}
	close(seeds)
	all.Wait()
}

func (r *rig) summary() {
	r.Logf("%d questions; of kind %v", r.asked, r.ofKind)
	r.Logf("known disagreements, and replies lost: %v", r.known)
	r.Logf("complaints: %v", r.reports)
	for _, f := range r.fleeting {
		r.Log("did not happen again in another tree: ", f)
	}
	if len(r.fleeting) > 1+r.asked/5000 {
		r.Errorf("%d of %d complaints did not happen again in another tree", len(r.fleeting), r.asked)
	}
	if r.known[lost] > r.asked/100 {
		r.Errorf("%d of %d questions had no verdict", r.known[lost], r.asked)
	}
}

// try draws a case from its seed and asks its questions.
func (r *rig) try(seed uint64) {
	c := generate(seed)
	for i, s := range r.ask(c) {
		if s.complaint != "" {
			broken := c.clone()
			broken.Questions = broken.Questions[:i+1]
			r.report(seed, broken, s)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked += len(c.Questions)
	for _, f := range c.Faults {
		r.ofKind[f.Kind] += len(c.Questions)
	}
	if len(c.Faults) == 0 {
		r.ofKind["sound"] += len(c.Questions)
	}
}

// ask serves the case and asks its questions.
func (r *rig) ask(c *Case) (all []situation) {
	tr, down := r.front.raise(c)
	defer down()
	sound := c.build(true)
	for _, q := range c.Questions {
		s := situation{c: c, q: q, sound: sound, truth: c.truth(sound, q), danelaw: ask(r.danelaw, tr.name, q)}
		if s.complaint = c.judge(q, s.danelaw, s.truth); s.complaint == "" && r.unbound != "" {
			r.compare(&s, tr.name)
		}
		all = append(all, s)
	}
	return all
}

// compare asks Unbound, and complains of a disagreement that is not among the known ones.
func (r *rig) compare(s *situation, tree string) {
	s.unbound = ask(r.unbound, tree, s.q)
	same := s.danelaw.String() == s.unbound.String()
	if s.q.CD { // with CD, Unbound sets AD only on an answer that it has cached
		same = s.danelaw.rcode == s.unbound.rcode
		if checked := s.q; s.danelaw.ad && !s.unbound.ad {
			checked.CD = false
			s.unbound = ask(r.unbound, tree, checked)
			same = s.unbound.ad
		}
	}
	if s.unbound.lost() || s.danelaw.lost() {
		r.count(lost)
		return
	}
	if same {
		return
	}
	s.upstream = ask(r.front.addr, tree, s.q)
	if name := explained(*s); name != "" {
		r.count(name)
		return
	}
	s.complaint = fmt.Sprintf("danelaw %s, Unbound %s", s.danelaw, s.unbound)
}

func (r *rig) count(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[name]++
}

// report repeats a case that caused a complaint, makes it as small as it can, and prints it.
func (r *rig) report(seed uint64, c *Case, s situation) {
	name := fmt.Sprintf("%s=%d: %s", caseVariable, seed, s.complaint)
	switch alone := r.alone(c); {
	case !r.again(c, s.complaint, 10):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fleeting = append(r.fleeting, name+": "+s.q.String()+": "+s.danelaw.ede)
	case alone.complaint == "" && alone.danelaw.String() == s.danelaw.String() &&
		slices.Equal(alone.danelaw.answer, s.danelaw.answer):
		r.count(fromCache)
	case alone.complaint == "" && s.danelawTrue() && s.danelaw.rcode == dns.RcodeNameError:
		r.count(nameErrorKept)
	case r.enough(s.complaint):
		r.Error(name)
	default:
		small := r.shrink(c, s.complaint)
		r.Errorf("%s\n%s\n%s", name, small, r.voices(small))
	}
}

// enough reports whether this complaint, or complaints in all, have been printed so often that only the name is to be
// printed.
func (r *rig) enough(complaint string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reports[complaint]++
	return len(r.reports) > mostReports || r.reports[complaint] > 3
}

// again reports whether the last question of a case still causes that complaint, in trees that no cache has seen. Each
// tree has other NSEC3 hashes, which cover other names, so it may take several trees to show it.
func (r *rig) again(c *Case, complaint string, trees int) bool {
	for range trees {
		if all := r.ask(c); all[len(all)-1].complaint == complaint {
			return true
		}
	}
	return false
}

// alone asks the last question of a case, without those before it.
func (r *rig) alone(c *Case) situation {
	c = c.clone()
	c.Questions = c.Questions[len(c.Questions)-1:]
	return r.ask(c)[0]
}

// voices returns what each validator says about the last question of a case when it is asked nothing else.
func (r *rig) voices(c *Case) string {
	c = c.clone()
	q := c.Questions[len(c.Questions)-1]
	c.Questions = []Question{q}
	tr, down := r.front.raise(c)
	defer down()
	q.DO = true
	var b strings.Builder
	danelaw := ask(r.danelaw, tr.name, q)
	fmt.Fprintf(&b, "without the faults: %+v\n", c.truth(c.build(true), q))
	fmt.Fprintf(&b, "danelaw: %s %q\n%s\n", danelaw, danelaw.answer, danelaw.ede)
	if r.unbound != "" {
		unbound, bind := ask(r.unbound, tr.name, q), ask(r.bind(), tr.name, q)
		fmt.Fprintf(&b, "Unbound: %s %q %s\n", unbound, unbound.answer, unbound.ede)
		fmt.Fprintf(&b, "BIND: %s %q %s\n", bind, bind.answer, bind.ede)
		fmt.Fprintf(&b, "delv: %s\n", askDelv(r, r.front.addr, tr.name, q))
	}
	q.CD = true
	fmt.Fprintf(&b, "the upstream: %q\n", ask(r.front.addr, tr.name, q).answer)
	return b.String()
}

// TestCases asks the questions of the cases in testdata, which failed once.
func TestCases(t *testing.T) {
	files, err := fs.Glob(testdata, "testdata/*.case")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			text, err := testdata.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			replay(t, newRig(t, false), c)
		})
	}
}

func replay(t *testing.T, r *rig, c *Case) {
	tr, down := r.front.raise(c)
	defer down()
	for _, q := range c.Questions {
		if got := ask(r.danelaw, tr.name, q); got.String() != q.Want {
			t.Errorf("%s %s: %s, want %s\n%s", q.Name, typeName(q.Type), got, q.Want, got.ede)
		}
	}
}

// TestText: a case that is written as text and read again is the same.
func TestText(t *testing.T) {
	for seed := range uint64(200) {
		text := generate(seed).String()
		c, err := parse(text)
		if err != nil || c.String() != text {
			t.Fatalf("%v\n%s\nbecame\n%s", err, text, c)
		}
	}
}

// TestSeed: a seed always gives the same keys and the same case.
func TestSeed(t *testing.T) {
	for _, algorithm := range []uint8{5, 8, 10, 13, 14, 15, 16, 23} {
		a, b := makeKey(1, "a", "a.", algorithm, 257, 0), makeKey(1, "a", "a.", algorithm, 257, 0)
		if a.DNSKEY.String() != b.DNSKEY.String() {
			t.Errorf("algorithm %d: two keys of one seed:\n%s\n%s", algorithm, a.DNSKEY, b.DNSKEY)
		}
	}
	if a, b := generate(7).String(), generate(7).String(); a != b {
		t.Errorf("two cases of one seed:\n%s\n%s", a, b)
	}
}
