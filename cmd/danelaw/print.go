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

// cells is a line of a table: a name, perhaps indented, a word, and a text.
type cells struct {
	indent           int
	name, word, text string
	painted          string // the word in colours; its width is the word's
	heading          bool   // it is aligned with no other
}

// nameColumns is the widest that the column of names may be: two fifths of the line. Longer names have a line of their
// own.
func nameColumns(rows []cells, width int) (names, words int) {
	for _, r := range rows {
		if r.heading || r.word == "" && r.text == "" {
			continue
		}
		if n := r.indent + utf8.RuneCountInString(r.name); n > names && n <= max(2*width/5, 16) {
			names = n
		}
		words = max(words, utf8.RuneCountInString(r.word))
	}
	return names, words
}

// printCells aligns a table within a width: texts are broken at words and go on below themselves.
func printCells(to io.Writer, rows []cells, width int) {
	names, words := nameColumns(rows, width)
	at := names + 2 + words + 2
	for _, r := range rows {
		line := fmt.Sprintf("%-*s", names, strings.Repeat(" ", r.indent)+r.name)
		switch {
		case r.word == "" && r.text == "":
			fmt.Fprintln(to, wrapped(r.name, r.indent, width))
			continue
		case r.heading:
			fmt.Fprintln(to, r.asHeading(width))
			continue
		case utf8.RuneCountInString(line) > names:
			line += "\n" + strings.Repeat(" ", names)
		}
		line += "  " + r.painted
		if r.text != "" {
			text := strings.TrimLeft(wrapped(r.text, at, max(width, at+24)), " ")
			line += strings.Repeat(" ", words-utf8.RuneCountInString(r.word)+2) + text
		}
		fmt.Fprintln(to, line)
	}
}

// asHeading is a line that is aligned with no other. What does not fit goes below, a little to the right.
func (r cells) asHeading(width int) string {
	line := strings.Repeat(" ", r.indent) + r.name + "  "
	text := "  " + r.text
	if utf8.RuneCountInString(line+r.word+text) > width {
		text = "\n" + wrapped(r.text, r.indent+4, width)
	}
	return strings.TrimRight(line+r.painted+text, " ")
}
