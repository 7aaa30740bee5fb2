package bench

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/bench/server"
)

// sample is one of 1000 units.
func sample(server string, round int, perUnit time.Duration) Sample {
	return Sample{
		Workload: "hot", Server: server, Round: round,
		Units: 1000, Replies: 1000, CPU: 1000 * perUnit, Elapsed: time.Second,
	}
}

// report is that of the servers from which there are samples.
func report(samples ...Sample) *Report {
	r := &Report{Samples: samples}
	for _, s := range samples {
		if !slices.ContainsFunc(r.Config.Servers, func(known server.Server) bool { return known.Name == s.Server }) {
			r.Config.Servers = append(r.Config.Servers, server.Server{Name: s.Server})
		}
	}
	r.conclude()
	return r
}

// TestRows: medians are of samples, ratios of samples of the same round: what makes a round slow for all changes none.
func TestRows(t *testing.T) {
	const us = time.Microsecond
	r := report(
		sample("danelaw", 0, 10*us), sample("before", 0, 20*us), sample("unbound", 0, 5*us),
		sample("unbound", 1, 20*us), sample("danelaw", 1, 40*us), sample("before", 1, 80*us),
		sample("before", 2, 60*us), sample("unbound", 2, 10*us), sample("danelaw", 2, 30*us),
	)
	if len(r.Rows) != 3 || len(r.Void) > 0 {
		t.Fatalf("%d rows, void: %v", len(r.Rows), r.Void)
	}
	row := r.Rows[0]
	if row.Server != "danelaw" || row.CPU != (Spread{30, 10, 40}) || row.PerSecond.Median != 1000 {
		t.Errorf("%+v", row)
	}
	if row.Ratios["unbound"] != (Spread{2, 2, 3}) || row.Ratios["before"] != (Spread{0.5, 0.5, 0.5}) {
		t.Errorf("ratios %v", row.Ratios)
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"30.0 (10.0–40.0)", "2.00 (2.00–3.00)", "× unbound", "× danelaw", "queries/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "VOID") {
		t.Errorf("the table says that the run is void:\n%s", &out)
	}
}

// TestVoid: one wrong reply, more than one in a thousand lost, or answers that are not cached where they should be,
// make a run void.
func TestVoid(t *testing.T) {
	for want, change := range map[string]func(*Sample){
		"":                            func(s *Sample) { s.Lost, s.Asked = 1, 10 },
		"1 of 1000 replies are wrong": func(s *Sample) { s.Wrong, s.Example = 1, "example.com. MX: SERVFAIL" },
		"2 of 1002 replies are lost":  func(s *Sample) { s.Lost = 2 },
		"of 1000 answers that should be cached 11": func(s *Sample) { s.Asked = 11 },
	} {
		bad := sample("danelaw", 1, time.Microsecond)
		change(&bad)
		r := report(sample("danelaw", 0, time.Microsecond), bad)
		var out strings.Builder
		if err := r.Print(&out); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if len(r.Void) > 0 {
				t.Errorf("void: %v", r.Void)
			}
			continue
		}
		where := "danelaw, hot, round 2: "
		if len(r.Void) != 1 || !strings.HasPrefix(r.Void[0], where+want) ||
			!strings.Contains(out.String(), "VOID: "+where) {
			t.Errorf("void: %v, want %q\n%s", r.Void, want, &out)
		}
	}
}

// TestDisturbed: the table says when something else had the servers' processor, but not if there is one processor for
// all.
func TestDisturbed(t *testing.T) {
	const want = "while before did the hot workload, other programs had its processor for 30 %"
	for others, told := range map[float64]bool{0.04: false, 0.3: true} {
		disturbed := sample("before", 0, time.Microsecond)
		disturbed.Others = others
		r := report(sample("danelaw", 0, time.Microsecond), disturbed)
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

// TestCachedMayBeAskedInCold: what counts as asked too much in the hot workload is the cold one's work.
func TestCachedMayBeAskedInCold(t *testing.T) {
	s := sample("danelaw", 0, time.Microsecond)
	s.Workload, s.Asked = "cold", 4000
	if r := report(s); len(r.Void) > 0 {
		t.Errorf("void: %v", r.Void)
	}
}
