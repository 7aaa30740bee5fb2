//go:build linux

package servers

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// clientQuestions are questions with what delv, which validates itself, and drill say of danelaw's replies.
var clientQuestions = []struct {
	name, qtype string
	delv        string
	want        outcome
}{
	{"p256.bind.", "MX", "; fully validated", secure},
	{"_25._tcp.mx.ed25519.bind.", "TLSA", "; fully validated", secure},
	{"mx.p384.bind.", "AAAA", "; negative response, fully validated", secure},
	{"nothing.salt.nsd.", "A", "; negative response, fully validated", absent},
	{"x.wild.p384-nsec3.knot.", "MX", "; fully validated", secure},
	{"mx.old.ed448.nsd.", "A", "; fully validated", secure},
	{"u.p256.bind.", "MX", "; unsigned answer", insecure},
	{"u.optout.nsd.", "MX", "; unsigned answer", insecure},
	{"_25._tcp.mx.large.knot.", "TLSA", "; fully validated", secure},
	{"mx.wrong-octet.bind.", "A", "resolution failed: RRSIG failed to verify", bogus},
	{"expired.bind.", "MX", "resolution failed: ", tooOld},
	{"x.wild.expanded-unproven.nsd.", "A", "resolution failed: ", noDenial},
	{"ds-without-key.nsd.", "MX", "resolution failed: ", noKey},
}

// TestClients: delv finds in danelaw's replies all that it needs for the same verdict (V-76), and drill, over TCP, sees
// the same flags and RCODE as dig.
func TestClients(t *testing.T) {
	suite.Needs(t)
	planted := grown(t)
	planted.serve(t)
	upstreams[0].run(t)
	runDanelaw(t, product, upstreams[0].address, ofRoot, "", "")
	for _, q := range clientQuestions {
		out := run("delv", "-a", ofRoot.as("anchors"), "+root", "+cd", "@"+product, q.name, q.qtype)
		if !strings.Contains(out, q.delv) {
			t.Errorf("delv %s %s: want %q\n%s", q.name, q.qtype, q.delv, out)
		}
		out = run("drill", "-t", "-D", "@"+product, q.name, q.qtype)
		rcode := strings.Fields(string(q.want))[1]
		if !strings.Contains(out, "rcode: "+rcode+",") || hasAD(out) != strings.HasPrefix(string(q.want), "Secure") {
			t.Errorf("drill %s %s: want %s\n%s", q.name, q.qtype, q.want, out)
		}
	}
}

// run returns the output of a program, also if it fails.
func run(line ...string) string {
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		return err.Error()
	}
	return string(out)
}

// TestSilent: no reply at all, which may happen on a busy machine, counts as no other outcome.
func TestSilent(t *testing.T) {
	got, _ := digs(t, "no.address.invalid", question{name: ".", qtype: dns.TypeNS})
	for _, want := range []outcome{secure, failed, bogus, refused} {
		if got.meets(want) {
			t.Errorf("%s is taken for %s", got, want)
		}
	}
	if got := manners(""); got != silent {
		t.Errorf("no reply is taken for %s", got)
	}
}

// TestQuestions: no question is there twice, and each has a type and a rule.
func TestQuestions(t *testing.T) {
	seen := map[string]bool{}
	for _, q := range questions() {
		if seen[q.id()] || q.qtype == dns.TypeNone || q.rules == "" {
			t.Errorf("%s (%s) is there twice, or has no type or rule", q.id(), q.rules)
		}
		seen[q.id()] = true
	}
}
