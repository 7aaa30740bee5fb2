package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestParsePostqueue: what waits, with its reason, and what is not postqueue's.
func TestParsePostqueue(t *testing.T) {
	const text = `{"queue_name": "deferred", "queue_id": "4A1", "arrival_time": 1795884193, "message_size": 248, ` +
		`"forced_expire": false, "sender": "a@b.org", "recipients": [{"address": "x@y.org", ` +
		`"delay_reason": "host y said: 451 no"}, {"address": "\"a@b\"@[192.0.2.1]"}]}
{"queue_name": "hold", "queue_id": "4A2", "arrival_time": 1795884194, "sender": "", ` +
		`"recipients": [{"address": "x@y.org"}]}
{"queue_name": "active", "queue_id": "4A3", "arrival_time": 1795884195, "sender": "", ` +
		`"recipients": [{"address": "x@y.org"}, {"address": "z@y.org", "delay_reason": "lost connection"}]}
`
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	want := []deferred{
		{id: "4A1", since: at(1795884193), sender: "a@b.org", recipient: "x@y.org", reason: "host y said: 451 no"},
		{id: "4A1", since: at(1795884193), sender: "a@b.org", recipient: `"a@b"@[192.0.2.1]`},
		{id: "4A3", since: at(1795884195), recipient: "z@y.org", reason: "lost connection"},
	}
	if got, err := parsePostqueue(text); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %+v, want %+v", err, got, want)
	}
	if got, err := parsePostqueue(""); err != nil || got != nil {
		t.Errorf("empty: %v, %+v", err, got)
	}
	for _, bad := range []string{"Mail queue is empty\n", `{"queue_name": 7}`, text[:200]} {
		if _, err := parsePostqueue(bad); err == nil || !strings.Contains(err.Error(), "postqueue -j") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestParseEximQueue: ages, frozen messages, and recipients who have their mail.
func TestParseEximQueue(t *testing.T) {
	now := time.Unix(1795884193, 0)
	const text = "25m  2.9K 1rABCd-0000c8-00 <alice@example.org>\n          red.king@looking-glass.example\n" +
		"        D done@example.net\n       +D made@example.net\n" +
		"          <other addresses>\n\n 3d   543 1rABCe-0000000AbCd-0001 <> *** frozen ***\n" +
		"          a b@example.net\n\n" +
		" 0m     0 1rABCf-0000c8-00 \n    *** spool format error: size=7 ***\n\n 5m       1rABCg-0000c8-00 \n" +
		"    *** spool read error: gone ***\n\n"
	want := []deferred{
		{id: "1rABCd-0000c8-00", since: now.Add(-25 * time.Minute), sender: "alice@example.org",
			recipient: "red.king@looking-glass.example"},
		{id: "1rABCd-0000c8-00", since: now.Add(-25 * time.Minute), sender: "alice@example.org",
			recipient: "<other addresses>"},
		{id: "1rABCe-0000000AbCd-0001", since: now.Add(-72 * time.Hour), recipient: "a b@example.net",
			reason: "frozen"},
	}
	if got, err := parseEximQueue(text, now); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %+v, want %+v", err, got, want)
	}
	if _, err := parseEximQueue("exim: permission denied\n", now); err == nil {
		t.Error("what is no list is taken for one")
	}
}

// TestArgument: names in commands to copy, which whoever sends mail may choose.
func TestArgument(t *testing.T) {
	for name, want := range map[string]string{"good.dane.": "good.dane", ".": ".",
		"$(reboot).dane.": "'$(reboot).dane'", "a'b;c.": `'a'\''b;c'`} {
		if got := argument(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestOperand: such a name is no flag of danelaw in a command to copy.
func TestOperand(t *testing.T) {
	for name, want := range map[string]string{"good.dane.": "good.dane", "-x.dane.": "-- -x.dane",
		"--html=x.dane.": "-- '--html=x.dane'"} {
		if got := operand(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, args := range [][]string{{"check", "--lab", "--smtp"}, {"nta", "add", "--socket", "/none", "--keep"}} {
		_, out, stderr := here(append(args, "--", "--quiet=x.dane")...)
		if strings.Contains(stderr, "has no flag") || args[0] == "check" && !strings.Contains(out, "--quiet=x.dane.") {
			t.Errorf("%q: %s%s", args, out, stderr)
		}
	}
}

// TestReadEximLog: the last attempt counts, that of the address which the recipient became.
func TestReadEximLog(t *testing.T) {
	const log = "2026-11-28 16:00:00 Received from a@b.org U=a P=local S=300\n" +
		"2026-11-28 16:00:01 x@y.org R=dnslookup defer (-1): host lookup did not complete\n" +
		"2026-11-28 16:30:01 other@y.org R=dnslookup defer (-1): not mine\n" +
		"2026-11-28 16:30:01 mx.y.org [192.0.2.1] DANE attempt failed\n" +
		"2026-11-28 16:30:02 x@y.org <root@here> R=hub T=remote_smtp H=mx.hub.org [192.0.2.1] defer (-37) DT=1s: TLS " +
		"session: (certificate verification failed): x\n" +
		"2026-11-28 16:40:02 x@y.org <root@here> R=hub T=remote_smtp defer (-54): retry time not reached for " +
		"any host for 'y.org'\n" +
		"2026-11-28 16:30:03 q@y.org R=dnslookup T=remote_smtp defer (-36): DANE error: tlsa lookup DEFER\n" +
		"2026-11-28 16:30:03 h@y.org R=dnslookup T=remote_smtp defer (-38) H=mx.y.org [192.0.2.10]: a TLS " +
		"session is required\n"
	for recipient, want := range map[string]string{
		"x@y.org":   "x@y.org hub mx.hub.org TLS session: (certificate verification failed): x",
		"root@here": "x@y.org hub mx.hub.org TLS session: (certificate verification failed): x",
		"q@y.org":   "q@y.org dnslookup  DANE error: tlsa lookup DEFER",
		"h@y.org":   "h@y.org dnslookup mx.y.org a TLS session is required",
		"none@y":    "none@y   ",
	} {
		d := deferred{recipient: recipient}
		d.readEximLog(log)
		if got := strings.Join([]string{d.recipient, d.router, d.host, d.reason}, " "); got != want {
			t.Errorf("%s: %q, want %q", recipient, got, want)
		}
	}
}

// TestCauseOf: reasons as the MTAs write them.
func TestCauseOf(t *testing.T) {
	for _, tt := range []struct {
		want   cause
		reason string
	}{
		{causeDNS, "Host or domain name not found. Name service error for name=x.org type=MX: " +
			"Host not found, try again"},
		{causeDNS, "R=dnslookup defer (-1): host lookup did not complete"},
		{causeTLSA, "TLSA lookup error for mx.x.org:25"},
		{causeTLSA, "DANE error: tlsa lookup DEFER"},
		{causeTLS, "Server certificate not verified"},
		{causeTLS, "TLS is required, but was not offered by host mx.x.org[192.0.2.1]"},
		{causeTLS, "TLS session: (certificate verification failed): certificate invalid"},
		{causeTLS, "a TLS session is required, but the server did not offer TLS support"},
		{causeNetwork, "connect to mx.x.org[192.0.2.1]:25: Connection timed out"},
		{causeNetwork, "connect to mx.x.org[2001:db8::1]:25: Network is unreachable"},
		{causeNetwork, "lost connection with mx.x.org[192.0.2.1] while receiving the initial server greeting"},
		{causeSaid, "host mx.x.org[192.0.2.1] said: 451 4.7.1 Greylisted, STARTTLS, Connection refused (in reply " +
			"to RCPT TO command)"},
		{causeSaid, "SMTP error from remote mail server after RCPT TO:<a@x.org>: 451 later"},
		{causeSaid, "host mx.x.org[192.0.2.1] refused to talk to me: 421 busy"},
		{causeOther, "mail transport unavailable"},
		{causeOther, ""},
	} {
		if got := causeOf(tt.reason); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.reason, got, tt.want)
		}
	}
}

// installed puts programs into PATH that print these outputs, by command line; for all else they fail.
func installed(t *testing.T, outputs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	scripts := map[string]*strings.Builder{}
	for _, line := range slices.Sorted(maps.Keys(outputs)) {
		program, args, _ := strings.Cut(line, " ")
		if scripts[program] == nil {
			scripts[program] = new(strings.Builder)
			scripts[program].WriteString("#!/bin/sh\ncase \"$*\" in\n")
		}
		fmt.Fprintf(scripts[program], "'%s') /bin/cat <<'END'\n%sEND\n;;\n", args, outputs[line])
	}
	for program, script := range scripts {
		script.WriteString("*) echo \"$0: not allowed\" >&2; exit 1;;\nesac\n")
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script.String()), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	inPlaceOf(t, nil)
}

// inPlaceOf has programs looked for in these directories, beside PATH.
func inPlaceOf(t *testing.T, dirs []string) {
	t.Helper()
	before := programDirs
	t.Cleanup(func() { programDirs = before })
	programDirs = dirs
}

// postfixQueue is a Postfix that holds mail, a recipient and a reason in turn.
func postfixQueue(change map[string]string, mails ...string) map[string]string {
	outputs := postfixOutputs("", change, "", "")
	var queue strings.Builder
	for i := 0; i < len(mails); i += 2 {
		text, _ := json.Marshal(map[string]any{"queue_name": "deferred", "queue_id": fmt.Sprint("A", i),
			"arrival_time": 1795884193 + i, "sender": "a@here",
			"recipients": []map[string]string{{"address": mails[i], "delay_reason": mails[i+1]}}})
		queue.Write(append(text, '\n'))
	}
	outputs["postqueue -j"] = queue.String()
	return outputs
}

// TestCheckQueue: each destination once, with whose fault it is and what mends it.
func TestCheckQueue(t *testing.T) {
	const notFound = "Host or domain name not found. Name service error for name=x type=MX: Host not found, try again"
	outputs := postfixQueue(map[string]string{"transport_maps": "hash:/ways, regexp:/more",
		"mydestination": "here.dane"},
		"a@expired.dane", notFound,
		"b@EXPIRED.dane", notFound,
		"a@mismatch.dane", "Server certificate not verified",
		"a@tlsa-servfail.dane", "TLSA lookup error for mx.tlsa-servfail.dane:25",
		"a@good.dane", "connect to mx1.good.dane[127.0.0.1]:25: Connection refused",
		"a@alias-tlsa.dane", notFound,
		"a@no-tlsa.dane", "TLS is required, but was not offered by host mx.no-tlsa.dane",
		"a@unsigned.dane", "Cannot start TLS: handshake failure",
		"a@null-mx.dane", "lost connection",
		"a@routed.dane", "Server certificate not verified",
		"a@x.patterned.dane", "Server certificate not verified",
		"a@X.lists.dane", "451 later",
		"a@[192.0.2.1]", "Connection timed out",
		"a@here.dane", "mailbox full",
		"a@b\u00fccher.dane", "host x said: 451 \x1b[31mred\n2026 forged")
	outputs["postmap -s hash:/ways"] = "routed.dane\tsmtp:[mx.mismatch.dane]\n" +
		".patterned.dane\trelay:[mx.mismatch.dane]:26\n"
	outputs["postmap -q a@x.lists.dane regexp:/more"] = "smtp:[192.0.2.7]\n"
	outputs["exim4 -bp"] = "1h  2.9K 1rABCd-0000c8-00 <a@here>\n          a@expired.dane\n\n" +
		"1h  2.9K 1rABCe-0000c8-00 <a@here>\n          a@hub.dane\n\n 5m  2.9K 1rABCf-0000c8-00 <a@here>\n" +
		"          b@hub.dane\n\n"
	outputs["exim4 -Mvl 1rABCe-0000c8-00"] = "2026-11-28 16:00:01 a@hub.dane R=hub T=remote_smtp defer (-38) " +
		"H=mx.mismatch.dane [127.0.0.1]: a TLS session is required\n"
	outputs["exim4 -Mvl 1rABCf-0000c8-00"] = "2026-11-28 16:00:01 b@hub.dane R=hub T=remote_smtp defer (-54): retry " +
		"time not reached for any host for 'hub.dane'\n"
	outputs["exim4 -bt b@hub.dane"] = "b@hub.dane\n  router = hub, transport = remote_smtp\n" +
		"  host mx.mismatch.dane [127.0.0.1]\n"
	outputs["exim4 -Mvl 1rABCd-0000c8-00"] = "2026-11-28 16:00:01 a@expired.dane R=dnslookup defer (-1): host " +
		"lookup did not complete\n"
	outputs["exim4 -bP routers"] = eximDNSLookup + "hub router:\ndriver = manualroute\ntransport = remote_smtp\n"
	installed(t, outputs)
	code, out, stderr := here("check", "-queue", "-lab", "-json")
	var got queueJSON
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitFailure || stderr != "" {
		t.Fatalf("exit code %d, %v, %s\n%s", code, err, stderr, out)
	}
	for _, want := range []struct {
		mta, to, kind, fault, decision string
		messages                       int
		says                           []string
	}{
		{"Postfix", "expired.dane.", toDomain, faultTheirs, "defer", 2,
			[]string{"expired 20", "danelaw nta add expired.dane 24h"}},
		{"Exim", "expired.dane.", toDomain, faultTheirs, "defer", 1,
			[]string{"expired 20", "danelaw nta add expired.dane 24h"}},
		{"Exim", "mx.mismatch.dane.", toHost, faultTheirs, "dane", 2,
			[]string{"does not keep to them", "danelaw nta add --keep mismatch.dane 24h"}},
		{"Postfix", "mismatch.dane.", toDomain, faultTheirs, "dane", 1,
			[]string{"does not keep to them", "danelaw nta add --keep mismatch.dane 24h"}},
		{"Postfix", "tlsa-servfail.dane.", toDomain, faultTheirs, "defer", 1,
			[]string{"SERVFAIL", "nothing here mends it"}},
		{"Postfix", "good.dane.", toDomain, faultOther, "dane", 1, []string{"cannot be reached"}},
		{"Postfix", "alias-tlsa.dane.", toDomain, faultMended, "dane", 1,
			[]string{"nothing that is wrong now", "postqueue -f"}},
		{"Postfix", "unsigned.dane.", toDomain, faultOther, "opportunistic", 1, []string{"TLS itself fails"}},
		{"Postfix", "no-tlsa.dane.", toDomain, faultOurs, "opportunistic", 1,
			[]string{"it is this host that demands TLS"}},
		{"Postfix", "null-mx.dane.", toDomain, faultTheirs, "null-mx", 1, []string{"postqueue -f"}},
		{"Postfix", "mx.mismatch.dane.", toHost, faultTheirs, "dane", 2, []string{"--keep mismatch.dane"}},
		{"Postfix", "192.0.2.7", toAddress, faultOther, "", 1, []string{"to an address"}},
		{"Postfix", "192.0.2.1", toAddress, faultOther, "", 1, []string{"to an address"}},
		{"Postfix", "local", toLocal, faultOther, "", 1, []string{"not SMTP"}},
		{"Postfix", "xn--bcher-kva.dane.", toDomain, faultTheirs, "bounce", 1, []string{"there is no domain"}},
	} {
		i := slices.IndexFunc(got.Destinations, func(w *waitingJSON) bool {
			return w.MTA == want.mta &&
				w.Destination == want.to
		})
		if i < 0 {
			t.Errorf("no %s for %s in %s", want.to, want.mta, out)
			continue
		}
		w := got.Destinations[i]
		if w.Kind != want.kind || w.Fault != want.fault || w.Decision != want.decision || w.Messages != want.messages ||
			w.Since.IsZero() || w.Reason == "" {
			t.Errorf("%+v, want %+v", w, want)
		}
		for _, text := range want.says {
			if !strings.Contains(strings.Join(append(w.Commands, w.Sentence, w.Remedy), "; "), text) {
				t.Errorf("%s: no %q in %q, %q", want.to, text, w.Sentence, w.Remedy)
			}
		}
	}
	code, out, _ = here("check", "--queue", "--lab", "--mta", "postfix")
	for _, want := range []string{"mx.mismatch.dane. (for routed.dane., x.patterned.dane.)  their fault  2 " +
		"messages by Postfix since ", "\n        danelaw nta add expired.dane 24h\n",
		"\n15 messages deferred, to 13 destinations\n",
		`451 \u001b[31mred 2026 forged`} {
		if code != exitFailure || !strings.Contains(out, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, out)
		}
	}
}

// TestCheckQueueInstances: each instance of Postfix has a queue of its own.
func TestCheckQueueInstances(t *testing.T) {
	outputs := postfixQueue(map[string]string{"multi_instance_directories": "/etc/postfix-out"}, "a@expired.dane",
		"Host not found, try again")
	maps.Copy(outputs, postfixOutputs("-c /etc/postfix-out ", map[string]string{"multi_instance_enable": "yes",
		"relayhost": "[mx.mismatch.dane]:25"}, "", ""))
	outputs["postqueue -c /etc/postfix-out -j"] = strings.ReplaceAll(outputs["postqueue -j"],
		"Host not found, try again", "Server certificate not verified")
	installed(t, outputs)
	says(t, []string{"check", "-queue", "-lab"}, exitFailure, "expired.dane.  their fault  1 message by Postfix since ",
		"mx.mismatch.dane. (for expired.dane.)  their fault  1 message by Postfix /etc/postfix-out since ",
		"danelaw nta add --keep mismatch.dane 24h")
}

// TestCheckQueueEmpty: no mail, nobody who may read, no MTA, and wrong command lines.
func TestCheckQueueEmpty(t *testing.T) {
	outputs := postfixOutputs("", nil, "", "")
	installed(t, outputs)
	says(t, []string{"check", "-queue", "-lab"}, exitFailure, "neither postqueue nor exim is found")
	outputs["postqueue -j"] = ""
	installed(t, outputs)
	says(t, []string{"check", "-queue", "-lab"}, 0, "no mail is deferred")
	inPlaceOf(t, []string{filepath.Join(t.TempDir(), "none"), os.Getenv("PATH")})
	t.Setenv("PATH", "/usr/bin:/bin")
	// as for a user of Debian, without /usr/sbin in PATH
	says(t, []string{"check", "-queue", "-lab"}, 0, "no mail is deferred")
	outputs["exim4 -bV"] = ""
	installed(t, outputs)
	says(t, []string{"check", "-queue", "-lab"}, exitFailure, "Exim  unknown  its queue cannot be read: ",
		"not allowed", "run this as root or as an administrator of Exim")
	says(t, []string{"check", "-queue", "-mta", "postfix", "-lab"}, 0, "no mail is deferred")
	delete(outputs, "postqueue -j")
	outputs["postqueue -x"] = ""
	installed(t, outputs)
	says(t, []string{"check", "-queue", "-lab"}, exitFailure, "Postfix  unknown  its queue cannot be read",
		"authorized_mailq_users")
	for _, args := range [][]string{{"good.dane"}, {"-html", "x"}, {"-mta", "sendmail"}} {
		says(t, append([]string{"check", "-queue", "-lab"}, args...), exitUsage, "danelaw: ")
	}
	says(t, []string{"check", "-mta", "exim", "good.dane"}, exitUsage, "--mta is for --queue")
}
