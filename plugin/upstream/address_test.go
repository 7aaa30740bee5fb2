package upstream

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want, url string }{
		{"192.0.2.1", "192.0.2.1:53", ""},
		{"192.0.2.1:5300", "192.0.2.1:5300", ""},
		{"[2001:db8::1]", "[2001:db8::1]:53", ""},
		{"[2001:db8::1]:5300", "[2001:db8::1]:5300", ""},
		{"[fe80::1%eth0]", "[fe80::1%eth0]:53", ""},
		{"[::ffff:192.0.2.1]:53", "192.0.2.1:53", ""},
		{"tls://9.9.9.9%dns.quad9.net", "tls://9.9.9.9:853%dns.quad9.net", ""},
		{"tls://9.9.9.9:8853%dns.quad9.net.", "tls://9.9.9.9:8853%dns.quad9.net", ""},
		{"tls://[2620:fe::fe]%dns.quad9.net", "tls://[2620:fe::fe]:853%dns.quad9.net", ""},
		{"tls://[fe80::1%eth0]%router.example", "tls://[fe80::1%eth0]:853%router.example", ""},
		{"tls://1.1.1.1%1.1.1.1", "tls://1.1.1.1:853%1.1.1.1", ""},
		{"https://9.9.9.9/dns-query%dns.quad9.net", "https://9.9.9.9:443/dns-query%dns.quad9.net",
			"https://dns.quad9.net/dns-query"},
		{"https://[2620:fe::fe]:8443/q%dns.quad9.net", "https://[2620:fe::fe]:8443/...%dns.quad9.net",
			"https://dns.quad9.net:8443/q"},
		{"https://[2620:fe::fe]/q%2620:fe::fe", "https://[2620:fe::fe]:443/...%2620:fe::fe", "https://[2620:fe::fe]/q"},
		{"https://9.9.9.9/a%20b%dns.quad9.net", "https://9.9.9.9:443/...%dns.quad9.net", "https://dns.quad9.net/a%20b"},
	} {
		a, err := Parse(tt.in)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
			continue
		}
		if got := a.String(); got != tt.want {
			t.Errorf("Parse(%q) = %s, want %s", tt.in, got, tt.want)
		}
		if tt.url != "" && a.url() != tt.url {
			t.Errorf("Parse(%q).url() = %s, want %s", tt.in, a.url(), tt.url)
		}
		if again, err := Parse(a.String()); err != nil || a.Path == "" && again != a {
			t.Errorf("Parse(%s) = %v, %v, want what it came from", a, again, err)
		}
	}
}

// Each error names the value and the remedy; S-11 for DoQ.
func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ in, remedy string }{
		{"", "IP address"},
		{"dns.quad9.net", "IP address"},
		{"192.0.2.1:", "IP address"},
		{"192.0.2.1:65536", "IP address"},
		{"192.0.2.1:0", "give the address and port"},
		{"0.0.0.0", "give the address and port"},
		{"224.0.0.1", "give the address and port"},
		{"2001:db8::1", "brackets: [2001:db8::1]"},
		{"[2001:db8::1", "IP address"},
		{"quic://9.9.9.9%dns.quad9.net", "use tls:// or https://"},
		{"udp://9.9.9.9", "tls://ADDR[:PORT]%NAME"},
		{"tls://9.9.9.9", "append it"},
		{"tls://9.9.9.9%", "append it"},
		{"tls://9.9.9.9%a/b", "host name"},
		{"tls://[fe80::1%eth0]", "append it"},
		{"tls://dns.quad9.net%dns.quad9.net", "IP address"},
		{"https://9.9.9.9%dns.quad9.net", "/dns-query"},
		{"https://9.9.9.9/%dns.quad9.net", "/dns-query"},
		{"https://9.9.9.9/dns-query", "append it"},
		{"https://9.9.9.9/dns-query{?dns}%dns.quad9.net", "{?dns}"},
		{"https://9.9.9.9/%zz%dns.quad9.net", "URL"},
		{"https://nine/dns-query%dns.quad9.net", "IP address"},
	} {
		_, err := Parse(tt.in)
		if err == nil {
			t.Errorf("Parse(%q) succeeded, want an error", tt.in)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, `"`+redacted(tt.in)+`"`) || !strings.Contains(msg, tt.remedy) {
			t.Errorf("Parse(%q): %q names not the value or not the remedy %q", tt.in, msg, tt.remedy)
		}
	}
}

// TestSecrets: no form in which an upstream is shown, and no error about one, holds a path that may be a credential, a
// user or a password.
func TestSecrets(t *testing.T) {
	const secret = "s3cr3t"
	for _, tt := range []struct{ in, shown, public string }{
		{"https://9.9.9.9/s3cr3t%dns.example", "https://9.9.9.9:443/...%dns.example",
			"https://9.9.9.9:443%dns.example"},
		{"https://9.9.9.9/s3cr3t/q%dns.example", "https://9.9.9.9:443/...%dns.example",
			"https://9.9.9.9:443%dns.example"},
		{"https://9.9.9.9/dns-query/s3cr3t%dns.example", "https://9.9.9.9:443/dns-query/...%dns.example",
			"https://9.9.9.9:443%dns.example"},
		{"https://9.9.9.9/dns-query?key=s3cr3t%dns.example", "https://9.9.9.9:443/...%dns.example",
			"https://9.9.9.9:443%dns.example"},
		{"https://9.9.9.9/a@s3cr3t%dns.example", "https://9.9.9.9:443/...%dns.example",
			"https://9.9.9.9:443%dns.example"},
		{"https://9.9.9.9/%73s3cr3t%dns.example", "https://9.9.9.9:443/...%dns.example",
			"https://9.9.9.9:443%dns.example"},
		{"tls://9.9.9.9%dns.example", "tls://9.9.9.9:853%dns.example", "tls://9.9.9.9:853%dns.example"},
		{"9.9.9.9", "9.9.9.9:53", "9.9.9.9:53"},
	} {
		a, err := Parse(tt.in)
		if err != nil || a.String() != tt.shown || a.public() != tt.public {
			t.Errorf("%s: shown as %s, to clients as %s, %v", tt.in, a, a.public(), err)
		}
		if got := fmt.Sprintf("%v %+v %s", []Address{a}, Route{".", []Address{a}}, a); strings.Contains(got, secret) {
			t.Errorf("printed, it is %s", got)
		}
	}
	for _, in := range []string{
		"https://u:s3cr3t@9.9.9.9/dns-query%dns.example", "https://u:s3/s3cr3t@9.9.9.9/dns-query%dns.example",
		"https://s3cr3t@9.9.9.9/dns-query%dns.example", "https://9.9.9.9/s3cr3t", "https://9.9.9.9/s3cr3t%",
		"https://9.9.9.9/a%2Fs3cr3t/x",
		"https://9.9.9.9/a%2Fs3cr3t", "https://9.9.9.9/dns-query%2Fs3cr3t.x%dns.example",
		"https://9.9.9.9/%zzs3cr3t.x%dns.example", "https://dns.example/s3cr3t%dns.example",
		"https://dns.example/s3cr3t", "https://9.9.9.9/s3cr3t{?dns}%dns.example",
		"https://9.9.9.9/%zzs3cr3t%dns.example", "https://9.9.9.9?s3cr3t%dns.example",
		"https://9.9.9.9#s3cr3t/%dns.example",
		"tls://u:s3cr3t@9.9.9.9%dns.example", "tls://9.9.9.9/s3cr3t%dns.example", "tls://9.9.9.9/s3cr3t",
		"quic://u:s3cr3t@9.9.9.9%dns.example",
		"http://9.9.9.9/s3cr3t%dns.example", "u:s3cr3t@https://9.9.9.9/dns-query%dns.example",
		"u:s3cr3t@9.9.9.9", "9.9.9.9/s3cr3t",
	} {
		if _, err := Parse(in); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", in, err)
		}
		for _, text := range []string{"Corefile:4: Unknown directive '" + in + "'", "not an address: \"" + in +
			"\".", in + ": no"} {
			if got := Redact(text); strings.Contains(in, "://") && !strings.HasPrefix(in, "u:") &&
				strings.Contains(got, secret) {
				t.Errorf("%s: %s", text, got)
			}
		}
	}
	for _, plain := range []string{
		"plugin/danelaw: Corefile:4 - user@example.com: 50% of a/b: see tls://9.9.9.9:853%dns.quad9.net.",
		"write ADDR[:PORT], tls://ADDR[:PORT]%NAME or https://ADDR[:PORT]/PATH%NAME",
		"most services use /dns-query, as in https://9.9.9.9/dns-query%dns.quad9.net",
		"upstream https://9.9.9.9:443/...%dns.quad9.net, again",
	} {
		if got := Redact(plain); got != plain {
			t.Errorf("what is no secret becomes %q", got)
		}
	}
}
