//go:build linux

package cluster

import (
	"bytes"
	"os"
	"testing"
)

// TestRulesOfChart: the alerts that the chart brings are those of deploy/prometheus. Helm reads no file outside of a
// chart.
func TestRulesOfChart(t *testing.T) {
	const one, other = "../../deploy/prometheus/danelaw.rules.yml", chart + "/danelaw.rules.yml"
	want, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(other); err != nil || !bytes.Equal(is, want) {
		t.Errorf("%s differs from %s (%v): copy it", other, one, err)
	}
}
