package fastpath

import "github.com/miekg/dns"

// writer is a replier as CoreDNS's plugins want one. TSIG is not for them: CoreDNS's listener stays where it is used.
type writer struct{ replier }

// Sends reports whether w is of a Listener, whose Write sends a reply as it is.
func Sends(w dns.ResponseWriter) bool {
	_, ok := w.(writer)
	return ok
}

// WriteMsg implements dns.ResponseWriter. CoreDNS leaves names uncompressed where there is room; what is answered at
// once has them compressed, and one reply is to be as the other.
func (w writer) WriteMsg(m *dns.Msg) error {
	m.Compress = true
	reply, err := m.Pack()
	if err == nil {
		_, err = w.Write(reply)
	}
	return err
}

// Close implements dns.ResponseWriter. It is the listener that closes connections.
func (w writer) Close() error { return nil }

// TsigStatus implements dns.ResponseWriter.
func (w writer) TsigStatus() error { return nil }

// TsigTimersOnly implements dns.ResponseWriter.
func (w writer) TsigTimersOnly(bool) {}

// Hijack implements dns.ResponseWriter.
func (w writer) Hijack() {}
