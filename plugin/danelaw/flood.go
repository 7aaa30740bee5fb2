package danelaw

import (
	"cmp"
	"errors"
	"sync"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// linesPerSecond is how many failures are logged in one second: enough for every broken domain of a mail host, and
// little enough for a disk when thousands are asked for.
const linesPerSecond = 10

// flood logs failures, or what else of, but not every one of a flood.
type flood struct {
	of      string // in the plural; "": failures
	mu      sync.Mutex
	second  time.Time
	logged  int
	skipped int
}

// log writes the sentence of a failed query, with the stack if it is a fault of danelaw's own.
func (f *flood) log(q *query, notes []*dnssec.Failure) {
	switch {
	case len(notes) == 0 || !f.open():
	case errors.Is(notes[0], chain.ErrPanic):
		log.Errorf("%s: %v", q, notes[0].Err)
	default:
		log.Warningf("%s from %s: SERVFAIL: %v", q, q.client, notes[0])
	}
}

// open reports whether one more may be logged now. It tells how many were not in the time before.
func (f *flood) open() bool {
	now, skipped := time.Now(), 0
	f.mu.Lock()
	if now.Sub(f.second) >= time.Second {
		skipped = f.skipped
		f.second, f.logged, f.skipped = now, 0, 0
	}
	f.logged++
	quiet := f.logged > linesPerSecond
	if quiet {
		f.skipped++
	}
	f.mu.Unlock()
	if skipped > 0 {
		log.Warningf("%d more %s were not logged", skipped, cmp.Or(f.of, "failures"))
	}
	return !quiet
}
