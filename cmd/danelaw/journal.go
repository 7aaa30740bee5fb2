package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/danelaw-dns/danelaw/plugin/owned"
)

// fileState is what there is at a path: a file, a symbolic link, a directory; the zero value is nothing.
type fileState struct {
	Kind    string      `json:"kind,omitempty"`
	Mode    fs.FileMode `json:"mode,omitempty"`
	UID     uint32      `json:"uid,omitempty"`
	GID     uint32      `json:"gid,omitempty"`
	Content []byte      `json:"content,omitempty"`
	Target  string      `json:"target,omitempty"` // of a link
}

// The kinds of a fileState.
const (
	kindFile = "file"
	kindLink = "link"
	kindDir  = "directory"
)

// aFile is a new file of root's that everybody may read.
func aFile(content string) fileState {
	return fileState{Kind: kindFile, Mode: 0o644, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()),
		Content: []byte(content)}
}

// with is a file with another content, a new one if there was none, or a link.
func (s fileState) with(content string) fileState {
	if s.Kind != kindFile {
		return aFile(content)
	}
	s.Content = []byte(content)
	return s
}

// is reports whether two states are the same, to the octet.
func (s fileState) is(other fileState) bool {
	return s.Kind == other.Kind && s.Mode == other.Mode && s.UID == other.UID && s.GID == other.GID &&
		s.Target == other.Target && bytes.Equal(s.Content, other.Content)
}

// look returns what there is at a path.
func look(path string) (s fileState, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	s = fileState{Mode: info.Mode() &^ fs.ModeType, UID: stat.Uid, GID: stat.Gid}
	switch info.Mode().Type() {
	case 0:
		s.Kind = kindFile
		s.Content, err = os.ReadFile(path)
	case fs.ModeSymlink:
		s.Kind, s.Mode = kindLink, 0
		s.Target, err = os.Readlink(path)
	case fs.ModeDir:
		s.Kind = kindDir
	default:
		err = fmt.Errorf("%s is no regular file (mode %v): it is left alone", path, info.Mode())
	}
	return s, err
}

// put makes a path so, in one step: after a crash there is the old state or the new one.
func (s fileState) put(path string) error {
	aside := filepath.Join(filepath.Dir(path), ".danelaw-setup") // on the same file system
	err := os.RemoveAll(aside)                                   // of one that was interrupted
	if err != nil {
		return explainPut(path, err)
	}
	defer os.RemoveAll(aside)
	switch s.Kind {
	case "":
		err = os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) { // of a directory that others use now
			return nil
		}
	case kindDir:
		if err = os.Mkdir(path, s.Mode); err == nil || errors.Is(err, fs.ErrExist) {
			err = errors.Join(os.Lchown(path, int(s.UID), int(s.GID)), os.Chmod(path, s.Mode))
		}
	default:
		err = s.replace(path, aside)
	}
	if err != nil {
		return explainPut(path, err)
	}
	return syncDir(filepath.Dir(path))
}

// replace puts a file or link in the place of what is there.
func (s fileState) replace(path, aside string) error {
	err := os.Mkdir(aside, 0o700)
	if err != nil {
		return err
	}
	made := filepath.Join(aside, "new")
	if s.Kind == kindLink {
		err = os.Symlink(s.Target, made)
	} else {
		err = s.write(made)
	}
	if err == nil {
		err = os.Lchown(made, int(s.UID), int(s.GID))
	}
	if err == nil && s.Kind == kindFile {
		err = os.Chmod(made, s.Mode) // after chown, which takes some bits away
	}
	if err != nil {
		return err
	}
	return os.Rename(made, path)
}

func (s fileState) write(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(s.Content)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir has what was done in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// explainPut adds what to do where a file cannot be replaced.
func explainPut(path string, err error) error {
	switch {
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%s cannot be replaced, as it is a mount of its own: in a container it is the engine's, "+
			"which is told by its own settings (`dns:`)", path)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s: %w: if somebody has made it immutable, `chattr -i %[1]s`", path, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s lies on a file system that is mounted read-only", path)
	}
	return err
}

// alteration is a change of this host as the journal has it: of a file, by commands, or both.
type alteration struct {
	What     string     `json:"what,omitempty"` // is done, in a sentence; "" if there is something to undo alone
	Back     string     `json:"back,omitempty"` // how it is undone; "" if that needs nothing
	File     string     `json:"file,omitempty"`
	Before   fileState  `json:"before"`
	After    fileState  `json:"after"`
	Settings []wasSet   `json:"settings,omitempty"` // what was changed, where the file is Postfix's main.cf
	Do       [][]string `json:"do,omitempty"`       // commands, after the change of the file
	Undo     [][]string `json:"undo,omitempty"`     // commands, after the file is as it was
}

// journal is what setup has done on this host. It is on disk before each change, so that whatever ends setup, all can
// be undone (S-30).
type journal struct {
	Complete  bool         `json:"complete"`
	Upstreams []string     `json:"upstreams,omitempty"` // that were written into the Corefile
	Entries   []alteration `json:"entries"`

	root string
}

// setupDir is where the journal is. It is not below the directory of the daemon's state, which is the daemon's: who can
// write here can have root write anything.
const setupDir = "/var/lib/danelaw-setup"

func (j *journal) dir() string  { return filepath.Join(j.root, setupDir) }
func (j *journal) path() string { return filepath.Join(j.dir(), "journal.json") }

// maxJournal bounds what is read, in octets.
const maxJournal = 64 << 20

// readJournal reads that of a root; it is empty if there is none.
func readJournal(root string) (*journal, error) {
	j := &journal{root: root}
	text, err := owned.Daemon().Read(j.path(), maxJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = json.Unmarshal(text, j)
	}
	if err != nil {
		return nil, fmt.Errorf("what setup has done cannot be read: %s: %w; the files as they were before stand in "+
			"it, in base64", j.path(), err)
	}
	return j, nil
}

// save writes the journal, or removes it when there is nothing left to undo.
func (j *journal) save() error {
	if len(j.Entries) == 0 {
		return errors.Join((fileState{}).put(j.path()), (fileState{}).put(j.dir()))
	}
	if err := os.MkdirAll(j.dir(), 0o700); err != nil {
		return err
	}
	if err := owned.Daemon().Keep(j.dir()); err != nil {
		return err
	}
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	content := aFile(string(text))
	content.Mode = 0o600
	if err := content.put(j.path()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(j.dir()))
}

// reached is called at each point where setup may be interrupted. It is another in a test.
var reached = func(string) {}

// do makes a change, with what undoes it on disk before.
func (j *journal) do(ctx context.Context, m *machine, e alteration) error {
	j.Entries = append(j.Entries, e)
	if err := j.save(); err != nil {
		return err
	}
	reached("journal")
	if e.File != "" {
		if err := e.After.put(m.path(e.File)); err != nil {
			return err
		}
	}
	reached("file")
	return runAll(ctx, m, e.Do)
}

// conflicts lists the files that are neither as setup left them nor as they were before. Entries from at on are to be
// undone.
func (j *journal) conflicts(ctx context.Context, m *machine, at int) (all []string) {
	expected := map[string]fileState{}
	for _, e := range slices.Backward(j.Entries[at:]) {
		now, known := expected[e.File]
		if !known && e.File != "" {
			var err error
			if now, err = look(m.path(e.File)); err != nil {
				all = append(all, err.Error())
				continue
			}
		}
		// nothing is lost with a directory: one that others use stays
		if e.File != "" && e.Before.Kind+e.After.Kind != kindDir && !now.is(e.After) && !now.is(e.Before) {
			if _, err := e.settingsBack(ctx, m, now); err != nil {
				all = append(all, err.Error())
			}
		}
		expected[e.File] = e.Before
	}
	return all
}

// undo brings back what was before the entry at, the last change first. What cannot be undone stays in the journal.
func (j *journal) undo(ctx context.Context, m *machine, at int, force bool, tell func(e alteration)) error {
	for len(j.Entries) > at {
		e := j.Entries[len(j.Entries)-1]
		tell(e)
		if err := j.undoOne(ctx, m, e, force); err != nil {
			return err
		}
		j.Entries = j.Entries[:len(j.Entries)-1]
		j.Complete = false
		if err := j.save(); err != nil {
			return err
		}
		reached("undone")
	}
	return nil
}

func (j *journal) undoOne(ctx context.Context, m *machine, e alteration, force bool) error {
	if e.File != "" {
		now, err := look(m.path(e.File))
		if err != nil {
			return err
		}
		back := e.Before
		if !now.is(e.After) && !now.is(e.Before) && e.After.Kind != kindDir {
			if settings, err := e.settingsBack(ctx, m, now); err == nil {
				back = settings
			} else if !force {
				return err
			}
		}
		if !now.is(back) {
			if err := back.put(m.path(e.File)); err != nil {
				return err
			}
		}
	}
	return runAll(ctx, m, e.Undo)
}

// changed is the error for a file that somebody has changed since.
func (e alteration) changed() error {
	return fmt.Errorf("%s is no longer as setup left it", e.File)
}

// path is where a file of the machine is.
func (m *machine) path(file string) string { return filepath.Join(m.root, file) }

// runAll runs commands until one fails.
func runAll(ctx context.Context, m *machine, commands [][]string) error {
	for _, c := range commands {
		if _, err := m.run(ctx, c[0], c[1:]...); err != nil {
			return fmt.Errorf("`%s` has failed: %w", strings.Join(c, " "), err)
		}
	}
	return nil
}
