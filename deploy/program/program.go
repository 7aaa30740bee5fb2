// Package program builds danelaw as it is given to others: by deploy/package for packages, by deploy/image for the
// container image. With the same sources, date and version of Go the program is the same, octet by octet, wherever it
// is built.
//
// It is a module of its own, without dependencies, since those who use it are.
package program

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Main runs what a command that makes something for others is about, until Ctrl-C or SIGTERM. What it says begins with
// the name of the command.
func Main(name string, run func(ctx context.Context) error) {
	log.SetFlags(0)
	log.SetPrefix(name + ": ")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// Project is where danelaw's own module is, seen from the directories of those who build it.
const Project = "../.."

// Date returns what stands for the time of the build: SOURCE_DATE_EPOCH, as reproducible builds have it, or the time of
// the commit. danelaw takes no earlier time of a clock for right (T-14).
func Date(ctx context.Context) (time.Time, error) {
	text, of := os.Getenv("SOURCE_DATE_EPOCH"), "SOURCE_DATE_EPOCH"
	if text == "" {
		out, err := Run(ctx, nil, "git", "log", "-1", "--format=%ct")
		if err != nil {
			return time.Time{}, fmt.Errorf("no date: SOURCE_DATE_EPOCH is not set, and git knows no commit: %w", err)
		}
		text, of = strings.TrimSpace(string(out)), "the time of the commit"
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("%s is %q: it has to be seconds since 1970, such as 1767225600", of, text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// settings stand for those that Go would otherwise take from the environment, and that would make another program.
var settings = []string{"CGO_ENABLED=0", "GOOS=linux", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off",
	"GOFLAGS=-trimpath"}

// Build builds danelaw for Linux and an architecture, as Go calls it. The program is static: it runs with every C
// library, and with none. Go writes the commit into it where it is built in a repository.
func Build(ctx context.Context, arch string, date time.Time, file string) error {
	_, err := Run(ctx, append([]string{"GOARCH=" + arch}, settings...), "go", "build", "-C", Project,
		"-buildvcs=auto", "-ldflags",
		fmt.Sprintf("-s -w -X github.com/danelaw-dns/danelaw/plugin/danelaw.buildDate=%d", date.Unix()),
		"-o", file, "./cmd/danelaw")
	return err
}

// Run runs a command with variables beside those of the environment, and returns what it prints. Its error holds what
// the command said of it.
func Run(ctx context.Context, env []string, name string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return out, err
}
