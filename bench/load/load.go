// Package load asks a resolver what a mail server asks, many questions at a time, and checks every reply.
package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"github.com/danelaw-dns/danelaw/bench/universe"
)

// Script says what is asked. Each of its lines asks one question after another: the next when the last has its reply.
type Script interface {
	Lines() int                       // at most MaxLines
	Next(line int) *universe.Question // nil: this line has ended
}

// MaxLines is how many questions may be under way: each has an ID of its own.
const MaxLines = 1 << 16

// Result is what came of a script.
type Result struct {
	Replies int           // that came
	Lost    int           // questions without a reply in time
	Wrong   int           // replies that are not what a validator answers
	Example string        // says what was wrong or lost first
	Elapsed time.Duration // from the first question to the last reply
}

// patience is how long a reply may take. A client of mail has given up long before: glibc waits for 5 s and asks twice.
var patience = 10 * time.Second

const (
	batch    = 64 // datagrams in one system call
	maxReply = 4096
	buffer   = 4 << 20               // octets for the socket, as far as the system allows
	look     = 50 * time.Millisecond // between looks at what is lost, while nothing comes
)

// Run carries out a script. It ends early, with an error, only if ctx does or if the socket fails.
func Run(ctx context.Context, server netip.AddrPort, s Script) (Result, error) {
	socket, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return Result{}, err
	}
	defer socket.Close()
	socket.SetReadBuffer(buffer)  //nolint:errcheck // the system's default will do
	socket.SetWriteBuffer(buffer) //nolint:errcheck // likewise
	r := &run{script: s, socket: socket, conn: ipv4.NewPacketConn(socket)}
	r.open, r.queries = make([]open, s.Lines()), make([][1][]byte, s.Lines())
	begun := time.Now()
	err = r.run(ctx)
	r.result.Elapsed = time.Since(begun)
	return r.result, err
}

// open is the question of a line that has no reply yet.
type open struct {
	question *universe.Question
	asked    time.Time
}

type run struct {
	script Script
	socket *net.UDPConn
	conn   *ipv4.PacketConn
	open   []open // by line; the ID of a query is its line
	lines  int    // that have not ended
	out    []ipv4.Message
	result Result

	queries [][1][]byte // by line, as they are sent
}

func (r *run) run(ctx context.Context) error {
	in := make([]ipv4.Message, batch)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, maxReply)}
	}
	now := time.Now()
	for line := range r.open {
		r.ask(line, now)
	}
	for lookAgain := now.Add(look); r.lines > 0; {
		if err := r.send(); err != nil {
			return err
		}
		n, err := r.receive(in)
		if err != nil {
			return err
		}
		now = time.Now()
		for _, m := range in[:n] {
			r.take(m.Buffers[0][:m.N], now)
		}
		if now.After(lookAgain) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.giveUp(now)
			lookAgain = now.Add(look)
		}
	}
	return nil
}

// ask queues the next question of a line.
func (r *run) ask(line int, now time.Time) {
	if r.open[line].question == nil {
		r.lines++
	}
	q := r.script.Next(line)
	r.open[line] = open{q, now}
	if q == nil {
		r.lines--
		return
	}
	query := append(r.queries[line][0][:0], q.Query...)
	binary.BigEndian.PutUint16(query, uint16(line))
	r.queries[line][0] = query
	r.out = append(r.out, ipv4.Message{Buffers: r.queries[line][:]})
}

// send sends what is queued.
func (r *run) send() error {
	for out := r.out; len(out) > 0; {
		n, err := r.conn.WriteBatch(out[:min(batch, len(out))], 0)
		if err != nil {
			return err
		}
		out = out[n:]
	}
	r.out = r.out[:0]
	return nil
}

// receive reads what has come; nothing is no error.
func (r *run) receive(in []ipv4.Message) (int, error) {
	if err := r.socket.SetReadDeadline(time.Now().Add(look)); err != nil {
		return 0, err
	}
	n, err := r.conn.ReadBatch(in, 0)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, nil
	}
	return max(n, 0), err
}

// take looks at a reply and asks the line's next question. A late reply to a question that was given up is passed over.
func (r *run) take(reply []byte, now time.Time) {
	if len(reply) < 2 {
		return
	}
	line := int(binary.BigEndian.Uint16(reply))
	if line >= len(r.open) || r.open[line].question == nil {
		return
	}
	q := r.open[line].question
	if !isReplyTo(reply, q) {
		return
	}
	r.result.Replies++
	if fault := judge(reply, q); fault != "" {
		r.result.Wrong++
		r.note(q, fault)
	}
	r.ask(line, now)
}

// giveUp counts what has waited too long as lost.
func (r *run) giveUp(now time.Time) {
	for line, o := range r.open {
		if o.question != nil && now.Sub(o.asked) > patience {
			r.result.Lost++
			r.note(o.question, fmt.Sprintf("no reply within %v", patience))
			r.ask(line, now)
		}
	}
}

// note keeps the first example of what went wrong.
func (r *run) note(q *universe.Question, fault string) {
	if r.result.Example == "" {
		r.result.Example = fmt.Sprintf("%s %s: %s", q.Name, dns.Type(q.Type), fault)
	}
}

const (
	headerSize = 12
	optSize    = 11 // of the record behind the question
)

// isReplyTo says whether a message is a response to this question: a resolver hands the name back as it was written.
func isReplyTo(reply []byte, q *universe.Question) bool {
	question := q.Query[headerSize : len(q.Query)-optSize]
	return len(reply) >= headerSize && reply[2]&0x80 != 0 && bytes.HasPrefix(reply[headerSize:], question)
}

// judge says what is wrong with a reply; "" if nothing is.
func judge(reply []byte, q *universe.Question) string {
	truncated, ad, rcode := reply[2]&0x02 != 0, reply[3]&0x20 != 0, int(reply[3]&0xf)
	answers := int(binary.BigEndian.Uint16(reply[6:]))
	if !truncated && ad == q.Secure && rcode == q.Rcode && answers == q.Answers {
		return ""
	}
	got, want := describe(rcode, ad, truncated, answers), describe(q.Rcode, q.Secure, false, q.Answers)
	return fmt.Sprintf("%s, want %s%s", got, want, errorsIn(reply))
}

func describe(rcode int, ad, truncated bool, answers int) string {
	return fmt.Sprintf("%s AD=%t TC=%t with %d records", dns.RcodeToString[rcode], ad, truncated, answers)
}

// errorsIn is what the Extended DNS Errors of a reply say.
func errorsIn(reply []byte) (text string) {
	m := new(dns.Msg)
	if m.Unpack(reply) != nil || m.IsEdns0() == nil {
		return ""
	}
	for _, o := range m.IsEdns0().Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			text += fmt.Sprintf("; EDE %d %q", e.InfoCode, e.ExtraText)
		}
	}
	return text
}
