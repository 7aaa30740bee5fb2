// Package release makes a release of a clone of this repository, from a tag, and looks at all that comes out.
package release

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// version: Go takes no tag of v2 or more for that of a module whose path does not say so.
const version = "0.99.1"

// repository is a clone of this one, in which files are changed and committed.
type repository struct {
	t    *testing.T
	path string
}

func clone(t *testing.T) *repository {
	r := &repository{t, filepath.Join(t.TempDir(), "danelaw")}
	run(t, "../..", "git", "clone", "--quiet", "file://"+abs(t, "../.."), r.path)
	// what is not committed yet is tested as well
	changes := run(t, "../..", "git", "diff", "--binary", "HEAD")
	if len(changes) > 0 {
		c := exec.Command("git", "apply", "--index", "-")
		c.Dir, c.Stdin = r.path, bytes.NewReader(changes)
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	return r
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a command in a directory and returns what it prints.
func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	return out
}

// change replaces what matches a pattern in a file.
func (r *repository) change(file, pattern, by string) {
	r.t.Helper()
	name := filepath.Join(r.path, file)
	old, err := os.ReadFile(name)
	if err != nil {
		r.t.Fatal(err)
	}
	text := regexp.MustCompile(pattern).ReplaceAll(old, []byte(by))
	if bytes.Equal(text, old) {
		r.t.Fatalf("%s has nothing like %s", file, pattern)
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// tag commits what there is, as the version.
func (r *repository) tag() {
	r.t.Helper()
	somebody := []string{"-c", "user.name=test", "-c", "user.email=test@example.org"}
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-qm", "release"}, {"tag", "-f", "v" + version}} {
		run(r.t, r.path, "git", append(slices.Clone(somebody), args...)...)
	}
}

// release runs the command; it returns the directory with what it made, and what it said.
func (r *repository) release(args ...string) (dir, said string, err error) {
	dir = r.t.TempDir()
	c := exec.Command("go", append([]string{"run", "-C", "deploy/release", ".", "-out", dir}, args...)...)
	c.Dir = r.path
	out, err := c.CombinedOutput()
	return dir, string(out), err
}

// prepared is a clone in which all names the version.
func prepared(t *testing.T) *repository {
	r := clone(t)
	r.change("CHANGELOG.md", `## Unreleased\n`, "## "+version+"\n")
	r.change("deploy/helm/danelaw/Chart.yaml", `(?m)^(version|appVersion): .*`, "$1: "+version)
	r.change("deploy/helm/danelaw.yaml", `/danelaw:\d+\.\d+\.\d+\n`, "/danelaw:"+version+"\n")
	return r
}

func TestRelease(t *testing.T) {
	needs.Variable(t, "DANELAW_TEST_RELEASE", "the module proxy, and minutes", "git", "dpkg-deb", "sha256sum")
	r := prepared(t)
	r.tag()
	r.change("LICENSE", `(?s).*`, "after the tag")
	dir, said, err := r.release("-tag", "v"+version, "-arch", runtime.GOARCH)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	sums := string(run(t, dir, "sha256sum", "--strict", "--check", "SHA256SUMS"))
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if listed := strings.Count(sums, ": OK\n"); listed != len(files)-1 {
		t.Errorf("%d sums for %d files:\n%s", listed, len(files)-1, sums)
	}
	for _, pattern := range []string{
		"danelaw_%s_*.deb", "danelaw-%s-*.rpm", "danelaw_%s_*.apk", "danelaw_%s_oci.tar", "danelaw_%s_*_docker.tar",
		"danelaw_%s_*.cdx.json", "danelaw_%s_kubernetes.yaml",
	} {
		pattern = fmt.Sprintf(pattern, version)
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(found) != 1 {
			t.Errorf("%s: %v; %v", pattern, found, err)
		}
	}
	notes, err := os.ReadFile(filepath.Join(dir, "NOTES.md"))
	if err != nil || !strings.HasPrefix(string(notes), "- ") {
		t.Errorf("the notes are %.100q; %v", notes, err)
	}
	deb, root := filepath.Join(dir, fmt.Sprintf("danelaw_%s_%s.deb", version, runtime.GOARCH)), t.TempDir()
	if got := string(run(t, dir, "dpkg-deb", "--field", deb, "Version")); got != version+"\n" {
		t.Errorf("the deb is of version %s", got)
	}
	run(t, dir, "dpkg-deb", "--extract", deb, root)
	if got := string(run(t, root, "usr/bin/danelaw", "version")); !strings.Contains(got, version) {
		t.Errorf("the program says it is %s", got)
	}
	license, err := os.ReadFile(filepath.Join(root, "usr/share/doc/danelaw/copyright"))
	if err != nil || strings.Contains(string(license), "after the tag") {
		t.Errorf("what was changed after the tag is in it; %v", err)
	}
}

// TestNoRelease: what does not fit together is told before anything is built.
func TestNoRelease(t *testing.T) {
	needs.Variable(t, "DANELAW_TEST_RELEASE", "the module proxy, and minutes", "git")
	for title, tt := range map[string]struct {
		spoil func(r *repository)
		args  []string
		says  string
	}{
		"a tag that is none":      {nil, []string{"-tag", "1.2"}, `-tag "1.2" is no version`},
		"a tag that is not there": {nil, []string{"-tag", "v0.99.2"}, "v0.99.2"},
		"a directory with files":  {nil, []string{"-tag", "v" + version, "-out", "."}, "no empty directory"},
		"an argument":             {nil, []string{"-tag", "v" + version, "more"}, `"more": there are only flags`},
		"something still to be told": {func(r *repository) {
			r.change("CHANGELOG.md", "## "+version, "## Unreleased\n\n- Late.\n\n## "+version)
		}, nil, "CHANGELOG.md: there is something under `## Unreleased`"},
		"no notes": {func(r *repository) {
			r.change("CHANGELOG.md", "## "+version, "## 98.0.0")
		}, nil, "there is nothing under `## " + version + "`"},
		"another version of the chart": {func(r *repository) {
			r.change("deploy/helm/danelaw/Chart.yaml", "appVersion: .*", "appVersion: 98.0.0")
		}, nil, `Chart.yaml does not say "appVersion: ` + version + `"`},
		"an old manifest": {func(r *repository) {
			r.change("deploy/helm/danelaw.yaml", "/danelaw:"+version, "/danelaw:98.0.0")
		}, nil, "DANELAW_WRITE_MANIFEST=1"},
	} {
		t.Run(title, func(t *testing.T) {
			r := prepared(t)
			if tt.spoil != nil {
				tt.spoil(r)
			}
			r.tag()
			if tt.args == nil {
				tt.args = []string{"-tag", "v" + version}
			}
			dir, said, err := r.release(tt.args...)
			if err == nil || !strings.Contains(said, tt.says) {
				t.Errorf("%v\n%s\nwant %q", err, said, tt.says)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
				t.Errorf("%d files are there; %v", len(files), err)
			}
		})
	}
}
