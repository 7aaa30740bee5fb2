// Package printable makes what others wrote fit to be shown. Names and texts of certificates, what mail hosts and
// resolvers say, files and arguments may hold what drives a terminal, begins another line of a log, or shows a text in
// another order than it has. All of that is escaped where it comes in, so that text, JSON, pages, the log and metrics
// tell the same.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Most is how many characters of a text [Short] leaves.
const Most = 200

// Text returns s in one line, with everything escaped that is not seen as what it is: control characters, line breaks,
// white space other than the space, what changes the direction of a text, what has no width, and octets that are no
// UTF-8. The escapes are those of JSON, and \xNN for an octet. A backslash is left alone: names of the DNS have theirs
// already, and what was escaped once stays as it is.
func Text(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch _, size := utf8.DecodeRuneInString(s[i:]); {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case hidden(r):
			b.WriteString(escape(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Short is Text of at most [Most] characters, for what has no bound of its own.
func Short(s string) string {
	s = Text(s)
	n := 0
	for i := range s {
		if n++; n > Most-3 && utf8.RuneCountInString(s[i:]) > 3 {
			return s[:i] + "..."
		}
	}
	return s
}

// JSON returns a JSON text whose strings are escaped as Text does it, which changes their form and not what they mean.
// The line breaks between values stay.
func JSON(text []byte) []byte {
	var b strings.Builder
	for _, r := range string(text) {
		if r != '\n' && hidden(r) {
			b.WriteString(escape(r))
		} else {
			b.WriteRune(r)
		}
	}
	return []byte(b.String())
}

// hidden reports what must not be shown as it is. An octet that is no UTF-8 comes as U+FFFD.
func hidden(r rune) bool {
	if r < utf8.RuneSelf { // nearly all are, of the texts of thousands of questions that may be refused in a second
		return r < ' ' || r > '~'
	}
	return r == utf8.RuneError || !unicode.IsPrint(r) || r == brailleBlank ||
		unicode.In(r, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// brailleBlank is a symbol that looks like a space.
const brailleBlank = '\u2800'

// escape returns the escape of JSON for a character.
func escape(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
