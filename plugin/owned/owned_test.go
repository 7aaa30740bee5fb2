package owned

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/danelaw-dns/danelaw/test/needs"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// place makes a directory with a file in it.
func place(t *testing.T) (dir, file string) {
	t.Helper()
	syscall.Umask(0o022)
	dir = filepath.Join(t.TempDir(), "dir")
	file = filepath.Join(dir, "file")
	must(t, os.Mkdir(dir, 0o755), os.WriteFile(file, []byte("text"), 0o644))
	return dir, file
}

// TestRead: what is the process's own is read, whichever way leads there; what others may write, replace or make hang
// is refused, and the error names the path at fault and a remedy.
func TestRead(t *testing.T) {
	chmod := func(mode fs.FileMode) func(string, string) (string, error) {
		return func(_, file string) (string, error) { return file, os.Chmod(file, mode) }
	}
	above := func(mode fs.FileMode) func(string, string) (string, error) {
		return func(dir, file string) (string, error) { return file, os.Chmod(dir, mode) }
	}
	for _, tt := range []struct {
		name  string
		make  func(dir, file string) (path string, err error)
		fault string // "" if there is none
	}{
		{"our own", chmod(0o600), ""},
		{"readable by all", chmod(0o444), ""},
		{"writable by its group", chmod(0o660), "FILE may be written by others (mode -rw-rw----): chmod go-w FILE"},
		{"in a directory for its group", above(0o770),
			"DIR may be written by others (mode drwxrwx---): chmod go-w DIR"},
		{"writable by all", chmod(0o666), "FILE may be written by others (mode -rw-rw-rw-): chmod go-w FILE"},
		{"in a directory for all", above(0o777), "DIR may be written by others (mode drwxrwxrwx): chmod go-w DIR"},
		{"in one with the sticky bit, where nobody can replace it", above(0o777 | fs.ModeSticky), ""},
		{"a link to it", func(dir, file string) (string, error) {
			return dir + "/link", os.Symlink("./../dir/file", dir+"/link")
		}, ""},
		{"a link to what all may write", func(dir, file string) (string, error) {
			return dir + "/link", errors.Join(os.Symlink(file, dir+"/link"), os.Chmod(file, 0o646))
		}, "FILE may be written by others"},
		{"a link through a directory for all", func(dir, file string) (string, error) {
			open := dir + "/open"
			return dir + "/link", errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777),
				os.Symlink(file, open+"/hop"), os.Symlink("open/hop", dir+"/link"))
		}, "DIR/open may be written by others"},
		{"a link as a directory on the way", func(dir, file string) (string, error) {
			return dir + "/way/file", os.Symlink(dir, dir+"/way")
		}, ""},
		{"two dots", func(dir, file string) (string, error) { return dir + "/../dir/./file", nil }, ""},
		{"two dots after a link", func(dir, file string) (string, error) {
			return dir + "/in/../../file",
				errors.Join(os.MkdirAll(dir+"/a/b", 0o700), os.Symlink(dir+"/a/b", dir+"/in"))
		}, ""},
		{"links without end", func(dir, file string) (string,
			error) {
			return dir + "/link", os.Symlink("link", dir+"/link")
		}, "too many symbolic links"},
		{"a FIFO", func(dir, file string) (string, error) { return dir + "/fifo", syscall.Mkfifo(dir+"/fifo", 0o600) },
			"DIR/fifo is a FIFO"},
		{"a device", func(string, string) (string, error) { return "/dev/zero", nil }, "/dev/zero is a device"},
		{"a directory", func(dir, _ string) (string, error) { return dir, nil }, "DIR is a directory"},
		{"a file as a directory", func(_, file string) (string, error) { return file + "/x", nil },
			"FILE is a regular file, not a directory"},
		{"too much", func(_, file string) (string, error) { return file, os.WriteFile(file, make([]byte, 101), 0o600) },
			"FILE holds more than 100 octets"},
		{"nothing", func(dir, _ string) (string, error) { return dir + "/none", nil }, "no such file"},
	} {
		dir, file := place(t)
		path, err := tt.make(dir, file)
		must(t, err)
		content, err := Daemon().Read(path, 100)
		fault := strings.NewReplacer("DIR", dir, "FILE", file).Replace(tt.fault)
		switch {
		case fault == "" && (err != nil || string(content) != "text"):
			t.Errorf("%s: %q, %v", tt.name, content, err)
		case fault != "" && (err == nil || !strings.Contains(err.Error(), fault)):
			t.Errorf("%s: %v, want %q", tt.name, err, fault)
		case fault != "" && errors.Is(err, ErrRefused) == errors.Is(err, fs.ErrNotExist):
			t.Errorf("%s: %v is the other kind", tt.name, err)
		}
	}
}

// TestRelative: a relative path begins in the working directory, which is looked at too.
func TestRelative(t *testing.T) {
	dir, _ := place(t)
	t.Chdir(dir)
	if content, err := Daemon().Read("file", 100); err != nil || string(content) != "text" {
		t.Errorf("%q, %v", content, err)
	}
	must(t, os.Chmod(dir, 0o777))
	if _, err := Daemon().Read("file", 100); err == nil {
		t.Error("others may put another in its place")
	}
}

// TestKeep: files are kept in directories where nobody else can make any, the sticky bit or not.
func TestKeep(t *testing.T) {
	dir, file := place(t)
	for mode, fault := range map[fs.FileMode]string{0o700: "", 0o755: "", 0o777: "chmod go-w " + dir,
		0o777 | fs.ModeSticky: "chmod go-w " + dir, 0o757: "chmod go-w " + dir} {
		must(t, os.Chmod(dir, mode))
		if err := Daemon().Keep(dir); (err == nil) != (fault == "") ||
			err != nil && !strings.Contains(err.Error(), fault) {
			t.Errorf("%v: %v", mode, err)
		}
		if err := Daemon().Keep(dir + "/later/yet"); mode == 0o755 && err != nil || mode == 0o777 && err == nil {
			t.Errorf("what is to be made in %v: %v", mode, err)
		}
	}
	must(t, os.Chmod(dir, 0o755))
	if err := Daemon().Keep(file); err == nil || !strings.Contains(err.Error(), "name a directory") {
		t.Errorf("a file: %v", err)
	}
}

// TestOwners: whose files are taken. Only root can give files away.
func TestOwners(t *testing.T) {
	needs.Root(t)
	const other = 12345
	for _, tt := range []struct {
		name                 string
		make                 func(dir, file string) error
		daemon, owner, group bool // whether each takes it
	}{
		{"root's", func(dir, file string) error { return nil }, true, true, true},
		{"another's", func(_, file string) error { return os.Chown(file, other, 0) }, false, true, true},
		{"in another's directory", func(dir, _ string) error { return os.Chown(dir, other, 0) }, false, true, true},
		{"for a group", func(_, file string) error {
			return errors.Join(os.Chown(file, 0, other), os.Chmod(file, 0o660))
		}, false, false, true},
		{"for the group of root", func(_, file string) error { return os.Chmod(file, 0o660) }, false, false, true},
		{"for all", func(_, file string) error { return os.Chmod(file, 0o606) }, false, false, false},
		{"another's, where anybody can make files", func(dir, file string) error {
			return errors.Join(os.Chmod(dir, 0o777|fs.ModeSticky), os.Chown(file, other, other))
		}, false, true, true},
		{"another's link there", func(dir, file string) error {
			moved := filepath.Dir(dir) + "/moved"
			return errors.Join(os.Rename(file, moved), os.Symlink(moved, file), os.Lchown(file, other, other),
				os.Chmod(dir, 0o777|fs.ModeSticky))
		}, false, true, true},
	} {
		dir, file := place(t)
		must(t, tt.make(dir, file))
		for name, by := range map[string]struct {
			trust Trust
			takes bool
		}{"Daemon": {Daemon(), tt.daemon}, "AnyOwner": {AnyOwner(), tt.owner}, "AnyGroup": {AnyGroup(), tt.group}} {
			_, err := by.trust.Read(file, 100)
			if (err == nil) != by.takes {
				t.Errorf("%s, %s: %v", tt.name, name, err)
			}
			if err != nil && !strings.Contains(err.Error(), ": chown root ") &&
				!strings.Contains(err.Error(), ": chmod go-w ") {
				t.Errorf("%s, %s: no remedy in %v", tt.name, name, err)
			}
		}
	}
}
