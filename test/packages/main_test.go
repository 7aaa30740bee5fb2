//go:build linux

// Package packages installs the packages that deploy/package makes. The deb is installed in a Debian of its own, which
// systemd has booted, with Postfix in it; rpm and apk are installed and unpacked into roots of their own. All runs in
// namespaces, and nothing is installed on the host.
package packages

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

var suite = namespace.Suite{
	Variable: "DANELAW_TEST_PACKAGES",
	Programs: []string{"debootstrap", "unshare", "nsenter", "dpkg-deb", "rpm", "tar", "shellcheck", "man",
		"systemd-analyze", "bash", "zsh", "fish"},
	Prepare:   prepare,
	Addresses: func() []string { return []string{mailHost, nameserver} },
}

func TestMain(m *testing.M) { suite.Main(m) }

// The packages.
const (
	older = "0.1.0"
	newer = "0.2.0"
)

func prepare(dir string) error {
	for _, args := range [][]string{{"-version", older}, {"-version", newer, "-formats", "deb"}} {
		c := exec.Command("go", append([]string{"run", "-C", "../../deploy/package", ".", "-out", dir}, args...)...)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", c, err, out)
		}
	}
	debian, err := debootstrap()
	if err != nil {
		return err
	}
	return os.Symlink(debian, filepath.Join(dir, "debian"))
}

// included is what the Debian has beside the least there is: what the deb depends on, a mail server, another resolver,
// and what tells who holds a port.
const included = "systemd,ca-certificates,iproute2,postfix,dnsmasq-base,dbus,lsb-base"

// resolvers are programs that write resolv.conf. Not all of them can be installed at once: the Debian has their
// packages, and what those depend on, in a directory.
var resolvers = []string{"systemd-resolved", "resolvconf", "isc-dhcp-client", "dhcpcd-base", "network-manager",
	"openresolv", "cloud-init"}

// packagesDir is that directory.
const packagesDir = "/var/cache/resolvers"

// debootstrap returns the directory of a Debian, which is kept in the user's cache directory. Nothing is changed there.
func debootstrap() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	const release, mirror = "bookworm", "http://deb.debian.org/debian"
	name := fmt.Sprintf("%s-%.6x", release, sha256.Sum256([]byte(fmt.Sprint(included, resolvers, packagesDir))))
	dir := filepath.Join(cache, "danelaw-test-packages", name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(made)
	c := exec.Command("debootstrap", "--variant=minbase", "--include="+included, release, made, mirror)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", c, err, out[max(0, len(out)-3000):])
	}
	if err := download(made); err != nil {
		return "", err
	}
	if err := os.Chmod(made, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(made, dir)
}

// download has the packages of resolvers in a Debian.
func download(debian string) error {
	if err := os.MkdirAll(filepath.Join(debian, packagesDir, "partial"), 0o755); err != nil {
		return err
	}
	const each = `for p; do apt-get install --yes --download-only --no-install-recommends \
		--option "Dir::Cache::archives=$0" "$p" || exit 1; done`
	c := exec.Command("chroot", append([]string{debian, "sh", "-c", each, packagesDir}, resolvers...)...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", c, err, out)
	}
	return nil
}

// file returns the path of a package.
func file(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(suite.Dir(pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}
