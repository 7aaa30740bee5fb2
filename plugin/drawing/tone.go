package drawing

// Tone is how a word is to be taken.
type Tone uint8

// The tones.
const (
	Neutral Tone = iota
	Good
	Plain // neither good nor bad
	Bad
	Caution
)

// String is its name in style sheets.
func (t Tone) String() string { return [...]string{"neutral", "good", "plain", "bad", "caution"}[t] }

// ToneOf returns that of the word for a status or a decision.
func ToneOf(word string) Tone { return tones[word] }

var tones = map[string]Tone{
	"Secure": Good, "Insecure": Plain, "Bogus": Bad, "Indeterminate": Bad,
	"dane": Good, "encrypt": Good, "opportunistic": Plain, "no-address": Plain, "passed-over": Plain, "null-mx": Plain,
	"defer": Bad, "bounce": Bad,
	"matches": Good, "tls": Plain, "failed": Bad,
	"ok": Good, "warning": Caution, "fault": Bad, "unknown": Plain,
}
