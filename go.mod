module github.com/danelaw-dns/danelaw

go 1.26.0

require (
	github.com/cloudflare/circl v1.6.5
	github.com/miekg/dns v1.1.73
)

require (
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sync v0.23.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
