package danelaw

import (
	"fmt"
	"strings"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// log writes the lines of the log. Whatever stands in one, of names, of certificates, of what servers or files say, it
// stays one line of text.
var log = logger{clog.NewWithPlugin(pluginName)}

type logger struct{ to clog.P }

func line(format string, args []any) string { return printable.Text(fmt.Sprintf(format, args...)) }

// Debugf tells what only whoever looks for a fault wants to know.
func (l logger) Debugf(format string, args ...any) {
	if clog.D.Value() {
		l.to.Debug(line(format, args))
	}
}

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
