package danelaw

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
)

// statusPage is what the template makes a page of.
type statusPage struct {
	StatusReply
	Running time.Duration
	Sorted  []blockPage // by name
}

// blockPage is one server block on it.
type blockPage struct {
	*BlockStatus
	Name    string
	Rows    []pageRow
	Replies plot
	Legend  []legend // of the verdicts that occur
	Latency plot
	Failed  []failurePage
}

// pageRow says of something how it is.
type pageRow struct {
	What, How string
	Bad       bool
}

// legend is a verdict with the number of its replies.
type legend struct {
	Verdict string
	Replies uint64
}

// failurePage is a failure with where its chain is drawn.
type failurePage struct {
	FailureStatus
	Ago   time.Duration
	Chain string
}

// newStatusPage makes it of what danelaw status says.
func newStatusPage(t *table) *statusPage {
	reply := statusOf(t)
	s := &statusPage{StatusReply: reply, Running: reply.Now.Sub(reply.Since).Round(time.Second)}
	handlers := process.newest()
	for _, name := range slices.Sorted(maps.Keys(reply.Blocks)) {
		if h := handlers[name]; h != nil { // it has not ended meanwhile
			hour := h.memory.history.byMinute(reply.Now)
			s.Sorted = append(s.Sorted, newBlockPage(name, reply.Blocks[name], &hour, reply.Now))
		}
	}
	return s
}

func newBlockPage(name string, of *BlockStatus, hour *[historyMinutes]past, now time.Time) blockPage {
	b := blockPage{BlockStatus: of, Name: name, Rows: of.rows(), Replies: plotReplies(hour), Latency: plotLatency(hour)}
	for _, v := range verdictOrder {
		if n := of.Verdicts[string(v)]; n > 0 {
			b.Legend = append(b.Legend, legend{string(v), n})
		}
	}
	for _, f := range of.Failures {
		b.Failed = append(b.Failed, failurePage{f, now.Sub(f.At).Round(time.Second),
			"/chain?" + url.Values{"block": {name}, "name": {f.Name}, "type": {f.Type}}.Encode()})
	}
	return b
}

// rows are upstreams, anchors and cache in words.
func (b *BlockStatus) rows() (rows []pageRow) {
	for _, u := range b.Upstreams {
		rows = append(rows, pageRow{"upstream " + u.Upstream, u.State(), !u.Alive || !u.Fit})
	}
	for _, zone := range slices.Sorted(maps.Keys(b.Anchors)) {
		anchors := b.Anchors[zone]
		rows = append(rows, pageRow{"trust anchors of " + zone,
			cmp.Or(strings.Join(anchors, ", "), "none is supported: unsigned"), len(anchors) == 0})
	}
	if len(b.Private) > 0 {
		rows = append(rows, pageRow{"private", strings.Join(b.Private, ", "), false})
	}
	if p := b.Policies; p != nil {
		rows = append(rows, pageRow{"policies", p.String(), p.Vanished > 0})
		for _, f := range p.Failures {
			rows = append(rows, pageRow{stamp(f.At), f.String(), true})
		}
	}
	c := b.Cache
	used := c.Answers.Bytes + c.Zones.Bytes + c.Failures.Bytes + c.Proofs.Bytes + c.Signatures.Bytes
	text := fmt.Sprintf("%d answers, %d zones; %d of %d KiB", c.Answers.Entries, c.Zones.Entries, used>>10, c.Limit>>10)
	if all := c.Hits + c.Misses; all > 0 {
		text += fmt.Sprintf("; %.1f %% of all questions answered from it", 100*c.Hits/all)
	}
	if c.Stale > 0 {
		text += fmt.Sprintf("; %.0f stale answers told", c.Stale)
	}
	return append(rows, pageRow{"cache", text, false})
}

// plot is a small picture of the last hour, a column for each minute.
type plot struct {
	Bars  []bar
	Lines []gridLine
	Empty bool // there was no reply
}

// bar is a rectangle.
type bar struct {
	X, Y, Width, Height float64
	Class, Title        string
}

// gridLine is a line across with its label.
type gridLine struct {
	Y     float64
	Label string
}

// The measures of a plot, in units of its view box, which page.html has too.
const (
	plotLeft   = 38
	plotTop    = 8
	plotHeight = 100
	plotColumn = 5
)

// column is the rectangle of a minute between two heights, from 0 to 1.
func column(minute int, from, to float64, class, title string) bar {
	return bar{X: plotLeft + float64(minute*plotColumn), Width: plotColumn - 1,
		Y: round(plotTop + plotHeight*(1-to)), Height: round(plotHeight * (to - from)), Class: class, Title: title}
}

func round(x float64) float64 { return math.Round(100*x) / 100 }

func across(height float64, label string) gridLine {
	return gridLine{round(plotTop + plotHeight*(1-height)), label}
}

// ago says when a minute was.
func ago(minute int) string {
	if minute == historyMinutes-1 {
		return "this minute"
	}
	return fmt.Sprintf("%d min ago", historyMinutes-1-minute)
}

// plotReplies draws the replies of each minute by verdict, one above the other.
func plotReplies(hour *[historyMinutes]past) (p plot) {
	var most uint64
	var sums [historyMinutes]uint64
	for minute := range hour {
		for _, n := range hour[minute].counts {
			sums[minute] += n
		}
		most = max(most, sums[minute])
	}
	if p.Empty = most == 0; p.Empty {
		return p
	}
	top := ceiling(most)
	for minute := range hour {
		from := 0.0
		for v, n := range hour[minute].counts {
			if n > 0 {
				to := from + float64(n)/float64(top)
				p.Bars = append(p.Bars, column(minute, from, to, "v-"+string(verdictOrder[v]),
					fmt.Sprintf("%s: %d %s", ago(minute), n, verdictOrder[v])))
				from = to
			}
		}
	}
	p.Lines = []gridLine{across(0, "0"), across(1, fmt.Sprint(top))}
	if top%2 == 0 {
		p.Lines = append(p.Lines, across(0.5, fmt.Sprint(top/2)))
	}
	return p
}

// ceiling is the next number of one digit and zeros.
func ceiling(n uint64) uint64 {
	unit := uint64(1)
	for n/unit >= 10 {
		unit *= 10
	}
	return (n + unit - 1) / unit * unit
}

// plotLatency draws from what half of the replies of a minute took at most to what 95 % did, by the logarithm.
func plotLatency(hour *[historyMinutes]past) (p plot) {
	height := func(d time.Duration) float64 {
		return math.Log(float64(d)/float64(firstBucket)) / math.Log(2) / (manyBuckets - 1)
	}
	for minute := range hour {
		half, some := hour[minute].quantile(0.5)
		if !some {
			continue
		}
		most, _ := hour[minute].quantile(0.95)
		const thick = 0.03 // so that what is equal is seen
		p.Bars = append(p.Bars, column(minute, height(half), max(height(most), height(half)+thick), "latency",
			fmt.Sprintf("%s: half within %v, 95 %% within %v", ago(minute), half, most)))
	}
	p.Empty = len(p.Bars) == 0
	for d, label := range map[time.Duration]string{100 * time.Microsecond: "0.1 ms", 10 * time.Millisecond: "10 ms",
		time.Second: "1 s"} {
		p.Lines = append(p.Lines, across(height(d), label))
	}
	slices.SortFunc(p.Lines, func(a, b gridLine) int { return cmp.Compare(a.Y, b.Y) })
	return p
}
