package load

import (
	"math/rand/v2"
	"time"

	"github.com/danelaw-dns/danelaw/bench/universe"
)

// Hot asks questions drawn by chance until a time has come.
type Hot struct {
	Questions []universe.Question
	AtOnce    int
	Until     time.Time
	Chance    *rand.Rand
}

// Lines implements [Script].
func (h *Hot) Lines() int { return h.AtOnce }

// Next implements [Script].
func (h *Hot) Next(int) *universe.Question {
	if time.Now().After(h.Until) {
		return nil
	}
	return &h.Questions[h.Chance.IntN(len(h.Questions))]
}

// Deliveries asks about one domain after another what an MTA asks, many domains at a time.
type Deliveries struct {
	Domains [][]universe.Question
	AtOnce  int

	under [][]universe.Question // way, by line: what is still to be asked
}

// Lines implements [Script].
func (d *Deliveries) Lines() int { return min(d.AtOnce, len(d.Domains)) }

// Next implements [Script].
func (d *Deliveries) Next(line int) *universe.Question {
	if d.under == nil {
		d.under = make([][]universe.Question, d.Lines())
	}
	for len(d.under[line]) == 0 {
		if len(d.Domains) == 0 {
			return nil
		}
		d.under[line], d.Domains = d.Domains[0], d.Domains[1:]
	}
	q := &d.under[line][0]
	d.under[line] = d.under[line][1:]
	return q
}
