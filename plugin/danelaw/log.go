package danelaw

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// log writes the lines of the log. Whatever stands in one, of names, of certificates, of what servers or files say, it
// stays one line of text.
var log = logger{clog.NewWithPlugin(pluginName)}

type logger struct{ to clog.P }

func line(format string, args []any) string { return printable.Text(fmt.Sprintf(format, args...)) }

// Debugf tells what only whoever looks for a fault wants to know.
func (l logger) Debugf(format string, args ...any) { l.to.Debug(line(format, args)) }

// Infof tells of what is as it should be.
func (l logger) Infof(format string, args ...any) { l.to.Info(line(format, args)) }

// Warningf tells of what somebody should look at.
func (l logger) Warningf(format string, args ...any) { l.to.Warning(line(format, args)) }

// Errorf tells of what somebody has to mend.
func (l logger) Errorf(format string, args ...any) { l.to.Error(line(format, args)) }

// trace tells of a fault of danelaw's own. The lines of its stack stay lines; they are indented, so that none is taken
// for another entry.
func (l logger) trace(format string, args ...any) {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i, text := range lines {
		lines[i] = printable.Text(strings.TrimSpace(text))
	}
	l.to.Error(strings.Join(lines, "\n\t"))
}

// linesPerSecond is how many failures are logged in one second: enough for every broken domain of a mail host, and
// little enough for a disk when thousands are asked for.
const linesPerSecond = 10

// flood limits how many lines of one kind are logged in a second.
type flood struct {
	of      string // in the plural; "": failures
	mu      sync.Mutex
	second  time.Time
	logged  int
	skipped int
	telling *time.Timer // tells of what was skipped when the second is over; nil if nothing was
}

// logFailure logs a failure when the first client is told of it, also if a prefetch or another client's question met it
// first.
func (h *Handler) logFailure(by asker, a *resolve.Answer, notes []*dnssec.Failure) {
	if a.Tell() {
		h.memory.history.failed(by.question, notes[0].Text, by.begun)
		h.writer.failures.log(by, notes)
	}
}

// asker is a question, who asks it, and since when.
type asker struct {
	question dns.Question
	client   netip.Addr
	begun    time.Time
}

// log writes the sentence of a failed query, with the stack if it is a fault of danelaw's own.
func (f *flood) log(by asker, notes []*dnssec.Failure) {
	switch {
	case len(notes) == 0 || !f.open():
	case errors.Is(notes[0], fetch.ErrPanic):
		log.trace("%s: %v", describe(by.question), notes[0].Err)
	default:
		log.Warningf("%s from %s: SERVFAIL: %v", describe(by.question), by.client, notes[0])
	}
}

// open reports whether one more may be logged now.
func (f *flood) open() bool {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.second) >= time.Second {
		f.second, f.logged = now, 0
	}
	if f.logged++; f.logged <= linesPerSecond {
		return true
	}
	if f.skipped++; f.telling == nil {
		f.telling = time.AfterFunc(f.second.Add(time.Second).Sub(now), f.flush)
	}
	return false
}

// flush tells how many were not logged.
func (f *flood) flush() {
	f.mu.Lock()
	skipped := f.skipped
	if f.telling != nil {
		f.telling.Stop()
	}
	f.skipped, f.telling = 0, nil
	f.mu.Unlock()
	if skipped > 0 {
		log.Warningf("%d more %s were not logged", skipped, cmp.Or(f.of, "failures"))
	}
}
