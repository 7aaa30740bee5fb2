package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestOpenFiles: the daemon takes as many files as it may, but for those that it keeps for connections to upstreams.
func TestOpenFiles(t *testing.T) {
	lab := newLab(t)
	p, port, _ := serving(t, lab, lab.Addr())
	ask(t, port, "good.dane.", dns.TypeMX)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(limits), "Max open files")
	var soft, hard int
	if _, err := fmt.Sscan(line, &soft, &hard); err != nil || soft != hard-hard/8 {
		t.Errorf("%d files of %d: %v", soft, hard, err)
	}
}
