package danelaw

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// Guard lets in who calls the endpoint by an IP address, localhost, the name of this host or the name in its address. A
// page on the web that has its own name lead here (DNS rebinding) calls it by that name, or its browser does (S-31).
func Guard(address string, next http.Handler) http.Handler {
	listens, _, _ := net.SplitHostPort(address)
	own, _ := os.Hostname()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
		_, err := netip.ParseAddr(host)
		for _, name := range []string{"", "localhost", listens, own} {
			if err == nil || strings.EqualFold(host, name) {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, "this is no name of mine: call me by an IP address, localhost, or the name that the Corefile has",
			http.StatusMisdirectedRequest)
	})
}
