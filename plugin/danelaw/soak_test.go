package danelaw

import (
	"os"
	"time"
)

// soak is how long a test of endurance runs: short, or as DANELAW_SOAK says.
func soak(short time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("DANELAW_SOAK")); err == nil {
		return d
	}
	return short
}
