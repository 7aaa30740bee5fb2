package policy

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// Bounds on the fetch of one policy (D-27, RFC 8461 section 3.3).
const (
	fetchLife     = time.Minute
	fetchOctets   = 64 << 10
	headerOctets  = 16 << 10
	dialLife      = 10 * time.Second // of one address
	mostAddresses = 6
)

// Failure is why a policy cannot be had.
type Failure struct {
	Result mail.Result // as TLS reports have it (RFC 8460 section 4.3)
	Text   string      // one sentence without full stop
	At     time.Time
	// Doubt: it cannot be said that the domain has none, as somebody tampers with the answer or danelaw is too busy.
	Doubt bool
	// Unanswered: nobody says whether the domain has one.
	Unanswered bool
}

func (f *Failure) Error() string { return f.Text }

func failure(r mail.Result, format string, args ...any) *Failure {
	return &Failure{Result: r, Text: fmt.Sprintf(format, args...)}
}

// fetcher gets policies by HTTPS.
type fetcher struct {
	Config
	life time.Duration
}

func newFetcher(c Config) fetcher {
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	return fetcher{c, fetchLife}
}

// Fetched is what a fetch came to.
type Fetched struct {
	Policy  *mail.STSPolicy // nil if it failed
	Failure *Failure        // nil if it did not
	Ends    time.Time       // of the certificate of the policy host; zero if it has shown none that is valid
}

// Fetch fetches the policy of a canonical domain once, as for a sender (D-27), whatever its TXT record says and
// whatever is held. It takes a minute at most. It has no use for c.Meter.
func Fetch(ctx context.Context, c Config, domain string) *Fetched {
	return newFetcher(c).get(ctx, domain)
}

// get fetches the policy of a domain.
func (f fetcher) get(ctx context.Context, domain string) *Fetched {
	ctx, cancel := context.WithTimeout(ctx, f.life)
	defer cancel()
	fetched := new(Fetched)
	text, err := f.text(ctx, PolicyHost(domain), &fetched.Ends)
	if err != nil {
		fetched.Failure = f.failure(err)
		return fetched
	}
	if fetched.Policy, err = mail.ParseSTSPolicy(text); err != nil {
		fetched.Failure = failure(mail.STSPolicyInvalid, "the policy does not parse: %v", err)
	}
	return fetched
}

// PolicyHost is where the policy of a domain is, without dot at the end.
func PolicyHost(domain string) string { return strings.TrimSuffix("mta-sts."+domain, ".") }

// text fetches the file, and notes when the certificate of its host ends.
func (f fetcher) text(ctx context.Context, host string, ends *time.Time) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("User-Agent", "danelaw")
	transport := &http.Transport{
		DialContext: f.dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: headerOctets,
		TLSClientConfig: &tls.Config{RootCAs: f.Roots, MinVersion: tls.VersionTLS12, Time: f.Clock, ServerName: host},
	}
	response, err := transport.RoundTrip(request) // which follows no redirect
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	*ends = response.TLS.PeerCertificates[0].NotAfter
	switch kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); {
	case response.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%s answers %d, where 200 alone counts, and no redirect", host, response.StatusCode)
	case err != nil || kind != "text/plain":
		return "", failure(mail.STSPolicyInvalid, "%s sends %.100q, where only text/plain counts", host,
			response.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, fetchOctets+1))
	if len(text) > fetchOctets {
		return "", failure(mail.STSPolicyInvalid, "%s sends more than %d octets", host, fetchOctets)
	}
	return string(text), cmp.Or(err, ctx.Err()) // who hears that nobody waits may end a file where it is
}

// failure says what an error is to TLS reports.
func (f fetcher) failure(err error) *Failure {
	told, ok := errors.AsType[*Failure](err)
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case ok:
		return told
	case unverified:
		return failure(mail.STSWebPKIInvalid, "the certificate of the policy host is not valid: %v", inner(err))
	case errors.Is(err, context.DeadlineExceeded):
		return failure(mail.STSPolicyFetchError, "the policy could not be fetched within %v", f.life)
	}
	return failure(mail.STSPolicyFetchError, "the policy cannot be fetched: %v", err)
}

// inner is what x509 says of a certificate.
func inner(err error) error {
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return fmt.Errorf("it is not for %s", name.Host)
	}
	if of, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return of.Err
	}
	return err
}

// dial connects to a policy host, at the addresses that validated answers have for it.
func (f fetcher) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := f.addresses(ctx, dns.CanonicalName(host))
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		conn, failed := f.dialOne(ctx, net.JoinHostPort(a.String(), port))
		if failed == nil {
			return conn, nil
		}
		err = failed
	}
	return nil, err
}

func (f fetcher) dialOne(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLife)
	defer cancel()
	return f.Dial(ctx, "tcp", address)
}

// addresses are those of a policy host to which a connection may be made: nobody makes danelaw connect to its own
// network (D-27).
func (f fetcher) addresses(ctx context.Context, host string) (all []netip.Addr, err error) {
	var v4, v6 mail.Reply
	var asking sync.WaitGroup
	asking.Go(func() { v4 = f.Ask(ctx, host, dns.TypeA) })
	v6 = f.Ask(ctx, host, dns.TypeAAAA)
	asking.Wait()
	for _, r := range []mail.Reply{v4, v6} {
		if r.Status <= dnssec.Bogus {
			err = fmt.Errorf("the lookup of %s fails", r.Lookup)
			continue
		}
		all = append(all, mail.Addresses(r.Answer)...)
	}
	allowed := func(a netip.Addr) bool { return public(a) || f.Private(host) }
	switch {
	case slices.ContainsFunc(all, allowed):
		all = slices.DeleteFunc(all, func(a netip.Addr) bool { return !allowed(a) })
		return all[:min(len(all), mostAddresses)], nil
	case len(all) > 0:
		return nil, fmt.Errorf("%s has no address but %s, which is not public", host, all[0])
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("%s has no address", host)
}
