package main

import (
	"time"

	"github.com/danelaw-dns/danelaw/bench"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

// benchJSON is what bench prints for programs.
type benchJSON struct {
	Started time.Time     `json:"started"`
	Machine benchMachine  `json:"machine"`
	Config  benchConfig   `json:"config"`
	Void    []string      `json:"void,omitempty"` // why its numbers do not count, a sentence each
	Rows    []benchRow    `json:"rows"`
	Samples []benchSample `json:"samples"`
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
}

type benchUniverse struct {
	Seed      uint64          `json:"seed"`
	Domains   int             `json:"domains"`
	Insecure  float64         `json:"insecure"`
	Shared    float64         `json:"shared"`
	Providers int             `json:"providers"`
	Algorithm int             `json:"algorithm"`
	Denial    universe.Denial `json:"denial"`
	Now       time.Time       `json:"now"`
}

// benchRow is what the table shows of a server and a workload.
type benchRow struct {
	Workload  string                 `json:"workload"`
	Server    string                 `json:"server"`
	CPU       benchSpread            `json:"cpu_us"`
	Ratios    map[string]benchSpread `json:"ratios"` // by server
	PerSecond benchSpread            `json:"per_second"`
	Busy      benchSpread            `json:"busy"`
	Asked     benchSpread            `json:"asked"`
	RSS       benchSpread            `json:"rss_mib"`
}

type benchSpread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

type benchSample struct {
	Workload string        `json:"workload"`
	Server   string        `json:"server"`
	Round    int           `json:"round"`
	Units    int           `json:"units"`
	CPU      time.Duration `json:"cpu"`
	Elapsed  time.Duration `json:"elapsed"`
	Busy     float64       `json:"busy"`
	Others   float64       `json:"others"`
	RSS      uint64        `json:"rss"`
	Asked    int64         `json:"asked"`
	Replies  int           `json:"replies"`
	Wrong    int           `json:"wrong"`
	Lost     int           `json:"lost"`
	Example  string        `json:"example,omitempty"`
}

func benchViewOf(r *bench.Report) *benchJSON {
	c := r.Config
	v := &benchJSON{
		Started: r.Started, Machine: benchMachine(r.Machine), Void: r.Void, Unforeseen: r.Unforeseen,
		Config: benchConfig{benchUniverse(c.Universe), append([]string{}, c.Workloads...), c.Rounds, c.Hot, c.InFlight,
			c.Delay},
	}
	for _, row := range r.Rows {
		ratios := map[string]benchSpread{}
		for server, s := range row.Ratios {
			ratios[server] = benchSpread(s)
		}
		v.Rows = append(v.Rows, benchRow{
			row.Workload, row.Server, benchSpread(row.CPU), ratios, benchSpread(row.PerSecond), benchSpread(row.Busy),
			benchSpread(row.Asked), benchSpread(row.RSS),
		})
	}
	for _, s := range r.Samples {
		v.Samples = append(v.Samples, benchSample(s))
	}
	return v
}
