package danelaw

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coredns/caddy"
)

// TestFilesOfOthers: a file that decides what is believed, and that others may write or that is none, keeps danelaw
// from starting, at once, and the error names option, path and remedy; so does a directory in which others may put
// another in its place.
func TestFilesOfOthers(t *testing.T) {
	noLeak(t)
	options := map[string]struct{ file, line string }{
		"trust_anchor_state": {ntaFile, "control off\ntrust_anchor_state DIR"},
		"trust_anchor":       {"root.ds", "control off\ntrust_anchor FILE"},
		"upstream_ca":        {"ca.pem", "control off\nupstream_ca FILE"},
		"control":            {"socket", "control FILE"},
	}
	for _, tt := range []struct {
		name, options string
		fault         func(dir, file string) error
		want          string
	}{
		{"a directory for all", "trust_anchor_state trust_anchor upstream_ca control",
			func(dir, _ string) error { return os.Chmod(dir, 0o777) },
			"DIR may be written by others (mode drwxrwxrwx): chmod go-w DIR"},
		{"one with the sticky bit", "trust_anchor_state control",
			func(dir, _ string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) },
			"DIR may be written by others (mode dtrwxrwxrwx): chmod go-w DIR"},
		{"one above", "trust_anchor_state trust_anchor upstream_ca control",
			func(dir, _ string) error { return os.Chmod(filepath.Dir(dir), 0o777) }, "ABOVE may be written by others"},
		{"a file for all", "trust_anchor_state trust_anchor upstream_ca",
			func(_, file string) error { return os.Chmod(file, 0o602) },
			"FILE may be written by others (mode -rw-----w-): chmod go-w FILE"},
		{"a FIFO", "trust_anchor_state trust_anchor upstream_ca",
			func(_, file string) error { return errors.Join(os.Remove(file), syscall.Mkfifo(file, 0o600)) },
			"FILE is a FIFO: name a regular file"},
		{"a device", "trust_anchor_state trust_anchor upstream_ca",
			func(_, file string) error { return errors.Join(os.Remove(file), os.Symlink("/dev/zero", file)) },
			"/dev/zero is a device: name a regular file"},
		{"a directory in its place", "trust_anchor_state trust_anchor upstream_ca",
			func(_, file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
			"FILE is a directory: name a regular file"},
	} {
		for _, option := range strings.Fields(tt.options) {
			dir := filepath.Join(t.TempDir(), "dir")
			file := filepath.Join(dir, options[option].file)
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, []byte("{}"), 0o600),
				tt.fault(dir, file)); err != nil {
				t.Fatal(err)
			}
			paths := strings.NewReplacer("DIR", dir, "FILE", file, "ABOVE", filepath.Dir(dir))
			want := paths.Replace(tt.want)
			_, err := caddy.Start(corefile(blockOf(".:0", "upstream . 127.0.0.1:9\n"+
				paths.Replace(options[option].line), "")))
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), option) {
				t.Errorf("%s, %s: %v, want %q", tt.name, option, err, want)
			}
			if strings.HasPrefix(tt.options, option) || option == "control" { // without a start, too
				_, err := Validate(corefile(blockOf(".:0", "upstream . 127.0.0.1:9\n"+
					paths.Replace(options[option].line), "")))
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s: valid, error %v, want %q", tt.name, option, err, want)
				}
			}
		}
	}
}
