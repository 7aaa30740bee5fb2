//go:build linux

package servers

import (
	"regexp"
	"slices"
	"strings"
)

// with returns the question with options of dig. Its outcome is then the form of the reply. Only danelaw is asked,
// since other validators may differ in that.
func (q question) with(options ...string) question {
	q.options = options
	return q
}

// mannerQuestions are queries with all that a client may set in them, and the form of the reply (section V-h of
// plugin/RULES.md).
var mannerQuestions = []question{
	ask("V-74 V-75", "p256.bind.", "MX", "NOERROR ad do MX RRSIG").with("+dnssec"),
	ask("V-74 V-75", "p256.bind.", "MX", "NOERROR ad do MX RRSIG").with("+dnssec", "+noad"),
	ask("V-74 V-75", "p256.bind.", "MX", "NOERROR ad MX").with("+adflag"),
	ask("V-74 V-75", "p256.bind.", "MX", "NOERROR ad MX").with("+adflag", "+noedns"),
	ask("V-74 V-75", "p256.bind.", "MX", "NOERROR MX").with("+noadflag"),
	ask("V-74", "u.p256.bind.", "MX", "NOERROR MX").with("+adflag"),
	ask("V-74", "mx.wrong-octet.bind.", "A", "SERVFAIL EDE 6").with("+noadflag"),
	ask("V-75", "nothing.salt.nsd.", "A", "NXDOMAIN ad SOA").with("+adflag"),
	ask("V-75", "nothing.salt.nsd.", "A", "NXDOMAIN ad do NSEC3 RRSIG SOA").with("+dnssec"),
	ask("V-75", "p256.bind.", "NSEC", "NOERROR ad NSEC").with("+adflag"),
	ask("V-76", "mx.wrong-octet.bind.", "A", "NOERROR cd do A RRSIG EDE 6").with("+dnssec", "+cdflag"),
	ask("V-76", "mx.wrong-octet.bind.", "A", "SERVFAIL do EDE 6").with("+dnssec"),
	ask("V-76", "p256.bind.", "MX", "NOERROR ad cd do MX RRSIG").with("+dnssec", "+cdflag"),
	ask("V-76", "nothing.expired.bind.", "MX", "NXDOMAIN cd do NSEC RRSIG SOA EDE 7").with("+dnssec", "+cdflag"),
	ask("V-77", "localhost.", "A", "NOERROR do A").with("+dnssec"),
	ask("V-77", "_25._tcp.mx.large.knot.", "TLSA", "NOERROR tc").with("+adflag", "+noedns", "+ignore"),
	ask("V-77", "mx.no-soa.lie.", "AAAA", "NOERROR ad").with("+adflag").behind("SERVFAIL EDE 22",
		"bind", "bind-validating"),
	ask("V-78", "p256.bind.", "MX", "NOERROR do MX RRSIG").with("+dnssec", "-b", stranger),
	ask("V-78", "p256.bind.", "MX", "NOERROR MX").with("+adflag", "-b", stranger),
	ask("V-15", "p256.bind.", "MX", "REFUSED").with("+adflag", "-c", "CH"),
	ask("V-69a", "nothing.compact.lie.", "A", "NOERROR ad do NSEC RRSIG SOA").with("+dnssec", "+coflag"),
	ask("V-69a", "nothing.compact-error.lie.", "A", "NOERROR ad do NSEC RRSIG SOA").with("+dnssec"),
	ask("V-69b", "p256.bind.", "TYPE128", "FORMERR do EDE 30").with("+dnssec"),
	ask("V-25 V-71 V-75", "mx.p256.bind.", "RRSIG", "NOERROR RRSIG").with("+adflag").behind("SERVFAIL EDE 22", "pdns"),
}

var (
	optDO   = regexp.MustCompile(`(?m)^; EDNS: .* flags: do`)
	records = regexp.MustCompile(`(?m)^[^;\s]\S*\s+\d+\s+IN\s+(\S+)`)
)

// manners returns the form of a reply: RCODE, flags, the types of the records, and the first Extended DNS Error.
func manners(out string) outcome {
	rcode := status.FindStringSubmatch(out)
	if rcode == nil {
		return silent
	}
	words := rcode[1:]
	for _, flag := range []string{"tc", "ad", "cd"} {
		if slices.Contains(strings.Fields(flags.FindStringSubmatch(out)[1]), flag) {
			words = append(words, flag)
		}
	}
	if optDO.MatchString(out) {
		words = append(words, "do")
	}
	var types []string
	for _, record := range records.FindAllStringSubmatch(out, -1) {
		types = append(types, record[1])
	}
	slices.Sort(types)
	words = append(words, slices.Compact(types)...)
	if code := faultOf(out); code != "" {
		words = append(words, "EDE", code)
	}
	return outcome(strings.Join(words, " "))
}
