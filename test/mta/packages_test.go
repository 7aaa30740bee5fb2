//go:build linux

package mta

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// agents are the packages of the MTAs. They conflict with each other, and with an MTA that is installed.
var agents = []string{"postfix", "exim4-daemon-light"}

// common are the packages that both MTAs need beside their dependencies: essential packages of Debian, on which their
// scripts rely.
var common = strings.Fields("base-files base-passwd coreutils dash diffutils findutils grep hostname libc-bin mawk " +
	"sed util-linux")

// unpackAll makes the roots of the MTAs.
func unpackAll(dir string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	a := apt{filepath.Join(cache, "danelaw-test-mta")}
	for _, m := range agents {
		if err := a.unpack(filepath.Join(dir, m), append([]string{m}, common...)); err != nil {
			return fmt.Errorf("%s cannot be had from Debian's archive (has apt-get update been run?): %w", m, err)
		}
	}
	return nil
}

// apt runs apt-get as if no package were installed. It downloads into a directory of its own.
type apt struct{ dir string }

// install runs apt-get install with further arguments.
func (a apt) install(args ...string) (string, error) {
	status := filepath.Join(a.dir, "status")
	if err := os.MkdirAll(filepath.Join(a.dir, "partial"), 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return "", err
	}
	c := exec.Command("apt-get", append([]string{
		"-q", "-y", "--no-install-recommends", "-o", "Dir::State::status=" + status, "-o",
		"Dir::Cache::archives=" + a.dir,
		"-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1", "install",
	}, args...)...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), err
}

// planned matches lines of a simulation, such as Inst dash (0.5.12-2 Debian:12.11/stable [amd64]).
var planned = regexp.MustCompile(`(?m)^Inst (\S+) \((\S+) .*\[(\w+)\]\)`)

// unpack downloads packages with their dependencies, unless they are there from an earlier run, and unpacks them into
// root.
func (a apt) unpack(root string, packages []string) error {
	if _, err := a.install(append([]string{"--download-only"}, packages...)...); err != nil {
		return err
	}
	plan, err := a.install(append([]string{"--simulate"}, packages...)...)
	if err != nil {
		return err
	}
	if err := merged(root); err != nil {
		return err
	}
	for _, p := range planned.FindAllStringSubmatch(plan, -1) {
		file := fmt.Sprintf("%s_%s_%s.deb", p[1], strings.ReplaceAll(p[2], ":", "%3a"), p[3])
		if err := unpack(filepath.Join(a.dir, file), root); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return os.Symlink("mawk", filepath.Join(root, "usr/bin/awk"))
}

// unpack does what dpkg-deb -x does, but leaves symbolic links to directories as they are.
func unpack(file, root string) error {
	from, to := exec.Command("dpkg-deb", "--fsys-tarfile", file),
		exec.Command("tar", "-x", "--keep-directory-symlink", "-C", root)
	from.Stderr, to.Stderr = os.Stderr, os.Stderr
	var err error
	if to.Stdin, err = from.StdoutPipe(); err != nil {
		return err
	}
	if err := to.Start(); err != nil {
		return err
	}
	return errors.Join(from.Run(), to.Wait())
}

// merged makes a root in which /bin is a link to /usr/bin and so on, as in every Debian.
func merged(root string) error {
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", d), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+d, filepath.Join(root, d)); err != nil {
			return err
		}
	}
	return nil
}

// root is the path of an MTA's root directory.
type root string

// run runs a command in the root and returns its output.
func (r root) run(stdin string, args ...string) (string, error) {
	c := exec.Command("chroot", append([]string{string(r)}, args...)...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C"}
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &out
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%v: %w\n%s", args, err, out.String())
	}
	return out.String(), nil
}
