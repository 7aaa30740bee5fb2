package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// small are the flags of a run that takes seconds. It is a process of its own, as it binds itself to processors.
func small(more ...string) []string {
	return append([]string{"bench", "--json", "--rounds", "2", "--domains", "150", "--seconds", "100ms"}, more...)
}

// benched runs it and wants right replies, and costs of everything, from each of the servers.
func benched(t *testing.T, servers []string, args ...string) {
	t.Helper()
	p := start(t, nil, args...)
	code := p.end(t)
	var r benchJSON
	if err := json.Unmarshal([]byte(p.out.String()), &r); err != nil || code != 0 || len(r.Void) > 0 {
		t.Fatalf("exit code %d, %v, void: %v", code, err, r.Void)
	}
	if len(r.Rows) != 2*len(servers) || len(r.Samples) != 2*len(r.Rows) {
		t.Fatalf("%d rows, %d samples", len(r.Rows), len(r.Samples))
	}
	for _, s := range r.Samples {
		if !slices.Contains(servers, s.Server) || s.Units == 0 || s.CPU <= 0 || s.RSS < 1<<20 || s.Replies == 0 {
			t.Errorf("%+v", s)
		}
		if s.Workload == "cold" && (s.Units != 143 || s.Replies != 4*s.Units || s.Asked < int64(s.Units)) {
			t.Errorf("%+v", s)
		}
	}
	for _, row := range r.Rows {
		if len(row.Ratios) != len(servers) || row.Ratios[row.Server].Median != 1 || row.CPU.Median <= 0 {
			t.Errorf("%+v", row)
		}
	}
}

// TestBench: a whole run, of this danelaw and one beside it.
func TestBench(t *testing.T) {
	benched(t, []string{"danelaw", "other"}, small("--peer", "none", "--beside", "other=/proc/self/exe")...)
}

// TestBenchUnbound: with Unbound.
func TestBenchUnbound(t *testing.T) {
	needs.Tools(t, "unbound")
	for _, twice := range [][]string{{"--peer", "unbound"}, {"--beside", "unbound=/proc/self/exe"}} {
		says(t, append([]string{"bench", "--peer", "unbound"}, twice...), exitUsage, "two servers are named unbound")
	}
	benched(t, []string{"danelaw", "unbound"}, small("--peer", "unbound")...)
}

// TestBenchInterrupted: Ctrl-C ends a run, and the servers with it.
func TestBenchInterrupted(t *testing.T) {
	p := start(t, nil, "bench", "--rounds", "1000", "--peer", "none", "--domains", "150")
	eventually(t, "a server", func() bool { return len(children(t, p.Process.Pid)) > 0 })
	servers := children(t, p.Process.Pid)
	if code := p.terminate(t); code != exitFailure || !strings.Contains(p.err.String(), "interrupted") {
		t.Errorf("exit code %d: %s", code, &p.err)
	}
	for _, pid := range servers {
		if runs(pid) {
			t.Errorf("process %d goes on", pid)
		}
	}
}

// TestBenchUsage: what cannot be measured is told.
func TestBenchUsage(t *testing.T) {
	says(t, []string{"bench", "--peer", "bind"}, exitUsage, `--peer takes unbound or none, not "bind"`)
	says(t, []string{"bench", "--beside", "/nonexistent"}, exitUsage, "it is no program")
	says(t, []string{"bench", "--peer", "none", "--beside", "danelaw=/proc/self/exe"}, exitUsage,
		"two servers are named danelaw; --beside NAME=PATH")
	says(t, []string{"bench", "--rounds", "0"}, exitUsage, "give a number from 1 on")
	says(t, []string{"bench", "--peer", "none", "--workload", "tepid"}, exitUsage, `no workload "tepid"`)
	says(t, []string{"bench", "--peer", "none", "--domains", "1"}, exitUsage, "too few domains, 1")
	says(t, []string{"bench", "--peer", "none", "--seconds", "0s"}, exitUsage, "during some time")
	says(t, []string{"bench", "--peer", "none", "--in-flight", "65537"}, exitUsage, "from 1 to 65536 deliveries")
	says(t, []string{"bench", "--peer", "none", "--insecure", "2"}, exitUsage, "from 0 to 1, not 2")
	says(t, []string{"bench", "more"}, exitUsage, "bench takes no argument")
}

// children are the processes that one has started.
func children(t *testing.T, pid int) []int32 {
	t.Helper()
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		t.Fatal(err)
	}
	all, _ := p.Children() // an error is that there are none
	var pids []int32
	for _, c := range all {
		pids = append(pids, c.Pid)
	}
	return pids
}

func runs(pid int32) bool {
	there, err := process.PidExists(pid)
	return there && err == nil
}
