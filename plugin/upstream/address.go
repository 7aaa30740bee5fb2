package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Transport is the way by which an upstream is asked.
type Transport uint8

// The transports that are built.
const (
	Plain Transport = iota // UDP, and TCP where UDP does not do
	TLS                    // RFC 7858
	HTTPS                  // RFC 8484
)

// Address says where an upstream is and how it is asked.
type Address struct {
	Transport Transport
	Server    netip.AddrPort
	Name      string // the name that its certificate must hold; TLS and HTTPS only
	Path      string // the path of the service, with its leading slash; HTTPS only
}

// Parse reads an address in the form of the Corefile: ADDR[:PORT], tls://ADDR[:PORT]%NAME or https://ADDR[:PORT]/PATH%NAME,
// IPv6 in brackets. The error names the value and says what to write instead.
func Parse(to string) (Address, error) {
	a, err := parse(to)
	if err != nil {
		return Address{}, fmt.Errorf("upstream %q: %w", to, err)
	}
	return a, nil
}

func parse(to string) (Address, error) {
	scheme, rest, found := strings.Cut(to, "://")
	if !found {
		server, err := parseServer(to, 53)
		return Address{Server: server}, err
	}
	switch scheme {
	case "tls":
		return parseTLS(rest)
	case "https":
		return parseHTTPS(rest)
	case "quic": // S-11
		return Address{}, errors.New("DNS over QUIC is not built; use tls:// or https://")
	}
	return Address{}, fmt.Errorf("unknown scheme %q; write ADDR[:PORT], tls://ADDR[:PORT]%%NAME or https://ADDR[:PORT]/PATH%%NAME", scheme)
}

func parseTLS(rest string) (Address, error) {
	rest, name, err := cutName(rest)
	if err != nil {
		return Address{}, err
	}
	server, err := parseServer(rest, 853)
	return Address{Transport: TLS, Server: server, Name: name}, err
}

func parseHTTPS(rest string) (Address, error) {
	rest, name, err := cutName(rest)
	if err != nil {
		return Address{}, err
	}
	host, path, found := strings.Cut(rest, "/")
	if !found || path == "" {
		return Address{}, errors.New("the path is missing; most services use /dns-query, as in https://9.9.9.9/dns-query%dns.quad9.net")
	}
	server, err := parseServer(host, 443)
	if err != nil {
		return Address{}, err
	}
	a := Address{Transport: HTTPS, Server: server, Name: name, Path: "/" + path}
	if _, err := url.Parse(a.url()); err != nil || strings.ContainsAny(path, "{}") {
		return Address{}, fmt.Errorf("the path %q is not one of a URL; leave out templates such as {?dns}", a.Path)
	}
	return a, nil
}

// cutName takes the name off that the certificate must hold: without it there is no strict profile (RFC 8310 section 5).
func cutName(s string) (rest, name string, err error) {
	i := strings.LastIndexByte(s, '%')
	if i < strings.IndexByte(s, ']') { // the % of an IPv6 zone
		i = -1
	}
	if i < 0 || i == len(s)-1 {
		return "", "", errors.New("the name that its certificate must hold is missing; append it, as in tls://9.9.9.9%dns.quad9.net")
	}
	name = strings.TrimSuffix(s[i+1:], ".")
	if name == "" || strings.ContainsAny(name, "/:[]@ ") && net.ParseIP(name) == nil {
		return "", "", fmt.Errorf("%q is not a host name; append the name that its certificate must hold after the %%", name)
	}
	return s[:i], name, nil
}

func parseServer(s string, port uint16) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Is6() {
		return netip.AddrPort{}, fmt.Errorf("write an IPv6 address in brackets: [%s]", s)
	}
	if strings.HasSuffix(s, "]") || !strings.Contains(s, ":") {
		s = s + ":" + strconv.Itoa(int(port))
	}
	server, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not an IP address with or without a port; a name cannot stand here, as it would have to be resolved first", s)
	}
	server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
	if server.Port() == 0 || server.Addr().IsUnspecified() || server.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%s cannot be asked; give the address and port of one server", server)
	}
	return server, nil
}

// String returns the address in the form that [Parse] reads, the port always included. It names the upstream in
// sentences, metrics and [chain.Try].
func (a Address) String() string {
	switch a.Transport {
	case TLS:
		return "tls://" + a.Server.String() + "%" + a.Name
	case HTTPS:
		return "https://" + a.Server.String() + a.Path + "%" + a.Name
	default:
		return a.Server.String()
	}
}

// url is the service's URL by name; the address to connect to is configured.
func (a Address) url() string {
	host := a.Name
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := a.Server.Port(); port != 443 {
		host += ":" + strconv.Itoa(int(port))
	}
	return "https://" + host + a.Path
}
