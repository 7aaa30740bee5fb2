package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/danelaw-dns/danelaw/bench/server"
)

// Report is what a run found.
type Report struct {
	Started time.Time
	Machine Machine
	Config  Config
	Void    []string // why its numbers do not count, a sentence each
	Rows    []Row
	Samples []Sample
	// Unforeseen is how many questions the upstream had no packed answer to, and signed one while it was measured.
	Unforeseen int64
}

// Row sums up the samples of a server and a workload.
type Row struct {
	Workload  string
	Server    string
	CPU       Spread            // microseconds of CPU per domain or query
	Ratios    map[string]Spread // of CPU to that of another server in the same round
	PerSecond Spread            // domains or queries
	Busy      Spread            // share of the time in which the server had its processor
	Asked     Spread            // questions to the upstream per domain or query
	RSS       Spread
}

// Spread is the middle of several samples, and the ends.
type Spread struct {
	Median float64
	Low    float64
	High   float64
}

func spreadOf(values []float64) Spread {
	slices.Sort(values)
	n := len(values)
	return Spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// conclude makes the rows, and says whether the run counts.
func (r *Report) conclude() {
	for _, w := range workloads {
		for _, s := range r.Config.Servers {
			if samples := r.of(w.name, s.Name); len(samples) > 0 {
				r.Rows = append(r.Rows, r.row(samples))
			}
		}
	}
	for _, s := range r.Samples {
		if fault := s.fault(); fault != "" {
			r.Void = append(r.Void, fmt.Sprintf("%s, %s, round %d: %s", s.Server, s.Workload, s.Round+1, fault))
		}
	}
}

// of are the samples of a server and a workload by round.
func (r *Report) of(workload, name string) (samples []Sample) {
	for _, s := range r.Samples {
		if s.Workload == workload && s.Server == name {
			samples = append(samples, s)
		}
	}
	return samples
}

func (r *Report) row(samples []Sample) Row {
	of := func(value func(Sample) float64) Spread {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = value(s)
		}
		return spreadOf(values)
	}
	row := Row{
		Workload: samples[0].Workload, Server: samples[0].Server, CPU: of(Sample.perUnit), Ratios: map[string]Spread{},
		PerSecond: of(func(s Sample) float64 { return float64(s.Units) / s.Elapsed.Seconds() }),
		Busy:      of(func(s Sample) float64 { return s.Busy }),
		Asked:     of(func(s Sample) float64 { return float64(s.Asked) / float64(s.Units) }),
		RSS:       of(func(s Sample) float64 { return float64(s.RSS) / (1 << 20) }),
	}
	for _, other := range r.Config.Servers {
		beside := r.of(row.Workload, other.Name)
		row.Ratios[other.Name] = of(func(s Sample) float64 { return s.perUnit() / beside[s.Round].perUnit() })
	}
	return row
}

// perUnit is the CPU in microseconds per domain or query.
func (s Sample) perUnit() float64 { return float64(s.CPU.Nanoseconds()) / 1000 / float64(s.Units) }

const (
	tolerated = 0.001 // the share of questions that may be lost, or of hot answers that may come from the upstream
	ofItself  = 10    // questions that a server may ask of itself meanwhile, such as whether its upstream is there
)

// fault says why a sample voids the run; "" if it does not.
func (s Sample) fault() string {
	switch {
	case s.Wrong > 0:
		return fmt.Sprintf("%d of %d replies are wrong, such as %s", s.Wrong, s.Replies, s.Example)
	case float64(s.Lost) > tolerated*float64(s.Replies):
		return fmt.Sprintf("%d of %d replies are lost, such as %s", s.Lost, s.Replies+s.Lost, s.Example)
	case s.Workload == "hot" && float64(s.Asked) > max(ofItself, tolerated*float64(s.Replies)):
		return fmt.Sprintf("of %d answers that should be cached %d were asked for", s.Replies, s.Asked)
	}
	return ""
}

// quiet is the share of the servers' processor that other programs, such as the system's, may have without a word.
const quiet = 0.05

// Print writes the table for people.
func (r *Report) Print(to io.Writer) error {
	fmt.Fprintf(to, "%s, %d processors, Linux %s; %d rounds, medians (lowest to highest)\n",
		r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, r.Config.Rounds)
	if r.Machine.Shared {
		fmt.Fprintln(to, "There is one processor: the servers shared it with what asks them, and rates say little.")
	}
	for _, w := range workloads {
		r.printWorkload(to, w)
	}
	r.printDisturbed(to)
	for _, sentence := range r.Void {
		fmt.Fprintf(to, "\nVOID: %s", sentence)
	}
	_, err := fmt.Fprintln(to)
	return err
}

// printDisturbed says so if something else ran on the servers' processor.
func (r *Report) printDisturbed(to io.Writer) {
	worst := slices.MaxFunc(r.Samples, func(a, b Sample) int { return cmp.Compare(a.Others, b.Others) })
	if worst.Others > quiet && !r.Machine.Shared {
		fmt.Fprintf(to, "\nThe machine was not quiet: while %s did the %s workload, other programs had its\n"+
			"processor for %.0f %% of the time. Do not trust times and rates; ratios suffer less.\n",
			worst.Server, worst.Workload, 100*worst.Others)
	}
}

func (r *Report) printWorkload(to io.Writer, w workload) {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := false
	for _, row := range r.Rows {
		if row.Workload != w.name {
			continue
		}
		if !head {
			head = true
			fmt.Fprintf(to, "\n%s\n", w.title)
			fmt.Fprintf(table, "server\tµs CPU/%s\t", w.unit)
			for _, s := range r.compared() {
				fmt.Fprintf(table, "× %s\t", s)
			}
			fmt.Fprintf(table, "%s/s\tbusy\tupstream/%s\tRSS MiB\t\n", plural(w.unit), w.unit)
		}
		fmt.Fprintf(table, "%s\t%s\t", row.Server, row.CPU.text("%.1f"))
		for _, s := range r.compared() {
			fmt.Fprintf(table, "%s\t", row.Ratios[s].text("%.2f"))
		}
		fmt.Fprintf(table, "%.0f\t%.0f %%\t%.2f\t%.0f\t\n",
			row.PerSecond.Median, 100*row.Busy.Median, row.Asked.Median, row.RSS.Median)
	}
	table.Flush() //nolint:errcheck // the last line written says whether that works
}

func plural(unit string) string {
	if unit == "query" {
		return "queries"
	}
	return unit + "s"
}

func (s Spread) text(form string) string {
	return fmt.Sprintf(form+" ("+form+"–"+form+")", s.Median, s.Low, s.High)
}

// compared are the servers by whose CPU that of all is divided in the table: Unbound, and the danelaw that runs this
// if there is another.
func (r *Report) compared() (names []string) {
	danelaws := 0
	for _, s := range r.Config.Servers {
		if s.Name == server.UnboundName {
			names = append(names, s.Name)
		} else {
			danelaws++
		}
	}
	if danelaws > 1 {
		names = append(names, r.Config.Servers[0].Name)
	}
	return names
}
