package bench

import (
	"fmt"
	"time"

	"github.com/danelaw-dns/danelaw/bench/universe"
)

// checks are how many signatures are checked to learn what one costs.
const checks = 200

// signatureCost is what the check of one signature costs with an algorithm, by Go's library and nothing else.
func signatureCost(algorithm int) (time.Duration, error) {
	check, err := universe.Check(algorithm)
	if err != nil {
		return 0, err
	}
	cost, ok := costOf(check, time.Now)
	if !ok {
		return 0, fmt.Errorf("a signature of algorithm %d does not verify", algorithm)
	}
	return cost, nil
}

// costOf is what one check costs by a clock; ok is false if one fails.
func costOf(check func() bool, now func() time.Time) (cost time.Duration, ok bool) {
	best := time.Hour
	for range 5 { // something else may run meanwhile
		begun := now()
		for range checks {
			if !check() {
				return 0, false
			}
		}
		best = min(best, now().Sub(begun))
	}
	return best / checks, true
}
