// Command package builds danelaw, with its manual pages and completions, into a deb, an rpm and an apk:
//
//	go run . -version 1.2.3 -out DIR
//
// It is a module of its own, so that what packages are made with is no dependency of danelaw, and is pinned in its
// go.mod. README.md says what is in the packages.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/apk"
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"

	"github.com/danelaw-dns/danelaw/deploy/program"
)

// project is where danelaw's own module is; everything here runs in the directory of this file.
const project = program.Project

// build is what is asked for.
type build struct {
	version string
	arch    string    // GOARCH
	date    time.Time // of all files
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

func (b *build) setDate() (err error) {
	b.date, err = program.Date(context.Background())
	return err
}

const installed = "all/usr/bin/danelaw"

// program builds danelaw, and one like it that runs here where that does not.
func (b *build) program() error {
	err := program.Build(context.Background(), b.arch, b.date, filepath.Join(b.stage, installed))
	if err != nil || b.arch == runtime.GOARCH {
		return err
	}
	_, err = program.Run(context.Background(), []string{"CGO_ENABLED=0"}, "go", "build", "-C", project,
		"-o", filepath.Join(b.stage, "here"), "./cmd/danelaw")
	return err
}

// ask runs the danelaw that has been built, or one like it that runs here.
func (b *build) ask(args ...string) ([]byte, error) {
	built := filepath.Join(b.stage, "here")
	if b.arch == runtime.GOARCH {
		built = filepath.Join(b.stage, installed)
	}
	return program.Run(context.Background(), nil, built, args...)
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
