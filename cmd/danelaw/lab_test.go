package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// TestLabJSON: a program can start the lab, ask every question of it, and find the verdict that was told: ad for
// Secure, none for Insecure, SERVFAIL with its EDE for the rest. Afterwards nothing is left.
func TestLabJSON(t *testing.T) {
	p := start(t, nil, "lab", "-json")
	var lab labJSON
	eventually(t, "the JSON", func() bool { return json.Unmarshal([]byte(p.out.String()), &lab) == nil })
	_, digits, _ := net.SplitHostPort(lab.Address)
	port, _ := strconv.Atoi(digits)
	questions := 0
	for _, d := range lab.Domains {
		for _, q := range d.Questions {
			questions++
			if want := fmt.Sprintf("dig @127.0.0.1 -p %d %s %s +dnssec", port, q.Name, q.Type); q.Dig != want {
				t.Errorf("the line is %q, want %q", q.Dig, want)
			}
			checkReply(t, d, q, ask(t, port, q.Name, dns.StringToType[q.Type]))
		}
	}
	if questions < 150 {
		t.Errorf("only %d questions", questions)
	}
	for _, ds := range lab.Anchor.DS {
		if rr, err := dns.NewRR(ds); err != nil || rr.Header().Rrtype != dns.TypeDS {
			t.Errorf("the anchor %q is no DS: %v", ds, err)
		}
	}
	if rr, err := dns.NewRR(lab.Anchor.DNSKEY[0]); err != nil ||
		!strings.Contains(lab.Anchor.Delv, rr.(*dns.DNSKEY).PublicKey) {
		t.Errorf("the anchor %q is no DNSKEY, or not the one for delv: %v", lab.Anchor.DNSKEY, err)
	}
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left, err := os.ReadDir(p.tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if err := danelaw.Free(lab.Address, "udp", "tcp"); err != nil {
		t.Errorf("the port is not given back: %v", err)
	}
}

func checkReply(t *testing.T, d domainJSON, q questionJSON, m *dns.Msg) {
	t.Helper()
	named := func(ede *dns.EDNS0_EDE) bool { return q.EDE == 0 || ede.InfoCode == q.EDE && ede.ExtraText != "" }
	switch failed := q.Rcode == "SERVFAIL"; {
	case dns.RcodeToString[m.Rcode] != q.Rcode:
		t.Errorf("%s %s (%s): %s, want %s %s", q.Name, q.Type, d.Shows, dns.RcodeToString[m.Rcode], q.Rcode, q.Status)
	case m.AuthenticatedData != (q.Status == "Secure"):
		t.Errorf("%s %s (%s): ad is %v, want %s", q.Name, q.Type, d.Shows, m.AuthenticatedData, q.Status)
	case (failed || q.EDE != 0) && !slices.ContainsFunc(errorsOf(m), named):
		t.Errorf("%s %s (%s): the errors are %v, want code %d", q.Name, q.Type, d.Shows, errorsOf(m), q.EDE)
	}
}

// TestLabTable: the table has a complete command for every domain, and two labs live side by side.
func TestLabTable(t *testing.T) {
	for range 2 {
		p := start(t, nil, "lab")
		p.says(t, &p.out, "Ctrl-C ends the lab.")
		out := p.out.String()
		domains := 0
		for _, line := range strings.Split(out, "\n") {
			if strings.Contains(line, " dig @127.0.0.1 -p ") && strings.HasSuffix(line, " +dnssec") {
				domains++
			}
			if len(line) > 120 && !strings.Contains(line, "ip6.arpa") {
				t.Errorf("longer than a terminal is wide: %q", line)
			}
		}
		for _, want := range []string{"all signatures have expired", "SERVFAIL with an EDE", "by NSEC3 opt-out",
			"wildcard MX"} {
			if !strings.Contains(out, want) {
				t.Errorf("the table lacks %q", want)
			}
		}
		if domains < 60 {
			t.Errorf("only %d domains", domains)
		}
	}
}

// TestLabPort: a port that is asked for and taken is an error that names who has it.
func TestLabPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	p := start(t, nil, "lab", "-port", port)
	if code := p.end(t); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{taken.Addr().String(), "in use by", fmt.Sprintf("(process %d)", os.Getpid()),
		"-port"} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("the error lacks %q: %s", want, &p.err)
		}
	}
	if left, _ := os.ReadDir(p.tmp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
