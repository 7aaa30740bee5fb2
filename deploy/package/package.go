// Command package builds danelaw, with its manual pages and completions, into a deb, an rpm and an apk:
//
//	go run . -version 1.2.3 -out DIR
//
// It is a module of its own, so that what packages are made with is no dependency of danelaw, and is pinned in its
// go.mod. README.md says what is in the packages.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk"
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// project is where danelaw's own module is; everything here runs in the directory of this file.
const project = "../.."

// build is what is asked for.
type build struct {
	version string
	arch    string    // GOARCH
	date    time.Time // of all files; danelaw takes no earlier time of a clock for right (T-14)
	stage   string    // what is made before it is packed
}

func main() {
	log.SetFlags(0)
	version := flag.String("version", "0.0.0-dev", "semantic `VERSION` of the packages")
	out := flag.String("out", ".", "write the packages into `DIR`, which must be there")
	arch := flag.String("arch", runtime.GOARCH, "build for `GOARCH`")
	formats := flag.String("formats", "deb,rpm,apk", "make the packages of `FORMATS`")
	flag.Parse()
	files, err := packages(*version, *arch, *out, strings.Split(*formats, ","))
	if err != nil {
		log.Fatal("package: ", err)
	}
	fmt.Println(strings.Join(files, "\n"))
}

// packages makes packages and returns their files.
func packages(version, arch, out string, formats []string) (files []string, err error) {
	stage, err := os.MkdirTemp("", "danelaw-package-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(stage)
	b := &build{version: version, arch: arch, stage: stage}
	for _, step := range []func() error{b.setDate, b.program, b.documents, b.completions, b.manuals, b.stamp} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, format := range formats {
		file, err := b.pack(format, out)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", format, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// setDate takes the date from SOURCE_DATE_EPOCH, as reproducible builds do, or from the commit.
func (b *build) setDate() error {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		out, err := run(nil, "git", "log", "-1", "--format=%ct")
		if err != nil {
			return err
		}
		text = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	b.date = time.Unix(seconds, 0).UTC()
	return err
}

const installed = "all/usr/bin/danelaw"

// program builds danelaw. It is static: the same file runs with every C library.
func (b *build) program() error {
	_, err := run([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + b.arch}, "go", "build", "-C", project,
		"-trimpath", "-ldflags",
		fmt.Sprintf("-s -w -X github.com/danelaw-dns/danelaw/plugin/danelaw.buildDate=%d", b.date.Unix()),
		"-o", filepath.Join(b.stage, installed), "./cmd/danelaw")
	if err != nil || b.arch == runtime.GOARCH {
		return err
	}
	_, err = run([]string{"CGO_ENABLED=0"}, "go", "build", "-C", project, "-o", filepath.Join(b.stage, "here"),
		"./cmd/danelaw")
	return err
}

// ask runs the danelaw that has been built, or one like it that runs here.
func (b *build) ask(args ...string) ([]byte, error) {
	program := filepath.Join(b.stage, "here")
	if b.arch == runtime.GOARCH {
		program = filepath.Join(b.stage, installed)
	}
	return run(nil, program, args...)
}

// documents copies what is to be read.
func (b *build) documents() error {
	for from, to := range map[string]string{
		"LICENSE": "copyright", "CHANGELOG.md": "CHANGELOG.md", "README.md": "README.md", "SECURITY.md": "SECURITY.md",
		"Corefile.example": "Corefile.example", "deploy/mailhost/README.md": "mailhost.md",
	} {
		text, err := os.ReadFile(filepath.Join(project, from))
		if err != nil {
			return err
		}
		if err := b.write("all/usr/share/doc/danelaw/"+to, text); err != nil {
			return err
		}
	}
	return nil
}

func (b *build) completions() error {
	for shell, file := range map[string]string{
		"bash": "all/usr/share/bash-completion/completions/danelaw", "zsh": "_danelaw",
		"fish": "all/usr/share/fish/vendor_completions.d/danelaw.fish",
	} {
		text, err := b.ask("completion", shell)
		if err != nil {
			return err
		}
		if err := b.write(file, text); err != nil {
			return err
		}
	}
	return nil
}

// write makes a file of the stage.
func (b *build) write(name string, text []byte) error {
	name = filepath.Join(b.stage, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}

// stamp gives all files of the stage one date and the rights that they are to have, whatever umask this runs with.
func (b *build) stamp() error {
	return filepath.Walk(b.stage, func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if info.IsDir() || name == filepath.Join(b.stage, installed) {
			mode = 0o755
		}
		if err := os.Chmod(name, mode); err != nil {
			return err
		}
		return os.Chtimes(name, b.date, b.date)
	})
}

// pack makes the package of a format.
func (b *build) pack(format, dir string) (string, error) {
	config, err := nfpm.ParseFileWithEnvMapping("nfpm.yaml", func(name string) string {
		return map[string]string{"VERSION": b.version, "ARCH": b.arch, "STAGE": b.stage}[name]
	})
	if err != nil {
		return "", err
	}
	config.MTime = b.date
	info, err := config.Get(format)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return "", err
	}
	for _, c := range info.Contents {
		c.FileInfo.MTime = b.date
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	var packed bytes.Buffer
	if err := packager.Package(info, &packed); err != nil {
		return "", err
	}
	name := filepath.Join(dir, packager.ConventionalFileName(info))
	return name, os.WriteFile(name, packed.Bytes(), 0o644)
}

// run runs a command, and returns what it prints.
func run(env []string, name string, args ...string) ([]byte, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return out, err
}
