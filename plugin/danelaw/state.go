package danelaw

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/owned"
)

const (
	negativesFile = "negative-trust-anchors.json"
	stateVersion  = 1
	maxState      = 4 << 20 // octets: some thousand negative trust anchors
)

// stateFile keeps the negative trust anchors in a directory. If that fails, an alarm is raised, and they are in force
// all the same. Only a directory where others may write stops the start: they could set negative trust anchors.
type stateFile struct {
	dir     string // "" if nothing is kept
	serving bool   // else it is only read
	damaged bool   // it cannot be understood, and is to be set aside
	failed  bool
	written string
	again   time.Time     // when to save again what could not be saved
	wait    time.Duration // from then on
}

// state is what stands in the file.
type state struct {
	Version   int    `json:"version"`
	Negatives []*NTA `json:"negative_trust_anchors"`
}

func (s *stateFile) path() string { return filepath.Join(s.dir, negativesFile) }

// open makes dir the place of the file, and returns what it holds the first time. It fails if others may write there.
func (s *stateFile) open(dir string, trust owned.Trust) ([]*NTA, error) {
	if dir == "" || dir == s.dir {
		return nil, nil
	}
	if err := trust.Keep(dir); err != nil {
		return nil, fmt.Errorf("trust_anchor_state: %w", err)
	}
	var kept []*NTA
	next := stateFile{dir: dir, serving: s.serving}
	text, err := trust.Read(next.path(), maxState)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, owned.ErrRefused):
		return nil, fmt.Errorf("trust_anchor_state: %w", err)
	default:
		if err == nil {
			kept, err = parseState(text)
			next.damaged = err != nil
		}
		if next.failed = err != nil; next.failed {
			log.Errorf("the negative trust anchors in %s cannot be read, and are not in force: %v", next.path(), err)
		}
	}
	*s = next
	return kept, nil
}

// parseState reads the content of the file.
func parseState(text []byte) ([]*NTA, error) {
	var in state
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	if in.Version != stateVersion {
		return nil, fmt.Errorf("it is of version %d, this danelaw knows %d", in.Version, stateVersion)
	}
	for _, n := range in.Negatives {
		n = cmp.Or(n, new(NTA)) // null
		if err := (NegativeAnchor{Zone: n.Zone, Life: n.Until.Sub(n.Begun), Reason: n.Reason}).check(); err != nil {
			return nil, err // no negative trust anchor that was written by danelaw is so
		}
	}
	return in.Negatives, nil
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
	if err != nil {
		s.unsaved(err)
		return
	}
	if s.wait > 0 {
		log.Infof("the negative trust anchors are written to %s again", s.path())
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
		log.Errorf("the negative trust anchors cannot be written, and will not outlive a restart unless a "+
			"later try succeeds: %v", err)
	}
	s.wait = min(max(2*s.wait, firstSave), lastSave)
	s.again = time.Now().Add(s.wait)
}

// due reports whether what could not be saved is to be saved now.
func (s *stateFile) due(now time.Time) bool { return s.wait > 0 && !now.Before(s.again) }

// replaceFile gives a file a new content in one step: after a crash it holds the old or the new one.
func replaceFile(path string, content []byte) error {
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
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
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
