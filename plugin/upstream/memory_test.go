//go:build !race

// The race detector takes many times the memory that is measured here.

package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/fetch"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// mute takes connections, and says of each no more than a greeting.
func mute(t *testing.T, l net.Listener, greeting []byte) netip.AddrPort {
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func() {
				defer c.Close()
				c.Write(greeting)
				io.Copy(io.Discard, c)
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestQuestionOctets: what a question takes while no upstream answers, over TLS, and over TCP where datagrams bring
// nothing, is no more than what is counted for it, with the garbage that the collector leaves when nothing hurries it
// (L-15). Over HTTPS what lives is that much, or half more while connections are slow to come.
func TestQuestionOctets(t *testing.T) {
	const questions, questionsEach = 2000, 100
	settings := []byte{0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0xff, 0xff, // so many streams (RFC 9113 section 6.5.2)
		0, 0, 0, 4, 1, 0, 0, 0, 0}
	for how, open := range map[string]func(t *testing.T) *Set{
		"UDP and TCP": func(t *testing.T) *Set {
			pc, l := ports.Open(t)
			t.Cleanup(func() { pc.Close() })
			return rootSet(t, Address{Server: mute(t, l, nil)})
		},
		"TLS": func(t *testing.T) *Set {
			ca := certificates.New(t)
			at := mute(t, tls.NewListener(listenTCP(t), certified(t, ca, "dot.example")), nil)
			to := []Address{{TLS, at, "dot.example", ""}}
			return newSet(t, Config{Routes: []Route{{".", to}}, RootCAs: ca.Pool})
		},
		"HTTPS": func(t *testing.T) *Set {
			ca := certificates.New(t)
			config := certified(t, ca, "doh.example")
			config.NextProtos = []string{"h2"}
			l := tls.NewListener(listenTCP(t), config)
			mute(t, l, settings)
			return dohSet(t, ca, l)
		},
	} {
		t.Run(how, func(t *testing.T) {
			bounded(t, questions*4)
			f := fetch.New(fetch.Config{Exchanger: open(t), Meter: unmetered{}, Pause: func() {},
				Room: fetch.NewRoom(1 << 30), Patience: time.Minute, Questions: questionsEach, Retries: 2,
				Check: func() *dnssec.Check { return &dnssec.Check{} }})
			defer f.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			before, a := inUse(), (*fetch.Account)(nil)
			for n := range questions {
				q := dns.Question{Name: fmt.Sprintf("n%d.example.com.", n), Qtype: dns.TypeMX, Qclass: dns.ClassINET}
				if n%questionsEach == 0 { // what an account takes is counted with the client's question
					a = f.Open(q, f.NewBudget())
				}
				i, failure := a.Ask(q, fetch.RoleAnswer)
				if failure != nil {
					t.Fatal(failure)
				}
				go i.Wait(ctx)
			}
			var live, grown int64
			for range 12 {
				time.Sleep(200 * time.Millisecond)
				now := inUse()
				heap, stacks := (now.heap-before.heap)/questions, (now.stacks-before.stacks)/questions
				live, grown = max(live, heap+stacks), max(grown, 2*heap+stacks)
			}
			t.Logf("%d octets a question, %d with as much garbage as lives in the heap", live, grown)
			if how != "HTTPS" && grown > fetch.QuestionOctets || live > fetch.QuestionOctets*3/2 {
				t.Errorf("%d are counted", fetch.QuestionOctets)
			}
		})
	}
}

type unmetered struct{}

func (unmetered) Fetch(fetch.Role, bool) {}

type octets struct{ heap, stacks int64 }

// inUse returns what lives in the heap and what stacks take.
func inUse() octets {
	runtime.GC()
	runtime.GC()
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(s)
	return octets{int64(s[0].Value.Uint64()), int64(s[1].Value.Uint64())}
}
