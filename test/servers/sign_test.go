//go:build linux

package servers

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/zones"
)

// signer is a program that signs zones.
type signer int

const (
	unsigned signer = iota
	bindSigner
	ldnsSigner
	knotSigner
)

// validity is how long signatures are valid: as long as those of most zones.
const validity = 14 * 24 * time.Hour

// sign signs a zone and returns the file, still without faults.
func (s signing) sign(z *zone) (*contents, error) {
	if err := os.WriteFile(filepath.Join(z.dir, "zone"), []byte(z.source()), 0o644); err != nil {
		return nil, err
	}
	var err error
	signed := "zone.signed"
	switch s.with {
	case unsigned:
		signed = "zone"
	case bindSigner:
		err = s.bind(z)
	case ldnsSigner:
		err = s.ldns(z)
	case knotSigner:
		signed, err = filepath.Join("out", "zone"), s.knot(z)
	}
	if err != nil {
		return nil, err
	}
	return read(z.name, z.dir, filepath.Join(z.dir, signed))
}

// begins returns the inception of the signatures of a zone.
func (s signing) begins() time.Time { return time.Now().Add(s.shift - time.Hour) }

// size returns the options for the size of RSA keys.
func (s signing) size() []string {
	if !strings.Contains(s.algorithm, "RSA") {
		return nil
	}
	if s.bits == 0 {
		s.bits = 1024 // such keys are made quickly
	}
	return []string{"-b", strconv.Itoa(s.bits)}
}

// run runs a program in the directory of a zone and returns what it writes to its standard output.
func (z *zone) run(line ...string) (string, error) {
	c := exec.Command(line[0], line[1:]...)
	c.Dir = z.dir
	var complaints strings.Builder
	c.Stderr = &complaints
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w\n%s%s", line, err, out, &complaints)
	}
	return strings.TrimSpace(string(out)), nil
}

// bind signs with BIND's tools: a key-signing key and a zone-signing key.
func (s signing) bind(z *zone) error {
	if err := s.bindKeys(z); err != nil {
		return err
	}
	const form = "20060102150405"
	from := s.begins().UTC()
	line := []string{
		"dnssec-signzone", "-q", "-S", "-P", "-x", "-n", "1", "-K", ".", "-o", z.name, "-f", "zone.signed",
		"-s", from.Format(form), "-e", from.Add(validity).Format(form),
	}
	if s.nsec3 {
		salt := s.salt
		if salt == "" {
			salt = "-"
		}
		line = append(line, "-3", salt, "-H", strconv.Itoa(s.iterations))
	}
	if s.optOut {
		line = append(line, "-A")
	}
	_, err := z.run(append(line, "zone")...)
	return err
}

// bindKeys makes the keys with BIND's tools, or itself if they are RSA keys with another exponent.
func (s signing) bindKeys(z *zone) error {
	if s.exponent != 0 {
		return errors.Join(s.writeRSA(z, dns.ZONE|dns.SEP), s.writeRSA(z, dns.ZONE))
	}
	for _, kind := range [][]string{{"-f", "KSK"}, nil} {
		line := append([]string{"dnssec-keygen", "-q", "-a", s.algorithm}, append(s.size(), kind...)...)
		if _, err := z.run(append(line, z.name)...); err != nil {
			return err
		}
	}
	return nil
}

// writeRSA makes an RSA key with a given exponent, in BIND's files.
func (s signing) writeRSA(z *zone, flags uint16) error {
	private, err := rsaKey(s.exponent)
	if err != nil {
		return err
	}
	key, err := zones.KeyFrom(z.name, dns.StringToAlgorithm[s.algorithm], flags, private)
	if err != nil {
		return err
	}
	file := filepath.Join(z.dir, fmt.Sprintf("K%s+%03d+%05d", z.name, key.DNSKEY.Algorithm, key.DNSKEY.KeyTag()))
	// without that time BIND does not sign with it
	text := key.DNSKEY.PrivateKeyString(private) + "Publish: 20260101000000\nActivate: 20260101000000\n"
	return errors.Join(
		os.WriteFile(file+".key", []byte(key.DNSKEY.String()+"\n"), 0o644),
		os.WriteFile(file+".private", []byte(text), 0o600))
}

// rsaKey makes a key of 1024 bits.
func rsaKey(exponent int) (*rsa.PrivateKey, error) {
	for {
		p, errP := rand.Prime(rand.Reader, 512)
		q, errQ := rand.Prime(rand.Reader, 512)
		if err := errors.Join(errP, errQ); err != nil {
			return nil, err
		}
		one := big.NewInt(1)
		order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		if d := new(big.Int).ModInverse(big.NewInt(int64(exponent)), order); d != nil {
			public := rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent}
			return &rsa.PrivateKey{PublicKey: public, D: d, Primes: []*big.Int{p, q}}, nil
		}
	}
}

// ldns signs with ldns's tools.
func (s signing) ldns(z *zone) error {
	var made []string
	for _, kind := range [][]string{{"-k"}, nil} {
		line := append([]string{"ldns-keygen", "-a", s.algorithm}, append(s.size(), kind...)...)
		key, err := z.run(append(line, z.name)...)
		if err != nil {
			return err
		}
		made = append(made, key)
	}
	from := s.begins()
	line := []string{
		"ldns-signzone", "-o", z.name, "-f", "zone.signed", "-i", strconv.FormatInt(from.Unix(), 10),
		"-e", strconv.FormatInt(from.Add(validity).Unix(), 10),
	}
	if s.nsec3 {
		line = append(line, "-n", "-t", strconv.Itoa(s.iterations))
	}
	if s.salt != "" {
		line = append(line, "-s", s.salt)
	}
	if s.optOut {
		line = append(line, "-p")
	}
	_, err := z.run(append(append(line, "zone"), made...)...)
	return err
}

// knot signs with Knot's signer, which makes the keys and the salt as well.
func (s signing) knot(z *zone) error {
	out := filepath.Join(z.dir, "out")
	config := fmt.Sprintf(`database:
  storage: %q
policy:
  - id: here
    algorithm: %s
    rrsig-lifetime: 14d
    nsec3: %s
    nsec3-iterations: %d
    nsec3-opt-out: %s
    nsec3-salt-length: %d
zone:
  - domain: %q
    storage: %q
    file: zone
    dnssec-signing: on
    dnssec-policy: here
`, z.dir, strings.ToLower(s.algorithm), onOff(s.nsec3), s.iterations, onOff(s.optOut), len(s.salt)/2, z.name, z.dir)
	if err := os.WriteFile(filepath.Join(z.dir, "knot.conf"), []byte(config), 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	_, err := z.run("kzonesign", "-c", "knot.conf", "-o", out, z.name)
	return err
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
