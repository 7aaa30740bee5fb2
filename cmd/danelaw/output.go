package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// level is how grave a line of the log is, and how it is called in the forms of the log.
type level struct {
	name    string // in text
	slog    slog.Level
	journal int // priority of syslog(3)
}

// levels are those of CoreDNS, the gravest last. A line that says nothing is as the second.
var levels = []level{
	{"DEBUG", slog.LevelDebug, 7}, {"INFO", slog.LevelInfo, 6}, {"WARNING", slog.LevelWarn, 4},
	{"ERROR", slog.LevelError, 3}, {"FATAL", slog.LevelError + 4, 2}, {"PANIC", slog.LevelError + 4, 2},
}

// The forms of the log.
const (
	formText    = "text"
	formJSON    = "json"
	formJournal = "journal"
)

// output is the log of the daemon. Everything goes through it: what danelaw logs, CoreDNS, its plugins and caddy, all
// of which put the level before their lines, and the plugin after it. Who logs does not wait until somebody reads:
// lines beyond a bound are lost, which is told.
type output struct {
	form    string
	least   slog.Level
	verbose bool

	mu       sync.Mutex
	reloaded string // what the plugin reload said last
	lost     int
	lines    chan []byte
	unread   atomic.Int64  // of lines, that being written included
	written  chan struct{} // closed when all lines are
}

const (
	// heldLines are held for a reader who is slow: some hundred KiB.
	heldLines = 1024
	// lastLines is how long the end waits for who reads the last of them.
	lastLines = time.Second
)

// newOutput returns a log that goes to a writer until it is closed.
func newOutput(form string, to io.Writer) *output {
	o := &output{form: form, least: slog.LevelDebug, lines: make(chan []byte, heldLines+1),
		written: make(chan struct{})}
	go func() {
		defer close(o.written)
		for line := range o.lines {
			to.Write(line) //nolint:errcheck // there is nowhere to tell it
			o.unread.Add(-1)
		}
	}()
	return o
}

// close ends the log once all of it is written, if somebody reads it.
func (o *output) close() {
	close(o.lines)
	select {
	case <-o.written:
	case <-time.After(lastLines):
	}
}

// outputFlags are those by which one is told how to log.
func outputFlags() []cli.Flag {
	return []cli.Flag{
		boolFlag("quiet", "log warnings and errors alone"),
		boolFlag("verbose", "log every question with its verdict too"),
		&cli.StringFlag{Name: "log-format",
			Usage: "write the log as `FORM`: text, json (an object on each line), or journal (systemd's: priorities " +
				"instead of times and levels), which is taken where stderr is the journal", Validator: checkForm},
	}
}

func checkForm(form string) error {
	switch form {
	case formText, formJSON, formJournal:
		return nil
	}
	return fmt.Errorf("%q is no form of the log; there are %s, %s and %s", form, formText, formJSON, formJournal)
}

// logTo has everything that is logged from now on go to stderr as the flags say; restore ends that.
func logTo(stderr io.Writer, c *cli.Command) (o *output, restore func(), err error) {
	form := c.String("log-format")
	if form == "" {
		form = formText
		if stderr == io.Writer(os.Stderr) && isJournal(os.Stderr, os.Getenv("JOURNAL_STREAM")) {
			form = formJournal
		}
	}
	quiet := c.Bool("quiet")
	if quiet && c.Bool("verbose") {
		return nil, nil, wrong("--quiet and --verbose contradict each other: leave out one")
	}
	o = newOutput(form, stderr)
	if o.verbose = c.Bool("verbose"); quiet {
		o.least = slog.LevelWarn
	}
	to, flags := log.Writer(), log.Flags()
	log.SetOutput(o)
	log.SetFlags(0)
	return o, func() {
		log.SetFlags(flags)
		log.SetOutput(to)
		o.close()
	}, nil
}

// isJournal reports whether a file is the stream to the journal that systemd names in JOURNAL_STREAM (systemd.exec(5)).
func isJournal(f *os.File, stream string) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// prefix is what stands before the text of a line.
var prefix = regexp.MustCompile(`^(?:\[([A-Z]+)\] )?(?:plugin/(\w+): )?`)

// Write implements io.Writer for package log: a line, which has more than one if there is a stack in it.
func (o *output) Write(line []byte) (int, error) {
	if o.verbose {
		// CoreDNS clears it with each server that it makes; a start or reload, done or failed, ends with a line
		clog.D.Set()
	}
	text := strings.TrimRight(string(line), "\n")
	m := prefix.FindStringSubmatch(text)
	text = text[len(m[0]):]
	l := levels[1]
	if i := slices.IndexFunc(levels, func(of level) bool { return of.name == m[1] }); i >= 0 {
		l = levels[i]
	} else if m[1] != "" {
		text = "[" + m[1] + "] " + text
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if plugin := m[2]; l.slog >= o.least && !o.redundant(plugin, text) {
		if plugin == "reload" {
			text = upstream.Redact(strings.Replace(text, caddysWords, "", 1)) // of the Corefile
		}
		o.put(o.encode(time.Now(), l, plugin, withoutUsers(text)))
	}
	if l.slog > slog.LevelError {
		o.drain() // the process ends after this line
	}
	return len(line), nil
}

// put hands a line on, and tells of those before it that nobody has read.
func (o *output) put(line []byte) {
	if o.unread.Load() >= heldLines {
		o.lost++
		return
	}
	if o.lost > 0 {
		o.unread.Add(1)
		o.lines <- o.encode(time.Now(), levels[2], "", fmt.Sprintf("%d lines of the log were lost: nobody read them",
			o.lost))
		o.lost = 0
	}
	o.unread.Add(1)
	o.lines <- line
}

// drain waits a while for all lines to be read.
func (o *output) drain() {
	for end := time.Now().Add(lastLines); o.unread.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// redundant reports whether a line has been told, or will be: a failed reload by whoever asked for it, not by caddy
// too, and a Corefile with a fault once, not each time that the plugin reload looks at it.
func (o *output) redundant(plugin, text string) bool {
	if plugin != "reload" {
		return plugin == "" && strings.HasPrefix(text, "Restart failed: ")
	}
	if o.reloaded == text {
		return true
	}
	if o.reloaded = text; strings.HasPrefix(text, "Corefile parse failed: ") {
		danelaw.ReloadFailed()
	}
	return false
}

// encode returns a line in the form of the log. Nothing in the text can begin another one.
func (o *output) encode(now time.Time, l level, plugin, text string) []byte {
	if o.form == formJSON {
		return encodeJSON(now, l, plugin, text)
	}
	first, more := now.Format("2006/01/02 15:04:05 ")+"["+l.name+"] ", "    "
	if o.form == formJournal {
		first = fmt.Sprintf("<%d>", l.journal)
		more = first + more
	}
	if plugin != "" {
		first += "plugin/" + plugin + ": "
	}
	var b bytes.Buffer
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\t", "    ")
		b.WriteString(first + printable.Text(line) + "\n")
		first = more
	}
	return b.Bytes()
}

func encodeJSON(now time.Time, l level, plugin, text string) []byte {
	var b bytes.Buffer
	h := slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.LevelKey {
				a.Value = slog.StringValue(l.name)
			}
			return a
		}})
	record := slog.NewRecord(now.UTC(), l.slog, text, 0)
	if plugin != "" {
		record.AddAttrs(slog.String("plugin", plugin))
	}
	h.Handle(context.Background(), record) //nolint:errcheck // a buffer takes everything
	return printable.JSON(b.Bytes())
}
