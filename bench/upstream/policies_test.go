package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
)

// TestPolicies: each host has its own file and a certificate that its authority vouches for; others have none.
func TestPolicies(t *testing.T) {
	p, err := StartPolicies(netip.MustParseAddrPort("127.0.0.1:0"), map[string]string{
		"mta-sts.a.net": "of a", "mta-sts.b.net": "of b",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(p.Authority) {
		t.Fatalf("no certificate: %s", p.Authority)
	}
	client := http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("tcp", p.Addr().String())
		},
	}}
	for url, want := range map[string]string{
		"https://mta-sts.a.net/.well-known/mta-sts.txt": "of a",
		"https://mta-sts.b.net/.well-known/mta-sts.txt": "of b",
		"https://mta-sts.a.net/":                        "404 page not found\n",
		"https://mta-sts.c.net/.well-known/mta-sts.txt": "",
	} {
		got := ""
		if reply, err := client.Get(url); err == nil {
			text, _ := io.ReadAll(reply.Body)
			reply.Body.Close()
			got = string(text)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}
