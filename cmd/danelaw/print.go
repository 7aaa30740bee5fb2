package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// printer is what commands print to. It keeps an error of writing, which run tells: nobody else looks.
type printer struct {
	*bufio.Writer
	to io.Writer
}

// fileOf is the file that is printed to; nil if it is none.
func fileOf(to io.Writer) *os.File {
	if p, ok := to.(*printer); ok {
		to = p.to
	}
	f, _ := to.(*os.File)
	return f
}

// show prints what a command has found: with --json for programs, else as text for people.
func show(c *cli.Command, value any, text func(to io.Writer)) error {
	if c.Bool("json") {
		return writeJSON(c.Root().Writer, value)
	}
	text(c.Root().Writer)
	return nil
}

// writeJSON prints a value for programs. What might harm a terminal is escaped, as people may look at it in one.
func writeJSON(to io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = to.Write(append(printable.JSON(text), '\n'))
	return err
}

// unbounded is the width of what is no terminal: other programs have their lines whole.
const unbounded = 1 << 20

// widthOf is how many columns there are to write into: what COLUMNS says, else those of the terminal.
func widthOf(to io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n >= 20 {
		return n
	}
	if f := fileOf(to); f != nil {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n >= 20 {
			return n
		}
	}
	return unbounded
}

// wrapped fills text between the indent and the right edge, its first line too. A word that is too long has a line of
// its own, whole: people copy names and digests.
func wrapped(text string, indent, width int) string {
	pad := strings.Repeat(" ", indent)
	out, column := new(strings.Builder), 0
	for _, word := range strings.Fields(text) {
		size := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			out.WriteString(pad)
			column = indent
		case column+1+size > width:
			out.WriteString("\n" + pad)
			column = indent
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += size
	}
	return out.String()
}

// nameColumns is the widest that the column of names may be: two fifths of the line. Longer names have a line of their
// own.
func nameColumns(rows []drawing.Row, width int) (names, words int) {
	for _, r := range rows {
		if r.Heading || r.Word == "" && r.Text == "" {
			continue
		}
		if n := utf8.RuneCountInString(r.What); n > names && n <= max(2*width/5, 16) {
			names = n
		}
		words = max(words, utf8.RuneCountInString(r.Word))
	}
	return names, words
}

// printRows aligns a table within a width: texts are broken at words and go on below themselves. It is moved to the
// right by some columns, and each row by as many as its first cell begins with spaces.
func printRows(to io.Writer, rows []drawing.Row, right int, p painter, width int) {
	var shown []drawing.Row
	for _, r := range rows {
		what := strings.Repeat(" ", right) + printable.Text(r.What)
		shown = append(shown, drawing.Row{What: what, Word: printable.Text(r.Word), Text: printable.Text(r.Text),
			Heading: r.Heading})
	}
	names, words := nameColumns(shown, width)
	at := names + 2 + words + 2
	for _, r := range shown {
		line := fmt.Sprintf("%-*s", names, r.What)
		switch {
		case r.Word == "" && r.Text == "":
			fmt.Fprintln(to, wrapped(r.What, indent(r), width))
			continue
		case r.Heading:
			fmt.Fprintln(to, asHeading(r, p, width))
			continue
		case utf8.RuneCountInString(line) > names:
			line += "\n" + strings.Repeat(" ", names)
		}
		line += "  " + p.paint(drawing.ToneOf(r.Word), r.Word)
		if r.Text != "" {
			text := strings.TrimLeft(wrapped(r.Text, at, max(width, at+24)), " ")
			line += strings.Repeat(" ", words-utf8.RuneCountInString(r.Word)+2) + text
		}
		fmt.Fprintln(to, line)
	}
}

// indent is how many spaces stand before a row.
func indent(r drawing.Row) int { return len(r.What) - len(strings.TrimLeft(r.What, " ")) }

// asHeading is a line that is aligned with no other. What does not fit goes below, a little to the right.
func asHeading(r drawing.Row, p painter, width int) string {
	line, text := r.What+"  ", "  "+r.Text
	if utf8.RuneCountInString(line+r.Word+text) > width {
		text = "\n" + wrapped(r.Text, indent(r)+4, width)
	}
	return strings.TrimRight(line+p.paint(drawing.ToneOf(r.Word), r.Word)+text, " ")
}
