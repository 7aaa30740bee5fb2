package universe_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/bench/load"
	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/bench/upstream"
	"github.com/danelaw-dns/danelaw/test/inprocess"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// TestValidates: danelaw finds Secure and Insecure what the universe says is so, with every algorithm and all ways
// to deny, and asks little that the universe has not foreseen.
func TestValidates(t *testing.T) {
	for _, algorithm := range []int{8, 10, 13, 14, 15} {
		for _, denial := range []universe.Denial{universe.NSEC, universe.NSEC3, universe.OptOut} {
			t.Run(fmt.Sprint(algorithm, " ", denial), func(t *testing.T) {
				const domains = 40
				u, err := universe.New(t.Context(), universe.Spec{
					Seed: 3, Domains: domains, Insecure: 0.4, Shared: 0.5, Providers: 5,
					Algorithms: []int{algorithm}, Denial: denial, TopLevel: denial, Now: time.Now(),
				}, func() {})
				if err != nil {
					t.Fatal(err)
				}
				script := new(load.Deliveries)
				script.AtOnce = 8
				for i := range domains {
					questions, err := u.Delivery(i)
					if err != nil {
						t.Fatal(err)
					}
					script.Domains = append(script.Domains, questions)
				}
				result, err := load.Run(t.Context(), resolver(t, u), script)
				if err != nil || result.Wrong > 0 || result.Replies != 4*domains {
					t.Errorf("%+v, error %v", result, err)
				}
				if n := u.Unforeseen(); n > 10 {
					t.Errorf("%d questions were not foreseen", n)
				}
			})
		}
	}
}

// resolver is a danelaw that asks a universe.
func resolver(t *testing.T, u *universe.Universe) netip.AddrPort {
	t.Helper()
	up, err := upstream.Start(u, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	_, addr, _ := inprocess.Start(t, trustanchors.Set{".": {u.Anchor()}}, nil, up.Addr().String())
	return netip.MustParseAddrPort(addr)
}
