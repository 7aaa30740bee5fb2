// Package owned reads local files that decide what is believed. What somebody else may write, put in its place or make
// hang is refused: a file must be a regular one, it and all directories on the way to it must belong to root or the
// process's user, and nobody else may write there. Errors name the path at fault, what is wrong with it, and what mends
// it.
//
// Under that rule nobody who is not trusted can change the way between a look at it and its use. A symbolic link counts
// as what it leads to and the directories that are passed on the way. In a directory with the sticky bit, as /tmp, only
// owners can replace what is there: it may be passed, but nothing is kept in it. A file system that is mounted
// read-only cannot be written through this mount, whatever modes say: so are the volumes of ConfigMaps in Kubernetes.
package owned

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrRefused is wrapped by the errors about what is not taken, in contrast to what is not there or cannot be read.
var ErrRefused = errors.New("refused")

// refusal is such an error.
type refusal struct{ text string }

func (r refusal) Error() string        { return r.text }
func (r refusal) Is(target error) bool { return target == ErrRefused }

func refusef(format string, args ...any) error { return refusal{fmt.Sprintf(format, args...)} }

// Trust says whose files are taken.
type Trust struct {
	anybody bool // else only root and the user of the process
	groups  bool // whose members may write, too
}

// Daemon trusts root and the user of the process: the rule for whatever decides what a daemon believes (T-10).
func Daemon() Trust { return Trust{} }

// AnyOwner trusts all owners, but nobody else: for who only looks at the files of a daemon, which may run as another
// user.
func AnyOwner() Trust { return Trust{anybody: true} }

// AnyGroup trusts all owners and the members of their groups: for what people edit together.
func AnyGroup() Trust { return Trust{anybody: true, groups: true} }

func (t Trust) owns(info fs.FileInfo) bool {
	return t.anybody || uid(info) == 0 || uid(info) == uint32(os.Geteuid())
}

func uid(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// Read returns the content of a file, which may have so many octets.
func (t Trust) Read(path string, most int64) ([]byte, error) {
	f, err := t.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = refusef("%s holds more than %d octets: it is not what it should be", path, most)
	}
	return content, err
}

// Open opens a file for reading.
func (t Trust) Open(path string) (*os.File, error) {
	at, _, err := t.walk(path)
	if err != nil {
		return nil, err
	}
	// the open of a FIFO would wait for a writer
	f, err := os.OpenFile(at, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := t.file(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Program looks at a program that danelaw runs.
func (t Trust) Program(path string) error {
	at, info, err := t.walk(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return refusef("%s is %s: name a program", at, kind(info.Mode()))
	case info.Mode()&0o111 == 0:
		return refusef("%s is no program (mode %v): chmod a+x %[1]s", at, info.Mode())
	}
	return t.fault(at, info)
}

// file looks at what was opened.
func (t Trust) file(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return refusef("%s is %s: name a regular file", f.Name(), kind(info.Mode()))
	}
	return t.fault(f.Name(), info)
}

// Keep looks at a directory in which danelaw makes and replaces files: nobody else may write into it. It need not be
// there.
func (t Trust) Keep(dir string) error {
	at, info, err := t.walk(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // and who may make it is trusted: the walk has come to its parent
	case err != nil:
		return err
	case !info.IsDir():
		return refusef("%s is %s: name a directory", at, kind(info.Mode()))
	}
	return t.fault(at, info)
}

// maxLinks is as many symbolic links as Linux follows.
const maxLinks = 40

// walk goes the way of a path as the kernel does, and looks at each directory on it. It returns where the path leads,
// without symbolic links, and what is there.
func (t Trust) walk(path string) (at string, info fs.FileInfo, err error) {
	if !filepath.IsAbs(path) {
		dir, err := os.Getwd()
		if err != nil {
			return "", nil, err
		}
		path = dir + "/" + path
	}
	at = "/"
	if info, err = os.Lstat(at); err != nil {
		return at, nil, err
	}
	for links, rest := 0, path; ; {
		var name string
		if name, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/"); name == "" {
			return at, info, nil
		}
		if err := t.passable(at, info); err != nil {
			return at, info, err
		}
		shared := t.shared(info)
		next := filepath.Join(at, name) // of ".." too: there are no links in at
		if info, err = os.Lstat(next); errors.Is(err, fs.ErrNotExist) {
			return next, nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
		} else if err != nil {
			return next, nil, err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return next, nil, refusef("%s: too many symbolic links", path)
		}
		if shared && !t.owns(info) { // so the directory is sticky, and this is of somebody else
			return next, nil, t.foreign(next, info)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return next, nil, err
		}
		if rest = target + "/" + rest; filepath.IsAbs(target) {
			at = "/"
		}
		if info, err = os.Lstat(at); err != nil {
			return at, nil, err
		}
	}
}

// passable returns an error unless the way may lead through a directory.
func (t Trust) passable(path string, info fs.FileInfo) error {
	if !info.IsDir() {
		return refusef("%s is %s, not a directory", path, kind(info.Mode()))
	}
	if info.Mode()&fs.ModeSticky != 0 && t.owns(info) {
		return nil
	}
	return t.fault(path, info)
}

// fault says why a file or directory is not taken.
func (t Trust) fault(path string, info fs.FileInfo) error {
	switch {
	case t.owns(info) && !t.shared(info) || readOnly(path):
		return nil
	case !t.owns(info):
		return t.foreign(path, info)
	}
	return refusef("%s may be written by others (mode %v): chmod go-w %[1]s, once it is certain that nobody has "+
		"written to it", path, info.Mode())
}

func (t Trust) foreign(path string, info fs.FileInfo) error {
	self := "root"
	if uid := os.Geteuid(); uid != 0 {
		self += " or to " + name(uint32(uid))
	}
	return refusef("%s belongs to %s, not to %s, as whom danelaw runs: chown root %[1]s, if what is there is to be "+
		"trusted", path, name(uid(info)), self)
}

// shared reports whether somebody may write who would not be trusted as the owner.
func (t Trust) shared(info fs.FileInfo) bool {
	const group, others = 0o020, 0o002
	return info.Mode()&others != 0 || info.Mode()&group != 0 && !t.groups
}

func readOnly(path string) bool {
	const flag = 1 // ST_RDONLY, MNT_RDONLY
	var s syscall.Statfs_t
	return syscall.Statfs(path, &s) == nil && s.Flags&flag != 0
}

func name(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "the user " + id
}

// kinds names what is there.
var kinds = map[fs.FileMode]string{
	0: "a regular file", fs.ModeDir: "a directory", fs.ModeNamedPipe: "a FIFO", fs.ModeSocket: "a socket",
}

func kind(m fs.FileMode) string { return cmp.Or(kinds[m.Type()], "a device") }
