package danelaw

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/owned"
)

// maxState is how many octets a file may have: some thousand negative trust anchors.
const maxState = 4 << 20

// stateFile keeps something in a directory, so that it outlives a restart. If that fails, an alarm is raised, and what
// there is is in force all the same. Only a directory where others may write stops the start: they could change what is
// believed (T-10).
type stateFile struct {
	of      stateKind
	dir     string // "" if nothing is kept
	serving bool   // else it is only read
	damaged bool   // it cannot be understood, and is to be set aside
	failed  bool
	written string
	again   time.Time     // when to save again what could not be saved
	wait    time.Duration // from then on
}

// stateKind is what a stateFile keeps.
type stateKind struct {
	file   string
	what   string // in the plural, for people
	remedy string // for one that was set aside
}

func (s *stateFile) path() string { return filepath.Join(s.dir, s.of.file) }

// open makes dir the place of the file, and has read understand what it holds the first time. It fails if others may
// write there.
func (s *stateFile) open(dir string, trust owned.Trust, read func(text []byte) error) error {
	if dir == "" || dir == s.dir {
		return nil
	}
	if err := trust.Keep(dir); err != nil {
		return fmt.Errorf("trust_anchor_state: %w", err)
	}
	next := stateFile{of: s.of, dir: dir, serving: s.serving}
	text, err := trust.Read(next.path(), maxState)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, owned.ErrRefused):
		return fmt.Errorf("trust_anchor_state: %w", err)
	default:
		if err == nil {
			err = read(text)
			next.damaged = err != nil
		}
		if next.failed = err != nil; next.failed {
			log.Errorf("%s in %s cannot be read, and are not in force: %v", s.of.what, next.path(), err)
		}
	}
	*s = next
	return nil
}

// serve allows writing. A file that could not be understood is renamed, for people to look at.
func (s *stateFile) serve() {
	s.serving = true
	if !s.damaged {
		return
	}
	s.damaged = false
	aside := s.path() + ".damaged"
	if err := os.Rename(s.path(), aside); err != nil {
		log.Errorf("%s cannot be set aside: %v", s.path(), err)
		return
	}
	log.Errorf("%s is now %s: %s", s.path(), aside, s.of.remedy)
}

// save writes a text, if it has changed; err is that there is none.
func (s *stateFile) save(text []byte, err error) {
	if s.dir == "" || !s.serving || err == nil && string(text) == s.written && !s.failed {
		return
	}
	if err == nil {
		err = replaceFile(s.path(), text)
	}
	if err != nil {
		s.unsaved(err)
		return
	}
	if s.wait > 0 {
		log.Infof("%s are written to %s again", s.of.what, s.path())
	}
	s.failed, s.wait, s.written = false, 0, string(text)
}

// What cannot be saved is tried again after firstSave, and then ever less often.
const (
	firstSave = time.Second
	lastSave  = 5 * time.Minute
)

// unsaved notes that what there is could not be saved, tells it the first time, and says when to try again.
func (s *stateFile) unsaved(err error) {
	s.failed = true
	if s.wait == 0 {
		log.Errorf("%s cannot be written, and will not outlive a restart unless a later try succeeds: %v",
			s.of.what, err)
	}
	s.wait = min(max(2*s.wait, firstSave), lastSave)
	s.again = time.Now().Add(s.wait)
}

// due reports whether what could not be saved is to be saved now.
func (s *stateFile) due(now time.Time) bool { return s.wait > 0 && !now.Before(s.again) }

// replaceFile gives a file a new content in one step: after a crash it holds the old or the new one.
func replaceFile(path string, content []byte) error {
	return replaceBy(path, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}

// replaceBy is replaceFile for what write writes.
func replaceBy(path string, write func(*os.File) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := owned.Daemon().Keep(dir); err != nil { // it may have changed since the start
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close()) // so that the rename lasts
}
