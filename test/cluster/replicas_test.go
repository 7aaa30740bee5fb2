//go:build linux

package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/bench/universe"
)

const (
	replicas = 3
	askers   = 24
	attempts = 3               // as glibc with `options attempts:3`
	answerIn = 5 * time.Second // as glibc waits
)

// asker asks the service as programs do: each question from a socket of its own, again when there is no answer. Ports
// come again in turn, after longer than the connection table remembers where the last question from there was sent.
type asker struct {
	asked  atomic.Int64
	mu     sync.Mutex
	again  []loss
	faults []string
}

// loss is a question that had to be asked again.
type loss struct {
	asked time.Time // first
	why   error
}

// run asks questions at random until stop is closed.
func (a *asker) run(questions []universe.Question, number int, stop <-chan struct{}) {
	chance := rand.New(rand.NewPCG(uint64(number), 0))
	ports := &turn{first: firstPort + number*portsEach}
	next := time.NewTicker(askEach)
	defer next.Stop()
	for {
		select {
		case <-stop:
			return
		case <-next.C:
			a.ask(&questions[chance.IntN(len(questions))], uint16(chance.Uint32()), ports)
		}
	}
}

func (a *asker) ask(q *universe.Question, id uint16, ports *turn) {
	a.asked.Add(1)
	var why []error
	for begun := time.Now(); len(why) < attempts; {
		reply, err := exchange(q, id, ports)
		if err == nil {
			if fault := q.Fault(reply); fault != "" {
				a.tell("%s %d: %s", q.Name, q.Type, fault)
			}
			return
		}
		if why = append(why, err); len(why) == 1 {
			a.lost(loss{begun, err})
		}
		time.Sleep(100 * time.Millisecond) // the port of a process that has ended refuses at once
	}
	a.tell("%s %d has no answer: %v", q.Name, q.Type, why)
}

func (a *asker) lost(l loss) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.again = append(a.again, l)
}

// lostSince are the questions that had to be asked again and were asked first after a time.
func (a *asker) lostSince(when time.Time) (all []loss) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.again {
		if l.asked.After(when) {
			all = append(all, l)
		}
	}
	return all
}

func (a *asker) tell(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// The ports of askers. Linux's connection table remembers one for 30 s (nf_conntrack_udp_timeout).
const (
	firstPort = 2048
	portsEach = 2500
	askEach   = 31 * time.Second / portsEach
)

// turn are ports that are used one after another.
type turn struct{ first, used int }

// dial opens a socket to the service, from the next port that is free.
func (t *turn) dial() (conn net.Conn, err error) {
	for range portsEach {
		from := net.Dialer{LocalAddr: &net.UDPAddr{Port: t.first + t.used%portsEach}}
		t.used++
		if conn, err = from.Dial("udp4", service+":53"); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return conn, err
}

func exchange(q *universe.Question, id uint16, ports *turn) ([]byte, error) {
	conn, err := ports.dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	query := append([]byte(nil), q.Query...)
	binary.BigEndian.PutUint16(query, id)
	conn.SetDeadline(time.Now().Add(answerIn)) //nolint:errcheck // a socket has deadlines
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	reply := make([]byte, 4096)
	n, err := conn.Read(reply)
	return reply[:n], err
}

// load starts the askers; the function that it returns ends them.
func (a *asker) load(t *testing.T, o *outside, count int) (end func()) {
	stop := make(chan struct{})
	var work sync.WaitGroup
	for i := range askers {
		mine := o.questions(t, count) // a question is for one goroutine
		work.Go(func() { a.run(mine, i, stop) })
	}
	end = sync.OnceFunc(func() { close(stop); work.Wait() })
	t.Cleanup(end)
	return end
}

// TestReplicas: three replicas share the load. One is killed under it: what was in flight to it is asked again and
// answered by the others, and nothing else is lost. One that is taken out before it ends, as in a rollout, loses
// nothing at all.
func TestReplicas(t *testing.T) {
	suite.Needs(t)
	network(t)
	o := newOutside(t, domains)
	what := read(t, o.values(values{"replicas": replicas}))
	var all []*replica
	for i := range replicas {
		r := newPod(t, i)
		r.start(what)
		all = append(all, r)
	}
	balance(t, all)
	const while = 2 * time.Second

	a := new(asker)
	end := a.load(t, o, domains)
	time.Sleep(while)
	for _, r := range all {
		if n := sum(t, r.scrape(), "coredns_danelaw_responses_total"); n < float64(a.asked.Load())/replicas/2 {
			t.Errorf("%s has answered %.0f of %d questions", r.address, n, a.asked.Load())
		}
	}

	killed := time.Now()
	all[0].kill()
	balance(t, all[1:])
	known := time.Now()
	time.Sleep(while)

	balance(t, all[2:])         // the service knows first, as at the end of a pod
	time.Sleep(5 * time.Second) // preStop of the chart
	ends := time.Now()
	all[1].process.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it runs
	<-all[1].ended
	time.Sleep(while)
	end()

	lost := len(a.lostSince(time.Time{}))
	t.Logf("%d questions; a replica was killed, and %v later the service knew: %d were asked again", a.asked.Load(),
		known.Sub(killed).Round(time.Millisecond), lost)
	for _, l := range a.lostSince(known) {
		t.Errorf("a question asked %v after that, %v before the second replica ended, was lost: %v",
			l.asked.Sub(known), ends.Sub(l.asked), l.why)
	}
	if lost > 2*askers {
		t.Errorf("%d questions cannot have been in flight", lost)
	}
	if lost == 0 {
		t.Error("the replica was killed while it worked on nothing: the load is too small")
	}
	for _, fault := range a.faults[:min(10, len(a.faults))] {
		t.Error(fault)
	}
}
