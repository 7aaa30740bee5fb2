//go:build !race

// The race detector takes many times the memory that is measured here; .ci/run runs this without it.

package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
)

// silence puts a server before a lab that does not answer for names under hang.dane.; it counts the questions for them.
func silence(t *testing.T, lab *zones.Lab) (addr string, asked *atomic.Int64) {
	t.Helper()
	pc, stream := ports.Open(t)
	stream.Close()
	t.Cleanup(func() { pc.Close() })
	asked = new(atomic.Int64)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			m := new(dns.Msg)
			if m.Unpack(buf[:n]) != nil || len(m.Question) != 1 {
				continue
			}
			if strings.HasSuffix(m.Question[0].Name, ".hang.dane.") {
				asked.Add(1)
				continue
			}
			go func() {
				if r, _, err := new(dns.Client).Exchange(m, lab.Addr()); err == nil {
					if wire, err := r.Pack(); err == nil {
						pc.WriteTo(wire, from)
					}
				}
			}()
		}
	}()
	return pc.LocalAddr().String(), asked
}

// TestSilentNames: questions for names whose servers are silent, far more than a mail host has, take no more memory and
// files than promised (L-15), few questions upstream, and no cached answer is late or lost. DANELAW_SOAK says for how
// long.
func TestSilentNames(t *testing.T) {
	long, err := time.ParseDuration(needs.Variable(t, "DANELAW_SOAK", "time"))
	if err != nil {
		t.Fatal(err)
	}
	lab := newLab(t)
	addr, asked := silence(t, lab)
	p, port, _ := serving(t, lab, addr)
	ask(t, port, "good.dane.", dns.TypeMX)
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const rate = 400
	var sent, kibs, files int
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(time.Second / 10) {
		for range rate / 10 {
			m := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.hang.dane.", sent), dns.TypeA)
			wire, _ := m.Pack()
			c.Write(wire)
			sent++
		}
		if m := ask(t, port, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
			t.Errorf("a cached answer is lost: %v", m)
		}
		now, open := resources(t, p.Process.Pid)
		kibs, files = max(kibs, now), max(files, open)
	}
	t.Logf("%d questions, %d MiB, %d files, %.1f questions upstream for each", sent, kibs>>10, files,
		float64(asked.Load())/float64(sent))
	if kibs > (64+64)<<10 || files > 1500 || asked.Load() > int64(4*sent) {
		t.Error("want at most the cache and 64 MiB, 1500 files, 4 questions")
	}
}

// resources tells how much memory of its own a process has, in KiB, and how many files.
func resources(t *testing.T, pid int) (kibs, files int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	entries, err2 := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	_, rss, _ := strings.Cut(string(status), "VmRSS:")
	fmt.Sscan(rss, &kibs)
	return kibs, len(entries)
}
