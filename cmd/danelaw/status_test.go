package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// TestStatus: what a daemon at work tells of itself, in words and for programs.
func TestStatus(t *testing.T) {
	lab, dir := newLab(t), socketDir(t)
	socket := filepath.Join(dir, "control.sock")
	p, port, _ := serving(t, lab, lab.Addr(), "control "+socket, "policy unix:"+filepath.Join(dir, "policy.sock"),
		"negative_trust_anchor broken.example 1h \"told them\"")
	ask(t, port, "good.dane.", dns.TypeMX)
	ask(t, port, "good.dane.", dns.TypeMX)
	ask(t, port, "expired.dane.", dns.TypeMX)
	eventually(t, "ready", func() bool {
		code, _, _ := here("status", "--socket", socket)
		return code == 0
	})
	contains(t, "status", told(t, "status", "--socket", socket), "danelaw ", ", revision ", "ready; running for ",
		"127.0.0.1:", "answers in ", " ms\n",
		"anchors", "policies   0 of MTA-STS held, 0 in enforce\n", "cache",
		"KiB, 33.3 % of all questions answered from it", "2 secure, 1 bogus\n",
		"ago  expired.dane. MX: expired.dane.: the RRSIG over",
		"broken.example.", "told them")
	var reply danelaw.StatusReply
	text := told(t, "status", "--socket", socket, "--json")
	if err := json.Unmarshal([]byte(text), &reply); err != nil || !reply.Ready || len(reply.Blocks) != 1 {
		t.Errorf("%v\n%s", err, text)
	}
	for _, b := range reply.Blocks {
		if !b.Ready || len(b.Upstreams) != 1 || !b.Upstreams[0].Fit || !b.Upstreams[0].Alive ||
			b.Upstreams[0].RTT <= 0 ||
			len(b.Anchors["."]) == 0 || b.Verdicts["secure"] != 2 || b.Verdicts["bogus"] != 1 || len(b.Failures) != 1 ||
			b.Policies == nil {
			t.Errorf("%+v", b)
		}
	}
	p.terminate(t)
	says(t, []string{"status", "--socket", socket}, exitFailure, "no danelaw listens on "+socket)
}

// TestStatusNotReady: why it is not ready is told, with exit code 1.
func TestStatusNotReady(t *testing.T) {
	lab, dir := newLab(t), socketDir(t)
	socket := filepath.Join(dir, "control.sock")
	serving(t, lab, "127.0.0.1:1", "control "+socket) // nobody is there
	eventually(t, "the reason", func() bool {
		code, out, _ := here("status", "--socket", socket)
		return code == exitFailure && strings.Contains(out, "not ready: no upstream is fit for validation") &&
			strings.Contains(strings.Join(strings.Fields(out), " "), " 127.0.0.1:1 does not answer ")
	})
	if code, out, _ := here("status", "--socket", socket, "--json"); code != exitFailure ||
		!strings.Contains(out, `"ready":false`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
