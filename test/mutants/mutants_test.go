// Package mutants holds small changes for the worse, each a patch of a few lines: a check removed, a bound off by one,
// half a proof accepted. The tests must catch every one; what survives shows a case that they lack.
//
// DANELAW_TEST_MUTANTS=all runs all of them, a name that one, a number that many, chosen by DANELAW_TEST_MUTANTS_SEED
// (or one that is told).
package mutants

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// root is the module's, seen from this directory.
const root = "../.."

// stage is one set of tests that may catch a mutant.
type stage struct {
	name    string
	timeout time.Duration
	env     []string
}

const (
	vectors      = "vectors"      // the tests of the packages concerned
	servers      = "servers"      // test/servers: real servers and resolvers
	differential = "differential" // test/differential: trees of chance, danelaw beside others
)

// stages are all that can run here, the cheapest first.
func stages() []stage {
	all := []stage{{name: vectors, timeout: 3 * time.Minute}}
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

// packages are those that a stage tests for m.
func (s stage) packages(m *mutant) []string {
	if s.name == vectors {
		return m.packages
	}
	return []string{"test/" + s.name}
}

// TestMutants runs the mutants asked for, one after the other, and prints what caught each.
func TestMutants(t *testing.T) {
	how := needs.Variable(t, "DANELAW_TEST_MUTANTS",
		"minutes, as each mutant builds and runs the tests of whole packages")
	chosen := choose(t, mutants(t), how)
	b := &bench{tree: copied(t), sound: map[string]bool{}}
	begun := time.Now()
	for _, m := range chosen { // a line of the table at once, since there may be many
		caught, err := b.run(t.Context(), m)
		if err != nil {
			t.Errorf("%s (%s): %v", m.name, m.title, err)
			caught = "NOT CAUGHT"
		}
		fmt.Printf("%-40s %s\n", m.name, caught)
	}
	fmt.Printf("%d mutants in %v\n", len(chosen), time.Since(begun).Round(time.Second))
}

// choose returns all, one by its name, or a sample by a seed that is told, so that it can be drawn again.
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

// bench is a copy of the module, in which one mutant at a time is made.
type bench struct {
	tree  string
	sound map[string]bool // packages whose tests pass without a mutant
}

var errSurvived = errors.New("it survived: which case is missing?")

// run returns what caught m.
func (b *bench) run(ctx context.Context, m *mutant) (caught string, err error) {
	before, after, err := m.changed(b.tree)
	if err != nil {
		return "", err
	}
	for _, s := range stages() {
		for _, p := range s.packages(m) {
			if err := b.soundness(ctx, s, p); err != nil {
				return "", err
			}
			if err := write(after); err != nil {
				return "", err
			}
			test, err := b.catcher(ctx, s, p)
			if err := errors.Join(err, write(before)); err != nil {
				return "", err
			}
			if test != "" {
				return told(m, s) + p + " " + test, nil
			}
		}
	}
	return "", errSurvived
}

// told is how the table names a stage.
func told(m *mutant, s stage) string {
	if s.name == m.expected {
		return s.name + ": "
	}
	return s.name + " (expected: " + m.expected + "): "
}

// soundness returns an error if the tests of a package fail without any mutant: they would seem to catch every one.
func (b *bench) soundness(ctx context.Context, s stage, p string) error {
	if b.sound[p] {
		return nil
	}
	if out, err := b.test(ctx, s, p); err != nil {
		return fmt.Errorf("%s fails without a mutant too: %w\n%s", p, err, out)
	}
	b.sound[p] = true
	return nil
}

// catcher returns the test of a package that fails, or "" if all pass. On a machine that has much to do a test may fail
// by chance, so it counts only if it fails again alone; else the others are asked.
func (b *bench) catcher(ctx context.Context, s stage, p string) (string, error) {
	for skipped := "^$"; ; {
		out, err := b.test(ctx, s, p, "-failfast", "-skip="+skipped)
		if err == nil {
			return "", nil
		}
		found := failed.FindStringSubmatch(out)
		if found == nil {
			return "", fmt.Errorf("%s does not build, or its tests cannot run: %w\n%s", p, err, out)
		}
		test := "^" + found[1] + "$"
		if found[1] == "" { // a panic, a deadlock or the end of time, and nobody says in which test
			return found[2], nil
		}
		if _, err := b.test(ctx, s, p, "-run="+test); err != nil {
			return found[1], nil
		}
		skipped += "|" + test
	}
}

// test runs the tests of a package. The build cache is the user's own, so only what a mutant changes is built.
func (b *bench) test(ctx context.Context, s stage, p string, flags ...string) (string, error) {
	args := []string{"test", "-p=1", "-count=1", "-vet=off", "-timeout=" + s.timeout.String()}
	c := exec.CommandContext(ctx, "go", append(append(args, flags...), "./"+p)...)
	c.Dir = b.tree
	c.Env = append(append(os.Environ(), "DANELAW_TEST_MUTANTS="), s.env...)
	out, err := c.CombinedOutput()
	return string(out), err
}

// failed is how a test says that it fails; what ends the whole program names none.
var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^((?:panic|fatal error): .+)$`)

// copied returns a copy of the module, without what begins with a dot.
func copied(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		from, to := filepath.Join(root, e.Name()), filepath.Join(to, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			err = errors.Join(err, os.CopyFS(to, os.DirFS(from)))
		default:
			text, failed := os.ReadFile(from)
			err = errors.Join(err, failed, os.WriteFile(to, text, 0o600))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestStages: a patch names a stage that exists and packages that do.
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
