package clock

import (
	"os"
	"testing"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

// TestMain silences danelaw's log, which has a line for each of the many failures in these scenarios.
func TestMain(m *testing.M) {
	clog.Discard()
	os.Exit(m.Run())
}
