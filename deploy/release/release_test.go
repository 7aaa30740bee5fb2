package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestSection(t *testing.T) {
	for title, tt := range map[string]struct{ changelog, notes, fault string }{
		"the version": {"# Changelog\n\n## 1.2.0 (2026-12-01)\n\n- New.\n- More.\n\n## 1.1.0\n\n- Old.\n",
			"- New.\n- More.\n", ""},
		"an empty Unreleased":         {"# Changelog\n\n## Unreleased\n\n## 1.2.0\n\n- New.\n", "- New.\n", ""},
		"something that is left":      {"## Unreleased\n\n- Late.\n\n## 1.2.0\n\n- New.\n", "", "Unreleased"},
		"no section":                  {"# Changelog\n\n## 1.1.0\n\n- Old.\n", "", "nothing under `## 1.2.0`"},
		"an empty one":                {"## 1.2.0\n\n## 1.1.0\n\n- Old.\n", "", "nothing under `## 1.2.0`"},
		"a version that begins alike": {"## 1.2.0-rc.1\n\n- New.\n", "", "nothing under `## 1.2.0`"},
	} {
		t.Run(title, func(t *testing.T) {
			notes, err := section(tt.changelog, "1.2.0")
			said := fmt.Sprint(err)
			if notes != tt.notes || (err == nil) != (tt.fault == "") || !strings.Contains(said, tt.fault) {
				t.Errorf("got %q, %v", notes, err)
			}
		})
	}
}
