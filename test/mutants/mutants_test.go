// Package mutants has mutants of the product: patches of a few lines, each of which breaks one rule. One removes a
// check, another moves a bound by one, a third accepts half a proof. The tests must catch each of them. One that they
// do not catch shows that a case is missing.
//
// DANELAW_TEST_MUTANTS=all runs all of them, a name runs that one, and a number runs a sample of that size.
// DANELAW_TEST_MUTANTS_SEED chooses the sample; without it the test prints the seed that it uses.
package mutants

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// root is the module's directory, from here.
const root = "../.."

// stage is a set of tests that may catch a mutant.
type stage struct {
	name    string
	timeout time.Duration
	env     []string
}

const (
	vectors      = "vectors"      // the tests of the packages concerned
	servers      = "servers"      // test/servers: real servers and resolvers
	differential = "differential" // test/differential: trees drawn at random, danelaw beside other validators
)

// stages are the stages that can run here, the cheapest first.
func stages() []stage {
	all := []stage{{name: vectors, timeout: 5 * time.Minute}}
	if os.Getenv("DANELAW_TEST_SERVERS") != "" && exists("test/servers") {
		all = append(all, stage{name: servers, timeout: 20 * time.Minute})
	}
	if _, err := exec.LookPath("unbound"); err == nil && exists("test/differential") {
		all = append(all, stage{differential, 20 * time.Minute, []string{"DANELAW_DIFFERENTIAL=2000"}})
	}
	return all
}

func exists(dir string) bool {
	_, err := os.Stat(filepath.Join(root, dir))
	return err == nil
}

// packages returns the packages whose tests a stage runs for m.
func (s stage) packages(m *mutant) []string {
	if s.name == vectors {
		return m.packages
	}
	return []string{"test/" + s.name}
}

// TestMutants runs the chosen mutants, as many at a time as there are processors, and prints which test caught each.
func TestMutants(t *testing.T) {
	how := needs.Variable(t, "DANELAW_TEST_MUTANTS",
		"minutes, as each mutant builds and runs the tests of whole packages")
	chosen := choose(t, mutants(t), how)
	b := newBench(t)
	begun := time.Now()
	waiting := make(chan *mutant)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for m := range waiting { // each prints its line at once, since there may be many
				caught, err := b.run(t.Context(), m)
				if err != nil {
					t.Errorf("%s (%s): %v", m.name, m.title, err)
					caught = "NOT CAUGHT"
				}
				fmt.Printf("%-40s %s\n", m.name, caught)
			}
		})
	}
	for _, m := range chosen {
		waiting <- m
	}
	close(waiting)
	all.Wait()
	fmt.Printf("%d mutants in %v\n", len(chosen), time.Since(begun).Round(time.Second))
}

// choose returns all mutants, one by its name, or a sample. It prints the seed of the sample, so that it can be drawn
// again.
func choose(t *testing.T, all []*mutant, how string) []*mutant {
	t.Helper()
	if how == "all" {
		return all
	}
	if i := slices.IndexFunc(all, func(m *mutant) bool { return m.name == how }); i >= 0 {
		return all[i : i+1]
	}
	n, err := strconv.Atoi(how)
	if err != nil || n < 1 {
		t.Fatalf("DANELAW_TEST_MUTANTS=%s: give a number, a name or all", how)
	}
	text := cmp.Or(os.Getenv("DANELAW_TEST_MUTANTS_SEED"), strconv.FormatUint(rand.Uint64(), 10))
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("DANELAW_TEST_MUTANTS_SEED=%s: %v", text, err)
	}
	fmt.Printf("DANELAW_TEST_MUTANTS_SEED=%d\n", seed)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(n, len(all))]
}

// bench builds mutants without changing the module: the compiler reads the changed files from an overlay.
type bench struct {
	root, dir string // the module's directory, and one for what is built

	mu    sync.Mutex                        // guards what follows
	sound map[string]func() (*tests, error) // by package, without a mutant
	slow  map[string][]string               // tests by package, as far as known
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{root: dir, dir: t.TempDir(), sound: map[string]func() (*tests, error){}, slow: map[string][]string{}}
}

var errSurvived = errors.New("it survived: which case is missing?")

// run returns the stage and the test that caught m.
func (b *bench) run(ctx context.Context, m *mutant) (caught string, err error) {
	overlay, err := b.overlay(m)
	if err != nil {
		return "", err
	}
	for _, s := range stages() {
		for _, p := range s.packages(m) {
			tests, err := b.build(ctx, s, p, m.name, overlay)
			if err != nil {
				return "", err
			}
			test, err := tests.catcher(ctx)
			if err := errors.Join(err, os.Remove(tests.program)); err != nil {
				return "", err
			}
			if test != "" {
				return told(m, s) + p + " " + test, b.passes(ctx, s, p, test)
			}
		}
	}
	return "", errSurvived
}

// told returns the name of a stage in the table.
func told(m *mutant, s stage) string {
	if s.name == m.expected {
		return s.name + ": "
	}
	return s.name + " (expected: " + m.expected + "): "
}

// overlay writes the files that m changes, and returns the flag that makes go use them.
func (b *bench) overlay(m *mutant) (flag string, err error) {
	after, err := m.changed(b.root)
	if err != nil {
		return "", err
	}
	instead := map[string]string{}
	for file, text := range after {
		instead[file] = filepath.Join(b.dir, fmt.Sprintf("%s-%d.go", m.name, len(instead)))
		if err := os.WriteFile(instead[file], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": instead})
	if err != nil {
		return "", err
	}
	list := filepath.Join(b.dir, m.name+".json")
	return "-overlay=" + list, os.WriteFile(list, text, 0o600)
}

// passes returns an error if the test that has caught a mutant fails without one, too: it would seem to catch all.
func (b *bench) passes(ctx context.Context, s stage, p, test string) error {
	b.mu.Lock()
	once := b.sound[p]
	if once == nil {
		once = sync.OnceValues(func() (*tests, error) { return b.build(ctx, s, p, "sound", "") })
		b.sound[p] = once
	}
	b.mu.Unlock()
	sound, err := once()
	if err != nil {
		return err
	}
	alone := "^" + test + "$"
	if !named.MatchString(test) { // a panic, a deadlock or a timeout, in any of them
		alone = "."
	}
	out, err := sound.run(ctx, "-test.run="+alone)
	if err != nil { // on a busy machine by chance
		out, err = sound.run(ctx, "-test.run="+alone)
	}
	if err != nil {
		return fmt.Errorf("%s fails without a mutant too: %s\n%s", p, test, out)
	}
	return nil
}

// named matches the name of a test, or of a fuzz target whose seeds are run as one.
var named = regexp.MustCompile(`^\w+$`)

// last returns a regular expression for the tests of a package that are known to be slow.
func (b *bench) last(p string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return "^(" + strings.Join(b.slow[p], "|") + ")$"
}

// learn notes which tests of a package the output of a run shows to be slow.
func (b *bench) learn(p, out string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, found := range passed.FindAllStringSubmatch(out, -1) {
		took, err := time.ParseDuration(found[2])
		if err == nil && took > time.Second/2 && !slices.Contains(b.slow[p], found[1]) {
			b.slow[p] = append(b.slow[p], found[1])
		}
	}
}

// passed matches the line of a test that passed, with the time that it took.
var passed = regexp.MustCompile(`(?m)^--- PASS: (\S+) \((\S+)\)$`)

// tests is the built test program of a package.
type tests struct {
	*bench
	p       string // the package
	program string
	stage   stage
	env     []string
}

// program returns where the test program of a package is built: two packages may be built at once, and have one last
// name.
func (b *bench) program(p, name string) string {
	return filepath.Join(b.dir, name+"-"+strings.ReplaceAll(p, "/", "-"))
}

// build builds the tests of a package. It uses the user's build cache, so that only what a mutant changes is compiled.
// When tests run go build themselves, the environment gives them the overlay.
func (b *bench) build(ctx context.Context, s stage, p, name, overlay string) (*tests, error) {
	built := &tests{b, p, b.program(p, name), s,
		append(append(os.Environ(), "DANELAW_TEST_MUTANTS=", "GOFLAGS="+os.Getenv("GOFLAGS")+" "+overlay), s.env...)}
	c := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags=-s -w", "-o", built.program, "./"+p)
	c.Dir, c.Env = b.root, built.env
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s does not build: %w\n%s", p, err, out)
	}
	return built, nil
}

// catcher returns a test of a package that fails, or "" if all pass. Those known to be slow run last. On a busy machine
// a test may fail by chance, so a failure counts only if the test fails again when it runs alone; otherwise catcher
// goes on with the other tests.
func (t *tests) catcher(ctx context.Context) (string, error) {
	slow := t.last(t.p)
	for _, part := range [...]struct{ run, skip string }{{".", slow}, {slow, "^$"}} {
		for skip := part.skip; ; {
			out, err := t.run(ctx, "-test.v", "-test.failfast", "-test.run="+part.run, "-test.skip="+skip)
			t.learn(t.p, out)
			if err == nil {
				break
			}
			found := failed.FindStringSubmatch(out)
			if found == nil {
				return "", fmt.Errorf("the tests cannot run: %w\n%s", err, out)
			}
			test := "^" + found[1] + "$"
			if found[1] == "" { // a panic, a deadlock or a timeout: the output names no test
				return found[2], nil
			}
			if _, err := t.run(ctx, "-test.run="+test); err != nil {
				return found[1], nil
			}
			skip += "|" + test
		}
	}
	return "", nil
}

func (t *tests) run(ctx context.Context, flags ...string) (string, error) {
	c := exec.CommandContext(ctx, t.program, append(flags, "-test.timeout="+t.stage.timeout.String())...)
	c.Dir, c.Env = filepath.Join(t.root, t.p), t.env
	out, err := c.CombinedOutput()
	return string(out), err
}

// failed matches the line of a test that failed, or the end of the whole program, which names no test.
var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^((?:panic|fatal error): .+)$`)

// TestPrograms: no two packages that mutants name share a program, as cmd/danelaw and plugin/danelaw once did: the
// tests of one ran for the other's.
func TestPrograms(t *testing.T) {
	b, of := &bench{dir: t.TempDir()}, map[string]string{}
	for _, m := range mutants(t) {
		for _, p := range m.packages {
			program := b.program(p, "sound")
			if other, ok := of[program]; ok && other != p {
				t.Errorf("%s and %s are both built as %s", other, p, program)
			}
			of[program] = p
		}
	}
	if len(of) < 10 {
		t.Errorf("mutants name %d packages", len(of))
	}
}

// TestStages: the stage and the packages that a patch names exist.
func TestStages(t *testing.T) {
	for _, m := range mutants(t) {
		if !slices.Contains([]string{vectors, servers, differential}, m.expected) {
			t.Errorf("%s: there is no stage %s", m.name, m.expected)
		}
		for _, p := range m.packages {
			if !exists(p) {
				t.Errorf("%s: there is no package %s", m.name, p)
			}
		}
	}
}
