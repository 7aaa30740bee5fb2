package printable

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestText: nothing that others write drives a terminal, begins a line, turns a text round or hides in it.
func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"mx.example.org.":           "mx.example.org.",
		`a\032b\.c.example.`:        `a\032b\.c.example.`, // a name of the DNS
		"Übung, 東京, Ελλάς, e\u0301": "Übung, 東京, Ελλάς, e\u0301",
		"a\x1b[31mb":                `a\u001b[31mb`,
		"a\u009b31mb":               `a\u009b31mb`, // CSI in one character
		"a\x9b31mb":                 `a\x9b31mb`,   // and in one octet
		"a\nb\r\tc":                 `a\nb\r\tc`,
		"a\x00b\x7f\b":              `a\u0000b\u007f\u0008`,
		"a\u2028b\u2029\u0085c":     `a\u2028b\u2029\u0085c`,
		"a\u202egpj.exe\u202c":      `a\u202egpj.exe\u202c`,
		"\u2066a\u2069\u200e\u061c": `\u2066a\u2069\u200e\u061c`,
		"a\u200bb\u200d\ufeff":      `a\u200bb\u200d\ufeff`,
		"a\u00a0b\u3000":            `a\u00a0b\u3000`,
		"a\u3164\u115f\u034f\ufe0f": `a\u3164\u115f\u034f\ufe0f`, // letters and marks without a shape
		"a\u2800b":                  `a\u2800b`,
		"a\U000e0041b":              `a\udb40\udc41b`, // a tag
		"a\ue000":                   `a\ue000`,
		"a\ufffdb\xff\xc3":          `a\ufffdb\xff\xc3`,
		"\xed\xa0\x80":              `\xed\xa0\x80`, // a surrogate
	} {
		got := Text(in)
		if got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
		if again := Text(got); again != got {
			t.Errorf("%q: escaped again it is %s", in, again)
		}
	}
}

// TestShort: no text of others is longer than it says.
func TestShort(t *testing.T) {
	exact := strings.Repeat("é", Most)
	if got := Short(exact); got != exact {
		t.Errorf("%d characters became %d", Most, utf8.RuneCountInString(got))
	}
	for _, in := range []string{exact + "e", strings.Repeat("\x1b", Most), strings.Repeat("a", 1<<20)} {
		if got := Short(in); utf8.RuneCountInString(got) != Most || !strings.HasSuffix(got, "...") {
			t.Errorf("%.10q...: %d characters, %q", in, utf8.RuneCountInString(got), got)
		}
	}
}

// TestJSON: JSON keeps its meaning.
func TestJSON(t *testing.T) {
	in := []string{"a\u009b31m", "b\u202e", "c\n", "d\U000e0041", "é"}
	text, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	safe := JSON(text)
	if strings.ContainsFunc(string(safe), func(r rune) bool { return r != '\n' && hidden(r) }) ||
		!strings.Contains(string(safe), "é") {
		t.Errorf("%q", safe)
	}
	var out []string
	if err := json.Unmarshal(safe, &out); err != nil || strings.Join(out, "|") != strings.Join(in, "|") {
		t.Errorf("%q: %q, %v", safe, out, err)
	}
}
