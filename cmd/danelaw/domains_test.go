package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// checked runs check with -json in a lab of its own.
func checked(t *testing.T, args ...string) (code int, out *checkJSON) {
	t.Helper()
	code, text, stderr := here(append([]string{"check", "-lab", "-json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &out); err != nil || stderr != "" {
		t.Fatalf("%v: %v, %s%s", args, err, text, stderr)
	}
	return code, out
}

// TestLabDecisions: for every domain of the lab the decision is what its row of the table leads to by D-2, with what
// Postfix and Exim do otherwise.
func TestLabDecisions(t *testing.T) {
	lab := newLab(t)
	var list strings.Builder
	for _, d := range lab.Domains() {
		list.WriteString(d.Name + " # " + d.Shows + "\n")
	}
	code, out := checked(t, "-file", write(t, "domains.txt", list.String()))
	if code != exitFailure || out.Wanted || len(out.Errors) > 0 || len(out.Domains) != len(lab.Domains()) {
		t.Fatalf("exit code %d, %d domains, errors %v", code, len(out.Domains), out.Errors)
	}
	seen := map[string]bool{}
	for i, d := range lab.Domains() {
		v := out.Domains[i]
		want := expected(d)
		got := [3]string{v.Decision, v.Senders[0].Decision, v.Senders[1].Decision}
		seen[want[0]] = true
		if v.Domain != d.Name || got != want {
			t.Errorf("%s (%s): %v, want %v", v.Domain, d.Shows, got, want)
		}
		failed := slices.ContainsFunc(d.Questions, func(q zones.Question) bool {
			return strings.HasPrefix(q.Name, "_25.") && q.Rcode == 2 || q.Name == d.Name && q.Rcode == 2
		})
		if failed && (v.Culprit == nil || v.Culprit.Text == "") {
			t.Errorf("%s: no culprit is named", d.Name)
		}
		if v.Wanted == slices.ContainsFunc(got[:], func(s string) bool { return s == "defer" || s == "bounce" }) {
			t.Errorf("%s: %v, and wanted is %v", d.Name, got, v.Wanted)
		}
	}
	for _, word := range []string{"dane", "encrypt", "opportunistic", "defer", "bounce", "null-mx"} {
		if !seen[word] {
			t.Errorf("no domain of the lab is decided on with %q", word)
		}
	}
}

// expected is what the table leads to, for a sender that keeps to RFC 7672, Postfix and Exim.
func expected(d zones.Domain) [3]string {
	all := func(word string) [3]string { return [3]string{word, word, word} }
	switch d.Name {
	case "null-mx.dane.", "dnsbl.dane.", "refusing.dane.":
		return all("null-mx")
	case "2.0.0.0.1.0.0.2.ip6.arpa.": // addresses have no mail
		return all("bounce")
	case "unusable-tlsa.dane.":
		return all("encrypt")
	case "alias-signed.dane.": // the records stand at its target
		return all("dane")
	case "alias-unsigned.dane.": // Exim knows of the target's name alone, and only if all is Secure
		return [3]string{"dane", "dane", "opportunistic"}
	}
	return all(byQuestions(d))
}

// byQuestions goes by the verdicts that the table has for what a mail server asks.
func byQuestions(d zones.Domain) string {
	decision := "opportunistic"
	for _, q := range d.Questions {
		own := q.Name == d.Name && q.Type == 15 || strings.Contains(q.Name, "mx") &&
			slices.Contains([]uint16{1, 28, 52}, q.Type) ||
			strings.HasPrefix(q.Name, "_25._tcp.") // MX; A, AAAA and TLSA of hosts
		switch {
		case !own:
		case q.Rcode == 2: // SERVFAIL
			return "defer"
		case q.Type == 52 && q.Status == "Secure" && q.Rcode == 0:
			decision = "dane"
		}
	}
	return decision
}

// TestCheckDomain: what a sender sees, for people.
func TestCheckDomain(t *testing.T) {
	a := labAsker(t)
	for _, tt := range []struct {
		domain string
		lookOptions
		wanted bool
		want   []string
	}{
		{"good.dane.", lookOptions{port: mail.Port}, true,
			[]string{"good.dane.  DANE, ", "\n  MX           Secure  10 mx1.good.dane., 20 mx2.good.dane.\n",
				"\n  mx1.good.dane.  dane  ", "\n    AAAA       Secure  2001:db8::25\n",
				"\n    TLSA       Secure  3 1 1 ",
				`(its log says "Verified")`, "\n  MTA-STS      Secure  none\n",
				"\n  TLS reports  Secure  to mailto:reports@good.dane\n",
				"policy type tlsa; certificates were not compared", "the first to expire is that over ",
				"days left\n"}},
		{"announced.dane.", lookOptions{port: mail.Port}, true,
			[]string{"\n  MTA-STS      Secure  id 20260101T000000; DANE is stronger and wins\n"}},
		{"expired.dane.", lookOptions{port: mail.Port}, false,
			[]string{"expired.dane.  mail is deferred\nexpired.dane.: the RRSIG over expired.dane. DNSKEY (key ",
				") expired 20",
				"\n  Postfix      defer  defers (4.4.3, \"Name service error for name=expired.dane\")",
				"dnssec-invalid; by Exchange Online as 4/5.7.324 or 4/5.4.312"}},
		{"rsasha1.dane.", lookOptions{port: mail.Port}, true,
			[]string{"rsasha1.dane. MX is Insecure, since rsasha1.dane.: "}},
		{"unsigned.dane.", lookOptions{port: mail.Port}, true,
			[]string{"no DANE", "since unsigned.dane. is unsigned: the zone above proves that there is no DS"}},
		{"alias-unsigned.dane.", lookOptions{port: mail.Port}, true,
			[]string{"    alias      Secure         of mx.unsigned.dane.\n", "A          Insecure",
				"Exim         opportunistic  "}},
		{"alias-broken.dane.", lookOptions{port: mail.Port}, false,
			[]string{"    alias      Secure  of mx.expired.dane.\n",
				"    A          Bogus   expired.dane.: the RRSIG"}},
		{"null-mx.dane.", lookOptions{port: mail.Port}, true, []string{"takes no mail", "bounces (5.1.0)"}},
		{"nothing.good.dane.", lookOptions{port: mail.Port}, false, []string{"mail bounces", "there is no such domain",
			"bounces (5.4.4)"}},
		{"no-mx.dane.", lookOptions{port: mail.Port}, true, []string{"none: the domain is its own mail host",
			"\n  no-mx.dane.  dane"}},
		{"unusable-tlsa.dane.", lookOptions{port: mail.Port}, true, []string{"encrypted, but to whom is not verified",
			"unusable: usage 1", "Exim         encrypt  "}},
		{"large-tlsa.dane.", lookOptions{port: mail.Port}, true, []string{"and 34 more"}},
		{"dname.dane.", lookOptions{port: mail.Port}, true, []string{"by an alias, of _25._tcp.mx1.good.dane.\n"}},
		{"no-tlsa.dane.", lookOptions{port: mail.Port}, true, []string{"none at _25._tcp.mx.no-tlsa.dane."}},
		{".", lookOptions{port: mail.Port}, false, []string{"TLS reports  Secure  none are asked for"}},
		{"no-tlsa.dane.", lookOptions{port: mail.Port, requireDANE: true}, false,
			[]string{"no DANE", "result type dane-required"}},
		{"good.dane.", lookOptions{port: mail.Port, requireDANE: true}, true, []string{"DANE"}},
		{"null-mx.dane.", lookOptions{port: mail.Port, requireDANE: true}, true, []string{"takes no mail"}},
		{"good.dane.", lookOptions{port: mail.Port, smtp: true}, true,
			[]string{"192.0.2.25:25      matches  TLSA 3 1 1 ", " days left; TLS 1.3"}},
		{"no-tlsa.dane.", lookOptions{port: mail.Port, smtp: true}, true,
			[]string{"192.0.2.25:25      tls ", " days left; TLS 1.3"}},
		{"mismatch.dane.", lookOptions{port: mail.Port, smtp: true}, false,
			[]string{"mail is deferred\nmx.mismatch.dane. at 192.0.2.25:25: no TLSA record matches", "failed",
				"certificate-not-trusted"}},
		{"expired-ta.dane.", lookOptions{port: mail.Port, smtp: true}, false,
			[]string{"mail is deferred", "and a record of usage 2 heeds that", "it has ended, more than 2 days ago",
				"certificate-expired; by Exchange Online as 4/5.7.322"}},
		{"expired-ee.dane.", lookOptions{port: mail.Port, smtp: true}, true,
			[]string{"matches", "it has ended, more than 2 days ago"}},
		{"other-name.dane.", lookOptions{port: mail.Port, smtp: true}, false,
			[]string{"certificate-host-mismatch; by Exchange Online as 5.7.325"}},
		{"no-starttls.dane.", lookOptions{port: mail.Port, smtp: true}, false,
			[]string{"does not offer STARTTLS", "starttls-not-supported", "4/5.7.321"}},
		{"no-starttls.dane.", lookOptions{port: mail.Port}, true, []string{"DANE"}}, // nobody has looked
		{"unusable-tlsa.dane.", lookOptions{port: mail.Port, smtp: true}, true,
			[]string{"192.0.2.25:25      tls ", "Postfix              encrypt"}},
		{"good.dane.", lookOptions{port: 2525, smtp: true}, true, []string{"none at _2525._tcp.mx1.good.dane.",
			"192.0.2.25:2525"}},
	} {
		v, err := a.look(t.Context(), tt.domain, tt.lookOptions)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if printView(&out, v, newPainter(false)); v.Wanted != tt.wanted {
			t.Errorf("%s %+v: wanted is %v", tt.domain, tt.lookOptions, v.Wanted)
		}
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s %+v lacks %q:\n%s", tt.domain, tt.lookOptions, want, &out)
			}
		}
	}
}

// labBlocks is the configuration that asks a lab.
func labBlocks(t *testing.T, lab *zones.Lab) (*source, danelaw.Blocks) {
	t.Helper()
	src, forget, err := labSource(lab, firstLabPort, "")
	if err != nil {
		t.Fatal(err)
	}
	defer forget()
	blocks, err := setUp(t.Context(), src, danelaw.Load)
	if err != nil {
		t.Fatal(err)
	}
	return src, blocks
}

// labAsker is an asker for a lab of its own.
func labAsker(t *testing.T) *asker {
	t.Helper()
	src, blocks := labBlocks(t, newLab(t))
	a := &asker{prober: &probe.Prober{Dial: src.dial}, end: func() {}, blocks: blocks}
	t.Cleanup(a.close)
	return a
}

// TestCheckDomains: the same by the command line, several at once.
func TestCheckDomains(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"good.dane", "good.nsec3", "GOOD.dane."}, 0, []string{"good.dane.  DANE", "\n\ngood.nsec3.  DANE"}},
		{[]string{"localhost", "good.dane"}, 1, []string{"localhost.  cannot be checked\nlocalhost. is a special name",
			"good.dane.  DANE"}},
		{[]string{"no-tlsa.dane", "-smtp", "-require-dane"}, 1, []string{"no DANE", "192.0.2.25:25", "dane-required"}},
	} {
		code, out, stderr := here(append([]string{"check", "-lab"}, tt.args...)...)
		if code != tt.code || stderr != "" || strings.Contains(out, "\x1b") ||
			strings.Count(out, "good.dane.  DANE") > 1 {
			t.Errorf("%q: exit code %d, want %d; %s\n%s", tt.args, code, tt.code, stderr, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q lacks %q:\n%s", tt.args, want, out)
			}
		}
	}
}

// TestCheckBlind: what danelaw's own upstreams fail at is no fault of the domain, and nothing to report.
func TestCheckBlind(t *testing.T) {
	silent, stream := ports.Open(t)
	defer silent.Close()
	stream.Close()
	dead, page := fmt.Sprintf("127.0.0.1:%d", ports.Closed(t)), filepath.Join(t.TempDir(), "page.html")
	for _, args := range [][]string{
		{dead, "good.dane"}, {dead, "--file", write(t, "domains", "good.dane\ngood.nsec3\n"), "--html", page},
		{dead, "--json", "good.dane"}, {silent.LocalAddr().String(), "good.dane"},
	} {
		code, out, _ := here(append([]string{"check", "--upstream"}, args...)...)
		out = strings.Join(strings.Fields(out), " ")
		want := []string{"danelaw's own upstreams fail, so nothing is known of the domain", "reported as unknown",
			"signatures unknown"}
		switch {
		case args[1] == "--json":
			want = []string{`"blind": true`, `"report": {}`}
		case args[1] == "--file":
			want = []string{"good.dane. unknown", "good.nsec3. unknown", "2 unknown"}
		}
		for _, text := range want {
			if code != exitFailure || !strings.Contains(out, text) || strings.Contains(out, "dnssec-invalid") ||
				strings.Contains(out, "no-policy") {
				t.Errorf("%q: exit code %d, want %q:\n%s", args, code, text, out)
			}
		}
	}
	html, err := os.ReadFile(page)
	if n := strings.Count(string(html), ">unknown</td>"); err != nil || n < 2 ||
		!strings.Contains(string(html), "2 domains: 2 unknown; 2 not as wanted") {
		t.Errorf("%v, %d unknown:\n%s", err, n, html)
	}
}

// TestCheckJSON: what a program is told of a broken domain and a good one.
func TestCheckJSON(t *testing.T) {
	code, out := checked(t, "expired.dane", "good.dane", "announced.dane", "localhost", "-smtp")
	if code != exitFailure || out.Wanted || len(out.Domains) != 3 || len(out.Errors) != 1 ||
		out.Errors[0].Domain != "localhost." {
		t.Fatalf("exit code %d, %+v", code, out)
	}
	bad, good := out.Domains[0], out.Domains[1]
	if f := bad.Culprit; f == nil || f.EDE != 7 || f.Zone != "expired.dane." || f.Type != "DNSKEY" || f.KeyTag == 0 ||
		!strings.Contains(f.Text, "expired 20") {
		t.Errorf("the culprit is %+v", f)
	}
	if bad.Decision != "defer" || bad.Report.ResultType != "dnssec-invalid" ||
		bad.Report.ExchangeOnline != "4/5.7.324" || len(bad.Hosts) > 0 {
		t.Errorf("%+v", bad)
	}
	host := good.Hosts[0]
	if good.Culprit != nil || !good.Wanted || host.Name != "mx1.good.dane." || host.Preference != 10 ||
		host.TLSA[0].Status != "Secure" ||
		!host.TLSA[0].Parts[0].Usable || host.SMTP[0].Result != "matches" || host.SMTP[0].Certificate.DaysLeft < 80 {
		t.Errorf("%+v", good)
	}
	if out.Domains[2].MTASTS.ID != "20260101T000000" || good.MTASTS.Published ||
		!slices.Equal(good.TLSRPT.RUA, []string{"mailto:reports@good.dane"}) {
		t.Errorf("%+v, %+v", good.MTASTS, good.TLSRPT)
	}
	signed := map[string]bool{}
	for i, s := range good.Signatures {
		signed[s.Owner+" "+s.Type] = true
		if s.KeyTag == 0 || s.DaysLeft < 1 || i > 0 && s.Expires.Before(good.Signatures[i-1].Expires) {
			t.Errorf("%+v", s)
		}
	}
	for _, s := range out.Domains[2].Signatures {
		signed[s.Owner+" "+s.Type] = true
	}
	for _, want := range []string{". DNSKEY", "dane. DS", "dane. DNSKEY", "good.dane. DS", "good.dane. DNSKEY",
		"good.dane. MX", "mx1.good.dane. A",
		"mx2.good.dane. AAAA", "_25._tcp.mx1.good.dane. TLSA", "_mta-sts.announced.dane. TXT",
		"_smtp._tls.good.dane. TXT"} {
		if !signed[want] {
			t.Errorf("the signature over %s is not listed", want)
		}
	}
}

// TestJSONIsDocumented: every field of the JSON is explained in README.md, and a good domain's has no other names.
func TestJSONIsDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	fieldNames(reflect.TypeFor[checkJSON](), names)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !strings.Contains(string(readme), "`"+name+"`") {
			t.Errorf("the field %s is not in README.md", name)
		}
	}
	if len(names) < 50 {
		t.Errorf("only %d fields", len(names))
	}
}

// fieldNames collects the names in JSON of a type and all below.
func fieldNames(t reflect.Type, names map[string]bool) {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.String() == "time.Time" {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" {
			names[name] = true
		}
		if name != "" || f.Anonymous {
			fieldNames(f.Type, names)
		}
	}
}

// TestFile: domains a line each, their comments and faults; a line for each and a summary.
func TestFile(t *testing.T) {
	file := write(t, "domains.txt", "\ufeff# ours\ngood.dane\n\n  expired.dane. # told them\r\nGOOD.dane\nlocalhost\n"+
		"unusable-tlsa.dane\n")
	code, out, stderr := here("check", "-lab", "-file", file, "null-mx.dane")
	if code != exitFailure || stderr != "" {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	for _, want := range []string{"null-mx.dane.        null-mx        null-mx.dane. says",
		"\ngood.dane.           dane\n",
		"\nexpired.dane.        defer          expired.dane.: the RRSIG",
		"\nlocalhost.           unknown        localhost. is a special name",
		"\nunusable-tlsa.dane.  encrypt        _25._tcp.mx.unusable-tlsa.dane. TLSA is Secure, but",
		"\n\n5 domains: 1 dane, 1 defer, 1 encrypt, 1 null-mx, 1 unknown; 2 not as wanted\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if code, out, _ := here("check", "-lab", "-file", write(t, "one", "good.dane")); code != 0 ||
		!strings.HasSuffix(out, "\n\n1 domain: 1 dane; all are as wanted\n") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	for _, tt := range []struct{ text, want string }{
		{"good.dane\n\nb..example\n", `list:3: "b..example" is not a domain name`},
		{"good.dane expired.dane", `list:1: "good.dane expired.dane" is not a domain name`},
		{"good.dane\x1b[31m", `list:1: "good.dane\x1b[31m" is not a domain name`},
		{"# none\n", "names no domain"},
		{strings.Repeat("a", 1<<17), "list: "},
	} {
		if code, out, stderr := here("check", "-lab", "-file", write(t, "list", tt.text)); code != exitFailure ||
			!strings.Contains(stderr, tt.want) || out != "" {
			t.Errorf("%.40q: exit code %d, %.200s%s", tt.text, code, stderr, out)
		}
	}
	if code, _, stderr := here("check", "-lab", "-file", file+".old"); code != exitFailure ||
		!strings.Contains(stderr, "the domains cannot be read: ") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// TestParseName: names as people write them.
func TestParseName(t *testing.T) {
	for text, want := range map[string]string{
		"Example.ORG": "example.org.", "example.org.": "example.org.", ".": ".",
		"bücher.example": "xn--bcher-kva.example.", "_dmarc.example": "_dmarc.example.",
		`a\.b.example`: `a\.b.example.`, "": "", " ": "", "a b": "", "a..b": "", "a\x00b": "", "a@b.example": "",
		"b\xfccher.example": "", // not in UTF-8
		"\u202eexample":     "", strings.Repeat("a", 64) + ".example": "",
	} {
		if got, err := parseName(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestInterrupted: Ctrl-C is no verdict.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, stderr strings.Builder
	if code := run(ctx, []string{"danelaw", "check", "-lab", "good.dane", "expired.dane"}, &out,
		&stderr); code != exitFailure ||
		stderr.String() != "danelaw: interrupted\n" || out.Len() > 0 {
		t.Errorf("exit code %d, %q, %q", code, &out, &stderr)
	}
}

// before puts an upstream before a lab that answers SERVFAIL to some questions, and all others as the lab does.
func before(t *testing.T, lab *zones.Lab, fails func(q dns.Question) bool) (addr string) {
	t.Helper()
	return world.Serve(t, world.AnyPort, func(q dns.Question, do bool) *dns.Msg {
		if fails(q) {
			return nil
		}
		m := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(4096, do)
		r, _, err := (&dns.Client{Net: "tcp", Timeout: time.Minute}).Exchange(m, lab.Addr())
		if err != nil {
			return nil
		}
		// the server has one of its own
		r.Extra = slices.DeleteFunc(r.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
		return r
	})
}

// TestCannotAsk: if the upstreams of danelaw fail, or are not what validates, no domain is blamed, and no result type
// is given; servers of the domain that fail are its own fault.
func TestCannotAsk(t *testing.T) {
	lab := newLab(t)
	below := func(zone string) func(dns.Question) bool {
		return func(q dns.Question) bool { return dns.IsSubDomain(zone, q.Name) }
	}
	closed := fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	key := write(t, "key.pem", ed25519Key)
	for name, tt := range map[string]struct {
		upstream string
		ours     bool
		did      string // what the upstream did
	}{
		"nobody there":    {closed, true, closed + " could not be reached"},
		"SERVFAIL to all": {before(t, lab, below(".")), true, " answered SERVFAIL"},
		"the TLD cannot be asked": {
			before(t, lab, func(q dns.Question) bool { return q.Name == "dane." && q.Qtype == dns.TypeDS }), true,
			"dane. DS: ",
		},
		"its servers fail": {before(t, lab, below("good.dane.")), false, " answered SERVFAIL"},
	} {
		file, page := write(t, "Corefile", corefile(ports.Closed(t), tt.upstream, anchors(t, lab),
			"timeout 30s")), filepath.Join(t.TempDir(), "page.html")
		code, text, _ := here("check", "--conf", file, "--json", "--html", page, "good.dane")
		var out checkJSON
		if err := json.Unmarshal([]byte(text), &out); err != nil || code != exitFailure || len(out.Domains) != 1 {
			t.Fatalf("%s: exit code %d, %v\n%s", name, code, err, text)
		}
		v := out.Domains[0]
		if v.Decision != "defer" || v.Blind != tt.ours || (v.Report == reportView{}) != tt.ours || !tt.ours &&
			v.Report.ResultType != "dnssec-invalid" {
			t.Errorf("%s: %s, %v, %+v", name, v.Decision, v.Blind, v.Report)
		}
		_, _, compared := here("tlsa", "--conf", file, "--check", "--host", "mx1.good.dane", key)
		if strings.Contains(compared, "danelaw could not ask: ") != tt.ours ||
			strings.Contains(compared, "senders defer mail") == tt.ours {
			t.Errorf("%s: %s", name, compared)
		}
		html, _ := os.ReadFile(page)
		_, plain, _ := here("check", "--conf", file, "good.dane")
		_, line, _ := here("check", "--conf", file, "--file", write(t, "domains.txt", "good.dane\n"))
		_, watched, _ := here("watch", "--conf", file, "good.dane")
		for form, got := range map[string]string{"html": string(html), "text": plain, "file": line, "watch": watched} {
			if told := strings.Contains(got, "danelaw could not ask: "); told != tt.ours ||
				!strings.Contains(words(got), tt.did) {
				t.Errorf("%s: %s\n%s", name, form, got)
			}
		}
		if headline := strings.Contains(plain,
			"danelaw's own upstreams fail, so nothing is known of the domain"); headline != tt.ours ||
			!strings.Contains(watched, "DANE unknown") {
			t.Errorf("%s:\n%s%s", name, plain, watched)
		}
		installed(t, postfixQueue(nil, "a@good.dane", "Host not found, try again"))
		fault := map[bool]string{true: "our fault", false: "their fault"}[tt.ours]
		says(t, []string{"check", "--queue", "--conf", file}, exitFailure, fault)
	}
}

// words is a text on one line.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }
