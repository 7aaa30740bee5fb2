package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
)

// picky is a mail host at a port of loopback that answers EHLO by the name in it, with what replies gives for it.
func picky(t *testing.T, replies func(helo string) string) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() {
				defer conn.Close()
				io.WriteString(conn, "220\r\n") //nolint:errcheck // the prober tells
				line, _ := bufio.NewReader(conn).ReadString('\n')
				io.WriteString(conn, replies(strings.TrimSpace(strings.TrimPrefix(line, "EHLO "))))
				io.Copy(io.Discard, conn) //nolint:errcheck // until the prober ends
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// TestProberFlags: the name of EHLO and the patience are those of the command line, and what only danelaw meets is told
// as not known.
func TestProberFlags(t *testing.T) {
	lab, err := zones.Start(zones.Options{Edit: func(z *zones.Zone) {
		if z.Name == "good.dane." {
			addRecords(t, z, "here MX 10 mx.here", "mx.here A 127.0.0.1")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	file := write(t, "Corefile", corefile(ports.Closed(t), lab.Addr(), anchors(t, lab)))
	port := picky(t, func(helo string) string {
		switch helo {
		case "mx.xn--bcher-kva.example":
			return "250-hello\r\n250 SIZE\r\n"
		case "slow.example":
			return ""
		}
		return "504 5.5.2 I want another name than " + helo + "\r\n"
	})
	check := []string{"check", "-conf", file, "-smtp", "-smtp-port", port, "-wait", "2s"}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-helo", "[192.0.2.1]"}, 1, "unknown  the host refuses EHLO [192.0.2.1] (504 5.5.2 I want another " +
			"name than [192.0.2.1]), and may take another name"},
		{[]string{"-helo", "mx.bücher.example."}, 1, "failed  the host does not offer STARTTLS"},
		{[]string{"-helo", "slow.example"}, 1, "unknown  an answer is slower than 2s; senders wait 5 minutes"},
		{[]string{"-helo", "mx.example\r\nQUIT"}, 2, "--helo"},
		{[]string{"-helo", "[x]"}, 2, "--helo"},
		{[]string{"-helo", "a b"}, 2, "--helo"},
		{[]string{"-wait", "1ms"}, 2, "--wait"},
	} {
		code, out, stderr := here(append(append(check, test.args...), "here.good.dane")...)
		text := strings.Join(strings.Fields(out+stderr), " ")
		if want := strings.Join(strings.Fields(test.want), " "); code != test.code || !strings.Contains(text, want) ||
			strings.Contains(out, "defers") {
			t.Errorf("%q: exit code %d, want %d and %q\n%s%s", test.args, code, test.code, test.want, out, stderr)
		}
	}
}
