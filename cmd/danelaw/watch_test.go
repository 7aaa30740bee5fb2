package main

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/zones"
)

// TestWatch: the text and the exit code say whether all is well with a domain of one's own.
func TestWatch(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"good.dane", "two-certificates.dane."}, 0, []string{"good.dane. good\n  DANE secure: ",
			"\n  MTA-STS absent\n  TLS reports to mailto:reports@good.dane\n",
			"  signatures end 20", ", in 13 days\n",
			"\n  mx2.good.dane. secure\n    192.0.2.26    ECDSA  TLS 1.3  matches TLSA 3 1 1 ", "in 89 days\n",
			"192.0.2.25    RSA    TLS 1.2  matches"}},
		{[]string{"expired-ee.dane"}, 0, []string{"expired-ee.dane. good", "matches TLSA 3 1 1", ", ended 20"}},
		{[]string{"good.dane", "mismatch.dane"}, 1, []string{"mismatch.dane. fault\n  DANE secure: ",
			"no TLSA record matches the certificates presented"}},
		{
			[]string{"expired-ta.dane"}, 1,
			[]string{"expired-ta.dane. fault", `the certificate "CN=mx.expired-ta.dane" is valid from`},
		},
		{[]string{"no-starttls.dane"}, 1, []string{"192.0.2.27    -  -  the host does not offer STARTTLS"}},
		{[]string{"unsigned.dane"}, 1, []string{"unsigned.dane. fault\n  DANE none: unsigned.dane. MX is Insecure"}},
		{[]string{"expired.dane"}, 1, []string{"DANE bogus: expired.dane.: the RRSIG over expired.dane. DNSKEY"}},
		{[]string{"tlsa-servfail.dane"}, 1, []string{"DANE unknown: ", "SERVFAIL"}},
		{[]string{"announced.dane"}, 1, []string{"announced.dane. fault\n  DANE secure: ", "\n  MTA-STS broken\n",
			"\n  fault: senders cannot have the policy at https://mta-sts.announced.dane that " +
				"_mta-sts.announced.dane. announces: the policy cannot be fetched: mta-sts.announced.dane. has no " +
				"address; serve the policy there, or take the TXT record away\n",
			"\n  note: there is no TXT record at _smtp._tls.announced.dane., "}},
		{[]string{"-days", "20", "good.dane"}, 1, []string{"good.dane. fault", "  too soon: signatures end 20"}},
		{[]string{"-days", "100", "dane-ta.dane"}, 1,
			[]string{"too soon: mx.dane-ta.dane. at 192.0.2.25 ECDSA: certificates end 20"}},
		{[]string{"localhost"}, 1, []string{"localhost. is a special name"}},
		{[]string{"bücher.dane"}, 1, []string{"there is no domain xn--bcher-kva.dane."}},
		{nil, 2, []string{"watch takes the domains"}},
		{[]string{"a/b"}, 2, []string{`"a/b" is not a domain`}},
		{[]string{"-days", "-1", "good.dane"}, 2, []string{"-days -1"}},
		{[]string{"-conf", "x", "good.dane"}, 2, []string{"-lab has a configuration of its own"}},
	} {
		says(t, append([]string{"watch", "-lab"}, test.args...), test.code, test.want...)
	}
}

// TestWatchJSON: a program finds the same.
func TestWatchJSON(t *testing.T) {
	code, out, stderr := here("watch", "-lab", "-json", "-days", "100", "dane-ta.dane", "other-name.dane",
		"null-mx.dane")
	var got watchJSON
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 1 || stderr != "" || got.Good ||
		len(got.Domains) != 3 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, stderr)
	}
	ta, other, null := got.Domains[0], got.Domains[1], got.Domains[2]
	if ta.Good || ta.State != "secure" || len(ta.Faults) != 3 || ta.Signatures.DaysLeft != 13 ||
		time.Since(ta.Checked) > time.Hour {
		t.Errorf("%+v", ta)
	}
	if c := ta.Hosts[0].Certificates[0]; c.Address != "192.0.2.25" || c.Key != "ECDSA" ||
		!strings.HasPrefix(c.Matches, "TLSA 2 1 1 ") || c.Ends.DaysLeft != 89 {
		t.Errorf("%+v", c)
	}
	if c := other.Hosts[0].Certificates[1]; c.Address != "2001:db8::25" || c.Result != "certificate-host-mismatch" ||
		c.Matches != "" || c.Error == "" {
		t.Errorf("%+v", c)
	}
	if null.State != "none" || len(null.Hosts) != 0 || len(null.Faults) != 2 {
		t.Errorf("%+v", null)
	}
}

// wordless is a connection on which the greeting has no words.
type wordless struct {
	net.Conn
	greeted bool
}

func (w *wordless) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if !w.greeted && err == nil {
		w.greeted = true
		return copy(b, "220\r\n"), nil
	}
	return n, err
}

// TestWatchPrograms: what Postfix or Exim makes of a domain otherwise than RFC 7672 is a fault, although the TLSA
// records and the certificates of the hosts are as they should be.
func TestWatchPrograms(t *testing.T) {
	lab, err := zones.Start(zones.Options{Edit: func(z *zones.Zone) {
		if z.Name == "good.dane." {
			addRecords(t, z, "null MX 0 .", "null MX 10 mx1", "address MX 5 192.0.2.25.", "address MX 10 mx1")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	_, blocks := labBlocks(t, lab)
	a := &asker{prober: &probe.Prober{Timeout: time.Minute, Dial: lab.Dial}, end: func() {}, blocks: blocks}
	defer a.close()
	bare := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := lab.Dial(ctx, network, address)
		return &wordless{Conn: conn}, err
	}
	for _, test := range []struct {
		domain string
		dial   func(ctx context.Context, network, address string) (net.Conn, error)
		want   string
	}{
		{"good.dane.", lab.Dial, ""},
		{"null.good.dane.", lab.Dial, "Postfix bounces (5.1.0): one of the MX records of null.good.dane."},
		{"address.good.dane.", lab.Dial, "Postfix delivers, with TLS if the host offers it; the MX record names the " +
			"address 192.0.2.25."},
		{"good.dane.", bare, "not to Postfix: Postfix takes a greeting without a word for that of a Cisco PIX"},
	} {
		h, err := a.handler(test.domain)
		if err != nil {
			t.Fatal(err)
		}
		seen, err := h.Look(t.Context(), test.domain, &probe.Prober{Timeout: time.Minute, Dial: test.dial})
		if err != nil {
			t.Fatal(err)
		}
		d := report(seen, 0)
		if told := strings.Join(d.Faults, "\n"); d.Good != (test.want == "") || !strings.Contains(told, test.want) {
			t.Errorf("%s: good is %v, want %q in\n%s", test.domain, d.Good, test.want, told)
		}
	}
}
