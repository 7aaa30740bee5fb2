package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
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

// Parse reads an address in the form of the Corefile: ADDR[:PORT], tls://ADDR[:PORT]%NAME or
// https://ADDR[:PORT]/PATH%NAME, IPv6 in brackets. The error names the value and says what to write instead.
func Parse(to string) (Address, error) {
	a, err := parse(to)
	if err != nil {
		return Address{}, fmt.Errorf("upstream %q: %w", redacted(to), err)
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
	case "tls", "https":
	case "quic": // S-11
		return Address{}, errors.New("DNS over QUIC is not built; use tls:// or https://")
	default:
		return Address{}, fmt.Errorf("unknown scheme %q; write ADDR[:PORT], tls://ADDR[:PORT]%%NAME or "+
			"https://ADDR[:PORT]/PATH%%NAME", afterUser(scheme))
	}
	rest, name, err := cutName(rest)
	switch {
	case err != nil:
		return Address{}, err
	case scheme == "https":
		return parseHTTPS(rest, name)
	}
	server, err := parseServer(rest, 853)
	return Address{Transport: TLS, Server: server, Name: name}, err
}

func parseHTTPS(rest, name string) (Address, error) {
	host, path, found := strings.Cut(rest, "/")
	if !found || path == "" {
		return Address{}, errors.New("the path is missing; most services use /dns-query, as in " +
			"https://9.9.9.9/dns-query%dns.quad9.net")
	}
	server, err := parseServer(host, 443)
	if err != nil {
		return Address{}, err
	}
	a := Address{Transport: HTTPS, Server: server, Name: name, Path: "/" + path}
	if _, err := url.Parse(a.url()); err != nil || strings.ContainsAny(path, "{}") {
		return Address{}, errors.New("its path is not one of a URL; leave out templates such as {?dns}")
	}
	return a, nil
}

// cutName takes the name off that the certificate must hold: without it there is no strict profile (RFC 8310 section
// 5).
func cutName(s string) (rest, name string, err error) {
	i := strings.LastIndexByte(s, '%')
	if i < strings.IndexByte(s, ']') { // the % of an IPv6 zone
		i = -1
	}
	if i < 0 || i == len(s)-1 {
		return "", "", errors.New("the name that its certificate must hold is missing; append it, as in " +
			"tls://9.9.9.9%dns.quad9.net")
	}
	name = strings.TrimSuffix(s[i+1:], ".")
	if name == "" || strings.ContainsAny(name, "/:[]@ ") && net.ParseIP(name) == nil {
		return "", "", errors.New("what stands after the last % is not a host name; append the name that its " +
			"certificate must hold after it")
	}
	return s[:i], name, nil
}

func parseServer(s string, port uint16) (netip.AddrPort, error) {
	if strings.Contains(s, "@") {
		return netip.AddrPort{}, errors.New("there is a user or password in it; leave it out, danelaw sends none")
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Is6() {
		return netip.AddrPort{}, fmt.Errorf("write an IPv6 address in brackets: [%s]", s)
	}
	if strings.HasSuffix(s, "]") || !strings.Contains(s, ":") {
		s = s + ":" + strconv.Itoa(int(port))
	}
	server, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not an IP address with or without a port; a name cannot stand "+
			"here, as it would have to be resolved first", redacted(s))
	}
	server = netip.AddrPortFrom(server.Addr().Unmap(), server.Port())
	if server.Port() == 0 || server.Addr().IsUnspecified() || server.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%s cannot be asked; give the address and port of one server", server)
	}
	return server, nil
}

// String names the upstream in logs and metrics: in the form that [Parse] reads, the port always included, but with a
// path that is shortened, as many services make it a credential.
func (a Address) String() string { return a.with(shortened(a.Path)) }

// public names the upstream to clients, in sentences: by its host alone.
func (a Address) public() string { return a.with("") }

func (a Address) with(path string) string {
	switch a.Transport {
	case TLS:
		return "tls://" + a.Server.String() + "%" + a.Name
	case HTTPS:
		return "https://" + a.Server.String() + path + "%" + a.Name
	}
	return a.Server.String()
}

// commonPath is that of services that tell their customers apart by other means, if at all (RFC 8484 has it in its
// examples).
const commonPath = "/dns-query"

// shortened is a path without what may be a credential.
func shortened(path string) string {
	switch {
	case path == "/" || path == commonPath:
		return path
	case strings.HasPrefix(path, commonPath+"/"):
		return commonPath + "/..."
	default:
		return "/..."
	}
}

// hider removes from a text what may be a credential: the path as it is written and as a server reads it, and each part
// of it that is long enough. It is nil if the path has none.
func (a Address) hider() *strings.Replacer {
	const least = 4
	if a.Transport != HTTPS || shortened(a.Path) == a.Path {
		return nil
	}
	read, err := url.PathUnescape(a.Path)
	if err != nil {
		read = a.Path
	}
	pairs := []string{a.Path, shortened(a.Path), read, shortened(a.Path)} // the first that fits counts
	for _, part := range strings.FieldsFunc(a.Path+"/"+read,
		func(r rune) bool { return strings.ContainsRune("/?#&=", r) }) {
		if len(part) >= least && "/"+part != commonPath {
			pairs = append(pairs, part, "...")
		}
	}
	return strings.NewReplacer(pairs...)
}

// urls finds what looks like one; the end is what a sentence may add.
var urls = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://\S*[^\s"'.,;:)]`)

// Redact returns text, about a Corefile or made of one, without the user, password and path of any URL in it.
func Redact(text string) string { return urls.ReplaceAllStringFunc(text, redacted) }

// redacted is one address as somebody wrote it, right or wrong, without what may be a secret.
func redacted(to string) string {
	scheme, rest, found := strings.Cut(to, "://")
	if !found {
		scheme, rest = "", to
	} else {
		scheme = afterUser(scheme) + "://"
	}
	path := strings.IndexAny(rest, "/?#")
	switch at := strings.LastIndexByte(rest, '@'); {
	case path < 0:
		return scheme + afterUser(rest)
	case at > path: // a path, or a password with a slash
		return scheme + "..."
	}
	return scheme + afterUser(rest[:path]) + redactedPath(rest[path:])
}

// redactedPath redacts what begins with a path: the name after it stays, unless what follows the % may be an octet of
// the path.
func redactedPath(rest string) string {
	path, name, _ := strings.Cut(rest, "%")
	switch {
	case rest == "/PATH%NAME": // of our own sentences
		return rest
	case path == shortened(path) && hostName.MatchString(name):
		return path + "%" + name
	default:
		return shortened(path)
	}
}

// hostName matches names of hosts, but for those that could be the rest of an escaped octet (%NN) with more behind it.
var hostName = regexp.MustCompile(`^([G-Zg-z][A-Za-z0-9-]*|[A-Za-z0-9][G-Zg-z-][A-Za-z0-9-]*)(\.[A-Za-z0-9-]+)+$`)

// afterUser is s without user and password.
func afterUser(s string) string { return s[strings.LastIndexByte(s, '@')+1:] }

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
