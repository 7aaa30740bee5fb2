package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// renewal is how far the way of a certificate into use has come. It is on disk before what it tells is done, so that
// whatever ends the hook, the next run goes on (D-33). The zero value is for a host of which nothing is known.
type renewal struct {
	Next string `json:"next,omitempty"` // the pair that is to be used, or is; "" before the first
	// records that the hook has published, or found to be those of a certificate it had in use, in zone-file form
	// without TTL: those alone it removes (D-32)
	Records []string  `json:"records,omitempty"`
	TTL     uint32    `json:"ttl"`      // the longest of the sets seen that lack the record of Next, in seconds
	Seen    time.Time `json:"seen"`     // since when all nameservers have that record; zero: not yet
	Cached  time.Time `json:"cached"`   // until when a cache may have a set that lacks it, if Seen is not zero
	Told    bool      `json:"told"`     // the mail server was told to read its files, and those are Next's
	Shown   time.Time `json:"shown"`    // since when the host shows the certificate of Next; zero: not yet
	Done    bool      `json:"complete"` // nothing is left to be done for Next
}

// store is a directory with the pairs of one host, the one in use among them, and the state of its renewal:
//
//	state.json
//	pairs/ID/fullchain.pem, privkey.pem, both.pem
//	current -> pairs/ID
type store struct {
	dir   string
	group int // may read keys; -1: only their owner
}

// The files of a pair.
const (
	chainFile = "fullchain.pem"
	keyFile   = "privkey.pem"
	bothFile  = "both.pem" // key and chain, so that a program which reads it has a pair at any moment
)

// openStore makes the directory if it has to. Who may write there could have the host use any certificate.
func openStore(dir, group string) (*store, error) {
	s := &store{dir: dir, group: -1}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, wrong("--group %s: this host has no such group", group)
		}
		if s.group, err = strconv.Atoi(g.Gid); err != nil {
			return nil, err
		}
	}
	if err := owned.Daemon().Keep(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "pairs"), 0o755); err != nil {
		return nil, err
	}
	return s, owned.Daemon().Keep(dir)
}

func (s *store) path(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

// lock has one hook work on the directory at a time. A second waits: the client of an authority calls when it calls.
func (s *store) lock(ctx context.Context, tell func()) (unlock func(), err error) {
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil //nolint:errcheck // that is what unlocks
		case !errors.Is(err, syscall.EWOULDBLOCK):
			f.Close()
			return nil, err
		case !told:
			tell()
		}
		if !pause(ctx, lockPoll) {
			f.Close()
			return nil, errInterrupted
		}
	}
}

const lockPoll = 100 * time.Millisecond

const maxState = 1 << 20 // in octets

// read reads the state.
func (s *store) read() (*renewal, error) {
	r := new(renewal)
	text, err := owned.Daemon().Read(s.path("state.json"), maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	if err != nil {
		return nil, fmt.Errorf("how far the last renewal has come cannot be read: %s: %w; the certificate in use "+
			"stays; "+
			"to begin anew move the file away and run the hook with the renewed certificate", s.path("state.json"), err)
	}
	return r, nil
}

// save writes the state.
func (s *store) save(r *renewal) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	content := aFile(string(append(text, '\n')))
	content.Mode = 0o600
	return content.put(s.path("state.json"))
}

// pair is a certificate with its chain, and its key.
type pair struct {
	*identity
	id         string
	chain, key []byte // PEM
}

// readPair reads a pair and looks whether it is one that a mail server can use.
func readPair(ctx context.Context, chainFile, keyFile string, now time.Time) (*pair, error) {
	p := new(pair)
	var err error
	if p.identity, err = readIdentity(ctx, chainFile); err != nil {
		return nil, err
	}
	private, err := readIdentity(ctx, keyFile)
	if err != nil {
		return nil, err
	}
	switch c := p.identity.chain; {
	case len(c) == 0:
		return nil, fmt.Errorf("%s: it holds a key alone: name the certificate with those above it, such as "+
			"fullchain.pem", chainFile)
	case p.turned:
		return nil, fmt.Errorf("%s: its first certificate is an authority's, and servers show the first as their own: "+
			"put the host's own first", chainFile)
	case !bytes.Equal(p.spki, private.spki):
		return nil, fmt.Errorf("%s is not the key of the certificate in %s: name the two files of one renewal", keyFile,
			chainFile)
	case now.After(c[0].NotAfter):
		return nil, fmt.Errorf("%s: its certificate has ended at %s UTC: this is no renewed one", chainFile,
			minute(c[0].NotAfter))
	}
	if p.chain, err = readPEM(ctx, chainFile); err != nil {
		return nil, err
	}
	if p.key, err = readPEM(ctx, keyFile); err != nil {
		return nil, err
	}
	if !bytes.Contains(p.key, []byte("PRIVATE KEY-----")) {
		return nil, fmt.Errorf("%s: it holds no private key", keyFile)
	}
	digest := sha256.Sum256(bytes.Join([][]byte{p.chain, p.key}, nil))
	p.id = hex.EncodeToString(digest[:8])
	return p, nil
}

// keep writes a pair into the store, where it stays whatever becomes of the files that it came from.
func (s *store) keep(p *pair) error {
	own := fileState{Kind: kindDir, Mode: 0o755, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	if err := own.put(s.path("pairs", p.id)); err != nil {
		return err
	}
	both := append(append(bytes.TrimRight(p.key, "\n"), '\n'), p.chain...)
	for _, f := range []struct {
		name    string
		content []byte
		secret  bool
	}{{chainFile, p.chain, false}, {keyFile, p.key, true}, {bothFile, both, true}} {
		file := aFile(string(f.content))
		if f.secret {
			file.Mode = 0o600
			if s.group >= 0 {
				file.Mode, file.GID = 0o640, uint32(s.group)
			}
		}
		if err := file.put(s.path("pairs", p.id, f.name)); err != nil {
			return err
		}
		reached("pair")
	}
	return nil
}

// held reads a pair of the store.
func (s *store) held(ctx context.Context, id string) (*identity, error) {
	at, err := readIdentity(ctx, s.path("pairs", id, chainFile))
	if err == nil {
		at.from = printable.Text(id)
	}
	return at, err
}

// current is the pair in use; "" before the first.
func (s *store) current() (string, error) {
	target, err := os.Readlink(s.path("current"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	id, ours := strings.CutPrefix(target, "pairs/")
	if err != nil || !ours || strings.Contains(id, "/") {
		return "", fmt.Errorf("%s is not the link to a pair that the hook makes: move it away, and run the hook again",
			s.path("current"))
	}
	return id, nil
}

// use has the host's files be those of a pair, both by one rename (D-33).
func (s *store) use(id string) error {
	link := fileState{Kind: kindLink, Target: "pairs/" + id, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	return link.put(s.path("current"))
}

// prune removes the pairs that nobody needs any more.
func (s *store) prune(needed ...string) error {
	entries, err := os.ReadDir(s.path("pairs"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(needed, e.Name()) {
			if err := os.RemoveAll(s.path("pairs", e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
