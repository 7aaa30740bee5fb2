// Command plots draws what danelaw bench --json has found, as SVG and PNG. It is no part of danelaw, whose memory the
// fonts would take.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// run is what is read of the JSON.
type run struct {
	Rows []row `json:"rows"`
}

// row is what is known of a server and a workload.
type row struct {
	Workload string            `json:"workload"`
	Title    string            `json:"title"`
	First    string            `json:"first"` // the key of the value that is drawn
	Head     string            `json:"head"`  // its name and unit
	Server   string            `json:"server"`
	Void     string            `json:"void"` // why it does not count; "" if it does
	Ours     bool              `json:"ours"`
	Values   map[string]spread `json:"values"`
}

type spread struct{ Median, Low, High float64 }

func main() {
	to := flag.String("to", ".", "draw into `DIRECTORY`")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "Draws each table of danelaw bench --json, read from standard input, as NAME.svg and "+
			"NAME.png.\n\n  danelaw bench --json | go run ./bench/plots -to pictures\n\n")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := draw(os.Stdin, *to); err != nil {
		fmt.Fprintln(os.Stderr, "plots:", err)
		os.Exit(1)
	}
}

// draw makes two pictures of each workload in a directory.
func draw(from io.Reader, dir string) error {
	var r run
	if err := json.NewDecoder(from).Decode(&r); err != nil {
		return fmt.Errorf("this is not what danelaw bench --json prints: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for len(r.Rows) > 0 {
		n := 1
		for n < len(r.Rows) && r.Rows[n].Workload == r.Rows[0].Workload {
			n++
		}
		if err := save(r.Rows[:n], filepath.Join(dir, filepath.Base(r.Rows[0].Workload))); err != nil {
			return err
		}
		r.Rows = r.Rows[n:]
	}
	return nil
}

// The size of a picture, and of its bars.
const (
	width    = 7 * vg.Inch
	height   = 4 * vg.Inch
	barWidth = 28
	margin   = 0.6 // beside the first and last bar, in bars
	above    = 1.1 // times the highest
)

// The colours of danelaw's bars and of others'.
var (
	own    = color.RGBA{0x1f, 0x6f, 0xb2, 0xff}
	others = color.RGBA{0xb8, 0xc4, 0xce, 0xff}
)

// save makes both pictures of a workload.
func save(rows []row, path string) error {
	picture, err := chart(rows)
	if err != nil {
		return err
	}
	for _, kind := range []string{".svg", ".png"} {
		if err := picture.Save(width, height, path+kind); err != nil {
			return err
		}
	}
	return nil
}

// chart has a bar for each row, as high as the median, and a line from the lowest to the highest round.
func chart(rows []row) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Title.Padding, p.Y.Label.Text = rows[0].Title, vg.Points(8), rows[0].Head
	p.Add(plotter.NewGrid())
	var names []string
	lines := &ranges{}
	highest := 0.0
	for i, r := range rows {
		value := r.Values[r.First]
		bar, err := plotter.NewBarChart(plotter.Values{value.Median}, barWidth)
		if err != nil {
			return nil, err
		}
		bar.XMin, bar.Color, bar.LineStyle.Width = float64(i), others, 0
		if r.Ours {
			bar.Color = own
		}
		p.Add(bar)
		name := r.Server
		if r.Void != "" {
			name += " (void)"
		}
		names = append(names, name)
		lines.add(float64(i), value)
		highest = max(highest, value.High)
	}
	bars, err := plotter.NewYErrorBars(lines)
	if err != nil {
		return nil, err
	}
	p.Add(bars)
	p.NominalX(names...)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = -margin, float64(len(rows))-1+margin, 0, above*highest
	return p, nil
}

// ranges are medians with what is below and above.
type ranges struct {
	plotter.XYs
	plotter.YErrors
}

func (r *ranges) add(x float64, s spread) {
	r.XYs = append(r.XYs, plotter.XY{X: x, Y: s.Median})
	r.YErrors = append(r.YErrors, struct{ Low, High float64 }{s.Median - s.Low, s.High - s.Median})
}
