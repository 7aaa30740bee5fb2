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
	{"negative_trust_anchor", "ZONE DURATION [keep] [REASON]",
		"a domain name, a duration from 1s to 168h, and perhaps `keep` and a reason such as \"told them\"", true,
		addNegative},
	{"private", "ZONE...", "domain names or networks, but not the root", true, setPrivate},
	{"sha1", "unsupported|verify", "`unsupported` or `verify`", false, setSHA1},
	{"nsec3_iterations", "N", "a number from 0 to 150", false,
		integer(0, 150, func(s *setting) *int { return &s.config.Policy.NSEC3Iterations })}, // V-61
	{"clock_skew", "DURATION", "a duration from 0s to 3600s", false,
		duration(0, time.Hour, func(s *setting) *time.Duration { return &s.config.Policy.ClockSkew })}, // V-20
	{"validation_time", "RFC3339", "a time such as 2026-11-20T04:00:00Z", false, setValidationTime},
	{"allow_clients", "CIDR...", "networks or addresses such as 127.0.0.0/8 ::1", true,
		prefixes(func(s *setting) *[]netip.Prefix { return &s.config.AllowClients })},
	{"ad_clients", "CIDR...", "networks or addresses such as 127.0.0.0/8 ::1", true,
		prefixes(func(s *setting) *[]netip.Prefix { return &s.config.ADClients })},
	{"ignore_cd", "on|off", "`on` or `off`", false, onOff(func(s *setting) *bool { return &s.config.IgnoreCD })},
	{"cache", "SIZE", "a size from 1MiB to 1TiB such as 64MiB", false, setCache},
	{"cache_ttl", "MIN MAX",
		"two durations, the first from 0s to 60s, the second from 1s to 168h, such as 0s 24h", false, setCacheTTL},
	{"prefetch", "on|off", "`on` or `off`", false, onOff(func(s *setting) *bool { return &s.config.Prefetch })},
	{"aggressive_nsec", "off|nsec|all", "`off`, `nsec` or `all`", false, setAggressive}, // C-9
	{"timeout", "DURATION", "a duration from 1s to 30s", false,
		duration(time.Second, 30*time.Second, func(s *setting) *time.Duration { return &s.config.Timeout })}, // L-10
	{"limit", "NAME N", limitNames(), true, setLimit},
	{"control", "PATH|off", "the path of a Unix socket, or `off`", false, setControl},
	{"edns_size", "N", "a number from 512 to 4096", false, setEDNSSize},
	{"watch", "DOMAIN...", "domains of your own that get mail, such as example.org", true, setWatch},
}

// limit is one NAME of the option limit.
type limit struct {
	name        string
	least, most int
	value       func(s *setting) *int
}

// The bounds keep what a limit is for: no legitimate chain needs fewer than the least, and above the most it protects
// nobody (L-1, L-9, L-13).
var limits = []limit{
	{"signature_checks", 16, 1024, func(s *setting) *int { return &s.config.SignatureChecks }},
	{"upstream_questions", 16, 1000, func(s *setting) *int { return &s.config.UpstreamQuestions }},
	{"retries", 0, 10, func(s *setting) *int { return &s.config.Retries }},
	{"in_flight", leastInFlight, 1 << 20, func(s *setting) *int { return &s.config.InFlight }},
	{"waiting", 1, 1 << 20, func(s *setting) *int { return &s.config.Waiting }},
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

func number(arg string, least, most int) (int, error) {
	n, err := strconv.Atoi(arg)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a whole number", arg)
	case n < least || n > most:
		return 0, fmt.Errorf("%d is out of range", n)
	}
	return n, nil
}

func integer(least, most int, field func(*setting) *int) func(*setting, []string) error {
	return func(s *setting, args []string) error {
		arg, err := one(args)
		if err == nil {
			*field(s), err = number(arg, least, most)
		}
		return err
	}
}

func period(arg string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(arg)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a duration with its unit", arg)
	case d < least || d > most:
		return 0, fmt.Errorf("%q is out of range", arg)
	}
	return d, nil
}

func duration(least, most time.Duration, field func(*setting) *time.Duration) func(*setting, []string) error {
	return func(s *setting, args []string) error {
		arg, err := one(args)
		if err == nil {
			*field(s), err = period(arg, least, most)
		}
		return err
	}
}

// choose returns whether the only value is yes; it must be one of the two.
func choose(args []string, yes, no string) (bool, error) {
	arg, err := one(args)
	if err == nil && arg != yes && arg != no {
		err = fmt.Errorf("%q is neither", arg)
	}
	return arg == yes, err
}

func setSHA1(s *setting, args []string) (err error) {
	s.config.Policy.SHA1, err = choose(args, "verify", "unsupported")
	return err
}

func onOff(field func(*setting) *bool) func(*setting, []string) error {
	return func(s *setting, args []string) (err error) {
		*field(s), err = choose(args, "on", "off")
		return err
	}
}

func setAggressive(s *setting, args []string) error {
	arg, err := one(args)
	if err != nil {
		return err
	}
	uses := map[string]reuse.Use{
		"off": reuse.Off, "nsec": reuse.NSEC, "all": reuse.All,
	}
	use, ok := uses[arg]
	if !ok {
		return fmt.Errorf("%q is none of them", arg)
	}
	s.config.Aggressive = use
	return nil
}

func setValidationTime(s *setting, args []string) error {
	arg, err := one(args)
	if err != nil {
		return err
	}
	if s.config.ValidationTime, err = time.Parse(time.RFC3339, arg); err != nil {
		return fmt.Errorf("%q is not a time of RFC 3339", arg)
	}
	return nil
}

func setEDNSSize(s *setting, args []string) error {
	arg, err := one(args)
	if err != nil {
		return err
	}
	n, err := number(arg, 512, 4096) // S-1
	s.config.EDNSSize = uint16(n)
	return err
}

// prefixes reads networks. The first line of the option replaces the default, further ones add.
func prefixes(field func(*setting) *[]netip.Prefix) func(*setting, []string) error {
	return func(s *setting, args []string) error {
		if len(args) == 0 {
			return errArgs
		}
		if s.first() {
			*field(s) = nil
		}
		for _, arg := range args {
			p, err := parsePrefix(arg)
			if err != nil {
				return err
			}
			*field(s) = append(*field(s), p)
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

// setControl reads where the control socket is; "" is off.
func setControl(s *setting, args []string) error {
	path, err := one(args)
	if err == nil && path != "off" {
		s.control = s.path(path)
	}
	return err
}

func addNegative(s *setting, args []string) (err error) {
	if len(args) < 2 {
		return errArgs
	}
	a := NegativeAnchor{Zone: dns.CanonicalName(args[0])}
	if a.Life, err = period(args[1], time.Second, maxNegativeLife); err != nil { // T-18
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
	for _, other := range s.config.Negative {
		if other.Zone == a.Zone {
			return fmt.Errorf("%s is there twice", a.Zone)
		}
	}
	s.at["negative_trust_anchor "+a.Zone] = s.here
	s.config.Negative = append(s.config.Negative, a)
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

func setCache(s *setting, args []string) error {
	arg, err := one(args)
	if err != nil {
		return err
	}
	s.config.CacheSize, err = parseSize(arg)
	return err
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
	if s.config.MinTTL, err = period(args[0], 0, time.Minute); err != nil { // C-6
		return err
	}
	s.config.MaxTTL, err = period(args[1], time.Second, 7*24*time.Hour) // C-5
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
	n, err := number(args[1], limits[i].least, limits[i].most)
	*limits[i].value(s) = n
	return err
}
