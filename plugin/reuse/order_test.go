package reuse

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// V-31: keys sort as names do in a zone, those of odd octets too.
func TestOrderKey(t *testing.T) {
	labels := []string{`\000`, `\001`, `\002`, "a", "b", `\255`, `\.`, "*"}
	random := func() (name string) {
		for range rand.IntN(4) {
			for range 1 + rand.IntN(3) {
				name += labels[rand.IntN(len(labels))]
			}
			name += "."
		}
		return dns.Fqdn(name)
	}
	sign := func(n int) int { return min(1, max(-1, n)) }
	for range 20000 {
		a, b := random(), random()
		if got, want := strings.Compare(orderKey(a), orderKey(b)), sign(dnssec.Compare(a, b)); got != want {
			t.Fatalf("%q and %q: %d, want %d", a, b, got, want)
		}
	}
}
