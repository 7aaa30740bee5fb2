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

// STS is what the TXT record at _mta-sts says (RFC 8461 section 3.1).
type STS struct {
	ID string // changes with the policy
}

// TLSRPT is what the TXT record at _smtp._tls says (RFC 8460 section 3).
type TLSRPT struct {
	RUA []string // where reports go, mailto: and https: URIs
}

// ParseSTS reads the TXT records at _mta-sts. Those that do not begin with v=STSv1; are of no account, and of the
// others there must be one, else a domain has no policy (RFC 8461 section 3.1): [ErrNoPolicy] if there is none.
func ParseSTS(answer []dns.RR) (*STS, error) {
	fields, err := fieldsOf(answer, "v=STSv1")
	if err != nil {
		return nil, err
	}
	ids := fields.all("id")
	switch {
	case len(ids) == 0:
		return nil, errors.New("it has no id")
	case len(ids) > 1:
		return nil, errors.New("it has more than one id")
	case !stsID.MatchString(ids[0]):
		return nil, fmt.Errorf("its id %.100q is not 1 to 32 letters and digits", ids[0])
	}
	return &STS{ID: ids[0]}, nil
}

// ParseTLSRPT reads the TXT records at _smtp._tls. Those that do not begin with v=TLSRPTv1; are of no account, and of
// the others there must be one, else no reports are wanted (RFC 8460 section 3): [ErrNoPolicy] if there is none.
func ParseTLSRPT(answer []dns.RR) (*TLSRPT, error) {
	fields, err := fieldsOf(answer, "v=TLSRPTv1")
	if err != nil {
		return nil, err
	}
	all := fields.all("rua")
	switch {
	case len(all) == 0:
		return nil, errors.New("it has no rua, so nobody gets reports")
	case len(all) > 1:
		return nil, errors.New("it has more than one rua; several addresses stand in one, with commas between them")
	}
	t := &TLSRPT{}
	for uri := range strings.SplitSeq(all[0], ",") {
		uri = strings.Trim(uri, wsp)
		if err := reportURI(uri); err != nil {
			return nil, err
		}
		t.RUA = append(t.RUA, uri)
	}
	return t, nil
}

const wsp = " \t"

var (
	stsID     = regexp.MustCompile(`^[A-Za-z0-9]{1,32}$`)
	fieldName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)
	// fieldValue is that of an extension; rua may hold white space besides.
	fieldValue = regexp.MustCompile(`^[\x21-\x3A\x3C\x3E-\x7E]+$`)
)

// fields are those of a record, behind its version.
type fields [][2]string

func (f fields) all(name string) (values []string) {
	for _, field := range f {
		if field[0] == name {
			values = append(values, field[1])
		}
	}
	return values
}

// fieldsOf returns the fields of the one TXT record of a version.
func fieldsOf(answer []dns.RR, version string) (fields, error) {
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
		return nil, ErrNoPolicy
	case 1:
		return split(found[0])
	}
	return nil, fmt.Errorf("there are %d records with %s, and so none counts", len(found), version)
}

// split reads what stands behind the version: fields, each after a semicolon, of which one more may stand at the end.
func split(rest string) (all fields, err error) {
	parts := strings.Split(rest, ";")[1:]
	if strings.Trim(parts[len(parts)-1], wsp) == "" {
		parts = parts[:len(parts)-1]
	}
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
		all = append(all, [2]string{name, value})
	}
	return all, nil
}

// reportURI returns what is wrong with an address for reports.
func reportURI(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }): // RFC 3986 section 2
		return fmt.Errorf("its rua %.100q is no URI", text)
	case u.Scheme == "mailto":
		box, err := url.PathUnescape(u.Opaque)
		if _, faulty := mail.ParseAddress(box); err != nil || faulty != nil || strings.ContainsAny(box, "<> ") {
			return fmt.Errorf("its rua %.100q names no mailbox", text)
		}
	case u.Scheme == "https":
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
