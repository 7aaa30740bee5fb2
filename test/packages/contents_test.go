//go:build linux

package packages

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// unpacked returns a directory with what is in a package: "deb", "rpm" or "apk".
func unpacked(t *testing.T, format string) string {
	t.Helper()
	dir := t.TempDir()
	switch format {
	case "deb":
		sh(t, "dpkg-deb", "--extract", file(t, "danelaw_"+older+"_*.deb"), dir)
	case "rpm":
		rpm(t, dir, "--install", "--nodeps", "--noscripts", file(t, "danelaw-"+older+"-*.rpm"))
	case "apk":
		sh(t, "tar", "--extract", "--warning=no-unknown-keyword", "--ignore-zeros", "--gzip", "--file",
			file(t, "danelaw_"+older+"_*.apk"), "--directory", dir)
	}
	return dir
}

// sh runs a command that must neither fail nor say anything but what it is asked for.
func sh(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=80")
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil || stderr.String() != "" {
		t.Errorf("%v: %v\n%s%s", args, err, out, &stderr)
	}
	return string(out)
}

// rpm runs rpm for a root, also where the host's packages are of another kind. What its scripts say goes to stderr.
func rpm(t *testing.T, root string, args ...string) string {
	t.Helper()
	c := exec.Command("rpm", append([]string{"--force-debian", "--root", root, "--dbpath", "/var/lib/rpm"}, args...)...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Errorf("rpm %v: %v\n%s%s", args, err, out, &stderr)
	}
	return string(out)
}

// own are the files that packages differ in: of the init, and the place of what zsh completes.
var own = map[string][]string{
	"deb": {"/usr/lib/systemd/system/danelaw.service", "/usr/lib/sysusers.d/danelaw.conf",
		"/usr/share/zsh/vendor-completions/_danelaw"},
	"rpm": {"/usr/lib/systemd/system/danelaw.service", "/usr/lib/sysusers.d/danelaw.conf",
		"/usr/share/zsh/site-functions/_danelaw"},
	"apk": {"/etc/conf.d/danelaw", "/etc/init.d/danelaw", "/usr/share/zsh/site-functions/_danelaw"},
}

// notes are what rpm and apk keep for themselves.
var notes = regexp.MustCompile(`^/(\.|var/lib/rpm/)`)

// TestContents: the three packages have the same files but for those of their init, with the same rights, all root's.
// The program in them is static, and of the version that it should be.
func TestContents(t *testing.T) {
	suite.Needs(t)
	var common []string
	for _, format := range []string{"deb", "rpm", "apk"} {
		dir, all := unpacked(t, format), []string{}
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			path := strings.TrimPrefix(name, dir)
			if err != nil || d.IsDir() || notes.MatchString(path) {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o644)
			if path == "/usr/bin/danelaw" || strings.HasPrefix(path, "/etc/init.d/") {
				want = 0o755
			}
			if s := info.Sys().(*syscall.Stat_t); info.Mode() != want || s.Uid != 0 || s.Gid != 0 {
				t.Errorf("%s: %s has mode %v and is %d:%d's", format, path, info.Mode(), s.Uid, s.Gid)
			}
			if !slices.Contains(own[format], path) {
				all = append(all, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range own[format] {
			if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
				t.Error(format, err)
			}
		}
		if common == nil {
			common = all
		}
		if !slices.Equal(all, common) || len(all) < 20 {
			t.Errorf("%s has\n%q, deb\n%q", format, all, common)
		}
		if out := sh(t, filepath.Join(dir, "usr/bin/danelaw"), "version"); !strings.HasPrefix(out, "danelaw ") {
			t.Errorf("%s: %s", format, out)
		}
		if out, err := exec.Command("ldd", filepath.Join(dir, "usr/bin/danelaw")).CombinedOutput(); err == nil {
			t.Errorf("%s: the program needs libraries:\n%s", format, out)
		}
	}
}

// TestManual: each command has a page, and none a fault that man warns of.
func TestManual(t *testing.T) {
	suite.Needs(t)
	dir := filepath.Join(unpacked(t, "deb"), "usr/share/man")
	pages := strings.Fields(sh(t, "find", dir, "-type", "f"))
	for _, page := range pages {
		if out := sh(t, "man", "--warnings", "--local-file", page); !strings.Contains(out, "NAME\n") {
			t.Errorf("%s has no name:\n%.500s", page, out)
		}
	}
	var wanted []string
	command := regexp.MustCompile(`(?m)^   ([a-z]+)  `)
	for _, m := range command.FindAllStringSubmatch(sh(t, suite.Danelaw(), "--help"), -1) {
		if m[1] != "serve" && m[1] != "danelaw" {
			wanted = append(wanted, filepath.Join(dir, "man1/danelaw-"+m[1]+".1.gz"))
		}
	}
	wanted = append(wanted, filepath.Join(dir, "man7/coredns-danelaw.7.gz"), filepath.Join(dir, "man8/danelaw.8.gz"))
	if slices.Sort(pages); len(wanted) < 12 || !slices.Equal(slices.Sorted(slices.Values(wanted)), pages) {
		t.Errorf("there are\n%s\nand should be\n%s", strings.Join(pages, "\n"), strings.Join(wanted, "\n"))
	}
	check := sh(t, "man", "--warnings", "--local-file", filepath.Join(dir, "man1/danelaw-check.1.gz"))
	for _, want := range []string{"--require-dane", "danelaw check --json NAME TYPE", "danelaw check [options]"} {
		if !strings.Contains(check, want) {
			t.Errorf("danelaw-check(1) lacks %q:\n%s", want, check)
		}
	}
}

// TestCompletions: the shells can read what completes for them.
func TestCompletions(t *testing.T) {
	suite.Needs(t)
	dir := unpacked(t, "deb") + "/usr/share/"
	sh(t, "bash", "-n", dir+"bash-completion/completions/danelaw")
	sh(t, "zsh", "-n", dir+"zsh/vendor-completions/_danelaw")
	sh(t, "fish", "--no-execute", dir+"fish/vendor_completions.d/danelaw.fish")
	t.Setenv("PATH", filepath.Dir(suite.Danelaw())+":"+os.Getenv("PATH"))
	t.Setenv("HOME", t.TempDir()) // of fish
	out := sh(t, "fish", "--command", "source "+dir+"fish/vendor_completions.d/danelaw.fish; complete --do-complete "+
		"'danelaw doc'")
	if !strings.HasPrefix(out, "doctor\t") {
		t.Errorf("fish completes doc to %q", out)
	}
}

// TestScripts: no shell script has what shellcheck warns of.
func TestScripts(t *testing.T) {
	suite.Needs(t)
	sh(t, "sh", "-c", "cd ../../deploy/package && shellcheck deb/* rpm/* apk/p* && "+
		// SC2034: openrc-run reads their variables.
		"shellcheck --shell=sh --exclude=SC2034 apk/danelaw.initd apk/danelaw.confd && "+
		"shellcheck ../../test/packages/testdata/boot.sh")
}

// TestUnit: systemd takes the unit, and finds that it gives little away.
func TestUnit(t *testing.T) {
	suite.Needs(t)
	dir := unpacked(t, "deb")
	t.Setenv("MANPATH", dir+"/usr/share/man")
	unit := filepath.Join(dir, "usr/lib/systemd/system/danelaw.service")
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	// It is verified with the program where it is here.
	here := strings.ReplaceAll(string(text), "/usr/bin/danelaw", filepath.Join(dir, "usr/bin/danelaw"))
	if err := os.WriteFile(unit, []byte(here), 0o644); err != nil {
		t.Fatal(err)
	}
	sh(t, "systemd-analyze", "verify", unit)
	out := sh(t, "systemd-analyze", "security", "--offline=true", "--threshold=16", "--no-pager", unit)
	t.Log(out[strings.LastIndex(out, "Overall"):])
	for _, want := range []string{"Before=nss-lookup.target postfix@-.service exim4.service\n", "\nType=notify\n",
		"\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n", "\nUser=danelaw\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the unit lacks %q", want)
		}
	}
	if regexp.MustCompile(`(?m)^[^#]*time-sync`).Match(text) {
		t.Error("it waits for the time (T-14)")
	}
}

// TestRPM: it is installed and erased with its scripts, in a root of its own.
func TestRPM(t *testing.T) {
	suite.Needs(t)
	root := overlay(t, suite.Dir("debian"))
	rpm(t, root, "--install", "--nodeps", file(t, "danelaw-"+older+"-*.rpm"))
	if out := sh(t, "chroot", root, "getent", "passwd", "danelaw"); !strings.HasSuffix(out, ":/usr/sbin/nologin\n") {
		t.Errorf("the user is %q", out)
	}
	if out := rpm(t, root, "--query", "--configfiles", "danelaw"); out != "/etc/danelaw/Corefile\n" {
		t.Errorf("its configuration is %q", out)
	}
	if out := rpm(t, root, "--verify", "--nodeps", "danelaw"); out != "" {
		t.Errorf("installed is not what is in the package:\n%s", out)
	}
	rpm(t, root, "--erase", "--nodeps", "danelaw")
	if left := sh(t, "find", root, "-name", "*danelaw*"); left != "" {
		t.Errorf("there are still\n%s", left)
	}
}

// overlay is a directory that may be changed, whatever is below it.
func overlay(t *testing.T, lower string) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	if err := syscall.Mount("overlay", root, "overlay", 0, "lowerdir="+lower+",upperdir="+dir+"/upper,workdir="+dir+
		"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	return root
}
