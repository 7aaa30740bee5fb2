package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"

	"github.com/urfave/cli/v3"

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
