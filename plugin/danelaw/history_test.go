package danelaw

import (
	"fmt"
	"maps"
	"runtime/debug"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestHistory: replies of the last hour are counted by verdict, those before it are not, and the table of minutes comes
// round.
func TestHistory(t *testing.T) {
	var h history
	begin := time.Unix(1800000000, 0)
	for minute := range 100 {
		h.replied(secure, begin.Add(time.Duration(minute)*time.Minute))
		if minute%2 == 0 {
			h.replied(bogus, begin.Add(time.Duration(minute)*time.Minute))
		}
	}
	for after, want := range map[time.Duration]map[string]uint64{
		99 * time.Minute:  {"secure": 60, "bogus": 30},
		129 * time.Minute: {"secure": 30, "bogus": 15},
		158 * time.Minute: {"secure": 1},
		159 * time.Minute: {},
	} {
		if got := h.lastHour(begin.Add(after)); !maps.Equal(got, want) {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
}

// TestHistoryFailures: the latest failures are kept, one for each question.
func TestHistoryFailures(t *testing.T) {
	var h history
	at := time.Unix(1800000000, 0)
	for i := range 100 {
		h.failed(dns.Question{Name: fmt.Sprintf("%d.example.", i), Qtype: dns.TypeMX}, "first", at)
	}
	h.failed(dns.Question{Name: "90.example.", Qtype: dns.TypeMX}, "again", at.Add(time.Minute))
	all := h.latest()
	if len(all) != historyFailures || all[0].Name != "90.example." || all[0].Text != "again" || all[0].Type != "MX" ||
		!all[0].At.Equal(at.Add(time.Minute)) || all[1].Name != "99.example." ||
		all[historyFailures-1].Name != "80.example." {
		t.Errorf("%d: %+v", len(all), all)
	}
}

// TestBuild: what the build info does not tell is unknown.
func TestBuild(t *testing.T) {
	for want, info := range map[string]*debug.BuildInfo{
		"unknown, revision unknown of unknown": nil,
		"(devel), revision unknown of unknown": {Main: debug.Module{Version: "(devel)"}},
		"v1.2.3, revision 0123456789ab of 2026-11-20T04:00:00Z": {Main: debug.Module{Version: "v1.2.3"},
			Settings: []debug.BuildSetting{
				{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.time", Value: "2026-11-20T04:00:00Z"},
				{Key: "vcs.modified", Value: "false"},
			}},
		"unknown, revision 0123456789ab+ of unknown": {Settings: []debug.BuildSetting{
			{Key: "vcs.modified", Value: "true"}, {Key: "vcs.revision", Value: "0123456789abcdef0123"},
		}},
	} {
		if got := buildOf(info).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
