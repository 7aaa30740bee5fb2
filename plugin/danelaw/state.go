package danelaw

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	negativesFile = "negative-trust-anchors.json"
	stateVersion  = 1
	maxState      = 4 << 20 // octets: some thousand negative trust anchors
)

// stateFile keeps the negative trust anchors in a directory. Trouble with it is an alarm, never a stop: they are in force
// all the same.
type stateFile struct {
	dir     string // "" if nothing is kept
	serving bool   // else it is only read
	damaged bool   // it cannot be understood, and is to be set aside
	failed  bool
	written string
}

// state is what stands in the file.
type state struct {
	Version   int    `json:"version"`
	Negatives []*NTA `json:"negative_trust_anchors"`
}

func (s *stateFile) path() string { return filepath.Join(s.dir, negativesFile) }

// open makes dir the place, and returns what is kept there, once.
func (s *stateFile) open(dir string, now time.Time) []*NTA {
	if dir == "" || dir == s.dir {
		return nil
	}
	*s = stateFile{dir: dir, serving: s.serving}
	kept, err := s.read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.failed = true
		log.Errorf("the negative trust anchors in %s cannot be read, and are not in force: %v", s.path(), err)
	}
	return kept
}

func (s *stateFile) read() ([]*NTA, error) {
	f, err := os.Open(s.path())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, err
	}
	var in state
	if err := json.Unmarshal(text, &in); err != nil {
		s.damaged = true
		return nil, err
	}
	if in.Version != stateVersion {
		s.damaged = true
		return nil, fmt.Errorf("it is of version %d, this danelaw knows %d", in.Version, stateVersion)
	}
	for _, n := range in.Negatives {
		if err := n.check(); err != nil {
			s.damaged = true
			return nil, err
		}
	}
	return in.Negatives, nil
}

// check says what no negative trust anchor that was written by danelaw is.
func (n *NTA) check() error {
	if n == nil {
		return errors.New("null is no negative trust anchor")
	}
	return NegativeAnchor{Zone: n.Zone, Life: n.Until.Sub(n.Begun), Reason: n.Reason}.check()
}

// serve allows to write. What could not be understood is set aside for people to look at.
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
	log.Errorf("%s is now %s: look at it and set again, with danelaw nta add, what is still needed", s.path(), aside)
}

// save writes all, if they have changed.
func (s *stateFile) save(all []*NTA) {
	if s.dir == "" || !s.serving {
		return
	}
	text, err := json.MarshalIndent(state{stateVersion, all}, "", "  ")
	if err == nil && string(text) == s.written && !s.failed {
		return
	}
	if err == nil {
		err = replaceFile(s.path(), append(text, '\n'))
	}
	if s.failed = err != nil; s.failed {
		log.Errorf("the negative trust anchors cannot be written, and will not outlive a restart: %v", err)
		return
	}
	s.written = string(text)
}

// replaceFile gives a file a new content in one step: after a crash it holds the old or the new one.
func replaceFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
