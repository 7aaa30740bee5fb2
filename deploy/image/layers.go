package main

import (
	"archive/tar"
	"bytes"
	_ "embed"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/danelaw-dns/danelaw/deploy/program"
)

// user is whom danelaw runs as; the number is the one that other images without root's rights use. It stands as a
// number in the configuration, so that Kubernetes sees that it is not root's.
const user = 65532

//go:embed Corefile
var corefile []byte

// entry is a file or a directory of the image.
type entry struct {
	name  string // one of a directory ends with a slash
	mode  int64
	owner int
	text  []byte
}

// surroundings are what danelaw needs beside itself, the same on each platform.
func surroundings() ([]entry, error) {
	license, err := os.ReadFile(filepath.Join(program.Project, "LICENSE"))
	return []entry{
		{"etc/", 0o755, 0, nil},
		{"etc/danelaw/", 0o755, 0, nil},
		{"etc/danelaw/Corefile", 0o644, 0, corefile},
		{"etc/group", 0o644, 0, []byte("root:x:0:\ndanelaw:x:65532:\n")},
		{"etc/passwd", 0o644, 0, []byte("root:x:0:0:root:/:/none\n" +
			"danelaw:x:65532:65532:danelaw:/var/lib/danelaw:/none\n")},
		{"etc/ssl/", 0o755, 0, nil},
		{"etc/ssl/certs/", 0o755, 0, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, 0, authorities()},
		{"run/", 0o755, 0, nil},
		{"run/danelaw/", 0o750, user, nil},
		{"usr/", 0o755, 0, nil},
		{"usr/bin/", 0o755, 0, nil},
		{"usr/share/", 0o755, 0, nil},
		{"usr/share/doc/", 0o755, 0, nil},
		{"usr/share/doc/danelaw/", 0o755, 0, nil},
		{"usr/share/doc/danelaw/copyright", 0o644, 0, license},
		{"var/", 0o755, 0, nil},
		{"var/lib/", 0o755, 0, nil},
		{"var/lib/danelaw/", 0o700, user, nil},
	}, err
}

// authorities are the certificates, in PEM, by which upstreams over TLS and mail hosts are verified: Mozilla's, as Go's
// maintainers publish them. One that counts under conditions alone is left out, since a file cannot hold conditions.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) //nolint:errcheck // to memory
		}
	}
	return out.Bytes()
}

// layer packs entries. Rights, owners and times are those that are given here, whatever the umask and the clock.
func layer(date time.Time, entries ...entry) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.text)),
			ModTime: date, Format: tar.FormatUSTAR} // the type follows from the name
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(packed.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
