package danelaw

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/danelaw-dns/danelaw/plugin/cachedb"
	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

const (
	// saveEvery is how often a cache file is written: a crash costs what was learned since.
	saveEvery = 15 * time.Minute
	// saveAgain is when what could not be written is tried again.
	saveAgain = time.Minute
	// savePatience is how long the end of the process waits for the last writing; 64 MiB take a fifth of a second.
	savePatience = 10 * time.Second
)

// cacheFile keeps what is Secure in a cache, so that it outlives the process. The process has one for each path: a
// reload goes on with it. A nil one keeps nothing.
type cacheFile struct {
	cachedb.FromFile
	path string
	most int64 // octets
	now  func() time.Time
	stop chan struct{}
	done chan struct{} // closed when nothing is written any more; nil if nothing was begun

	saving  sync.Mutex // held while the file is written
	mu      sync.Mutex
	store   *resolve.Store // what is written; nil: nothing yet, or no more
	foreign bool           // the file is another danelaw's, and stays as it is
	failed  bool           // the last writing did
	written cachedb.Written
}

func (f *cacheFile) name() string { return f.path }

// holdCacheFile holds the cache file of a configuration; nil if it has none.
func holdCacheFile(c Config) (*cacheFile, error) {
	if c.CacheFile == "" {
		return nil, nil
	}
	f, err := hold(&process, c.CacheFile, func() (*cacheFile, error) { return openCacheFile(c.CacheFile) })
	if err != nil {
		return nil, fmt.Errorf("cache_file %s: %w", c.CacheFile, err)
	}
	return f, nil
}

// openCacheFile opens the one at a path, if it is there. What is no cache file, or may be written by others, stops the
// start. One that is damaged, or newer, is no memory and no obstacle.
func openCacheFile(path string) (*cacheFile, error) {
	f := &cacheFile{path: path, stop: make(chan struct{})}
	if err := owned.Daemon().Keep(filepath.Dir(path)); err != nil {
		return nil, err
	}
	opened, err := owned.Daemon().Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	var file *cachedb.File
	if err == nil {
		file, err = cachedb.Open(opened)
	}
	switch {
	case err == nil:
		log.Infof("cache_file %s: up to %d records are there, each to be judged anew when it is asked for", path,
			file.Records())
		return f, f.Replace(file)
	case errors.Is(err, owned.ErrRefused):
		return nil, err
	case errors.Is(err, cachedb.ErrForeign):
		return nil, fmt.Errorf("%w: name a file that may be overwritten", err)
	case errors.Is(err, cachedb.ErrVersion):
		f.foreign = true
		log.Warningf("cache_file %s: %v: it is left as it is, and nothing is read or written; remove it to begin anew",
			path, err)
	default:
		f.failed = true
		log.Errorf("cache_file %s cannot be read, the cache begins empty: %v", path, err)
	}
	return f, nil
}

// serve tells by which clock, and in how many octets, is written what a Handler remembers.
func (f *cacheFile) serve(now func() time.Time, most int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.most = now, most
}

// beyond is all memory beyond the process that a Handler has; nil if there is none.
func beyond(h *Handler) resolve.Beyond {
	now := func() time.Time { return resolve.Memory{Resolver: h.resolving}.Now() }
	var sources []cachedb.Source
	if h.cacheFile != nil {
		h.cacheFile.serve(now, h.config.CacheSize)
		sources = append(sources, h.cacheFile)
	}
	if h.shared != nil {
		sources = append(sources, h.shared)
	}
	if len(sources) == 0 {
		return nil
	}
	return &cachedb.DB{Sources: sources, Now: now}
}

// start has a store written regularly, in the place of the one before.
func (f *cacheFile) start(store *resolve.Store) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store = store
	if f.done == nil {
		f.done = make(chan struct{})
		go f.run()
	}
}

func (f *cacheFile) run() {
	defer close(f.done)
	for {
		wait := saveEvery
		if f.unsaved() {
			wait = saveAgain
		}
		select {
		case <-f.stop:
			f.save()
			return
		case <-time.After(wait):
			f.save()
		}
	}
}

// close writes the file for the last time.
func (f *cacheFile) close() {
	close(f.stop)
	f.mu.Lock()
	done := f.done
	f.mu.Unlock()
	if done != nil {
		select {
		case <-done:
		case <-time.After(savePatience):
			log.Errorf("cache_file %s: gave up writing it after %v: the one from before stays", f.path, savePatience)
			return
		}
	}
	if err := f.Replace(nil); err != nil {
		log.Warningf("cache_file %s: %v", f.path, err)
	}
}

// save writes the file. A failure is told once, until it succeeds again.
func (f *cacheFile) save() {
	f.saving.Lock()
	defer f.saving.Unlock()
	f.mu.Lock()
	store, foreign, now, most := f.store, f.foreign, f.now, f.most
	f.mu.Unlock()
	if store == nil || foreign {
		return
	}
	var written cachedb.Written
	err := replaceBy(f.path, func(to *os.File) (err error) {
		at := now()
		written, err = cachedb.Write(to, most, at, store.Lasting(at), f.Rest())
		return err
	})
	if err == nil {
		err = f.reopen()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && !f.failed:
		log.Errorf("cache_file %s cannot be written, the cache will not outlive a restart unless a later try "+
			"succeeds: %v", f.path, err)
	case err == nil && f.failed:
		log.Infof("cache_file %s is written again", f.path)
	}
	if f.failed = err != nil; err == nil {
		f.written = written
	}
}

// reopen has the file that was just written be the one that is read.
func (f *cacheFile) reopen() error {
	opened, err := owned.Daemon().Open(f.path)
	if err != nil {
		return err
	}
	file, err := cachedb.Open(opened)
	if err != nil {
		return err
	}
	return f.Replace(file)
}

// unsaved reports whether the file could not be read or written the last time.
func (f *cacheFile) unsaved() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed || f.foreign
}

var (
	shownFileRecords = gauge("cache_file_records", "Records in the cache file, by its header.")
	shownFileOctets  = gauge("cache_file_size_bytes", "Octets of the cache file as it was written the last time.")
	shownFileSaved   = gauge("cache_file_saved_timestamp_seconds", "When the cache file was written the last time.")
)

// show shows the file to Prometheus.
func (f *cacheFile) show(show func(d *prometheus.Desc, value float64, labels ...string)) {
	if f == nil {
		return
	}
	f.mu.Lock()
	written := f.written
	f.mu.Unlock()
	show(shownFileRecords, float64(f.Records()))
	if !written.At.IsZero() {
		show(shownFileOctets, float64(written.Octets))
		show(shownFileSaved, float64(written.At.Unix()))
	}
}
