package probe

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// Unsure says why it cannot be known what a sender does with a chain that its TLSA records do not authenticate; "" if
// it is known. Where a record of usage 2 matches but no name does, Exim with GnuTLS goes on to ask the CAs of its
// system, and heeds no name then (tls-gnu.c, verify_certificate): it may deliver if this system knows the chain's CA.
func (p *Prober) Unsure(s mail.Sender, err error, chain []*x509.Certificate, now time.Time) string {
	failure, ok := errors.AsType[*mail.CertificateError](err)
	if s != mail.Exim || !ok || failure.Result != mail.CertificateHostMismatch {
		return ""
	}
	o := x509.VerifyOptions{Roots: p.CAs, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return ""
	}
	return fmt.Sprintf("danelaw cannot know what Exim does: %v, but it may take the certificate by the CAs of its "+
		"system", err)
}
