package danelaw

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/danelaw-dns/danelaw/plugin/policy"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// AlarmKind is what an alarm is about.
type AlarmKind string

// The kinds.
const (
	OfWatch   AlarmKind = "watch"   // a watched domain
	OfAnchors AlarmKind = "anchors" // the trust anchors of a zone
	OfVerdict AlarmKind = "verdict" // MX, or TLSA of port 25, of anybody
	OfPolicy  AlarmKind = "policy"  // a policy of MTA-STS that is held
)

var alarmKinds = []AlarmKind{OfWatch, OfAnchors, OfVerdict, OfPolicy}

// Bounds on what is run for alarms (S-32).
const (
	alarmEvery   = time.Hour        // one that comes and goes is told no more often
	alarmsHourly = 20               // of a kind
	alarmsKnown  = 256              // of a kind
	alarmLife    = 30 * time.Second // of a command
	alarmRetry   = 10 * time.Minute // after a command that failed
	alarmOutput  = 1 << 10          // octets of what it says
)

// alarms are what is wrong, and what the command was told of that (S-32). They outlive a reload. Nobody who raises one
// waits.
type alarms struct {
	command []string
	clock   func() time.Time
	run     func(ctx context.Context, a Alarm) error // a test's own in tests
	life    time.Duration                            // of a command

	mu      sync.Mutex
	by      map[AlarmKind]map[alarmKey]*alarm
	told    map[AlarmKind][]time.Time // raised ones, within the last hour
	busy    map[AlarmKind]bool        // a command runs
	ended   bool
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// alarmKey tells one alarm of a kind from others.
type alarmKey struct{ subject, what string }

// alarm is one of them.
type alarm struct {
	Alarm
	raised, told bool
	last         time.Time // when it was told as raised; zero: never
	again        time.Time // not before, as the command has failed
}

func (n *alarms) name() string { return strings.Join(n.command, "\x00") }

// close ends the command that runs.
func (n *alarms) close() {
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	n.stop()
	n.running.Wait()
}

// holdAlarms returns those that are told to a command; nil if there is none.
func holdAlarms(command []string) *alarms {
	if len(command) == 0 {
		return nil
	}
	n, _ := hold(&process, strings.Join(command, "\x00"), func() (*alarms, error) {
		n := newAlarms(command)
		n.running.Go(func() { every(n.ctx, time.Minute, n.tell) })
		return n, nil
	})
	return n
}

func newAlarms(command []string) *alarms {
	n := &alarms{command: command, clock: time.Now, by: map[AlarmKind]map[alarmKey]*alarm{},
		told: map[AlarmKind][]time.Time{}, busy: map[AlarmKind]bool{}}
	n.run, n.life = n.execute, alarmLife
	n.ctx, n.stop = context.WithCancel(context.Background())
	for _, kind := range alarmKinds {
		n.by[kind] = map[alarmKey]*alarm{}
	}
	return n
}

// are says all that is wrong with a subject now, in sentences; what was, and is not there, is resolved.
func (n *alarms) are(kind AlarmKind, subject string, now map[string]string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	for key, a := range n.by[kind] {
		if _, still := now[key.what]; key.subject == subject && !still && a.raised {
			a.raised, a.At = false, n.clock().UTC()
		}
	}
	for what, text := range now {
		n.raise(kind, alarmKey{subject, what}, text)
	}
	n.mu.Unlock()
	n.tell()
}

// raise notes one alarm; n.mu is held. One that is raised already keeps the time when it was.
func (n *alarms) raise(kind AlarmKind, key alarmKey, text string) {
	known := n.by[kind]
	a := known[key]
	if a == nil {
		if len(known) >= alarmsKnown && !n.forget(kind) {
			notifications.WithLabelValues(string(kind), "dropped").Inc()
			return
		}
		a = &alarm{}
		known[key] = a
	}
	if !a.raised {
		a.raised, a.again = true, time.Time{}
		a.Alarm = Alarm{Kind: kind, Subject: key.subject, What: key.what, At: n.clock().UTC(), Host: hostname()}
	}
	a.Text = printable.Text(text)
}

// forget makes room for one more alarm, and reports whether there is some; n.mu is held. What is over goes first, then
// what was told the longest time ago: nobody will hear that it is over.
func (n *alarms) forget(kind AlarmKind) bool {
	known := n.by[kind]
	var oldest *alarmKey
	for key, a := range known {
		if !a.raised && !a.told {
			delete(known, key)
			return true
		}
		if a.told && (oldest == nil || a.last.Before(known[*oldest].last)) {
			oldest = &key
		}
	}
	if oldest != nil {
		delete(known, *oldest)
	}
	return oldest != nil
}

// tell runs the command for the alarms that are to be told now, one of a kind at a time.
func (n *alarms) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock()
	for _, kind := range alarmKinds {
		n.told[kind] = slices.DeleteFunc(n.told[kind], func(at time.Time) bool { return now.Sub(at) >= alarmEvery })
		if a := n.next(kind, now); a != nil && !n.busy[kind] && !n.ended {
			n.busy[kind] = true
			n.running.Go(func() { n.send(kind, a) })
		}
	}
}

// next returns the alarm of a kind that is to be told first (S-32); nil if none is. n.mu is held.
func (n *alarms) next(kind AlarmKind, now time.Time) (first *alarm) {
	for _, a := range n.by[kind] {
		due := a.raised != a.told && !now.Before(a.again)
		if a.raised {
			due = due && len(n.told[kind]) < alarmsHourly && (a.last.IsZero() || now.Sub(a.last) >= alarmEvery)
		}
		if due && (first == nil || a.At.Before(first.At)) {
			first = a
		}
	}
	return first
}

// send tells one alarm, as it is now.
func (n *alarms) send(kind AlarmKind, a *alarm) {
	defer survive()
	n.mu.Lock()
	is := a.Alarm
	is.State = map[bool]AlarmState{true: Raised, false: Resolved}[a.raised]
	n.mu.Unlock()
	err := n.run(n.ctx, is)
	n.note(kind, a, is.State, err)
	n.tell()
}

// note notes what became of a command.
func (n *alarms) note(kind AlarmKind, a *alarm, told AlarmState, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy[kind] = false
	now := n.clock()
	if n.ctx.Err() != nil {
		return
	}
	if told == Raised {
		n.told[kind] = append(n.told[kind], now) // also if it failed: it was run
	}
	if err != nil {
		a.again = now.Add(alarmRetry)
		notifications.WithLabelValues(string(kind), "failure").Inc()
		log.Errorf("notify %s: %v; it is tried again in %v. The alarm, %s: %s: %s", n.command[0], err, alarmRetry, told,
			a.Subject, a.Text)
		return
	}
	notifications.WithLabelValues(string(kind), "success").Inc()
	if a.told = told == Raised; a.told {
		a.last = now
	}
}

// execute runs the command, without a shell, and with nothing in its arguments that others have written. It and what it
// has started are killed when it takes too long (S-32).
func (n *alarms) execute(ctx context.Context, a Alarm) error {
	ctx, cancel := context.WithTimeout(ctx, n.life)
	defer cancel()
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, n.command[0], n.command[1:]...)
	c.Dir, c.Stdin = "/", bytes.NewReader(append(printable.JSON(text), '\n'))
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
		"DANELAW_KIND=" + string(a.Kind), "DANELAW_STATE=" + string(a.State), "DANELAW_SUBJECT=" + a.Subject,
		"DANELAW_TEXT=" + a.Text}
	said := new(head)
	c.Stdout, c.Stderr = said, said
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second // what it has started may hold its output
	err = c.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("killed, as it took longer than %v", n.life)
	}
	if err != nil && len(said.text) > 0 {
		err = fmt.Errorf("%w: it said %s", err, printable.Short(strings.TrimSpace(string(said.text))))
	}
	return err
}

// head keeps the beginning of what is written, and lets the rest go.
type head struct{ text []byte }

func (o *head) Write(text []byte) (int, error) {
	o.text = append(o.text, text[:min(len(text), alarmOutput-len(o.text))]...)
	return len(text), nil
}

// notifications counts for the whole process.
var notifications = promauto.NewCounterVec(prometheus.CounterOpts{
	Namespace: plugin.Namespace, Subsystem: pluginName, Name: "notifications_total",
	Help: "Counter of commands run for alarms by kind and result.",
}, []string{"kind", "result"})

func init() {
	for _, kind := range alarmKinds {
		for _, result := range []string{"success", "failure", "dropped"} {
			notifications.WithLabelValues(string(kind), result) // one that appears shows no increase
		}
	}
}

// setNotify reads the option notify.
func setNotify(s *setting, args []string) error {
	if len(args) == 0 {
		return errArgs
	}
	if !filepath.IsAbs(args[0]) {
		return fmt.Errorf("%q is no absolute path, and no shell looks for it", args[0])
	}
	if err := s.files().Program(args[0]); err != nil {
		return err
	}
	s.config.Notify = slices.Clone(args)
	return nil
}

// hostname is the name of this host, as alarms have it.
var hostname = sync.OnceValue(func() string {
	name, _ := os.Hostname()
	return name
})

// verdict tells of a domain of mail that was Secure, or is again.
func (n *alarms) verdict(subject string, secure bool, text string) {
	now := map[string]string{}
	if !secure {
		now["lost"] = text
	}
	n.are(OfVerdict, subject, now)
}

// seen tells of a watched domain what is wrong with it. Not to know is no change (S-32); that there is no DANE is an
// alarm only where there was.
func (n *alarms) seen(s *Seen, lost bool) {
	if s.State == StateUnknown {
		return
	}
	now := maps.Clone(faults(s))
	switch {
	case s.State == StateBogus, s.State == StateNone && lost:
		now["DANE"] = fmt.Sprintf("DANE is %s: %s", s.State, s.Why)
	case s.State == StateSecure && !s.Signatures.IsZero() && s.Signatures.Sub(s.At) < endingSignature:
		now["signatures"] = "the first signature that DANE rests on ends " + stamp(s.Signatures)
	}
	for what, text := range s.Policies.by(Fault) {
		now["MTA-STS, "+what] = text
	}
	if ends := s.Policies.Ends; !ends.IsZero() && ends.Sub(s.At) < endingCertificate {
		now["policy host, its end"] = "the certificate of the policy host " + policy.PolicyHost(s.Domain) + " ends " +
			stamp(ends)
	}
	for _, h := range s.Hosts {
		for _, c := range h.Certificates {
			if len(c.Chain) > 0 && c.Expires().Sub(s.At) < endingCertificate {
				where := fmt.Sprintf("%s at %s %s", h.Name, c.Address.Addr(), c.Key)
				now[where+", its end"] = where + ": the certificate ends " + stamp(c.Expires())
			}
		}
	}
	n.are(OfWatch, s.Domain, now)
}

// What ends within that time is an alarm, as those of deploy/prometheus.
const (
	endingSignature   = 6 * time.Hour
	endingCertificate = 14 * 24 * time.Hour
)

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }
