package mail

import (
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// dots are those that people write between labels (RFC 5895 section 2).
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

// ALabels returns a name, in letters of any script, with each label that is not ASCII in its form for the DNS (RFC
// 5891). Labels are taken alone: those beside may begin with an underscore, which no host name does. An error says what
// is wrong with a label; what is ASCII is not looked at.
func ALabels(text string) (string, error) {
	if !utf8.ValidString(text) {
		return "", errors.New("it is not in UTF-8")
	}
	labels := strings.Split(dots.Replace(text), ".")
	for i, label := range labels {
		if strings.IndexFunc(label, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
			continue
		}
		a, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", errors.New(strings.TrimPrefix(err.Error(), "idna: "))
		}
		labels[i] = a
	}
	return strings.Join(labels, "."), nil
}
