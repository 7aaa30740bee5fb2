package main

import (
	"encoding/json"
	"io"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// writeJSON prints a value for programs, which people may look at in a terminal.
func writeJSON(to io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = to.Write(append(printable.JSON(text), '\n'))
	return err
}
