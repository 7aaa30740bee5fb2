// Package load asks a resolver what a mail server asks, many questions at a time, and checks every reply.
package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/plugin/packets"
)

// Script says what is asked. Each of its lines asks one question after another: the next when the last has its reply.
type Script interface {
	Lines() int                       // at most MaxLines
	Next(line int) *universe.Question // nil: this line has ended
}

// Paced is a Script whose questions are asked at a steady rate, each on the next line, whatever comes back. It ends
// with the first nil.
type Paced interface {
	Script
	Interval() time.Duration // between two questions
}

// MaxLines is how many questions may be under way: each has an ID of its own.
const MaxLines = 1 << 16

// Result is what came of a script.
type Result struct {
	Replies int             // that came
	Octets  int             // of these
	Lost    int             // questions without a reply in time
	Failed  int             // replies that are SERVFAIL and should not be
	Wrong   int             // replies that are otherwise not what a validator answers
	Example string          // says what was wrong first, else what failed or was lost
	Elapsed time.Duration   // from the first question to the last reply
	Took    []time.Duration // each reply until it came to the socket, in ascending order, but those that failed
	Late    []time.Duration // of Paced: each question, after it was due, in ascending order
}

// wrong counts a wrong reply, which is a better example than what failed or was lost before.
func (r *Result) wrong() {
	if r.Wrong == 0 {
		r.Example = ""
	}
	r.Wrong++
}

// Right is how many replies are as they should be.
func (r *Result) Right() int { return r.Replies - r.Failed - r.Wrong }

// Percentile is how long a share of the replies took at most; 0 without any.
func (r *Result) Percentile(share float64) time.Duration { return percentile(r.Took, share) }

// Lateness is how late a share of the questions of [Paced] was asked at most: more than a little says that what asks
// had no processor.
func (r *Result) Lateness(share float64) time.Duration { return percentile(r.Late, share) }

func percentile(ascending []time.Duration, share float64) time.Duration {
	if len(ascending) == 0 {
		return 0
	}
	return ascending[min(int(share*float64(len(ascending))), len(ascending)-1)]
}

// patience is how long a reply may take. glibc waits for 5 s and asks again; then a client of mail gives up.
var patience = 10 * time.Second

// pacedPatience is that of Paced scripts.
const pacedPatience = 5 * time.Second

const look = 50 * time.Millisecond // between looks at what is lost, while nothing comes

// Run carries out a script. It ends early, with an error, only if ctx does or if the socket fails; what came until then
// is in the Result.
func Run(ctx context.Context, server netip.AddrPort, s Script) (Result, error) {
	socket, err := packets.Dial(server)
	if err != nil {
		return Result{}, err
	}
	defer socket.Close()
	r := &run{script: s, socket: socket, open: make([]open, s.Lines()), queries: make([][]byte, s.Lines())}
	r.patience = patience
	if r.paced, _ = s.(Paced); r.paced != nil {
		r.patience = pacedPatience
	}
	runtime.LockOSThread() // which waits in system calls
	defer runtime.UnlockOSThread()
	r.begun = time.Now()
	err = r.run(ctx)
	if r.result.Elapsed = r.last; err != nil || r.last == 0 {
		r.result.Elapsed = time.Since(r.begun)
	}
	slices.Sort(r.result.Took)
	slices.Sort(r.result.Late)
	return r.result, err
}

// open is the question of a line that has no reply yet.
type open struct {
	question *universe.Question
	asked    time.Time
}

type run struct {
	script Script
	paced  Paced // the script, if it is; nil when it has ended
	socket *packets.Socket
	begun  time.Time
	last   time.Duration // until the last reply
	due    int           // questions of paced until now
	open   []open        // by line; the ID of a query is its line
	lines  int           // that have not ended
	result Result

	patience time.Duration
	queries  [][]byte // by line, as they are sent
}

func (r *run) run(ctx context.Context) error {
	now := r.begun
	if r.paced == nil {
		for line := range r.open {
			if err := r.ask(line, now); err != nil {
				return err
			}
		}
	}
	for lookAgain := now.Add(look); r.lines > 0 || r.paced != nil; now = time.Now() {
		if now.After(lookAgain) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := r.giveUp(now); err != nil {
				return err
			}
			lookAgain = now.Add(look)
		}
		if err := r.turn(); err != nil {
			return err
		}
	}
	return nil
}

// turn asks what is due and takes what has come.
func (r *run) turn() error {
	wait, err := r.pace()
	if err != nil {
		return err
	}
	if err := r.socket.Send(); err != nil {
		return err
	}
	n, err := r.socket.Receive(wait)
	if err != nil {
		return err
	}
	now := time.Now()
	for i := range n {
		if err := r.take(r.socket.Datagram(i), r.socket.Came(i), now); err != nil {
			return err
		}
	}
	return nil
}

// pace asks the questions of a paced script that are due, and says how long nothing has to be done. It asks few at
// once: who is late and asked all of them would never come to look at replies if more are due meanwhile.
func (r *run) pace() (time.Duration, error) {
	for range packets.Size {
		if r.paced == nil {
			return look, nil
		}
		now := time.Now()
		wait := r.begun.Add(time.Duration(r.due) * r.paced.Interval()).Sub(now)
		if wait > 0 {
			return min(wait, look), nil
		}
		line := r.due % len(r.open)
		r.due++
		if r.open[line].question != nil {
			r.lose(line, "no reply before its ID was needed again")
		}
		if err := r.ask(line, now); err != nil {
			return 0, err
		}
		if r.open[line].question == nil {
			r.paced = nil
		} else {
			r.result.Late = append(r.result.Late, -wait)
		}
	}
	return 0, nil
}

// ask queues the next question of a line.
func (r *run) ask(line int, now time.Time) error {
	if r.open[line].question == nil {
		r.lines++
	}
	q := r.script.Next(line)
	r.open[line] = open{q, now}
	if q == nil {
		r.lines--
		return nil
	}
	query := append(r.queries[line][:0], q.Query...)
	binary.BigEndian.PutUint16(query, uint16(line))
	r.queries[line] = query
	return r.socket.Queue(query)
}

// again goes on with a line whose question is done with.
func (r *run) again(line int, now time.Time) error {
	if _, paced := r.script.(Paced); paced {
		r.open[line].question = nil
		r.lines--
		return nil
	}
	return r.ask(line, now)
}

// take looks at a reply that came a moment ago, and asks the line's next question. A late reply to a question that was
// given up is passed over.
func (r *run) take(reply []byte, came, now time.Time) error {
	if len(reply) < 2 {
		return nil
	}
	line := int(binary.BigEndian.Uint16(reply))
	if line >= len(r.open) || r.open[line].question == nil || !r.open[line].question.Asked(reply) {
		return nil
	}
	q := r.open[line].question
	r.result.Replies++
	r.result.Octets += len(reply)
	r.last = now.Sub(r.begun)
	took := came.Sub(r.open[line].asked)
	if took <= 0 { // the clock was set meanwhile
		took = now.Sub(r.open[line].asked)
	}
	switch fault := q.Fault(reply); {
	case q.Failed(reply):
		r.result.Failed++
		r.note(q, fault)
	case fault != "":
		r.result.wrong()
		r.note(q, fault)
	default:
		r.result.Took = append(r.result.Took, took)
	}
	return r.again(line, now)
}

// giveUp counts what has waited too long as lost.
func (r *run) giveUp(now time.Time) error {
	for line, o := range r.open {
		if o.question != nil && now.Sub(o.asked) > r.patience {
			r.lose(line, fmt.Sprintf("no reply within %v", r.patience))
			if err := r.again(line, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *run) lose(line int, why string) {
	r.result.Lost++
	r.note(r.open[line].question, why)
}

// note keeps the first example of what went wrong.
func (r *run) note(q *universe.Question, fault string) {
	if r.result.Example == "" {
		r.result.Example = fmt.Sprintf("%s %s: %s", q.Name, dns.Type(q.Type), fault)
	}
}
