package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

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
