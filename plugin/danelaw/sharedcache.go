package danelaw

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/danelaw-dns/danelaw/plugin/cachedb"
	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// SharedCache is where a cache is that several share (C-18).
type SharedCache struct {
	url      string
	options  *redis.Options
	password string // the file that holds it; "" if there is none
}

// credential is the name of the password among the credentials that a service manager hands over.
const credential = "shared_cache"

func setSharedCache(s *setting, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errArgs
	}
	options, err := cachedb.ParseURL(args[0])
	if err != nil {
		return err
	}
	c := &SharedCache{url: args[0], options: options}
	given := os.Getenv("CREDENTIALS_DIRECTORY") // of systemd's LoadCredential=
	if len(args) == 2 {
		c.password = s.path(args[1])
	} else if path := filepath.Join(given, credential); given != "" && exists(path) {
		c.password = path
	}
	if c.password != "" && !s.origin.looking {
		if _, err := readPassword(c.password); err != nil {
			return fmt.Errorf("the password: %w", err)
		}
	}
	s.config.SharedCache = c
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// readPassword reads a password: what is in the file, without the end of its line.
func readPassword(path string) (string, error) {
	const most = 4096
	b, err := owned.Daemon().Read(path, most)
	b = bytes.TrimRight(b, "\r\n")
	if err == nil && (len(b) == 0 || bytes.ContainsAny(b, "\r\n")) {
		err = fmt.Errorf("%s does not hold one line", path)
	}
	return string(b), err
}

// sharedCache is the one of a server block. It lives through reloads. It implements cachedb.Meter.
type sharedCache struct {
	*cachedb.Shared
	key, where, block string
	away              atomic.Bool
}

func (c *sharedCache) name() string { return c.key }

func (c *sharedCache) close() {
	if err := c.Close(); err != nil {
		log.Warningf("shared_cache %s: %v", c.where, err)
	}
}

// holdSharedCache holds the shared cache of a configuration; nil if it has none.
func holdSharedCache(c Config) *sharedCache {
	if c.SharedCache == nil {
		return nil
	}
	of := *c.SharedCache
	key := c.Block + "\n" + of.url + "\n" + of.password
	held, _ := hold(&process, key, func() (*sharedCache, error) {
		s := &sharedCache{key: key, where: upstream.Redact(of.url), block: c.Block}
		config := cachedb.SharedConfig{Options: of.options, Meter: s}
		if of.password != "" {
			config.Password = func() (string, error) { return readPassword(of.password) }
		}
		s.Shared = cachedb.NewShared(config)
		return s, nil
	})
	return held
}

var (
	sharedLooks = counter("shared_cache_total", "Counter of looks into the shared cache, and of records for it.", "op",
		"result")
	shownShared = gauge("shared_cache_up", "1 unless the shared cache does not answer.")
)

// Looked implements cachedb.Meter.
func (c *sharedCache) Looked(op, result string) {
	sharedLooks.WithLabelValues(c.block, op, result).Inc()
}

// Away implements cachedb.Meter.
func (c *sharedCache) Away(why error) {
	if c.away.Store(why != nil); why != nil {
		log.Warningf("shared_cache %s does not answer, upstreams are asked instead: %v", c.where,
			cmp.Or(errors.Unwrap(why), why))
	} else {
		log.Infof("shared_cache %s answers again", c.where)
	}
}
