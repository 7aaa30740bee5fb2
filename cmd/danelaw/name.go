package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"
)

// parseName reads a domain name as people write it, with letters of any script (RFC 5891).
func parseName(text string) (string, error) {
	if err := notAName(text); err != nil {
		return "", err
	}
	name, err := aLabels(text)
	if err != nil {
		return "", fmt.Errorf("%q is not a domain name: %w", text, err)
	}
	odd := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if _, ok := dns.IsDomainName(name); !ok || name == "" || strings.IndexFunc(name, odd) >= 0 {
		return "", fmt.Errorf("%q is not a domain name", text)
	}
	return dns.CanonicalName(name), nil
}

// notAName tells of what is often given in the place of a domain: a URL, a mail address, an address literal, a host
// with a port.
func notAName(text string) error {
	if u, err := url.Parse(text); err == nil && u.Host != "" {
		return fmt.Errorf("%q is a URL; give the domain alone, %q", u.Redacted(), u.Hostname())
	}
	if _, domain, ok := strings.Cut(text, "@"); ok {
		return fmt.Errorf("%q is not a domain name; give the domain alone, %q", text, domain)
	}
	if a, ok := addressLiteral(text); ok {
		reverse, err := dns.ReverseAddr(a.String())
		if err != nil {
			return fmt.Errorf("%q is an address, not a domain name", text)
		}
		return fmt.Errorf("%q is an address, not a domain name: mail to an address has no MX and no TLSA; its "+
			"name in the DNS is %s", text, reverse)
	}
	if domain, rest, ok := strings.Cut(text, "/"); ok && !strings.HasSuffix(strings.TrimSuffix(text, "."), ".arpa") {
		// RFC 2317 has it
		return fmt.Errorf("%q is not a domain name; give the domain alone, %q, without /%s", text, domain, rest)
	}
	if m := withPort.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%q has a port; give the domain alone, %q", text, m[1])
	}
	return nil
}

// withPort is a host with a port.
var withPort = regexp.MustCompile(`^(.+):\d+$`)

// addressLiteral reads an address, as it is or as mail writes it: [192.0.2.1], [IPv6:2001:db8::1] (RFC 5321 section
// 4.1.3).
func addressLiteral(text string) (netip.Addr, bool) {
	text = strings.TrimSuffix(text, ".")
	if inner, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inner, "]")
		if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
			text = text[5:]
		}
	}
	a, err := netip.ParseAddr(text)
	return a.WithZone(""), err == nil
}

// dots are those that people write between labels (RFC 5895 section 2).
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

// aLabels returns the name with each label that is not ASCII in its form for the DNS. Labels are taken alone: those
// beside may begin with an underscore, which no host name does.
func aLabels(text string) (string, error) {
	labels := strings.Split(dots.Replace(text), ".")
	for i, label := range labels {
		if strings.IndexFunc(label, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
			continue
		}
		a, err := idna.Lookup.ToASCII(label)
		if err != nil {
			return "", errors.New(strings.TrimPrefix(err.Error(), "idna: "))
		}
		labels[i] = a
	}
	return strings.Join(labels, "."), nil
}
