package load

import (
	"math/rand/v2"
	"time"

	"github.com/danelaw-dns/danelaw/bench/universe"
)

// Hot asks questions drawn by chance for some time.
type Hot struct {
	Questions []universe.Question
	AtOnce    int
	For       time.Duration
	Chance    *rand.Rand

	until time.Time
}

// Lines implements [Script].
func (h *Hot) Lines() int { return h.AtOnce }

// Next implements [Script].
func (h *Hot) Next(int) *universe.Question {
	now := time.Now()
	if h.until.IsZero() {
		h.until = now.Add(h.For)
	}
	if now.After(h.until) {
		return nil
	}
	return &h.Questions[h.Chance.IntN(len(h.Questions))]
}

// Steady is Hot at a rate.
type Steady struct {
	Hot
	Rate int // questions per second
}

// Lines implements [Script].
func (*Steady) Lines() int { return MaxLines }

// Interval implements [Paced].
func (s *Steady) Interval() time.Duration { return time.Second / time.Duration(s.Rate) }

// Deliveries asks about one domain after another what an MTA asks, many domains at a time.
type Deliveries struct {
	Domains [][]universe.Question
	AtOnce  int
	Took    []time.Duration // the deliveries that have ended: from the first question to the last reply

	under []delivery // way, by line
}

// delivery is one that is under way.
type delivery struct {
	left  []universe.Question
	begun time.Time
}

// Lines implements [Script].
func (d *Deliveries) Lines() int { return min(d.AtOnce, len(d.Domains)) }

// Next implements [Script].
func (d *Deliveries) Next(line int) *universe.Question {
	if d.under == nil {
		d.under = make([]delivery, d.Lines())
	}
	under, now := &d.under[line], time.Now()
	for len(under.left) == 0 {
		if !under.begun.IsZero() {
			d.Took = append(d.Took, now.Sub(under.begun))
			under.begun = time.Time{}
		}
		if len(d.Domains) == 0 {
			return nil
		}
		*under, d.Domains = delivery{d.Domains[0], now}, d.Domains[1:]
	}
	q := &under.left[0]
	under.left = under.left[1:]
	return q
}
