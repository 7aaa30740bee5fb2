package danelaw

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"

	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// read parses a directive with the given option lines, the first of which is line 2 of Testfile.
func read(t *testing.T, lines ...string) (*setting, error) {
	t.Helper()
	return parse(caddy.NewTestController("dns", "danelaw {\n"+strings.Join(lines, "\n")+"\n}"))
}

func mustParse(t *testing.T, address string) upstream.Address {
	t.Helper()
	a, err := upstream.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func networks(prefixes ...string) (ps []netip.Prefix) {
	for _, p := range prefixes {
		ps = append(ps, netip.MustParsePrefix(p))
	}
	return ps
}

// TestOptions: a Corefile with these lines differs from the defaults in this, and in nothing else.
func TestOptions(t *testing.T) {
	quad9 := mustParse(t, "tls://9.9.9.9%dns.quad9.net")
	for _, tt := range []struct {
		lines []string
		want  func(c *Config)
	}{
		{nil, func(c *Config) {}},
		{[]string{"upstream . 192.0.2.1 tls://9.9.9.9%dns.quad9.net"}, func(c *Config) {
			c.Routes = []upstream.Route{{From: ".", To: []upstream.Address{mustParse(t, "192.0.2.1:53"), quad9}}}
		}},
		{[]string{"upstream . 192.0.2.1", "upstream Corp.Example 192.0.2.2:5300"}, func(c *Config) {
			c.Routes = []upstream.Route{
				{From: ".", To: []upstream.Address{mustParse(t, "192.0.2.1")}},
				{From: "corp.example.", To: []upstream.Address{mustParse(t, "192.0.2.2:5300")}},
			}
		}},
		{[]string{"trust_anchor embedded"}, func(c *Config) {}},
		{[]string{"private Corp.Example cluster.local.", "private 10.0.0.0/8 fd00::/8"}, func(c *Config) {
			c.Private = []string{"corp.example.", "cluster.local.", "10.in-addr.arpa.", "d.f.ip6.arpa."}
		}},
		{[]string{"trust_anchor_state /var/lib/danelaw"}, func(c *Config) { c.State = "/var/lib/danelaw" }},
		{[]string{`negative_trust_anchor Broken.Example 24h "expired RRSIG, told them"`,
			"negative_trust_anchor a.example 1s",
			"negative_trust_anchor b.example 168h keep", "negative_trust_anchor c.example 1h keep told them"},
			func(c *Config) {
				c.NTAs = []NegativeAnchor{
					{Zone: "broken.example.", Life: 24 * time.Hour, Reason: "expired RRSIG, told them"},
					{Zone: "a.example.", Life: time.Second},
					{Zone: "b.example.", Life: 168 * time.Hour, Keep: true},
					{Zone: "c.example.", Life: time.Hour, Keep: true, Reason: "told them"},
				}
			}},
		{[]string{"control /run/danelaw.sock"}, func(c *Config) {}},
		{[]string{"control off"}, func(c *Config) {}},
		{[]string{"status 127.0.0.1:8053"}, func(c *Config) {}},
		{[]string{"notify /bin/sh -c \"exit 1\""}, func(c *Config) { c.Notify = []string{"/bin/sh", "-c", "exit 1"} }},
		{[]string{"status [::1]:8053"}, func(c *Config) {}},
		{[]string{"sha1 unsupported"}, func(c *Config) {}},
		{[]string{"sha1 verify"}, func(c *Config) { c.Policy.SHA1 = true }},
		{[]string{"nsec3_iterations 0"}, func(c *Config) { c.Policy.NSEC3Iterations = 0 }},
		{[]string{"nsec3_iterations 150"}, func(c *Config) { c.Policy.NSEC3Iterations = 150 }},
		{[]string{"clock_skew 0s"}, func(c *Config) { c.Policy.ClockSkew = 0 }},
		{[]string{"clock_skew 3600s"}, func(c *Config) { c.Policy.ClockSkew = time.Hour }},
		{[]string{"validation_time 2026-11-20T04:00:00Z"}, func(c *Config) {
			c.ValidationTime = time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)
		}},
		{[]string{"allow_clients 10.0.0.0/8 ::1", "allow_clients 127.0.0.1"}, func(c *Config) {
			c.AllowClients = networks("10.0.0.0/8", "::1/128", "127.0.0.1/32")
		}},
		{[]string{"ad_clients 169.254.20.0/24"}, func(c *Config) { c.ADClients = networks("169.254.20.0/24") }},
		{[]string{"ignore_cd on"}, func(c *Config) { c.IgnoreCD = true }},
		{[]string{"ignore_cd off"}, func(c *Config) {}},
		{[]string{"trust_anchor_signal off"}, func(c *Config) { c.Signal = false }},
		{[]string{"trust_anchor_signal on"}, func(c *Config) {}},
		{[]string{"cache 1MiB"}, func(c *Config) { c.CacheSize = 1 << 20 }},
		{[]string{"cache 1.5GiB"}, func(c *Config) { c.CacheSize = 3 << 29 }},
		{[]string{"cache_file /var/lib/danelaw/cache"}, func(c *Config) { c.CacheFile = "/var/lib/danelaw/cache" }},
		{[]string{"serve_stale"}, func(c *Config) { c.ServeStale = 24 * time.Hour }},
		{[]string{"serve_stale 72h"}, func(c *Config) { c.ServeStale = 72 * time.Hour }},
		{[]string{"shared_cache redis://user@192.0.2.1:6380/3"}, func(c *Config) { c.SharedCache = theShared }},
		{[]string{"cache_ttl 60s 168h"}, func(c *Config) { c.MinTTL, c.MaxTTL = time.Minute, 168*time.Hour }},
		{[]string{"cache_ttl 0s 1s"}, func(c *Config) { c.MinTTL, c.MaxTTL = 0, time.Second }},
		{[]string{"aggressive_nsec off"}, func(c *Config) { c.Aggressive = reuse.Off }},
		{[]string{"aggressive_nsec nsec"}, func(c *Config) {}},
		{[]string{"aggressive_nsec all"}, func(c *Config) { c.Aggressive = reuse.All }},
		{[]string{"prefetch on"}, func(c *Config) {}},
		{[]string{"fastpath on"}, func(c *Config) {}},
		{[]string{"fastpath off"}, func(c *Config) { c.FastPath = false }},
		{[]string{"prefetch off"}, func(c *Config) { c.Prefetch = false }},
		{[]string{"policy 127.0.0.1:8461"}, func(c *Config) { c.PolicyService = "127.0.0.1:8461" }},
		{[]string{"policy unix:/policy.sock"}, func(c *Config) { c.PolicyService = "unix:/policy.sock" }},
		{[]string{"watch Example.org example.net.", "watch example.com"}, func(c *Config) {
			c.Watch = []string{"example.org.", "example.net.", "example.com."}
		}},
		{[]string{"timeout 1s"}, func(c *Config) { c.Timeout = time.Second }},
		{[]string{"timeout 30s"}, func(c *Config) { c.Timeout = 30 * time.Second }},
		{[]string{"limit signature_checks 64", "limit upstream_questions 50", "limit retries 0", "limit in_flight 100",
			"limit waiting 10"},
			func(c *Config) {
				c.SignatureChecks, c.UpstreamQuestions, c.Retries, c.InFlight, c.Waiting = 64, 50, 0, 100, 10
			}},
		{[]string{"edns_size 512"}, func(c *Config) { c.EDNSSize = 512 }},
		{[]string{"edns_size 4096"}, func(c *Config) { c.EDNSSize = 4096 }},
	} {
		s, err := read(t, tt.lines...)
		if err != nil {
			t.Errorf("%q: %v", tt.lines, err)
			continue
		}
		want := Defaults()
		tt.want(&want)
		want.Clock, s.config.Clock = nil, nil
		if !reflect.DeepEqual(s.config, want) {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.lines, s.config, want)
		}
	}
}

// TestDefaults: an operator who says nothing gets what the design promises.
func TestDefaults(t *testing.T) {
	c := Defaults()
	if len(c.Anchors["."]) != 2 || c.Policy.SHA1 || c.Policy.NSEC3Iterations != 50 ||
		c.Policy.ClockSkew != 300*time.Second {
		t.Errorf("judgement: %+v %+v", c.Anchors, c.Policy)
	}
	if !reflect.DeepEqual(c.AllowClients, networks("127.0.0.0/8", "::1/128")) ||
		!reflect.DeepEqual(c.AllowClients, c.ADClients) || c.IgnoreCD || !c.Prefetch {
		t.Errorf("clients: %v %v %v", c.AllowClients, c.ADClients, c.IgnoreCD)
	}
	got := []any{c.CacheSize, c.MinTTL, c.MaxTTL, c.Timeout, c.SignatureChecks, c.UpstreamQuestions, c.Retries,
		c.InFlight, c.Waiting, c.EDNSSize}
	want := []any{int64(64 << 20), time.Duration(0), 24 * time.Hour, 4500 * time.Millisecond, 128, 100, 2,
		ours().inFlight, 1000, uint16(1232)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("limits: %v, want %v", got, want)
	}
}

// TestMalformedOptions: every error names file and line, the value, and what to write instead.
func TestMalformedOptions(t *testing.T) {
	const addresses, zonesAllowed, networksAllowed = "ADDR[:PORT]", "domain names or networks",
		"such as 127.0.0.0/8 ::1"
	for _, tt := range []struct {
		lines []string
		at    int // line of Testfile
		want  []string
	}{
		{[]string{"upstream"}, 2, []string{"upstream: wrong number", "write upstream FROM TO...", addresses}},
		{[]string{"upstream ."}, 2, []string{"upstream .: wrong number", addresses}},
		{[]string{"upstream . resolver.example"}, 2, []string{`"resolver.example"`, addresses}},
		{[]string{"upstream . quic://9.9.9.9%dns.quad9.net"}, 2, []string{"quic://9.9.9.9", "QUIC", addresses}},
		{[]string{"upstream . tls://9.9.9.9"}, 2, []string{"tls://9.9.9.9", "append"}},
		{[]string{"upstream a..b 192.0.2.1"}, 2, []string{`"a..b" is not a domain name`, addresses}},
		{[]string{"upstream corp.example:53 192.0.2.1"}, 2, []string{`"corp.example:53" is not a domain name`,
			addresses}},
		{[]string{"upstream . 192.0.2.1 192.0.2.1:53"}, 2, []string{`"192.0.2.1:53" is there twice`}},
		{[]string{"upstream . 192.0.2.1", "upstream . 192.0.2.2"}, 3,
			[]string{". has its upstreams already", "one line"}},
		{[]string{"upstream . 192.0.2.1 {", "}"}, 2, []string{"takes no block", "write upstream FROM TO..."}},
		{[]string{"upstream_ca"}, 2, []string{"upstream_ca: wrong number", "write upstream_ca FILE"}},
		{[]string{"upstream_ca a b"}, 2, []string{"upstream_ca a b: wrong number"}},
		{[]string{"sha1 verify", "upstream_ca /nonexistent"}, 3,
			[]string{"/nonexistent", "no such file", "PEM certificates"}},
		{[]string{"upstream_ca testdata/empty.pem"}, 2, []string{"testdata/empty.pem", "no certificate in it",
			"PEM certificates"}},
		{[]string{"trust_anchor"}, 2, []string{"trust_anchor: wrong number", "root-anchors.xml"}},
		{[]string{"trust_anchor embedded embedded"}, 2, []string{`"embedded" is there twice`}},
		{[]string{"ignore_cd on", "trust_anchor /nonexistent"}, 3,
			[]string{"trust_anchor /nonexistent", "mend the file, or write `trust_anchor embedded`"}},
		{[]string{"trust_anchor_state"}, 2,
			[]string{"trust_anchor_state: wrong number", "write trust_anchor_state DIR"}},
		{[]string{"trust_anchor_state a b"}, 2, []string{"wrong number", "may write into"}},
		{[]string{"negative_trust_anchor"}, 2,
			[]string{"wrong number", "write negative_trust_anchor ZONE DURATION [keep] [REASON]", "told them"}},
		{[]string{"negative_trust_anchor a.example"}, 2, []string{"wrong number", "1s to 168h"}},
		{[]string{"negative_trust_anchor a.example keep"}, 2, []string{`"keep" is not a duration`, "1s to 168h"}},
		{[]string{"negative_trust_anchor a.example 169h"}, 2, []string{`"169h" is out of range`, "1s to 168h"}},
		{[]string{"negative_trust_anchor a.example 0s"}, 2, []string{`"0s" is out of range`, "1s to 168h"}},
		{[]string{"negative_trust_anchor . 1h"}, 2, []string{`"." would leave nothing to validate`}},
		{[]string{"negative_trust_anchor a..b 1h"}, 2, []string{`"a..b." is not a domain name`}},
		{[]string{"negative_trust_anchor a.example 1h", "negative_trust_anchor A.example. 2h"}, 3,
			[]string{"a.example. is there twice"}},
		{[]string{"negative_trust_anchor a.example 1h " + strings.Repeat("long ", 40)}, 2,
			[]string{"longer than 150 octets"}},
		{[]string{"private example", "negative_trust_anchor a.example 1h"}, 3,
			[]string{"a.example. is private, and never validated"}},
		{[]string{"trust_anchor testdata/example.ds", "sha1 verify", "negative_trust_anchor a.example 1h",
			"negative_trust_anchor example 1h"}, 5,
			[]string{"example. has a trust anchor of its own: remove that trust_anchor instead"}},
		{[]string{"trust_anchor testdata/example.ds", "sha1 verify", "negative_trust_anchor example.net 1h"}, 4,
			[]string{"no trust anchor covers example.net.: it is Insecure anyway"}},
		{[]string{"control"}, 2, []string{"wrong number", "write control PATH|off", "a Unix socket"}},
		{[]string{"notify"}, 2, []string{"wrong number", "write notify COMMAND"}},
		{[]string{"", "notify mail"}, 3, []string{`"mail" is no absolute path`, "no shell"}},
		{[]string{"notify /nowhere/mail"}, 2, []string{"/nowhere", "no such file"}},
		{[]string{"notify /bin"}, 2, []string{"is a directory: name a program"}},
		{[]string{"notify /etc/passwd"}, 2, []string{"/etc/passwd is no program", "chmod a+x"}},
		{[]string{"notify /bin/sh", "notify /bin/sh"}, 3, []string{"notify is there twice"}},
		{[]string{"status"}, 2, []string{"wrong number", "write status ADDRESS", "127.0.0.1:8053"}},
		{[]string{"", "status 192.0.2.1:8053"}, 3,
			[]string{"192.0.2.1 is no loopback address", "write status ADDRESS"}},
		{[]string{"status 0.0.0.0:8053"}, 2, []string{"0.0.0.0 is no loopback address"}},
		{[]string{"status [::ffff:192.0.2.1]:8053"}, 2, []string{"is no loopback address"}},
		{[]string{"status :8053"}, 2, []string{`":8053" is no IP address with a port`}},
		{[]string{"status localhost:8053"}, 2, []string{`"localhost:8053" is no IP address with a port`}},
		{[]string{"status 127.0.0.1"}, 2, []string{`"127.0.0.1" is no IP address with a port`}},
		{[]string{"status 127.0.0.1:0"}, 2, []string{`"127.0.0.1:0" is no IP address with a port`}},
		{[]string{"status 127.0.0.1:8053", "status 127.0.0.1:8054"}, 3, []string{"status is there twice"}},
		{[]string{"private"}, 2, []string{"private: wrong number", zonesAllowed}},
		{[]string{"private ."}, 2, []string{`"." would leave nothing to validate`, zonesAllowed}},
		{[]string{"private a..b"}, 2, []string{`"a..b" is not a domain name`, zonesAllowed}},
		{[]string{"private corp.example:53"}, 2, []string{`"corp.example:53" is not a domain name`, zonesAllowed}},
		{[]string{"private a.example", "private A.example."}, 3, []string{"a.example. is there twice", zonesAllowed}},
		{[]string{"sha1"}, 2, []string{"sha1: wrong number", "`unsupported` or `verify`"}},
		{[]string{"sha1 yes"}, 2, []string{`"yes" is neither`, "`unsupported` or `verify`"}},
		{[]string{"sha1 verify", "sha1 verify"}, 3, []string{"sha1 is there twice", "Testfile:2", "keep one"}},
		{[]string{"nsec3_iterations"}, 2, []string{"wrong number", "from 0 to 150"}},
		{[]string{"nsec3_iterations 151"}, 2, []string{"151 is out of range", "from 0 to 150"}},
		{[]string{"nsec3_iterations -1"}, 2, []string{"-1 is out of range", "from 0 to 150"}},
		{[]string{"nsec3_iterations many"}, 2, []string{`"many" is not a whole number`, "from 0 to 150"}},
		{[]string{"clock_skew 3601s"}, 2, []string{`"3601s" is out of range`, "0s to 3600s"}},
		{[]string{"clock_skew -1s"}, 2, []string{`"-1s" is out of range`, "0s to 3600s"}},
		{[]string{"clock_skew 300"}, 2, []string{`"300" is not a duration with its unit`, "0s to 3600s"}},
		{[]string{"validation_time"}, 2, []string{"wrong number", "2026-11-20T04:00:00Z"}},
		{[]string{"validation_time yesterday"}, 2, []string{`"yesterday" is not a time`, "2026-11-20T04:00:00Z"}},
		{[]string{"allow_clients"}, 2, []string{"wrong number", networksAllowed}},
		{[]string{"allow_clients everybody"}, 2, []string{`"everybody" is not a network`, networksAllowed}},
		{[]string{"allow_clients 10.1.2.3/8"}, 2, []string{`"10.1.2.3/8" has bits set beyond its mask`, "10.0.0.0/8"}},
		{[]string{"allow_clients ::ffff:10.0.0.0/104"}, 2, []string{"::ffff:10.0.0.0/104", "write it as IPv4"}},
		{[]string{"ad_clients"}, 2, []string{"wrong number", networksAllowed}},
		{[]string{"ad_clients 127.0.0.1", "ad_clients 256.0.0.0/8"}, 3,
			[]string{`"256.0.0.0/8" is not a network`, networksAllowed}},
		{[]string{"ignore_cd"}, 2, []string{"wrong number", "`on` or `off`"}},
		{[]string{"trust_anchor_signal maybe"}, 2, []string{`"maybe" is neither`, "`on` or `off`"}},
		{[]string{"ignore_cd true"}, 2, []string{`"true" is neither`, "`on` or `off`"}},
		{[]string{"cache"}, 2, []string{"wrong number", "64MiB"}},
		{[]string{"cache 64"}, 2, []string{`"64" is not a number with one of the units`, "64MiB"}},
		{[]string{"cache 64MB"}, 2, []string{`"64MB" is not a number with one of the units`, "64MiB"}},
		{[]string{"cache NaNMiB"}, 2, []string{`"NaNMiB" is not a number`, "64MiB"}},
		{[]string{"cache 1023KiB"}, 2, []string{`"1023KiB" is out of range`, "1MiB to 1TiB"}},
		{[]string{"cache 2TiB"}, 2, []string{`"2TiB" is out of range`, "1MiB to 1TiB"}},
		{[]string{"cache -1GiB"}, 2, []string{`"-1GiB" is out of range`, "1MiB to 1TiB"}},
		{[]string{"cache_file"}, 2, []string{"wrong number", "cache_file FILE", "/var/lib/danelaw/cache"}},
		{[]string{"shared_cache"}, 2, []string{"wrong number", "shared_cache URL [PASSWORDFILE]"}},
		{[]string{"shared_cache redis://u:secret@192.0.2.1"}, 2, []string{"put it into a file"}},
		{[]string{"shared_cache http://192.0.2.1"}, 2, []string{"none of redis://"}},
		{[]string{"shared_cache redis://192.0.2.1 /nowhere/at/all"}, 2, []string{"/nowhere"}},
		{[]string{"cache_ttl 5s"}, 2, []string{"wrong number", "0s 24h"}},
		{[]string{"cache_ttl 61s 24h"}, 2, []string{`"61s" is out of range`, "0s to 60s"}},
		{[]string{"cache_ttl 0s 169h"}, 2, []string{`"169h" is out of range`, "1s to 168h"}},
		{[]string{"cache_ttl 0s 0s"}, 2, []string{`"0s" is out of range`, "1s to 168h"}},
		{[]string{"cache_ttl 60s 30s"}, 2, []string{"60s is more than the greatest, 30s"}},
		{[]string{"fastpath"}, 2, []string{"wrong number", "`on` or `off`"}},
		{[]string{"fastpath maybe"}, 2, []string{`"maybe" is neither`, "`on` or `off`"}},
		{[]string{"prefetch"}, 2, []string{"wrong number", "`on` or `off`"}},
		{[]string{"policy"}, 2, []string{"wrong number", "policy ADDRESS|unix:PATH"}},
		{[]string{"policy unix:"}, 2, []string{"behind unix: there is no path", "unix:/run/danelaw/policy.sock"}},
		{[]string{"policy localhost:8461"}, 2, []string{`"localhost:8461" is neither unix:PATH nor an IP address`}},
		{[]string{"policy 127.0.0.1"}, 2, []string{`"127.0.0.1" is neither`, "127.0.0.1:8461"}},
		{[]string{"policy /run/danelaw/policy.sock"}, 2, []string{"is neither unix:PATH"}},
		{[]string{"watch"}, 2, []string{"wrong number", "domains of your own"}},
		{[]string{"watch ."}, 2, []string{`"." is not a domain that gets mail`}},
		{[]string{"watch mx.example:25"}, 2, []string{`"mx.example:25" is not a domain`, "watch DOMAIN..."}},
		{[]string{"watch example.org", "watch EXAMPLE.org"}, 3, []string{"example.org. is there twice"}},
		{[]string{"prefetch yes"}, 2, []string{`"yes" is neither`, "`on` or `off`"}},
		{[]string{"timeout 999ms"}, 2, []string{`"999ms" is out of range`, "1s to 30s"}},
		{[]string{"timeout 31s"}, 2, []string{`"31s" is out of range`, "1s to 30s"}},
		{[]string{"timeout 4"}, 2, []string{`"4" is not a duration with its unit`, "1s to 30s"}},
		{[]string{"limit"}, 2, []string{"wrong number", "signature_checks 16..1024"}},
		{[]string{"limit queries 5"}, 2, []string{`no limit "queries"`, "upstream_questions", "retries", "in_flight",
			"waiting"}},
		{[]string{"limit signature_checks 15"}, 2, []string{"15 is out of range", "signature_checks 16..1024"}},
		{[]string{"limit upstream_questions 1001"}, 2, []string{"1001 is out of range", "upstream_questions 16..1000"}},
		{[]string{"limit retries 11"}, 2, []string{"11 is out of range", "retries 0..10"}},
		{[]string{"limit in_flight x"}, 2, []string{`"x" is not a whole number`, "in_flight 16.."}},
		{[]string{"limit waiting 0"}, 2, []string{"0 is out of range", "waiting 1.."}},
		{[]string{"limit retries 1", "limit waiting 10", "limit retries 2"}, 4, []string{"retries is there twice"}},
		{[]string{"aggressive_nsec nsec3"}, 2, []string{`"nsec3" is none of them`, "`off`, `nsec` or `all`"}},
		{[]string{"aggressive_nsec"}, 2, []string{"wrong number of values"}},
		{[]string{"edns_size 511"}, 2, []string{"511 is out of range", "512 to 4096"}},
		{[]string{"edns_size 4097"}, 2, []string{"4097 is out of range", "512 to 4096"}},
		{[]string{"edns_size big"}, 2, []string{`"big" is not a whole number`, "512 to 4096"}},
		{[]string{"serve_stale 1h"}, 2, []string{`"1h" is out of range`, "nothing, which is 24h, or", "24h to 72h"}},
		{[]string{"serve_stale 73h"}, 2, []string{`"73h" is out of range`, "serve_stale [DURATION]"}},
		{[]string{"serve_stale on"}, 2, []string{`"on" is not a duration with its unit`, "24h to 72h"}},
		{[]string{"serve_stale 24h 48h"}, 2, []string{"wrong number of values", "24h to 72h"}},
		{[]string{"ignore_cd on", "serve_stole 1h"}, 3, []string{`no option "serve_stole"`, "it has upstream,",
			"edns_size"}},
	} {
		_, err := read(t, tt.lines...)
		if err == nil {
			t.Errorf("%q is accepted", tt.lines)
			continue
		}
		for _, want := range append(tt.want, fmt.Sprintf("Testfile:%d ", tt.at)) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: the error lacks %q: %v", tt.lines, want, err)
			}
		}
	}
}

// TestMalformedDirective: the directive stands once, without values.
func TestMalformedDirective(t *testing.T) {
	for input, want := range map[string][]string{
		"danelaw on": {"Testfile:1", `"on"`, "danelaw { ... }"},
		"danelaw { \n sha1 verify \n}\n\ndanelaw": {"Testfile:5", "twice", "Testfile:1"},
	} {
		_, err := parse(caddy.NewTestController("dns", input))
		for _, want := range want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: the error lacks %q: %v", input, want, err)
			}
		}
	}
}

// TestEveryOptionIsTested: no option is without a good and a malformed line above.
func TestEveryOptionIsTested(t *testing.T) {
	source, err := os.ReadFile("setup_test.go")
	if err != nil {
		t.Fatal(err)
	}
	good, bad, _ := strings.Cut(string(source), "func TestMalformedOptions")
	for _, o := range options {
		if o.name == "upstream_ca" { // a good one needs a file, see TestFiles
			continue
		}
		if line := regexp.MustCompile(`"` + o.name + `\b`); !line.MatchString(good) || !line.MatchString(bad) {
			t.Errorf("option %s is not tested", o.name)
		}
	}
}

// TestFiles: what options name is read, relative to root, and their order does not matter.
func TestFiles(t *testing.T) {
	anchors := filepath.Join(t.TempDir(), "anchors")
	content := "example. DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118\n" // SHA-1 throughout
	if err := os.WriteFile(anchors, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := read(t, "trust_anchor "+anchors, "sha1 verify", "upstream_ca testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.config.Anchors["example."]) != 1 || len(s.config.Anchors) != 1 {
		t.Errorf("anchors are %v, want that of the file alone", s.config.Anchors)
	}
	if s.config.RootCAs == nil {
		t.Error("upstream_ca is not used")
	}
	if s, err = read(t, "trust_anchor embedded "+anchors, "sha1 verify"); err != nil {
		t.Fatal(err)
	}
	if want := len(trustanchors.Embedded()) + 1; len(s.config.Anchors) != want {
		t.Errorf("anchors are %v, want both", s.config.Anchors)
	}
	if err := os.WriteFile(anchors, []byte("."+strings.TrimPrefix(content, "example.")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = read(t, "trust_anchor "+anchors); err == nil || !strings.Contains(err.Error(), "Testfile:2") ||
		!strings.Contains(err.Error(), anchors) {
		t.Errorf("an anchor of the root that is supported with sha1 verify only: %v (T-15)", err)
	}
}

// documented returns the options that a text has in its danelaw block, commented out (#option, without space) or not.
func documented(text string) (names []string) {
	block := regexp.MustCompile(`(?ms)^\s*danelaw \{$(.*?)^\s*\}$`).FindStringSubmatch(text)
	if block == nil {
		return nil
	}
	for _, line := range regexp.MustCompile(`(?m)^\s*#?(\w+)`).FindAllStringSubmatch(block[1], -1) {
		names = append(names, line[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestDocumentation: parser, README.md and Corefile.example know the same options.
func TestDocumentation(t *testing.T) {
	var want []string
	for _, o := range options {
		want = append(want, o.name)
	}
	slices.Sort(want)
	for _, file := range []string{"README.md", "../../Corefile.example"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := documented(string(text)); !slices.Equal(got, want) {
			t.Errorf("%s has the options\n%v, the parser\n%v", file, got, want)
		}
	}
}

// TestREADMEOptions: README.md gives each option's values as the parser's errors do, and every limit and metric.
func TestREADMEOptions(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		if !regexp.MustCompile(`(?m)^    ` + regexp.QuoteMeta(o.name+" "+o.args) + `$`).Match(readme) {
			t.Errorf("README.md lacks the line %q", o.name+" "+o.args)
		}
		if !strings.Contains(string(readme), "\n* `"+o.name+"`") {
			t.Errorf("README.md does not describe %s", o.name)
		}
	}
	for _, l := range limits {
		if !strings.Contains(string(readme), "`"+l.name+"`") {
			t.Errorf("README.md does not describe the limit %s", l.name)
		}
	}
}
