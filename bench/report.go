package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/danelaw-dns/danelaw/bench/server"
)

// Report is what a run found.
type Report struct {
	Started     time.Time
	Machine     Machine
	Config      Config
	Void        []string // why its numbers do not count, a sentence each
	Skipped     []string // what could not be measured, and why
	Interrupted bool     // it was ended early
	Rows        []Row
	Samples     []Sample
	// Unforeseen is how many questions the upstream had no packed answer to, and signed one while it was measured.
	Unforeseen int64
}

// Row sums up the samples of a server and a workload.
type Row struct {
	Workload string
	Title    string
	First    string // the key of the column by which servers are compared
	Head     string // that column's
	Server   string
	Ours     bool              // it is a danelaw
	Void     string            // why its numbers do not count, though those of others do; "" if they do
	Values   map[string]Spread // by the keys of columns
	// Ratios are those of the first column to other servers' in the same round, and to the Floor; none of what is Void.
	Ratios   map[string]Spread
	BestPeer string // the server of others with the least median in the first column; "" without one
}

// Floor is the name of what no server can be cheaper than: the signatures alone that it has to check.
const Floor = "signatures"

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

// tables are all that can be shown.
func tables() (all []table) {
	for _, w := range workloads {
		all = append(all, w.tables...)
	}
	for _, a := range against {
		a.table.workload, a.table.columns = a.manner.workload, answering
		all = append(all, a.table)
	}
	return all
}

// end concludes the report of a run that has ended with an error, unless that is nil. What was measured before is kept;
// it is an error only where nothing was.
func (r *Report) end(ctx context.Context, err error) (*Report, error) {
	r.Interrupted = ctx.Err() != nil
	if err != nil && !r.Interrupted {
		if len(r.Samples) == 0 {
			return nil, err
		}
		r.Void = append(r.Void, err.Error())
	}
	r.conclude()
	return r, nil
}

// conclude makes the rows, and says whether the run counts.
func (r *Report) conclude() {
	for _, t := range tables() {
		rows := r.rowsOf(t)
		best := r.bestPeer(t, rows)
		for i := range rows {
			rows[i].BestPeer = best
		}
		r.Rows = append(r.Rows, rows...)
		for _, s := range r.Samples {
			if fault := s.fault(t); s.Workload == t.workload && fault != "" {
				r.Void = append(r.Void, s.sentence(fault))
			}
		}
	}
}

// sentence says of a fault where it is.
func (s Sample) sentence(fault string) string {
	return fmt.Sprintf("%s, %s, round %d: %s", s.Server, s.Workload, s.Round+1, fault)
}

// broken says of an error where it is.
func (s Sample) broken(err error) error { return errors.New(s.sentence(err.Error())) }

// faultOf says why a row does not count, though others do; "" if it does. One of its samples is enough.
func faultOf(t table, samples []Sample) string {
	for _, s := range samples {
		if fault := s.unserved(); t.unserved == oneRow && fault != "" {
			return s.sentence(fault)
		}
	}
	return ""
}

// rowsOf are the rows of a table, in the order of the servers, the echo last.
func (r *Report) rowsOf(t table) (rows []Row) {
	for _, name := range r.names() {
		if samples := r.of(t.workload, name); len(samples) > 0 {
			rows = append(rows, r.row(t, samples))
		}
	}
	return rows
}

func (r *Report) names() (names []string) {
	for _, s := range r.Config.Servers {
		names = append(names, s.Name)
	}
	return append(names, server.EchoName)
}

func (r *Report) isOurs(name string) bool {
	return slices.ContainsFunc(r.Config.Servers, func(s server.Server) bool { return s.Name == name && s.Ours })
}

// bestPeer is the server of others that is best in a table.
func (r *Report) bestPeer(t table, rows []Row) (best string) {
	least := 0.0
	for _, s := range r.Config.Servers {
		for _, row := range rows {
			value, there := row.Values[t.columns[0].key]
			if row.Server == s.Name && row.Void == "" && there && !s.Ours && (best == "" || value.Median < least) {
				best, least = s.Name, value.Median
			}
		}
	}
	return best
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

// row sums up samples.
func (r *Report) row(t table, samples []Sample) Row {
	row := Row{
		Workload: t.workload, Title: t.title, First: t.columns[0].key, Head: t.columns[0].head,
		Server: samples[0].Server, Ours: r.isOurs(samples[0].Server),
		Values: map[string]Spread{}, Ratios: map[string]Spread{}, Void: faultOf(t, samples),
	}
	for key := range samples[0].Values {
		var values []float64
		for _, s := range samples {
			values = append(values, s.Values[key])
		}
		row.Values[key] = spreadOf(values)
	}
	if row.Void != "" {
		return row
	}
	for _, name := range r.names() {
		beside := r.of(t.workload, name)
		if faultOf(t, beside) != "" {
			continue
		}
		row.ratio(name, samples, func(s Sample) float64 {
			i := slices.IndexFunc(beside, func(o Sample) bool { return o.Round == s.Round })
			if i < 0 {
				return 0
			}
			return divided(s.Values[row.First], beside[i].Values[row.First])
		})
	}
	row.ratio(Floor, samples, func(s Sample) float64 { return divided(s.Values[row.First], s.Values["floor_us"]) })
	return row
}

// divided is a ratio; 0 where there is nothing to divide by.
func divided(value, by float64) float64 {
	if by == 0 {
		return 0
	}
	return value / by
}

// ratio adds one, of the samples where there is such: it is 0 where there is none.
func (r *Row) ratio(name string, samples []Sample, of func(Sample) float64) {
	var values []float64
	for _, s := range samples {
		if v := of(s); v > 0 {
			values = append(values, v)
		}
	}
	if len(values) > 0 {
		r.Ratios[name] = spreadOf(values)
	}
}

// fault says why a sample of a table voids the run; "" if it does not.
func (s Sample) fault(t table) string {
	switch {
	case s.Wrong > 0:
		return fmt.Sprintf("%d of %d replies are wrong, such as %s", s.Wrong, s.Replies, s.Example)
	case s.Fault != "":
		return s.Fault
	case t.unserved == wholeRun:
		return s.unserved()
	}
	return ""
}

// unserved says that replies failed, or that more were lost than may be; "" if neither is so.
func (s Sample) unserved() string {
	switch {
	case s.Failed > 0:
		return fmt.Sprintf("%d of %d replies are SERVFAIL, such as %s", s.Failed, s.Replies, s.Example)
	case float64(s.Lost) > tolerated*float64(s.Replies):
		return fmt.Sprintf("%d of %d replies are lost, such as %s", s.Lost, s.Replies+s.Lost, s.Example)
	}
	return ""
}

const (
	quiet     = 5    // percent of the servers' processor that other programs may have without a word
	punctual  = 1000 // microseconds by which mail's questions beside a flood may be asked late without a word
	undecided = 0.2  // by which share the echo may vary from round to round without a word
)

// Print writes the tables for people.
func (r *Report) Print(to io.Writer) error {
	fmt.Fprintf(to, "%s, %d processors, Linux %s; %s, medians (lowest to highest)\n",
		r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, rounds(r.Config.Rounds))
	if r.Machine.Shared {
		fmt.Fprintln(to, "There is one processor: the servers shared it with what asks them, and rates say little.")
	}
	for _, t := range tables() {
		r.printTable(to, t)
	}
	r.printDisturbed(to)
	for _, sentence := range r.Skipped {
		fmt.Fprintf(to, "\n%s", sentence)
	}
	if r.Interrupted {
		fmt.Fprintf(to, "\nThe run was ended early: this is what it had measured.")
	}
	for _, sentence := range r.Void {
		fmt.Fprintf(to, "\nVOID: %s", sentence)
	}
	_, err := fmt.Fprintln(to)
	return err
}

// printDisturbed says so if something else ran on the servers' processor, or if what never changes has changed.
func (r *Report) printDisturbed(to io.Writer) {
	if len(r.Samples) == 0 || r.Machine.Shared {
		return
	}
	worst := slices.MaxFunc(r.Samples, func(a, b Sample) int {
		return cmp.Compare(a.Values["others"], b.Values["others"])
	})
	if others := worst.Values["others"]; others > quiet {
		fmt.Fprintf(to, "\nThe machine was not quiet: while %s did the %s workload, other programs had its\n"+
			"processor for %.0f %% of the time. Do not trust times and rates; ratios suffer less.\n",
			worst.Server, worst.Workload, others)
	}
	if worst, late := r.latest(); late > punctual {
		fmt.Fprintf(to, "\nWhat asks had no processor at times: while %s did the %s workload, one mail question in a\n"+
			"hundred was asked %.1f ms late or more, so that many came at once. p99 is of the server alone.\n",
			worst.Server, worst.Workload, late/1000)
	}
	for _, row := range r.Rows {
		if s := row.Values["cpu_us"]; row.Server == server.EchoName && s.High-s.Low > undecided*s.Median {
			fmt.Fprintf(to, "\nIn %s the echo's cost varied by %.0f %%: what differs by less there is undecided.\n",
				row.Workload, 100*(s.High-s.Low)/s.Median)
		}
	}
}

// latest is the sample in which mail was asked the latest, and by how much, in microseconds.
func (r *Report) latest() (worst Sample, late float64) {
	for _, s := range r.Samples {
		for _, phase := range phases {
			if by := s.Values[phase+"_late_p99_us"]; by > late {
				worst, late = s, by
			}
		}
	}
	return worst, late
}

// printTable writes one, if there are samples for it.
func (r *Report) printTable(to io.Writer, t table) {
	rows := slices.DeleteFunc(slices.Clone(r.Rows), func(row Row) bool { return row.Workload != t.workload })
	if len(rows) == 0 {
		return
	}
	compared := r.compared(rows)
	fmt.Fprintf(to, "\n%s%s\n", t.title, r.fewer(t))
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	heads := []string{"server", t.columns[0].head}
	for _, name := range compared {
		heads = append(heads, "× "+name)
	}
	for _, c := range t.columns[1:] {
		heads = append(heads, c.head)
	}
	fmt.Fprintf(table, "%s\t\n", strings.Join(heads, "\t"))
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t\n", strings.Join(row.cells(t, compared), "\t"))
	}
	table.Flush() //nolint:errcheck // the last line written says whether that works
	for _, row := range rows {
		if row.Void != "" {
			fmt.Fprintf(to, "This row is VOID: %s\n", row.Void)
		}
	}
}

func rounds(n int) string {
	if n == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d rounds", n)
}

// fewer says in how many rounds a table was measured, where that is not all of them.
func (r *Report) fewer(t table) string {
	last := 0
	for _, s := range r.Samples {
		if s.Workload == t.workload {
			last = max(last, s.Round+1)
		}
	}
	if last < r.Config.Rounds {
		return fmt.Sprintf(" (%s)", rounds(last))
	}
	return ""
}

// cells are the texts of a row.
func (r Row) cells(t table, compared []string) []string {
	name := r.Server
	if r.Void != "" {
		name += " VOID"
	}
	first := "–"
	if value, ok := r.Values[t.columns[0].key]; ok {
		first = value.text(t.columns[0].form)
	}
	cells := []string{name, first}
	for _, name := range compared {
		text := "–"
		if ratio, ok := r.Ratios[name]; ok {
			text = ratio.text("%.2f")
		}
		cells = append(cells, text)
	}
	for _, c := range t.columns[1:] {
		text := "–"
		if value, ok := r.Values[c.key]; ok {
			text = fmt.Sprintf(c.form, value.Median)
		}
		cells = append(cells, text)
	}
	return cells
}

func (s Spread) text(form string) string {
	if s.Low == s.High {
		return fmt.Sprintf(form, s.Median)
	}
	return fmt.Sprintf(form+" ("+form+"–"+form+")", s.Median, s.Low, s.High)
}

// compared are those by which all are divided in a table: Unbound, the best peer, the danelaw that runs this if there
// is another, and the floor.
func (r *Report) compared(rows []Row) (names []string) {
	measured := func(name string) bool {
		return slices.ContainsFunc(rows, func(row Row) bool { return row.Ratios[name] != Spread{} })
	}
	danelaws := 0
	for _, s := range r.Config.Servers {
		if s.Name == server.UnboundName && measured(s.Name) {
			names = append(names, s.Name)
		}
		if s.Ours {
			danelaws++
		}
	}
	if best := rows[0].BestPeer; best != "" && len(rows) > 1 && !slices.Contains(names, best) {
		names = append(names, best)
	}
	if danelaws > 1 {
		names = append(names, r.Config.Servers[0].Name)
	}
	for _, floor := range []string{server.EchoName, Floor} {
		if measured(floor) {
			names = append(names, floor)
		}
	}
	return names
}
