package test

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danelaw-dns/danelaw/test/needs"
)

// command runs a program until it ends, and returns its output.
func command(t *testing.T, line ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), line[0], line[1:]...).CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out)
}

// flags matches the flags of a reply, as dig and drill print them.
var flags = regexp.MustCompile(`(?m)^;; flags: ([a-z ]*)`)

func hasAD(out string) bool {
	m := flags.FindStringSubmatch(out)
	return m != nil && slices.Contains(strings.Fields(m[1]), "ad")
}

// TestDig: the dig commands that the lab prints give the results that it states: the flag ad for Secure, no flag for
// Insecure, and else SERVFAIL with an Extended DNS Error and its sentence.
func TestDig(t *testing.T) {
	needs.Tools(t, "dig")
	for _, d := range startLab(t, build(t)).Domains {
		for _, q := range d.Questions {
			out := command(t, strings.Fields(q.Dig)...)
			if !strings.Contains(out, "status: "+q.Rcode+",") || hasAD(out) != (q.Status == "Secure") {
				t.Errorf("%s: want %s, %s\n%s", q.Dig, q.Status, q.Rcode, out)
			}
			sentence := regexp.MustCompile(fmt.Sprintf(`; EDE: %d\b.*: \(.{20,}\)`, q.EDE))
			if q.EDE != 0 && !sentence.MatchString(out) {
				t.Errorf("%s: want EDE %d and its sentence\n%s", q.Dig, q.EDE, out)
			}
		}
	}
}

// TestDrill: drill, the client of ldns, sees the same over TCP.
func TestDrill(t *testing.T) {
	needs.Tools(t, "drill")
	l := startLab(t, build(t))
	host, port := l.at()
	for _, d := range l.Domains {
		for _, q := range d.Questions {
			out := command(t, "drill", "-t", "-D", "-p", port, "@"+host, q.Name, q.Type)
			if !strings.Contains(out, "rcode: "+q.Rcode+",") || hasAD(out) != (q.Status == "Secure") {
				t.Errorf("%s %s: want %s, %s\n%s", q.Name, q.Type, q.Status, q.Rcode, out)
			}
		}
	}
}

// TestDelv: delv, a validator, gets from danelaw all that it needs for its own verdict (V-76), with the trust anchor
// that the lab prints for it.
func TestDelv(t *testing.T) {
	needs.Tools(t, "delv")
	l := startLab(t, build(t))
	host, port := l.at()
	anchors := write(t, "anchors", l.Anchor.Delv)
	for _, tt := range []struct{ name, qtype, want string }{
		{"good.dane.", "MX", "; fully validated"},
		{"_25._tcp.mx1.good.dane.", "TLSA", "; fully validated"},
		{"_25._tcp.mx.no-tlsa.dane.", "TLSA", "; negative response, fully validated"},
		{"_25._tcp.mx.no-tlsa.nsec3.", "TLSA", "; negative response, fully validated"},
		{"any.name.wildcard.nsec3.", "MX", "; fully validated"},
		{"_25._tcp.mx.dname.dane.", "TLSA", "; fully validated"},
		{"unsigned.dane.", "MX", "; unsigned answer"},
		{"unsigned.opt-out.", "MX", "; unsigned answer"},
		{"wrong-signature.dane.", "MX", "resolution failed: RRSIG failed to verify"},
		{"missing-signature.dane.", "MX", "resolution failed: insecurity proof failed"},
		{"expired.dane.", "MX", "resolution failed: "},
	} {
		if out := command(t, "delv", "-a", anchors, "+root", "+cd", "@"+host, "-p", port, tt.name,
			tt.qtype); !strings.Contains(out, tt.want) {
			t.Errorf("%s %s: want %q\n%s", tt.name, tt.qtype, tt.want, out)
		}
	}
}
