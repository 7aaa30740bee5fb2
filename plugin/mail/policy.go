package mail

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"regexp"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// ErrNoPolicy says that there is no record of the kind among a name's TXT records.
var ErrNoPolicy = errors.New("there is none")

// ParseSTS returns the id that the TXT records at _mta-sts give, which changes with the policy. Records that do not
// begin with v=STSv1; are of no account, and of the others there must be one, else a domain has no policy (RFC 8461
// section 3.1): [ErrNoPolicy] if there is none.
func ParseSTS(answer []dns.RR) (id string, err error) {
	id, err = fieldOf(answer, "v=STSv1", "id", "it has no id", "it has more than one id")
	if err == nil && !stsID.MatchString(id) {
		err = fmt.Errorf("its id %.100q is not 1 to 32 letters and digits", id)
	}
	return id, err
}

// ParseTLSRPT returns where reports go by the TXT records at _smtp._tls: mailto: and https: URIs. Records that do not
// begin with v=TLSRPTv1; are of no account, and of the others there must be one, else no reports are wanted (RFC 8460
// section 3): [ErrNoPolicy] if there is none.
func ParseTLSRPT(answer []dns.RR) (rua []string, err error) {
	all, err := fieldOf(answer, "v=TLSRPTv1", "rua", "it has no rua, so nobody gets reports",
		"it has more than one rua; several addresses stand in one, with commas between them")
	if err != nil {
		return nil, err
	}
	for uri := range strings.SplitSeq(all, ",") {
		uri = strings.Trim(uri, wsp)
		if err := reportURI(uri); err != nil {
			return nil, err
		}
		rua = append(rua, uri)
	}
	return rua, nil
}

const wsp = " \t"

var (
	stsID     = regexp.MustCompile(`^[A-Za-z0-9]{1,32}$`)
	fieldName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)
	// fieldValue is that of an extension; rua may hold white space besides.
	fieldValue = regexp.MustCompile(`^[\x21-\x3A\x3C\x3E-\x7E]+$`)
)

// fieldOf returns the one field of a name in the one TXT record of a version.
func fieldOf(answer []dns.RR, version, name, none, several string) (string, error) {
	var found []string
	for _, rr := range answer {
		txt, ok := dnssec.Typed(rr).(*dns.TXT)
		if !ok {
			continue
		}
		// Its strings are one, without white space between them.
		text := unescape(strings.Join(txt.Txt, ""))
		if rest, ok := strings.CutPrefix(text, version); ok && strings.HasPrefix(strings.TrimLeft(rest, wsp), ";") {
			found = append(found, rest)
		}
	}
	switch len(found) {
	case 0:
		return "", ErrNoPolicy
	case 1:
	default:
		return "", fmt.Errorf("there are %d records with %s, and so none counts", len(found), version)
	}
	fields, err := split(found[0])
	switch values := fields[name]; {
	case err != nil:
		return "", err
	case len(values) == 0:
		return "", errors.New(none)
	case len(values) > 1:
		return "", errors.New(several)
	default:
		return values[0], nil
	}
}

// split reads what stands behind the version: fields, each after a semicolon, of which one more may stand at the end.
func split(rest string) (map[string][]string, error) {
	parts := strings.Split(rest, ";")[1:]
	if strings.Trim(parts[len(parts)-1], wsp) == "" {
		parts = parts[:len(parts)-1]
	}
	fields := map[string][]string{}
	for _, part := range parts {
		part = strings.Trim(part, wsp)
		name, value, ok := strings.Cut(part, "=")
		switch {
		case !ok:
			return nil, fmt.Errorf("its field %.100q has no equals sign", part)
		case !fieldName.MatchString(name):
			return nil, fmt.Errorf("its field %.100q has no proper name", part)
		case name != "rua" && !fieldValue.MatchString(value):
			return nil, fmt.Errorf("its field %.100q has no proper value", part)
		}
		fields[name] = append(fields[name], value)
	}
	return fields, nil
}

// reportURI returns what is wrong with an address for reports.
func reportURI(text string) error {
	u, err := url.Parse(text)
	odd := func(r rune) bool { return r <= ' ' || r > '~' } // RFC 3986 section 2
	if err != nil || strings.ContainsFunc(text, odd) {
		return fmt.Errorf("its rua %.100q is no URI", text)
	}
	switch box, err := url.PathUnescape(u.Opaque); u.Scheme {
	case "mailto":
		if _, faulty := mail.ParseAddress(box); err != nil || faulty != nil || strings.ContainsAny(box, "<> ") {
			return fmt.Errorf("its rua %.100q names no mailbox", text)
		}
	case "https":
		if u.Host == "" {
			return fmt.Errorf("its rua %.100q names no host", text)
		}
	default:
		return fmt.Errorf("its rua %.100q is of neither mailto nor https", text)
	}
	return nil
}

// unescape undoes the escapes of master files, in which miekg/dns holds character strings.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b.WriteByte(s[i])
		case i+3 < len(s) && digits(s[i+1:i+4]):
			b.WriteByte((s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0')
			i += 3
		default:
			b.WriteByte(s[i+1])
			i++
		}
	}
	return b.String()
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }
