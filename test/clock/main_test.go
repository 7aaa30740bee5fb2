package clock

import (
	"os"
	"testing"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

// TestMain silences the log, which tells of each failure that the scenarios are made of.
func TestMain(m *testing.M) {
	clog.Discard()
	os.Exit(m.Run())
}
