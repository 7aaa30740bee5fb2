module github.com/danelaw-dns/danelaw/deploy/program

go 1.26.0
