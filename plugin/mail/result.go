package mail

// Result is a result type of TLS reports (RFC 8460 section 4.3, D-20): what went wrong, in the word that a sender
// reports it with.
type Result string

const (
	// Of DNS.
	TLSAInvalid   Result = "tlsa-invalid"
	DNSSECInvalid Result = "dnssec-invalid"
	DANERequired  Result = "dane-required"
	// Of a connection.
	STARTTLSNotSupported    Result = "starttls-not-supported"
	CertificateHostMismatch Result = "certificate-host-mismatch"
	CertificateExpired      Result = "certificate-expired"
	CertificateNotTrusted   Result = "certificate-not-trusted"
	ValidationFailure       Result = "validation-failure"
)
