package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/bench/upstream"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
)

// small are the flags of a run that takes seconds. It is a process of its own, as it binds itself to processors.
func small(more ...string) []string {
	return append([]string{
		"bench", "--json", "--rounds", "1", "--domains", "150", "--seconds", "20ms", "--answers", "300",
		"--delay", "1ms",
	}, more...)
}

// benched runs it and wants right replies, and what the tables show of everything, from each of the servers.
func benched(t *testing.T, servers []string, args ...string) (r benchJSON) {
	t.Helper()
	p := start(t, nil, args...)
	code := p.end(t)
	if err := json.Unmarshal([]byte(p.out.String()), &r); err != nil || code != 0 || len(r.Void) > 0 {
		t.Fatalf("exit code %d, %v, void: %v", code, err, r.Void)
	}
	for _, s := range r.Samples {
		if !slices.Contains(append(servers, server.EchoName), s.Server) || s.Replies == 0 || len(s.Values) == 0 {
			t.Errorf("%+v", s)
		}
		if s.Workload == "cold" && (s.Values["units"] != 143 || s.Replies < 4*143 || s.Values["asked"] < 1) {
			t.Errorf("%+v", s)
		}
		if cpu, ok := s.Values["cpu_us"]; ok && cpu <= 0 {
			t.Errorf("%+v", s)
		}
	}
	for _, row := range r.Rows {
		if row.Void == "" && row.Ratios[row.Server].Median != 1 {
			t.Errorf("%+v", row)
		}
	}
	return r
}

// workloadsOf are the kinds of samples there are, each once.
func workloadsOf(r benchJSON, server string) (all []string) {
	for _, s := range r.Samples {
		if s.Server == server && !slices.Contains(all, s.Workload) {
			all = append(all, s.Workload)
		}
	}
	slices.Sort(all)
	return all
}

// TestBench: runs of this danelaw and one beside it. A busy machine may need a minute for each.
func TestBench(t *testing.T) {
	servers, hot := []string{"danelaw", "other"}, []string{"hot", "hot-20k", "hot-60k", "hot-do0", "hot-ede"}
	for _, run := range []struct{ workloads, want, echo []string }{
		{[]string{"hot"}, hot, hot},
		{[]string{"cold", "latency", "memory"}, []string{"cold", "latency", "memory"}, nil},
	} {
		args := small("--peer", "none", "--beside", "other=/proc/self/exe")
		for _, w := range run.workloads {
			args = append(args, "--workload", w)
		}
		r := benched(t, servers, args...)
		for _, s := range servers {
			if got := workloadsOf(r, s); !slices.Equal(got, run.want) {
				t.Errorf("%s has done %v, want %v", s, got, run.want)
			}
		}
		if got := workloadsOf(r, server.EchoName); !slices.Equal(got, run.echo) {
			t.Errorf("the echo has done %v", got)
		}
		measured(t, r)
		sized(t, r)
	}
}

// sized reports an echo whose replies are not as large as the mean of this danelaw's to the same questions.
func sized(t *testing.T, r benchJSON) {
	t.Helper()
	octets := map[string]float64{}
	for _, s := range r.Samples {
		octets[s.Server+" "+s.Workload] = s.Values["octets"]
	}
	for _, s := range r.Samples {
		got, want := s.Values["octets"], math.Round(octets["danelaw "+s.Workload])
		if s.Server == server.EchoName && got != want {
			t.Errorf("%s: the echo's replies have %v octets, want %v", s.Workload, got, want)
		}
	}
}

// measured reports values that a run lacks.
func measured(t *testing.T, r benchJSON) {
	t.Helper()
	for _, row := range r.Rows {
		for _, key := range map[string][]string{
			"latency": {"own_ms", "shared_ms", "insecure_ms", "empty_ms"}, "cold": {"signatures", "floor_us"},
			"hot": {"p50_us", "p99_us"}, "memory": {"answers", "cpu_us_all"},
		}[row.Workload] {
			if row.Values[key].Median <= 0 {
				t.Errorf("%s has no %s: %+v", row.Server, key, row)
			}
		}
		for _, key := range []string{"cpu_us_few", "cpu_us_some", "growth"} {
			if value, ok := row.Values[key]; ok {
				t.Errorf("%s of fewer answers is %v", key, value)
			}
		}
	}
}

// TestBenchBeyond: what memory that outlives the process, is shared, or is told past its TTL costs and gives is
// measured.
func TestBenchBeyond(t *testing.T) {
	needs.Tools(t, "redis-server")
	want := []string{"restart", "shared", "stale"}
	r := benched(t, []string{"danelaw"}, small("--peer", "none", "--workload", want[0], "--workload", want[1],
		"--workload", want[2])...)
	if got := workloadsOf(r, "danelaw"); !slices.Equal(got, want) {
		t.Errorf("danelaw has done %v", got)
	}
	for _, s := range r.Samples {
		for _, key := range map[string][]string{
			"restart": {"back_us", "empty_us", "first_us", "file_per_answer", "end_ms", "write_p99_us",
				"reload_p99_us"},
			"shared": {"warm_us", "none_us", "miss_us", "hangs_us", "hangs_p99_us"},
			"stale":  {"first_ms", "first_answered", "again_cpu_us", "off_ms", "hit_on_us", "hit_off_us"},
		}[s.Workload] {
			if s.Values[key] <= 0 {
				t.Errorf("no %s: %+v", key, s)
			}
		}
		if s.Values["off_answered"] != 0 {
			t.Errorf("without serve_stale, silence answers: %+v", s)
		}
	}
}

// TestBenchPolicy: what Postfix is told of policies, and how long it waits for the first one of a domain, is measured
// of this danelaw. A network of its own takes root: without, the report says so.
func TestBenchPolicy(t *testing.T) {
	if os.Geteuid() != 0 {
		r := benched(t, nil, small("--peer", "none", "--workload", "policy")...)
		if len(r.Samples) != 0 || len(r.Skipped) != 1 || !strings.Contains(r.Skipped[0], "takes root") {
			t.Errorf("%+v", r)
		}
		needs.Root(t)
	}
	benchedPolicy(t, "danelaw", "none")
}

// TestBenchPolicyPeer is TestBenchPolicy with the server of others, which needs a resolver beside itself.
func TestBenchPolicyPeer(t *testing.T) {
	needs.Variable(t, "DANELAW_TEST_SERVERS", "postfix-mta-sts-resolver, and root", "mta-sts-daemon")
	needs.Root(t)
	const peer = "postfix-mta-sts-resolver"
	benchedPolicy(t, peer, peer)
}

// benchedPolicy wants that a server has done the policy workload.
func benchedPolicy(t *testing.T, name, peer string) {
	t.Helper()
	want := []string{"policy", "policy-cold", "policy-mixed", "policy-rate"}
	r := benched(t, []string{"danelaw", name}, small("--peer", peer, "--workload", "policy")...)
	if got := workloadsOf(r, name); !slices.Equal(got, want) || len(r.Skipped) > 0 {
		t.Errorf("%s has done %v; %v", name, got, r.Skipped)
	}
	for _, s := range r.Samples {
		for _, key := range map[string][]string{
			"policy": {"p50_us", "p99_us"}, "policy-cold": {"p50_ms", "alone_ms", "far_ms", "far_trips", "asked"},
		}[s.Workload] {
			if s.Values[key] <= 0 {
				t.Errorf("no %s: %+v", key, s)
			}
		}
		if s.Workload == "policy-cold" && s.Replies < 150 {
			t.Errorf("not all domains were asked about: %+v", s)
		}
	}
}

// TestBenchFloods: of a flood it is measured what mail suffers, and no answer is AD that must not be.
//
// On a busy machine nothing of a flood may be answered for 20 ms.
func TestBenchFloods(t *testing.T) {
	for _, flood := range []string{"flood-bogus", "flood-opt-out"} { // both together may take longer than a program may
		r := benched(t, []string{"danelaw"}, small("--seconds", floodLasts, "--peer", "none", "--workload", flood)...)
		if got := workloadsOf(r, "danelaw"); !slices.Equal(got, []string{flood}) {
			t.Errorf("danelaw has done %v", got)
		}
		for _, s := range r.Samples {
			if s.Values["quiet_p99_us"] <= 0 || s.Values["rate_p99_us"] <= 0 || s.Values["rate_goodput"] <= 0 {
				t.Errorf("%+v", s)
			}
		}
	}
}

// TestBenchPeers: with the servers of others, whose own statistics say that hits are hits.
func TestBenchPeers(t *testing.T) {
	needs.Variable(t, "DANELAW_TEST_SERVERS", "the resolvers of others, and root",
		"unbound", "named", "kresd", "pdns_recursor", "rec_control")
	needs.Root(t)
	for _, twice := range [][]string{{"--peer", "unbound"}, {"--beside", "unbound=/proc/self/exe"}} {
		says(t, append([]string{"bench", "--peer", "unbound"}, twice...), exitUsage, "two servers are named unbound")
	}
	servers := append([]string{"danelaw"}, server.Peers()...)
	r := benched(t, servers, small("--workload", "hot")...)
	for _, s := range r.Samples {
		if hits, known := s.Values["hits"]; s.Server != server.EchoName && (!known || hits < 99.9) {
			t.Errorf("%s, %s: hits %v, known %t", s.Server, s.Workload, hits, known)
		}
	}
	benched(t, servers, small("--workload", "cold")...)
	benched(t, servers, small("--workload", "quarter")...)
	r = benched(t, servers[:2], small("--peer", servers[1], "--workload", "algorithms")...)
	if got := workloadsOf(r, servers[1]); len(got) != 3 {
		t.Errorf("%s has done %v", servers[1], got)
	}
}

// TestBenchAgainst: a resolver that runs already is asked about domains in a file, and what it cannot answer is told.
func TestBenchAgainst(t *testing.T) {
	u, err := universe.New(t.Context(), universe.Spec{
		Domains: 3, Providers: 1, Algorithms: []int{13}, Denial: universe.NSEC, TopLevel: universe.Mixed,
		Now: time.Now(),
	}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.Start(u, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	names := filepath.Join(t.TempDir(), "names")
	text := u.Domain(0).Name + "\n" + u.Domain(1).Name + "\nnowhere.bogus\n"
	if err := os.WriteFile(names, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "run.json")
	r := benched(t, []string{up.Addr().String()}, "bench", "--json", "--against", up.Addr().String(), "--names", names,
		"--rounds", "2", "--seconds", "20ms", "--save", saved)
	var again benchJSON
	if text, err := os.ReadFile(saved); err != nil || json.Unmarshal(text, &again) != nil || len(again.Rows) != 3 {
		t.Errorf("%v, saved %+v", err, again)
	}
	if len(r.Rows) != 3 || len(r.Samples) != 6 {
		t.Errorf("%d rows, %d samples", len(r.Rows), len(r.Samples))
	}
	for _, row := range r.Rows {
		if v := row.Values; v["questions"].Median != 9 || v["p99_us"].Median <= 0 || v["first_p50_us"].Median <= 0 {
			t.Errorf("%+v", row)
		}
	}
	closed := fmt.Sprint("127.0.0.1:", ports.Closed(t))
	says(t, []string{"bench", "--against", closed, "--names", names}, exitFailure, "has answers about none of these")
	says(t, []string{"bench", "--against", "nonsense"}, exitUsage, "--against nonsense")
	says(t, []string{"bench", "--against", "127.0.0.1:53", "--names", "/nonexistent"}, exitUsage, "--names")
}

// TestBenchSave: a file that cannot be written is told before anything is measured. Where nothing is measured none is
// left, and one that is there stays as it is.
func TestBenchSave(t *testing.T) {
	dir := t.TempDir()
	says(t, []string{"bench", "--peer", "none", "--save", filepath.Join(dir, "none", "run.json")}, exitUsage, "--save")
	closed := fmt.Sprint("127.0.0.1:", ports.Closed(t))
	fresh, old := filepath.Join(dir, "fresh.json"), filepath.Join(dir, "old.json")
	if err := os.WriteFile(old, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{fresh, old} {
		says(t, []string{"bench", "--against", closed, "--save", file}, exitFailure, "has answers about none of these")
	}
	if _, err := os.Stat(fresh); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
	if text, err := os.ReadFile(old); err != nil || string(text) != "kept" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestBenchBroken: where a server does not start, what was measured before is printed and saved, and void: it is said
// which server it was and what it was to do.
func TestBenchBroken(t *testing.T) {
	saved := filepath.Join(t.TempDir(), "run.json")
	args := small("--peer", "none", "--workload", "cold", "--beside", "broken=false", "--save", saved)
	p := start(t, nil, slices.DeleteFunc(args, func(arg string) bool { return arg == "--json" })...)
	code := p.end(t)
	const void = "broken, cold, round 1: broken does not start"
	if code != exitFailure || !strings.Contains(p.err.String(), "the run is void: "+void) {
		t.Errorf("exit code %d: %s", code, &p.err)
	}
	for _, want := range []string{"Cold: ", "danelaw", "VOID: " + void} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("it does not tell %q: %s", want, &p.out)
		}
	}
	var r benchJSON
	text, err := os.ReadFile(saved)
	if err != nil || json.Unmarshal(text, &r) != nil || len(r.Samples) != 1 || len(r.Void) != 1 || r.Interrupted {
		t.Errorf("%v, saved %s", err, text)
	}
}

// TestBenchInterrupted: Ctrl-C ends a run, and the servers with it; what was measured is told.
func TestBenchInterrupted(t *testing.T) {
	p := start(t, nil, "bench", "--rounds", "1000", "--peer", "none", "--domains", "150", "--workload", "cold")
	first := eventuallyServer(t, p, 0)
	second := eventuallyServer(t, p, first) // so one sample is there
	code := p.terminate(t)
	if code != exitFailure || !strings.Contains(p.err.String(), "interrupted") {
		t.Errorf("exit code %d: %s", code, &p.err)
	}
	for _, want := range []string{"Cold: ", "danelaw", "The run was ended early"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("it does not tell %q: %s", want, &p.out)
		}
	}
	if runs(second) {
		t.Errorf("process %d goes on", second)
	}
}

// eventuallyServer waits for a server that a run has started, other than one.
func eventuallyServer(t *testing.T, p *child, other int32) (pid int32) {
	t.Helper()
	eventually(t, "a server", func() bool {
		for _, pid = range children(t, p.Process.Pid) {
			if pid != other {
				return true
			}
		}
		return false
	})
	return pid
}

// TestBenchUsage: what cannot be measured is told.
func TestBenchUsage(t *testing.T) {
	says(t, []string{"bench", "--peer", "dnsmasq"}, exitUsage,
		"--peer takes unbound, bind, knot, pdns, postfix-mta-sts-resolver or none, not")
	says(t, []string{"bench", "--beside", "/nonexistent"}, exitUsage, "it is no program")
	says(t, []string{"bench", "--peer", "none", "--beside", "danelaw=/proc/self/exe"}, exitUsage,
		"two servers are named danelaw; --beside NAME=PATH")
	says(t, []string{"bench", "--rounds", "0"}, exitUsage, "give a number from 1 on")
	says(t, []string{"bench", "--peer", "none", "--workload", "tepid"}, exitUsage, `no workload "tepid"`)
	says(t, []string{"bench", "--peer", "none", "--domains", "1"}, exitUsage, "too few domains, 1")
	for _, flag := range []string{"--seconds", "--delay"} {
		for _, none := range []string{"0s", "-1s"} {
			says(t, []string{"bench", "--peer", "none", flag + "=" + none}, exitUsage, flag[2:], "give a time above 0")
		}
	}
	says(t, []string{"bench", "--peer", "none", "--names", "/dev/null"}, exitUsage, "--names is for --against")
	says(t, []string{"bench", "--peer", "none", "--in-flight", "65537"}, exitUsage, "from 1 to 65536 deliveries")
	says(t, []string{"bench", "--peer", "none", "--insecure", "2"}, exitUsage, "from 0 to 1, not 2")
	says(t, []string{"bench", "more"}, exitUsage, "bench takes no argument")
}

// TestBenchAgainstUsage: what says nothing of a resolver that runs already is told, with what mends it.
func TestBenchAgainstUsage(t *testing.T) {
	for _, none := range []string{"0s", "-1s"} {
		says(t, []string{"bench", "--against", "127.0.0.1:53", "--seconds=" + none}, exitUsage, "seconds",
			"give a time above 0")
	}
	says(t, []string{"bench", "--against", "127.0.0.1:53", "--names", "/dev/null"}, exitUsage,
		"--names /dev/null: it has no domain; write one a line")
	says(t, []string{"bench", "--against", ":53"}, exitUsage, "no host; give HOST:PORT, such as 127.0.0.1:53")
	for flag, value := range map[string]string{
		"workload": "hot", "peer": "none", "beside": "x=/proc/self/exe", "answers": "1", "domains": "100",
	} {
		says(t, []string{"bench", "--against", "127.0.0.1:53", "--" + flag, value}, exitUsage,
			"--"+flag+" says nothing of a resolver that runs already")
	}
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
