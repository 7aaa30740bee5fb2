package danelaw

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsDocumented: README.md lists every metric with its labels, and nothing else.
func TestMetricsDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\* `(coredns_danelaw_\\w+\\{[^}]*\\})`").FindAllStringSubmatch(string(readme), -1) {
		got = append(got, strings.ReplaceAll(m[1], " ", ""))
	}
	descs := make(chan *prometheus.Desc, 100)
	for _, c := range []prometheus.Collector{
		responses, extendedErrors, cacheHits, cacheMisses, joined, fetches, limitHits, signatureChecks, nsec3Hashes, panics,
		upstreamQuestions, upstreamFailures, upstreamMismatches, responseDuration, upstreamDuration, newGauges(),
	} {
		c.Describe(descs)
	}
	close(descs)
	var want []string
	for d := range descs {
		m := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: (\{[^}]*\})`).FindStringSubmatch(d.String())
		want = append(want, m[1]+m[2])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("README.md has\n%s\nthe program\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
