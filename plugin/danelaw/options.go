package danelaw

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

// option is one option of the directive.
type option struct {
	name    string
	args    string // as README.md has them
	allowed string // what an error tells to write
	repeats bool   // it may stand more than once, and adds up
	set     func(s *setting, args []string) error
}

// options are all there are: the parser reads this table, and a test holds README.md and Corefile.example against it.
var options = []option{
	{"upstream", "FROM TO...",
		"a domain name, then addresses as ADDR[:PORT], tls://ADDR[:PORT]%NAME or https://ADDR[:PORT]/PATH%NAME", true,
		setUpstream},
	{"upstream_ca", "FILE", "a file of PEM certificates", false, setUpstreamCA},
	{"trust_anchor", "FILE|embedded...", "`embedded`, or files of DS or DNSKEY records or root-anchors.xml", true,
		addAnchors},
	{"trust_anchor_state", "DIR", "a directory that danelaw may write into", false, setState},
	{"trust_anchor_signal", "on|off", "`on` or `off`", false,
		single(func(c *Config) *bool { return &c.Signal }, onOff)},
	{"negative_trust_anchor", "ZONE DURATION [keep] [REASON]",
		"a domain name, a duration from 1s to 168h, and perhaps `keep` and a reason such as \"told them\"", true,
		readNTA},
	{"private", "ZONE...", "domain names or networks, but not the root", true, setPrivate},
	{"sha1", "unsupported|verify", "`unsupported` or `verify`", false,
		single(func(c *Config) *bool { return &c.Policy.SHA1 },
			word(map[string]bool{"unsupported": false, "verify": true}))},
	{"nsec3_iterations", "N", "a number from 0 to 150", false,
		single(func(c *Config) *int { return &c.Policy.NSEC3Iterations }, integer(0, 150))}, // V-61
	{"clock_skew", "DURATION", "a duration from 0s to 3600s", false,
		single(func(c *Config) *time.Duration { return &c.Policy.ClockSkew }, duration(0, time.Hour))}, // V-20
	{"validation_time", "RFC3339", "a time such as 2026-11-20T04:00:00Z", false,
		single(func(c *Config) *time.Time { return &c.ValidationTime }, instant)},
	{"allow_clients", "CIDR...", "networks or addresses such as 127.0.0.0/8 ::1", true,
		prefixes(func(c *Config) *[]netip.Prefix { return &c.AllowClients })},
	{"ad_clients", "CIDR...", "networks or addresses such as 127.0.0.0/8 ::1", true,
		prefixes(func(c *Config) *[]netip.Prefix { return &c.ADClients })},
	{"ignore_cd", "on|off", "`on` or `off`", false, single(func(c *Config) *bool { return &c.IgnoreCD }, onOff)},
	{"cache", "SIZE", "a size from 1MiB to 1TiB such as 64MiB", false,
		single(func(c *Config) *int64 { return &c.CacheSize }, parseSize)},
	{"cache_ttl", "MIN MAX",
		"two durations, the first from 0s to 60s, the second from 1s to 168h, such as 0s 24h", false, setCacheTTL},
	{"cache_file", "FILE", "the path of a file in a directory of danelaw's own, such as /var/lib/danelaw/cache",
		false, setCacheFile},
	{"shared_cache", "URL [PASSWORDFILE]",
		"redis://HOST[:PORT], rediss://HOST[:PORT] or unix:///PATH, and perhaps the file of its password", false,
		setSharedCache},
	{"serve_stale", "[DURATION]", "nothing, which is 24h, or a duration from 24h to 72h", false, setServeStale}, // C-13
	{"prefetch", "on|off", "`on` or `off`", false, single(func(c *Config) *bool { return &c.Prefetch }, onOff)},
	{"fastpath", "on|off", "`on` or `off`", false, single(func(c *Config) *bool { return &c.FastPath }, onOff)},
	{"aggressive_nsec", "off|nsec|all", "`off`, `nsec` or `all`", false, // C-9
		single(func(c *Config) *reuse.Use { return &c.Aggressive },
			word(map[string]reuse.Use{"off": reuse.Off, "nsec": reuse.NSEC, "all": reuse.All}))},
	{"timeout", "DURATION", "a duration from 1s to 30s", false,
		single(func(c *Config) *time.Duration { return &c.Timeout }, duration(time.Second, 30*time.Second))}, // L-10
	{"limit", "NAME N", limitNames(), true, setLimit},
	{"control", "PATH|off", "the path of a Unix socket, or `off`", false, setControl},
	{"edns_size", "N", "a number from 512 to 4096", false, // S-1
		single(func(c *Config) *uint16 { return &c.EDNSSize }, integer[uint16](512, 4096))},
	{"status", "ADDRESS", "a loopback address with a port such as 127.0.0.1:8053", false, setStatus},
	{"policy", "ADDRESS|unix:PATH",
		"`unix:` and the path of a socket such as unix:/run/danelaw/policy.sock, or an IP address with a port such " +
			"as 127.0.0.1:8461", false, setPolicyService},
	{"notify", "COMMAND [ARGUMENT...]", "the absolute path of a program, and perhaps arguments", false, setNotify},
	{"watch", "DOMAIN...", "domains of your own that get mail, such as example.org", true, setWatch},
}

// limit is one NAME of the option limit.
type limit struct {
	name        string
	least, most int
	value       func(*Config) *int
}

// The bounds keep what a limit is for: no legitimate chain needs fewer than the least, and above the most it protects
// nobody (L-1, L-9, L-13).
var limits = []limit{
	{"signature_checks", 16, 1024, func(c *Config) *int { return &c.SignatureChecks }},
	{"upstream_questions", 16, 1000, func(c *Config) *int { return &c.UpstreamQuestions }},
	{"retries", 0, 10, func(c *Config) *int { return &c.Retries }},
	{"in_flight", leastInFlight, 1 << 20, func(c *Config) *int { return &c.InFlight }},
	{"waiting", 1, 1 << 20, func(c *Config) *int { return &c.Waiting }},
}

const leastInFlight = 16

func limitNames() string {
	var names []string
	for _, l := range limits {
		names = append(names, fmt.Sprintf("%s %d..%d", l.name, l.least, l.most))
	}
	return "a name and a number: " + strings.Join(names, ", ")
}

func optionNamed(name string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

func optionNames() string {
	var names []string
	for _, o := range options {
		names = append(names, o.name)
	}
	return strings.Join(names, ", ")
}

// errArgs is the error of an option with too few or too many values.
var errArgs = errors.New("wrong number of values")

// one returns the only value.
func one(args []string) (string, error) {
	if len(args) != 1 {
		return "", errArgs
	}
	return args[0], nil
}

// single sets a field to what the only value reads as.
func single[T any](field func(*Config) *T, read func(string) (T, error)) func(*setting, []string) error {
	return func(s *setting, args []string) error {
		arg, err := one(args)
		if err == nil {
			*field(&s.config), err = read(arg)
		}
		return err
	}
}

func integer[T int | uint16](least, most T) func(string) (T, error) {
	return func(arg string) (T, error) {
		n, err := strconv.Atoi(arg)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%q is not a whole number", arg)
		case n < int(least) || n > int(most):
			return 0, fmt.Errorf("%d is out of range", n)
		}
		return T(n), nil
	}
}

func duration(least, most time.Duration) func(string) (time.Duration, error) {
	return func(arg string) (time.Duration, error) {
		d, err := time.ParseDuration(arg)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%q is not a duration with its unit", arg)
		case d < least || d > most:
			return 0, fmt.Errorf("%q is out of range", arg)
		}
		return d, nil
	}
}

// word reads one of the words that stand for a value.
func word[T any](all map[string]T) func(string) (T, error) {
	none := "none of them"
	if len(all) == 2 {
		none = "neither"
	}
	return func(arg string) (value T, err error) {
		value, ok := all[arg]
		if !ok {
			err = fmt.Errorf("%q is %s", arg, none)
		}
		return value, err
	}
}

var onOff = word(map[string]bool{"on": true, "off": false})

func instant(arg string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, arg)
	if err != nil {
		err = fmt.Errorf("%q is not a time of RFC 3339", arg)
	}
	return t, err
}

// prefixes reads networks. The first line of the option replaces the default, further ones add.
func prefixes(field func(*Config) *[]netip.Prefix) func(*setting, []string) error {
	return func(s *setting, args []string) error {
		if len(args) == 0 {
			return errArgs
		}
		all := field(&s.config)
		if s.first() {
			*all = nil
		}
		for _, arg := range args {
			p, err := parsePrefix(arg)
			if err != nil {
				return err
			}
			*all = append(*all, p)
		}
		return nil
	}
}

func parsePrefix(arg string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(arg); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(arg)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is not a network", arg)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is an IPv4 network in the form of IPv6, write it as IPv4", arg)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits set beyond its mask, write %s", arg, p.Masked())
	}
	return p, nil
}

func setUpstream(s *setting, args []string) error {
	if len(args) < 2 {
		return errArgs
	}
	from, err := parseZones(args[:1])
	if err != nil {
		return err
	}
	var to []upstream.Address
	for _, arg := range args[1:] {
		a, err := upstream.Parse(arg)
		if err != nil {
			return err
		}
		if slices.Contains(to, a) {
			return fmt.Errorf("%q is there twice", upstream.Redact(arg))
		}
		to = append(to, a)
	}
	for _, zone := range from {
		if slices.ContainsFunc(s.config.Routes, func(r upstream.Route) bool { return r.From == zone }) {
			return fmt.Errorf("%s has its upstreams already, put all into one line", zone)
		}
		s.at["upstream "+zone] = s.here
		s.config.Routes = append(s.config.Routes, upstream.Route{From: zone, To: to})
	}
	return nil
}

func setState(s *setting, args []string) error {
	dir, err := one(args)
	if err == nil {
		s.config.State = s.path(dir)
	}
	return err
}

func setCacheFile(s *setting, args []string) error {
	path, err := one(args)
	if err == nil {
		s.config.CacheFile = s.path(path)
	}
	return err
}

// setServeStale reads for how long answers may be stale (RFC 8767 section 5).
func setServeStale(s *setting, args []string) error {
	const day = 24 * time.Hour
	if len(args) == 0 {
		args = []string{day.String()}
	}
	return single(func(c *Config) *time.Duration { return &c.ServeStale }, duration(day, 3*day))(s, args)
}

// setControl reads where the control socket is; "" is off.
func setControl(s *setting, args []string) error {
	path, err := one(args)
	if err == nil && path != "off" {
		s.control = s.path(path)
	}
	return err
}

func readNTA(s *setting, args []string) (err error) {
	if len(args) < 2 {
		return errArgs
	}
	a := NegativeAnchor{Zone: dns.CanonicalName(args[0])}
	if a.Life, err = duration(time.Second, maxNTALife)(args[1]); err != nil { // T-18
		return err
	}
	reason := args[2:]
	if a.Keep = len(reason) > 0 && reason[0] == "keep"; a.Keep {
		reason = reason[1:]
	}
	a.Reason = strings.Join(reason, " ")
	if err := a.check(); err != nil {
		return err
	}
	if slices.ContainsFunc(s.config.NTAs, func(other NegativeAnchor) bool { return other.Zone == a.Zone }) {
		return fmt.Errorf("%s is there twice", a.Zone)
	}
	s.at["negative_trust_anchor "+a.Zone] = s.here
	s.config.NTAs = append(s.config.NTAs, a)
	return nil
}

func setPrivate(s *setting, args []string) error {
	zones, err := parseZones(args)
	if err != nil {
		return err
	}
	for _, zone := range zones {
		if zone == "." {
			return errors.New(`"." would leave nothing to validate`)
		}
		if slices.Contains(s.config.Private, zone) {
			return fmt.Errorf("%s is there twice", zone)
		}
		s.config.Private = append(s.config.Private, zone)
	}
	return nil
}

// parseZones reads domain names, and networks as the zones of their reverse names.
func parseZones(args []string) (zones []string, err error) {
	for _, arg := range args {
		hosts, port, err := plugin.SplitHostPort(arg)
		if err != nil || port != "" || strings.Contains(arg, ":") && !strings.Contains(arg, "/") {
			return nil, fmt.Errorf("%q is not a domain name", arg)
		}
		for _, host := range hosts {
			zones = append(zones, plugin.Name(host).Normalize())
		}
	}
	if len(zones) == 0 {
		return nil, errArgs
	}
	return zones, nil
}

var units = []struct {
	suffix string
	octets float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

// parseSize reads octets with a binary unit.
func parseSize(arg string) (int64, error) {
	for _, u := range units {
		if number, ok := strings.CutSuffix(arg, u.suffix); ok {
			n, err := strconv.ParseFloat(number, 64)
			if err != nil || math.IsNaN(n) {
				break
			}
			if n *= u.octets; n < 1<<20 || n > 1<<40 {
				return 0, fmt.Errorf("%q is out of range", arg)
			}
			return int64(n), nil
		}
	}
	return 0, fmt.Errorf("%q is not a number with one of the units KiB, MiB, GiB, TiB", arg)
}

func setCacheTTL(s *setting, args []string) (err error) {
	if len(args) != 2 {
		return errArgs
	}
	if s.config.MinTTL, err = duration(0, time.Minute)(args[0]); err != nil { // C-6
		return err
	}
	s.config.MaxTTL, err = duration(time.Second, 7*24*time.Hour)(args[1]) // C-5
	if err == nil && s.config.MinTTL > s.config.MaxTTL {
		err = fmt.Errorf("the least time %s is more than the greatest, %s", args[0], args[1])
	}
	return err
}

func setLimit(s *setting, args []string) error {
	if len(args) != 2 {
		return errArgs
	}
	i := slices.IndexFunc(limits, func(l limit) bool { return l.name == args[0] })
	if i < 0 {
		return fmt.Errorf("there is no limit %q", args[0])
	}
	if slices.Contains(s.limited, args[0]) {
		return fmt.Errorf("%s is there twice", args[0])
	}
	s.limited = append(s.limited, args[0])
	n, err := integer(limits[i].least, limits[i].most)(args[1])
	*limits[i].value(&s.config) = n
	return err
}
