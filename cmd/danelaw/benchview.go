package main

import (
	"time"

	"github.com/danelaw-dns/danelaw/bench"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// benchJSON is what bench prints for programs.
type benchJSON struct {
	Started     time.Time     `json:"started"`
	Machine     benchMachine  `json:"machine"`
	Config      benchConfig   `json:"config"`
	Void        []string      `json:"void,omitempty"`    // why its numbers do not count, a sentence each
	Skipped     []string      `json:"skipped,omitempty"` // what could not be measured, and why
	Interrupted bool          `json:"interrupted"`       // it was ended early
	Rows        []benchRow    `json:"rows"`
	Samples     []benchSample `json:"samples"`
	// Unforeseen is how many questions the upstream had no packed answer to, and signed one while it was measured.
	Unforeseen int64 `json:"unforeseen"`
}

type benchMachine struct {
	CPU       string `json:"cpu"`
	CPUs      int    `json:"cpus"`
	Kernel    string `json:"kernel"`
	Shared    bool   `json:"shared"` // the servers shared one processor with what asks them
	GoVersion string `json:"go"`
}

type benchConfig struct {
	Universe  benchUniverse `json:"universe"`
	Workloads []string      `json:"workloads"` // none: all of them
	Rounds    int           `json:"rounds"`
	Hot       time.Duration `json:"hot"`
	InFlight  int           `json:"in_flight"`
	Delay     time.Duration `json:"delay"`
	Answers   int           `json:"answers"`
}

type benchUniverse struct {
	Seed        uint64          `json:"seed"`
	Domains     int             `json:"domains"`
	Insecure    float64         `json:"insecure"` // -1: as in each top-level domain
	Shared      float64         `json:"shared"`
	Providers   int             `json:"providers"`
	Algorithms  []int           `json:"algorithms"`
	Unsupported float64         `json:"unsupported"`
	Denial      universe.Denial `json:"denial"`
	TopLevel    universe.Denial `json:"tld_denial"`
	Now         time.Time       `json:"now"`
}

// benchRow sums up the samples of a server and a workload.
type benchRow struct {
	Workload string                 `json:"workload"`
	Title    string                 `json:"title"`
	First    string                 `json:"first"` // the key of the value by which servers are compared
	Head     string                 `json:"head"`  // what it is called
	Server   string                 `json:"server"`
	Void     string                 `json:"void,omitempty"` // why this row does not count, though others do
	Ours     bool                   `json:"ours"`           // it is a danelaw
	Values   map[string]benchSpread `json:"values"`         // by what is measured; bench/README.md has them
	Ratios   map[string]benchSpread `json:"ratios"`         // by server, or "signatures"
	BestPeer string                 `json:"best_peer,omitempty"`
}

type benchSpread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

type benchSample struct {
	Workload string             `json:"workload"`
	Server   string             `json:"server"`
	Round    int                `json:"round"`
	Values   map[string]float64 `json:"values"`
	Replies  int                `json:"replies"`
	Wrong    int                `json:"wrong"`
	Failed   int                `json:"failed"`
	Lost     int                `json:"lost"`
	Example  string             `json:"example,omitempty"`
	Fault    string             `json:"fault,omitempty"`
}

func benchViewOf(r *bench.Report) *benchJSON {
	c := r.Config
	v := &benchJSON{
		Started: r.Started, Machine: benchMachine(r.Machine), Void: r.Void, Unforeseen: r.Unforeseen,
		Skipped: r.Skipped, Interrupted: r.Interrupted,
		Config: benchConfig{benchUniverseOf(c.Universe), append([]string{}, c.Workloads...), c.Rounds, c.Hot,
			c.InFlight, c.Delay, c.Answers},
	}
	for _, row := range r.Rows {
		v.Rows = append(v.Rows, benchRow{
			row.Workload, row.Title, row.First, row.Head, row.Server, row.Void, row.Ours,
			spreadsOf(row.Values), spreadsOf(row.Ratios), row.BestPeer,
		})
	}
	for _, s := range r.Samples {
		v.Samples = append(v.Samples, benchSample(s))
	}
	return v
}

// benchUniverseOf leaves out what one workload alone has.
func benchUniverseOf(s universe.Spec) benchUniverse {
	return benchUniverse{s.Seed, s.Domains, s.Insecure, s.Shared, s.Providers, s.Algorithms, s.Unsupported, s.Denial,
		s.TopLevel, s.Now}
}

func spreadsOf(all map[string]bench.Spread) map[string]benchSpread {
	spreads := map[string]benchSpread{}
	for key, s := range all {
		spreads[key] = benchSpread(s)
	}
	return spreads
}
