package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// listener is a server block of danelaw that listens at addresses.
func listener(zone string, port int, addresses string) string {
	return fmt.Sprintf("%s:%d {\n bind %s\n danelaw {\n upstream . 127.0.0.1:9\n control off\n }\n}\n", zone,
		port, addresses)
}

// TestAlone (S-26): a second danelaw where one listens already is an error that names the first, though CoreDNS lets
// processes of one user share a port; one by itself may listen at an address as often as its Corefile says.
func TestAlone(t *testing.T) {
	port := ports.Everywhere(t)
	type corefile struct {
		families string // 4, 6 or both
		text     string
	}
	one, wild := listener(".", port, "127.0.0.1"), listener(".", port, "0.0.0.0")
	seconds := []corefile{{"4", one}, {"46", wild}}
	firsts := append(seconds,
		corefile{"4", listener("example.com", port, "127.0.0.1")},
		corefile{"4", one + listener("example.com", port, "127.0.0.1")},
		corefile{"46", one + listener("example.com", port, "0.0.0.0")})
	if danelaw.Free("[::1]:0", "udp") == nil {
		six := corefile{"6", listener(".", port, "::1")}
		seconds = append(seconds, six)
		firsts = append(firsts, six, corefile{"46", listener(".", port, "127.0.0.1 ::1")})
	}
	for _, first := range firsts {
		p := start(t, nil, "-conf", write(t, "Corefile", first.text))
		p.says(t, &p.err, "danelaw listens on")
		for _, second := range seconds {
			if !strings.ContainsAny(first.families, second.families) {
				continue
			}
			q := start(t, nil, "-conf", write(t, "Corefile", second.text))
			code, want := q.end(t), fmt.Sprintf("(process %d)", p.Process.Pid)
			if said := q.err.String(); code != exitFailure || !strings.Contains(said, "is in use by") ||
				!strings.Contains(said, want) {
				t.Errorf("%s\nis not told to %s\nexit code %d, %s", first.text, second.text, code, said)
			}
		}
		p.terminate(t)
	}
}

// TestAloneAgain: neither what a danelaw has left of its connections, nor its own sockets at a reload, are in the way.
func TestAloneAgain(t *testing.T) {
	lab := newLab(t)
	for range 2 {
		p, port, file := serving(t, lab, lab.Addr())
		for range 2 {
			conn, err := (&dns.Client{Net: "tcp", Timeout: patience}).Dial(fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			(&dns.Client{Timeout: patience}).ExchangeWithConn(new(dns.Msg).SetQuestion("good.dane.", dns.TypeMX), conn)
			p.Process.Signal(syscall.SIGHUP)
			p.says(t, &p.err, "Reloading complete")
			p.terminate(t)
			p = start(t, nil, "-conf", file)
			p.says(t, &p.err, "danelaw listens on")
		}
		p.terminate(t)
	}
	p := start(t, nil, "-conf", write(t, "Corefile", listener(".", 0, "127.0.0.1")))
	p.says(t, &p.err, "danelaw listens on")
}
