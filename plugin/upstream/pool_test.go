package upstream

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// S-6: 20,000 questions in a rush. IDs are random, no port has more than its share of questions, and no two of them one
// ID; ports are spread over all that are free, and which one a question has tells nothing of the next.
func TestPoolIsHardToGuess(t *testing.T) {
	leakless(t)
	const questions, atOnce = 20000, 200
	s := serve(t, func(a *asked) { answerOwn(t, a) })
	set := rootSet(t, s.plain())
	var all sync.WaitGroup
	for c := range atOnce {
		all.Go(func() {
			for i := range questions / atOnce {
				q := question(fmt.Sprintf("n%d.c%d.example.", i, c), dns.TypeMX)
				if _, err := set.Exchange(ctxFor(t, longEnough), q, fetch.Try{CD: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	byPort, same, twice, ids := map[uint16]map[uint16]bool{}, 0, 0, map[uint16]int{}
	var high, low [256]int
	var latest uint16
	udp := s.got("udp")
	for _, a := range udp {
		port, id := a.from.Port(), binary.BigEndian.Uint16(a.wire)
		if byPort[port] == nil {
			byPort[port] = map[uint16]bool{}
		}
		if byPort[port][id] {
			twice++
		}
		byPort[port][id] = true
		ids[id]++
		high[id>>8]++
		low[id&255]++
		if port == latest {
			same++
		}
		latest = port
	}
	// the mean of chi-square is 255, its deviation 23
	if h, l := chiSquare(high[:], len(udp)), chiSquare(low[:], len(udp)); h > 400 || l > 400 {
		t.Errorf("IDs are not random: chi-square %.0f of the upper, %.0f of the lower octet", h, l)
	}
	notCounted(t, "IDs", 1<<16, len(ids), len(udp))
	if most := len(udp) / (poolSize / 4); same > most { // one in 64 is expected
		t.Errorf("%d of %d questions came from the port of the one before", same, len(udp))
	}
	// Of a port that was drawn for a second socket one ID may come again, once in 20 runs. If sockets did not see to
	// it, 10 would.
	if twice > 3 {
		t.Errorf("%d times a port has had an ID again", twice)
	}
	spread(t, byPort)
}

// S-6: what was drawn before tells nothing of the next ID, nor of the next port; neither counts, in steps of any size.
func TestDrawsAreHardToGuess(t *testing.T) {
	ports := portPool{root: t.TempDir()}
	free := ports.known(time.Now())
	nth := map[int]int{}
	for i, port := range free {
		nth[int(port)] = i
	}
	for what, draws := range map[string]struct {
		of   int
		draw func() int
	}{
		"IDs":   {1 << 16, func() int { return int(randomID()) }},
		"ports": {len(free), func() int { return nth[ports.random(time.Now())] }},
	} {
		const number, parts = 20000, 256
		var drawn, steps [parts]int
		distinct, before := map[int]bool{}, draws.draw()
		for range number {
			next := draws.draw()
			distinct[next] = true
			drawn[next*parts/draws.of]++
			steps[(next-before+draws.of)%draws.of*parts/draws.of]++
			before = next
		}
		// more than 430 comes by chance once in 10^10 runs
		if d, s := chiSquare(drawn[:], number), chiSquare(steps[:], number); d > 430 || s > 430 {
			t.Errorf("%s: chi-square %.0f of what was drawn, %.0f of the steps from one to the next", what, d, s)
		}
		notCounted(t, what, draws.of, len(distinct), number)
	}
}

// notCounted checks how many are distinct of those that were drawn. At random 20,000 of 65,536 have 17,237, with a
// deviation of 56; a counter has none twice.
func notCounted(t *testing.T, what string, of, distinct, drawn int) {
	t.Helper()
	expected := float64(of) * (1 - math.Pow(1-1/float64(of), float64(drawn)))
	if math.Abs(float64(distinct)-expected) > 400 {
		t.Errorf("%d %s are distinct of %d drawn, want about %.0f", distinct, what, drawn, expected)
	}
}

// S-6: a socket never sends an ID again; of 3,000 that are drawn 68 are expected to be.
func TestSocketSendsNoIDTwice(t *testing.T) {
	s, err := openSocket(serve(t, func(*asked) {}).addr)
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close()
	had := map[uint16]bool{}
	for range 3000 {
		d := &sent{wire: make([]byte, headerSize)}
		if err := s.send(d); err != nil {
			t.Fatal(err)
		}
		id := binary.BigEndian.Uint16(d.wire)
		if had[id] {
			t.Fatalf("ID %d was sent twice", id)
		}
		had[id] = true
	}
}

// chiSquare measures how far n draws are from evenly spread over parts.
func chiSquare(parts []int, n int) (sum float64) {
	for _, got := range parts {
		d := float64(got) - float64(n)/float64(len(parts))
		sum += d * d / (float64(n) / float64(len(parts)))
	}
	return sum
}

// spread checks the ports that questions had, with the IDs of each.
func spread(t *testing.T, byPort map[uint16]map[uint16]bool) {
	t.Helper()
	var parts [16]int
	for port, ids := range byPort {
		parts[port>>12]++
		if len(ids) > 4*socketUses { // with their copies
			t.Errorf("port %d has had %d questions", port, len(ids))
		}
		if port < firstPort {
			t.Errorf("asked from port %d", port)
		}
	}
	// a port may have been drawn twice; the mean of chi-square is 15, its deviation 5.5
	if chi := chiSquare(parts[:], len(byPort)); chi > 70 || len(byPort) < 20000/socketUses*3/4 {
		t.Errorf("%d ports, chi-square %.0f: %v", len(byPort), chi, parts)
	}
}

// S-6, S-7: a flood of replies that match nothing has all questions that wait at the port which it hits go to TCP, none
// elsewhere; no reply is taken there any more, and no question comes from there. With nobody wanting copies that is the
// only way to TCP.
func TestFloodedPort(t *testing.T) {
	leakless(t)
	const questions = 4 * poolSize
	s := serve(t, func(a *asked) {
		if a.network == "tcp" {
			answerOwn(t, a)
		}
	})
	set := rootSet(t, s.plain())
	var all sync.WaitGroup
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			all.Go(func() {
				q := question(fmt.Sprintf("n%d.example.", i), dns.TypeMX)
				reply, err := set.Exchange(ctxFor(t, longEnough), q, fetch.Try{Demand: func() int { return 0 }})
				if err != nil || len(reply.Msg.Answer) != 1 {
					t.Errorf("%v, %v", err, reply.Msg)
				}
			})
		}
	}
	ask(0, questions)
	eventually(t, "the questions", func() bool { return len(s.got("udp")) == questions })
	byPort := func() map[uint16][]*asked {
		ports := map[uint16][]*asked{}
		for _, a := range s.got("udp") {
			ports[a.from.Port()] = append(ports[a.from.Port()], a)
		}
		return ports
	}
	if n := len(byPort()); n != poolSize {
		t.Errorf("%d sockets for %d questions", n, questions)
	}
	overTCP := 0
	for flood := range 4 {
		port := s.got("udp")[flood].from.Port()
		there := byPort()[port]
		m := there[0].reply()
		m.Question[0].Name = "other.example."
		for range maxMismatches {
			there[0].write(m)
		}
		there[0].answer(newRR(t, there[0].msg.Question[0].Name+" 300 IN TXT forged"), theMX(t))
		overTCP += len(there)
		eventually(t, "the questions over TCP", func() bool { return len(s.got("tcp")) == overTCP })
		before := len(s.got("udp"))
		ask(before, before+20)
		eventually(t, "more questions", func() bool { return len(s.got("udp")) == before+20 })
		if len(byPort()[port]) != len(there) {
			t.Errorf("port %d is used after a flood", port)
		}
	}
	for _, a := range s.got("udp") {
		answerOwn(t, a)
	}
	all.Wait()
}

// L-15: questions over UDP have no goroutines, however many wait.
func TestSilenceTakesNoGoroutines(t *testing.T) {
	leakless(t)
	const questions = 500
	s := serve(t, func(*asked) {})
	set := rootSet(t, s.plain())
	ask := func(i int) {
		q := question(fmt.Sprintf("n%d.example.", i), dns.TypeMX)
		t.Cleanup(set.Ask(q, fetch.Try{Demand: func() int { return 0 }}, func(fetch.Reply, error) {}))
	}
	arrived := func(n int) {
		eventually(t, "the questions", func() bool { return len(s.got("udp")) == n })
	}
	ask(0) // what all share begins
	arrived(1)
	before, _ := goroutines()
	for i := 1; i <= questions; i++ {
		if ask(i); i%25 == 0 { // the queue of the server's socket would lose some of a rush
			arrived(i + 1)
		}
	}
	eventually(t, "goroutines to end", func() bool { // the server has one for each question that it is looking at
		now, _ := goroutines()
		return now < before+20
	})
}

// S-6: a socket takes questions for 1 s, and is closed after that as soon as none waits there.
func TestSocketLife(t *testing.T) {
	leakless(t)
	pool := &datagramTo(t, serve(t, func(*asked) {})).sockets
	pool.schedule.ringing = true // nothing rings by itself, however busy the machine is
	earliest := time.Now()
	s, err := pool.take()
	if err != nil {
		t.Fatal(err)
	}
	latest := time.Now()
	end := pool.schedule.queue[0]
	if end.at.Before(earliest.Add(time.Second)) || end.at.After(latest.Add(time.Second)) {
		t.Errorf("it ends after %v", end.at.Sub(latest))
	}
	if !s.join() {
		t.Error("it takes no second question")
	}
	end.ring() // now, in the place of the wait
	if s.join() {
		t.Error("it takes questions after its end")
	}
	s.leave(nil, false)
	if s.closed {
		t.Error("it is closed while a question waits")
	}
	if s.leave(nil, false); !s.closed || len(pool.schedule.queue) != 0 {
		t.Errorf("closed: %v; %d are due", s.closed, len(pool.schedule.queue))
	}
}

// S-6: a socket takes 64 questions.
func TestSocketUses(t *testing.T) {
	var s socket
	for n := range 66 {
		if joined := s.join(); joined != (n < 64) {
			t.Errorf("question %d: %v", n+1, joined)
		}
	}
}

// datagramTo is what asks a server, without a Set.
func datagramTo(t *testing.T, s *server) *datagram {
	d := newDatagram(s.plain(), "it", usually(Config{}), new(reader), new(schedule))
	t.Cleanup(func() { d.close(); d.sockets.schedule.close(); d.sockets.reader.close() })
	return d
}

// S-6: with half of all sockets open, 60 questions at once still have many ports, and servers that are asked after that
// find a socket too, one after the other.
func TestScarceSocketsAreShared(t *testing.T) {
	leakless(t)
	eventually(t, "all sockets to be closed", func() bool { return udpSockets.open.Load() == 0 })
	bounded(t, 128)
	for range 64 {
		udpSockets.take()
		defer udpSockets.give()
	}
	for server := range 8 {
		pool, has := &datagramTo(t, serve(t, func(*asked) {})).sockets, map[*socket]bool{}
		for range 60 {
			s, err := pool.take()
			if err != nil {
				t.Fatalf("server %d: %v", server, err)
			}
			defer s.leave(nil, true)
			has[s] = true
		}
		if server == 0 && (len(has) < 12 || len(has) > 16) {
			t.Errorf("%d sockets for 60 questions, want a quarter of 64", len(has))
		}
	}
}

// L-15: of what was answered nothing is kept while its socket lives on, but for what knows a late reply, which is not
// counted as one that matches nothing.
func TestNothingIsKeptOfTheAnswered(t *testing.T) {
	s := serve(t, func(a *asked) { answerOwn(t, a) })
	d := datagramTo(t, s)
	d.measured = func(time.Duration) {}
	socket, err := d.sockets.take()
	if err != nil {
		t.Fatal(err)
	}
	mismatched := make(chan int, 10)
	socket.mismatched = func(n int) { mismatched <- n }
	gone, came := make(chan struct{}), make(chan *sent, 1)
	f := &flight{datagram: d, query: query{Question: mxQuestion, size: defaultEDNSSize}, how: noCookie, socket: socket}
	f.done = func(heard) { came <- f.sent[0] }
	runtime.AddCleanup(f, func(struct{}) { close(gone) }, struct{}{})
	socket.join() // so that it lives on
	defer func() { socket.leave(nil, true) }()
	if err := f.send(noCookie); err != nil {
		t.Fatal(err)
	}
	out := <-came
	f = nil
	for over := time.Now().Add(longEnough); ; {
		runtime.GC()
		select {
		case <-gone:
		case <-time.After(time.Millisecond):
			if time.Now().Before(over) {
				continue
			}
			t.Fatal("the flight is kept")
		}
		break
	}
	late := slices.Clone(out.wire)
	late[2] |= 0x80
	socket.arrived(late)
	if len(mismatched) > 0 {
		t.Error("a late reply is counted as one that matches nothing")
	}
	late[0]++
	socket.arrived(late)
	if len(mismatched) != 1 {
		t.Error("a reply to nothing is not counted")
	}
}
