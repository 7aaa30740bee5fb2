module github.com/danelaw-dns/danelaw/deploy/release

go 1.26.0

require (
	github.com/danelaw-dns/danelaw/deploy/program v0.0.0
	golang.org/x/mod v0.32.0
)

replace github.com/danelaw-dns/danelaw/deploy/program => ../program
