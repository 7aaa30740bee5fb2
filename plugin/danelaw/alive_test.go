package danelaw

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// TestUpstreamDies: an upstream that dies is logged, with why, and so is that it answers again.
func TestUpstreamDies(t *testing.T) {
	book := logged(t)
	p := between(t, honest)
	h := open(t, config(t, p.addr))
	h.upstreams.alive.every = time.Nanosecond
	process.begin(h) // its gauges are shown
	server := serve(t, h)
	ask(t, server, secureMX, dns.TypeMX)
	shown := func() float64 { return metric(t, "upstream_alive", "block", h.config.Block) }
	if n := shown(); n != 1 {
		t.Errorf("upstream_alive is %v at first", n)
	}
	returns := p.vanish()
	ask(t, server, insecureMX, dns.TypeMX)
	died := "[WARNING] plugin/danelaw: upstream " + p.addr + " counts as dead: it failed over UDP: connection refused\n"
	if strings.Count(book.String(), died) == 0 {
		t.Errorf("the log lacks %q:\n%s", died, book)
	}
	alive := func() bool { return h.upstreams.States()[0].Alive }
	if n := shown(); alive() || n != 0 {
		t.Errorf("its state is that it is alive: %v, and upstream_alive is %v", alive(), n)
	}
	returns()
	back := "[INFO] plugin/danelaw: upstream " + p.addr + " answers again, "
	eventually(t, "it is back", func() bool {
		ask(t, server, bogusMX, dns.TypeMX)
		return strings.Contains(book.String(), back) && alive() && shown() == 1
	})
}

// TestUpstreamFlaps: one that comes and goes all the time has a line a minute, and what was not told at once is told by
// time.
func TestUpstreamFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := logged(t)
		var l aliveLog
		for range 300 { // ten minutes
			l.changed("192.0.2.1:53", false, "sent no reply")
			time.Sleep(time.Second)
			l.changed("192.0.2.1:53", true, "")
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		lines := strings.Split(strings.TrimSpace(book.String()), "\n")
		if len(lines) < 10 || len(lines) > 12 {
			t.Errorf("%d lines:\n%s", len(lines), book)
		}
		if want := "upstream 192.0.2.1:53 counts as dead: it sent no reply"; !strings.HasSuffix(lines[0], want) {
			t.Errorf("the first line is %q, want %q", lines[0], want)
		}
		if last := lines[len(lines)-1]; !strings.Contains(last, "answers again, ") ||
			!strings.Contains(last, " times in 1m0s") {
			t.Errorf("the last line is %q, which is not how it is", last)
		}
		l.changed("192.0.2.1:53", false, "sent no reply")
		l.changed("192.0.2.1:53", true, "")
		l.close()
		time.Sleep(time.Hour)
		if n := strings.Count(book.String(), "\n"); n != len(lines)+1 {
			t.Errorf("%d lines after its end", n-len(lines))
		}
	})
}
