// Command release builds all that a version of danelaw is given out as, from its tag:
//
//	go run . -tag v1.2.3 -out DIR
//
// README.md says what is in DIR then. What it is made of is what the tag has, not what lies about in the work tree.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/danelaw-dns/danelaw/deploy/program"
)

// release is what is asked for.
type release struct {
	tag     string
	version string // the tag without its v
	arches  []string
	out     string
	source  string // the tag's files
}

func main() { program.Main("release", run) }

func run(ctx context.Context) error {
	r, err := parse()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "danelaw-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r.source = filepath.Join(dir, "danelaw")
	for _, step := range []struct {
		what string
		do   func(ctx context.Context) error
	}{
		{"the files of " + r.tag, r.check},
		{"packages", r.packages},
		{"images and their SBOMs", r.images},
		{"checksums", r.sums},
	} {
		begun := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		log.Printf("%s (%v)", step.what, time.Since(begun).Round(time.Second))
	}
	return nil
}

// parse reads the command line.
func parse() (*release, error) {
	flag.Usage = usage
	tag := flag.String("tag", "", "the `TAG` to build, such as v1.2.3")
	arches := flag.String("arch", "amd64,arm64", "build for `GOARCH,...`")
	out := flag.String("out", "", "write into `DIR`, which must be there and empty")
	flag.Parse()
	if flag.NArg() > 0 {
		return nil, fmt.Errorf("%q: there are only flags, see -help", flag.Arg(0))
	}
	if !semver.IsValid(*tag) || semver.Canonical(*tag) != *tag {
		return nil, fmt.Errorf("-tag %q is no version: write one such as v1.2.3 or v1.2.3-rc.1", *tag)
	}
	dir, err := filepath.Abs(*out)
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if *out == "" || err != nil || len(files) > 0 {
		return nil, fmt.Errorf("-out %q is no empty directory: make one; a relative path begins in deploy/release",
			*out)
	}
	version := strings.TrimPrefix(*tag, "v")
	return &release{tag: *tag, version: version, arches: strings.Split(*arches, ","), out: dir}, nil
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `Builds packages, container images, SBOMs, checksums and
the notes of a version into an empty directory, from a tag of this repository
and nothing else.

  git tag -a v1.2.3 -m v1.2.3
  go run -C deploy/release . -tag v1.2.3 -out /tmp/danelaw-1.2.3

`)
	flag.PrintDefaults()
}

// check takes the files of the tag, looks whether all that names a version names this one, and writes what needs no
// building.
func (r *release) check(ctx context.Context) error {
	root, err := filepath.Abs(program.Project)
	if err != nil {
		return err
	}
	if _, err := program.Run(ctx, nil, "git", "clone", "--quiet", "--depth=1", "--branch="+r.tag,
		"-c", "advice.detachedHead=false", "file://"+root, r.source); err != nil {
		return err
	}
	texts := map[string]string{}
	for _, name := range []string{changelog, chart, manifest} {
		text, err := os.ReadFile(filepath.Join(r.source, name))
		if err != nil {
			return err
		}
		texts[name] = string(text)
	}
	notes, err := section(texts[changelog], r.version)
	if err != nil {
		return fmt.Errorf("%s: %w", changelog, err)
	}
	for _, line := range []string{"version: " + r.version, "appVersion: " + r.version} {
		if !strings.Contains("\n"+texts[chart], "\n"+line+"\n") {
			return fmt.Errorf("%s does not say %q", chart, line)
		}
	}
	if !strings.Contains(texts[manifest], "/danelaw:"+r.version+"\n") {
		return fmt.Errorf("%s names no image of version %s: DANELAW_WRITE_MANIFEST=1 go test ./test/cluster writes it",
			manifest, r.version)
	}
	return errors.Join(os.WriteFile(filepath.Join(r.out, "NOTES.md"), []byte(notes), 0o644),
		os.WriteFile(filepath.Join(r.out, "danelaw_"+r.version+"_kubernetes.yaml"), []byte(texts[manifest]), 0o644))
}

// What names the version.
const (
	changelog = "CHANGELOG.md"
	chart     = "deploy/helm/danelaw/Chart.yaml"
	manifest  = "deploy/helm/danelaw.yaml"
)

// section returns what a changelog says of a version. What is still unreleased must not be left behind.
func section(changelog, version string) (string, error) {
	sections := map[string]string{}
	for _, text := range strings.Split("\n"+changelog, "\n## ")[1:] {
		title, body, _ := strings.Cut(text, "\n")
		title, _, _ = strings.Cut(title, " (") // the date
		sections[title] = strings.TrimSpace(body)
	}
	switch {
	case sections["Unreleased"] != "":
		return "", fmt.Errorf("there is something under `## Unreleased`: make that `## %s`", version)
	case sections[version] == "":
		return "", fmt.Errorf("there is nothing under `## %s`", version)
	}
	return sections[version] + "\n", nil
}

func (r *release) packages(ctx context.Context) error {
	for _, arch := range r.arches {
		if err := r.make(ctx, "package", "-arch", arch); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) images(ctx context.Context) error {
	return r.make(ctx, "image", "-platforms", "linux/"+strings.Join(r.arches, ",linux/"))
}

// make runs what the tag has to make something.
func (r *release) make(ctx context.Context, what string, args ...string) error {
	_, err := program.Run(ctx, nil, "go", append([]string{"run", "-C", filepath.Join(r.source, "deploy", what), ".",
		"-version", r.version, "-out", r.out}, args...)...)
	return err
}

// sums writes the SHA-256 of each file, in the form of sha256sum(1).
func (r *release) sums(context.Context) error {
	files, err := os.ReadDir(r.out) // sorted
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		sum, err := digest(filepath.Join(r.out, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum, f.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

func digest(name string) (_ []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}
