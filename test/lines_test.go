package test

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestLines: no line of Go has more than 120 columns. A tab counts as four.
func TestLines(t *testing.T) {
	const most, tab = 120, 4
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".go" {
			return err
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // it was read only
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			columns := utf8.RuneCount(lines.Bytes()) + (tab-1)*strings.Count(lines.Text(), "\t")
			if columns > most {
				t.Errorf("%s:%d has %d columns", file, n, columns)
			}
		}
		return lines.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
