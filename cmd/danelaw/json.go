package main

import (
	"encoding/json"
	"io"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// writeJSON prints a value for programs. What might harm a terminal is escaped, as people may look at it in one.
func writeJSON(to io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = to.Write(append(printable.JSON(text), '\n'))
	return err
}
