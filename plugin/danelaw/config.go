package danelaw

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/reuse"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

// Config is what a Handler is made of, with a field for each option of the Corefile. Start from [Defaults]; Anchors,
// and Routes or Next, have to be added.
type Config struct {
	// Block names the server block in metrics and tells its memory from that of others: a Handler with the same Block
	// and the same judgement takes over what the one before it remembers.
	Block string
	Next  plugin.Handler   // answers private zones, and everything that no route covers; may be nil
	Clock func() time.Time // nil: time.Now

	Routes  []upstream.Route
	RootCAs *x509.CertPool // for upstreams over TLS and HTTPS; nil: the system's

	Anchors        trustanchors.Set
	NTAs           []NegativeAnchor
	State          string   // a directory for what is to outlive a restart: states of trust anchors; "" for none
	Signal         bool     // tell the servers of anchor points which keys are trusted (T-16)
	Private        []string // canonical zone names: passed to Next as they are
	Policy         dnssec.Policy
	ValidationTime time.Time // judge as if it were then; zero: now

	AllowClients []netip.Prefix // all others are refused
	ADClients    []netip.Prefix // who may receive AD (V-78)
	IgnoreCD     bool

	CacheSize      int64         // octets
	CacheFile      string        // what is to outlive the process of it; "": nothing (C-18)
	SharedCache    *SharedCache  // nil: there is none (C-18)
	MinTTL, MaxTTL time.Duration // of the cache (C-5, C-6)
	ServeStale     time.Duration // after their TTL, where upstreams do not answer; 0: never (C-13)
	Aggressive     reuse.Use
	Prefetch       bool // what an MTA asks next, and what ends soon (C-14)

	Timeout           time.Duration // L-10
	SignatureChecks   int           // L-1
	UpstreamQuestions int           // L-9
	Retries           int           // V-14
	InFlight          int           // L-13
	Waiting           int           // L-13
	EDNSSize          uint16        // S-1, octets
	FastPath          bool          // what is cached passes by CoreDNS, where that can be

	processorsShort func() bool // as in resolve.Config

	Notify []string // a program and its arguments, run for alarms; none: nothing is run

	// PolicyService is where the policy service answers, unix:PATH or an address; "": there is none.
	PolicyService string
	PolicyRoots   *x509.CertPool // for hosts of policies, and mail hosts that watch looks at; nil: the system's
	// PolicyDial, if set, connects to them in the place of the system.
	PolicyDial func(ctx context.Context, network, address string) (net.Conn, error)

	Watch []string // canonical names of own domains, which are looked at regularly
	// WatchDial, if set, connects to their mail hosts in the place of the system.
	WatchDial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Defaults returns the configuration of a Corefile that says nothing.
func Defaults() Config {
	return Config{
		Clock:   time.Now,
		Anchors: trustanchors.Embedded(), Signal: true, Policy: dnssec.DefaultPolicy(),
		AllowClients: loopback(), ADClients: loopback(),
		CacheSize: ours().cache, MaxTTL: 24 * time.Hour, Prefetch: true, Aggressive: reuse.NSEC,
		Timeout: 4500 * time.Millisecond, SignatureChecks: 128, UpstreamQuestions: 100, Retries: 2,
		InFlight: ours().inFlight, Waiting: 1000, EDNSSize: 1232, FastPath: true,
	}
}

func loopback() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// apart returns the zones that are private or have upstreams of their own, which may know other names than the public
// zones above.
func (c Config) apart() map[string]bool {
	zones := c.routed(c.Private...)
	delete(zones, ".")
	return zones
}

// routed returns the zones that have upstreams of their own, and more.
func (c Config) routed(more ...string) zoneSet {
	zones := zoneSet{}
	zones.add(more...)
	for _, r := range c.Routes {
		zones.add(dns.CanonicalName(r.From))
	}
	return zones
}

// missing returns an error if something is missing without which nothing can be answered.
func (c Config) missing() error {
	switch {
	case c.Next == nil && len(c.Routes) == 0:
		return errors.New("there is nobody to ask: add `upstream . ADDRESS...`, or a plugin such as " +
			"forward below danelaw")
	case c.Next == nil && len(c.Private) > 0:
		return fmt.Errorf("private %s needs a plugin below danelaw that answers it, such as forward", c.Private[0])
	case len(c.Anchors) == 0:
		return errors.New("there is no trust anchor: add `trust_anchor embedded`")
	}
	if root := c.Policy.Anchor(".", c.Anchors["."]); len(c.Anchors["."]) > 0 && root.Cut != dnssec.SignedCut { // T-15
		return fmt.Errorf("%s: add `trust_anchor embedded`", root.Cause.Text)
	}
	covered := c.routed()
	for zone := range c.Anchors {
		if c.Next == nil && !covered.cover(zone) {
			return fmt.Errorf("there is nobody to ask for the trust anchor of %s: add `upstream %[1]s ADDRESS...`, "+
				"or a plugin such as forward below danelaw", zone)
		}
	}
	return nil
}

// lasting reports whether anything of the cache is kept beyond the process.
func (c Config) lasting() bool { return c.CacheFile != "" || c.SharedCache != nil }

// judgement spells out everything by which cached verdicts would differ, and size and kind of the cache, which cannot
// change in use.
func (c Config) judgement() string {
	memory := fmt.Sprint(c.CacheSize, c.lasting())
	parts := []string{c.Block, memory, fmt.Sprintf("%+v", c.Policy), c.ValidationTime.String()}
	for _, set := range c.Anchors {
		for _, ds := range set {
			parts = append(parts, ds.String())
		}
	}
	for _, zone := range c.Private {
		parts = append(parts, "private "+zone)
	}
	for _, a := range c.NTAs {
		parts = append(parts, "negative "+a.Zone)
	}
	slices.Sort(parts[4:])
	return strings.Join(parts, "\n")
}
