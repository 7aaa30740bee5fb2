package bench

import (
	"slices"
	"strings"
	"testing"

	"github.com/danelaw-dns/danelaw/bench/server"
)

// sample is one of 1000 queries.
func sample(server string, round int, perUnit float64) Sample {
	return Sample{
		Workload: "hot", Server: server, Round: round, Replies: 1000,
		Values: map[string]float64{"cpu_us": perUnit, "per_second": 1000, "others": 0},
	}
}

// report is that of the servers from which there are samples.
func report(samples ...Sample) *Report {
	r := &Report{Samples: samples}
	for _, s := range samples {
		known := func(known server.Server) bool { return known.Name == s.Server }
		if s.Server != server.EchoName && !slices.ContainsFunc(r.Config.Servers, known) {
			r.Config.Servers = append(r.Config.Servers, server.Server{
				Name: s.Server, Ours: s.Server == "danelaw" || s.Server == "before",
			})
		}
	}
	r.conclude()
	return r
}

// TestRows: medians are of samples, ratios of samples of the same round: what makes a round slow for all changes none.
func TestRows(t *testing.T) {
	r := report(
		sample("danelaw", 0, 10), sample("before", 0, 20), sample("unbound", 0, 5), sample("echo", 0, 2),
		sample("unbound", 1, 20), sample("danelaw", 1, 40), sample("before", 1, 80), sample("echo", 1, 8),
		sample("before", 2, 60), sample("unbound", 2, 10), sample("danelaw", 2, 30), sample("echo", 2, 6),
		sample("knot", 0, 4), sample("knot", 1, 8), sample("knot", 2, 8),
	)
	if len(r.Rows) != 5 || len(r.Void) > 0 {
		t.Fatalf("%d rows, void: %v", len(r.Rows), r.Void)
	}
	row := r.Rows[0]
	if row.Server != "danelaw" || row.Values["cpu_us"] != (Spread{30, 10, 40}) ||
		row.Values["per_second"].Median != 1000 || row.BestPeer != "knot" {
		t.Errorf("%+v", row)
	}
	for name, want := range map[string]Spread{
		"unbound": {2, 2, 3}, "before": {0.5, 0.5, 0.5}, "echo": {5, 5, 5}, "knot": {3.75, 2.5, 5},
	} {
		if row.Ratios[name] != want {
			t.Errorf("ratio to %s is %v, want %v", name, row.Ratios[name], want)
		}
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"30.0 (10.0–40.0)", "2.00 (2.00–3.00)", "× unbound", "× knot", "× danelaw", "× echo", "queries/s",
		"the echo's cost varied by 100 %",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "VOID") {
		t.Errorf("the table says that the run is void:\n%s", &out)
	}
}

// TestLateAsker: a run tells where what asks was late, as what is due one after the other came at once then.
func TestLateAsker(t *testing.T) {
	for late, want := range map[float64]bool{900: false, 2500: true} {
		s := sample("danelaw", 0, 300)
		s.Workload, s.Values["rate_late_p99_us"], s.Values["full_late_p99_us"] = "flood-nsec3", 10, late
		var out strings.Builder
		if err := report(s).Print(&out); err != nil {
			t.Fatal(err)
		}
		told := "while danelaw did the flood-nsec3 workload, one mail question in a\nhundred was asked 2.5 ms late"
		if strings.Contains(out.String(), told) != want || strings.Contains(out.String(), " late or more") != want {
			t.Errorf("%v us late:\n%s", late, &out)
		}
	}
}

// TestFewerRounds: a table that was measured in fewer rounds than others says so, and one round is one.
func TestFewerRounds(t *testing.T) {
	latency := sample("danelaw", 0, 1)
	latency.Workload, latency.Values["own_ms"] = "latency", 1
	for n, want := range []string{1: "; 1 round,", 3: "; 3 rounds,"} {
		if want == "" {
			continue
		}
		samples := []Sample{latency}
		for i := range n {
			samples = append(samples, sample("danelaw", i, 1))
		}
		r := report(samples...)
		r.Config.Rounds = n
		var out strings.Builder
		if err := r.Print(&out); err != nil {
			t.Fatal(err)
		}
		fewer := strings.Contains(out.String(), "round trips (1 round)\n")
		all := strings.Contains(out.String(), want) && strings.Contains(out.String(), "saturation\n")
		if !all || fewer != (n > 1) {
			t.Errorf("%d rounds:\n%s", n, &out)
		}
	}
}

// TestNothing: of what there is none no value is told, nor is who has none the best.
func TestNothing(t *testing.T) {
	unknown := sample("unbound", 0, 1)
	delete(unknown.Values, "cpu_us")
	r := report(sample("danelaw", 0, 10), unknown, sample("bind", 0, 20))
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	if best := r.Rows[0].BestPeer; best != "bind" {
		t.Errorf("the best is %s", best)
	}
	for line := range strings.Lines(out.String()) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "unbound" && (f[1] != "–" || f[2] != "–") {
			t.Error(line)
		}
	}
	for _, row := range r.Rows {
		if ratio, ok := row.Ratios["unbound"]; ok {
			t.Errorf("%s costs %v times nothing", row.Server, ratio)
		}
	}
}

// TestFloor: what signatures alone cost is a floor, too, where it is known.
func TestFloor(t *testing.T) {
	s := sample("danelaw", 0, 300)
	s.Workload, s.Values["floor_us"] = "cold", 100
	if r := report(s); r.Rows[0].Ratios[Floor] != (Spread{3, 3, 3}) {
		t.Errorf("%+v", r.Rows[0])
	}
}

// TestAlgorithms: of each algorithm the table has the cost, and how many times that of its signatures alone.
func TestAlgorithms(t *testing.T) {
	total := Sample{Workload: "algorithms-nsec", Server: "danelaw", Values: map[string]float64{}}
	for i, algorithm := range algorithms {
		cpu := float64(100 * (i + 3))
		total.ofAlgorithm(algorithm, Sample{Values: map[string]float64{"cpu_us": cpu, "floor_us": 100}})
	}
	r := report(total)
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	const want = "danelaw 300.0 3.00 400.0 4.00 500.0 5.00 600.0 6.00 700.0 7.00"
	if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) ||
		strings.Count(out.String(), "× signatures") != len(algorithms) {
		t.Errorf("the table lacks %q:\n%s", want, &out)
	}
}

// TestVoid: a wrong reply makes a run void everywhere, as does what a workload finds at fault; a failure, and more than
// one lost in a thousand, where that is no result.
func TestVoid(t *testing.T) {
	for want, change := range map[string]func(*Sample){
		"":                            func(s *Sample) { s.Lost = 1 },
		"1 of 1000 replies are wrong": func(s *Sample) { s.Wrong, s.Example = 1, "example.com. MX: AD=true" },
		"2 of 1002 replies are lost":  func(s *Sample) { s.Lost = 2 },
		"3 of 1000 replies are SERVF": func(s *Sample) { s.Failed = 3 },
		"it counts":                   func(s *Sample) { s.Fault = "it counts 98 % of its answers as cached" },
	} {
		for workload, lax := range map[string]bool{"hot": false, "against": false, "quarter": true} {
			bad := sample("danelaw", 1, 1)
			change(&bad)
			bad.Workload = workload
			r := report(sample("danelaw", 0, 1), bad)
			var out strings.Builder
			if err := r.Print(&out); err != nil {
				t.Fatal(err)
			}
			if want == "" || lax && bad.Wrong == 0 && bad.Fault == "" {
				if len(r.Void) > 0 {
					t.Errorf("void: %v", r.Void)
				}
				continue
			}
			where := "danelaw, " + bad.Workload + ", round 2: "
			if len(r.Void) != 1 || !strings.HasPrefix(r.Void[0], where+want) ||
				!strings.Contains(out.String(), "VOID: "+where) {
				t.Errorf("void: %v, want %q\n%s", r.Void, want, &out)
			}
		}
	}
}

// TestVoidRow: a server that cannot keep up with a rate, or fails at it, has a row that does not count, nor is it the
// best; the rows of others count, and have no ratio to it.
func TestVoidRow(t *testing.T) {
	for want, change := range map[string]func(*Sample){
		"":                             func(s *Sample) { s.Lost = 1 },
		"2 of 1002 replies are lost":   func(s *Sample) { s.Lost = 2 },
		"1 of 1000 replies are SERVFA": func(s *Sample) { s.Failed = 1 },
	} {
		for _, workload := range []string{"hot-20k", "hot-60k", "against-20k", "against-60k"} {
			all := []Sample{
				sample("danelaw", 0, 10), sample("unbound", 0, 5), sample("bind", 0, 8), sample("unbound", 1, 5),
				sample("bind", 1, 8), sample("danelaw", 1, 10),
			}
			for i := range all {
				all[i].Workload = workload
				all[i].Values["p99_us"] = all[i].Values["cpu_us"]
			}
			change(&all[3])
			r := report(all...)
			var out strings.Builder
			if err := r.Print(&out); err != nil {
				t.Fatal(err)
			}
			row, void, best, compared := r.Rows[1], "", "unbound", []int{3, 3, 3}
			if want != "" {
				void, best, compared = "unbound, "+workload+", round 2: "+want, "bind", []int{2, 0, 2}
			}
			for i, row := range r.Rows {
				if len(row.Ratios) != compared[i] || row.BestPeer != best || i != 1 && row.Void != "" {
					t.Errorf("%s, %q: %+v", workload, want, row)
				}
			}
			if !strings.HasPrefix(row.Void, void) || (row.Void == "") != (want == "") || len(r.Void) > 0 {
				t.Errorf("%s, %q: void: %q, the run: %v", workload, want, row.Void, r.Void)
			}
			if told := strings.Contains(out.String(), "This row is VOID: unbound") &&
				strings.Contains(out.String(), "unbound VOID"); told != (want != "") {
				t.Errorf("%s, %q:\n%s", workload, want, &out)
			}
		}
	}
}

// TestDisturbed: the table says when something else had the servers' processor, but not if there is one processor for
// all.
func TestDisturbed(t *testing.T) {
	const want = "while before did the hot workload, other programs had its processor for 30 %"
	for others, told := range map[float64]bool{4: false, 30: true} {
		disturbed := sample("before", 0, 1)
		disturbed.Values["others"] = others
		r := report(sample("danelaw", 0, 1), disturbed)
		for _, r.Machine.Shared = range []bool{false, true} {
			var out strings.Builder
			if err := r.Print(&out); err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(out.String(), "\n", " ")
			if strings.Contains(text, want) != (told && !r.Machine.Shared) {
				t.Errorf("with %v for others, one processor %t:\n%s", others, r.Machine.Shared, &out)
			}
		}
	}
}

// TestTables: each kind of sample has one table.
func TestTables(t *testing.T) {
	seen := map[string]bool{}
	for _, table := range tables() {
		if seen[table.workload] || table.title == "" || len(table.columns) == 0 {
			t.Errorf("%+v", table)
		}
		seen[table.workload] = true
	}
}
