package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/danelaw-dns/danelaw/plugin/drawing"
)

// TestColumns: what check prints fits the columns there are, is broken at words, and says the same at each width.
func TestColumns(t *testing.T) {
	for _, args := range [][]string{
		{"good.dane", "MX"}, {"_25._tcp.mx.alias-tlsa.dane", "TLSA"}, {"expired.dane", "MX"}, {"mx1.good.dane", "MX"},
		{"iterations.dane", "TYPE65"},
		{"-smtp", "good.dane"}, {"-smtp", "mismatch.dane"}, {"expired.dane"}, {"unsigned.dane"},
		{"alias-unsigned.dane"},
	} {
		texts := map[string]string{}
		for columns, most := range map[string]int{"80": 80, "120": 120, "": 0} {
			t.Setenv("COLUMNS", columns)
			_, out, _ := here(append([]string{"check", "-lab"}, args...)...)
			texts[columns] = out
			for line := range strings.Lines(out) {
				line = strings.TrimRight(line, "\n")
				words := strings.Fields(line)
				if n := utf8.RuneCountInString(line); most > 0 && n > most && len(words) > 1 {
					t.Errorf("%v: %d columns where there are %d: %s", args, n, most, line)
				}
				if strings.HasSuffix(line, " ") {
					t.Errorf("%v: the line ends with a space: %q", args, line)
				}
			}
		}
		if len(strings.Split(texts["80"], "\n")) <= len(strings.Split(texts[""], "\n")) {
			t.Errorf("%v: nothing is broken at 80 columns:\n%s", args, texts["80"])
		}
	}
}

// TestRows: words stand one below the other, and a name that is too long has a line of its own.
func TestRows(t *testing.T) {
	rows := []drawing.Row{
		{What: ".", Word: "Secure", Text: "trust anchor 1, signed from then to now"},
		{What: "  dane.", Word: "Bogus", Text: ""},
		{What: "    _25._tcp.a-long-name.dane. TLSA", Word: "Secure", Text: "key 1"},
		{What: "      3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef", Word: "", Text: ""},
		{What: "  mx.dane.", Word: "defer", Text: "because of something or other", Heading: true},
	}
	for width, want := range map[int]string{
		44: `
.        Secure  trust anchor 1, signed from
                 then to now
  dane.  Bogus
    _25._tcp.a-long-name.dane. TLSA
         Secure  key 1
      3 1 1
      0123456789abcdef0123456789abcdef0123456789abcdef
  mx.dane.  defer
      because of something or other
`,
		unbounded: `
.                                    Secure  trust anchor 1, signed from then to now
  dane.                              Bogus
    _25._tcp.a-long-name.dane. TLSA  Secure  key 1
      3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef
  mx.dane.  defer  because of something or other
`,
	} {
		var out strings.Builder
		printRows(&out, rows, 0, newPainter(false), width)
		if got := "\n" + out.String(); got != want {
			t.Errorf("%d columns:%swant%s", width, got, want)
		}
	}
}
