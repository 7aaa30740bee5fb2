package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// publisher changes the records of a zone.
type publisher interface {
	// publish adds records, then removes others; what is there already, or is not there, is no error.
	publish(ctx context.Context, zone string, add, remove []*dns.TLSA) error
}

// primaries are the servers that take updates of a zone (RFC 2136), with the key that signs them (RFC 8945).
type primaries struct {
	addresses []netip.AddrPort
	key       tsigKey
}

// publish sends one update to each primary. A primary carries out all of an update or nothing, and has signed what is
// new before it answers, or soon after.
func (p *primaries) publish(ctx context.Context, zone string, add, remove []*dns.TLSA) error {
	for _, server := range p.addresses {
		m := new(dns.Msg).SetUpdate(zone)
		m.Insert(asRRs(add))
		m.Remove(asRRs(remove))
		m.SetTsig(p.key.name, p.key.algorithm, 300, time.Now().Unix())
		client := &dns.Client{Net: "tcp", Timeout: 2 * directTimeout,
			TsigSecret: map[string]string{p.key.name: p.key.secret}}
		reply, _, err := client.ExchangeContext(ctx, m, server.String())
		if err := p.refused(zone, server, reply, err); err != nil {
			return err
		}
	}
	return nil
}

// asRRs are copies: an update writes into what it sends.
func asRRs(records []*dns.TLSA) (all []dns.RR) {
	for _, r := range records {
		all = append(all, dns.Copy(r))
	}
	return all
}

// refused says what a primary has against an update, and what mends it.
func (p *primaries) refused(zone string, server netip.AddrPort, reply *dns.Msg, err error) error {
	if reply != nil && reply.Rcode != dns.RcodeSuccess {
		err = nil // a refusal need not be signed, and whatever it is, it is no consent
	}
	if err != nil {
		return fmt.Errorf("the update of %s at %s: %w", zone, server, err)
	}
	if reply.Rcode == dns.RcodeSuccess {
		return nil
	}
	code, remedy := dns.RcodeToString[reply.Rcode], "its log tells why"
	var sign uint16
	if t := reply.IsTsig(); t != nil {
		sign = t.Error
	}
	switch {
	case sign == dns.RcodeBadKey:
		code, remedy = "BADKEY", fmt.Sprintf("it does not know a key %s with %s", p.key.name, p.key.algorithm)
	case sign == dns.RcodeBadSig:
		code, remedy = "BADSIG", fmt.Sprintf("its key %s has another secret", p.key.name)
	case sign == dns.RcodeBadTime:
		code, remedy = "BADTIME", "its clock and that of this host differ by more than 5 minutes"
	case reply.Rcode == dns.RcodeRefused:
		remedy = fmt.Sprintf("have it allow updates of TLSA by the key %s: BIND with update-policy, Knot with an acl",
			p.key.name)
	case reply.Rcode == dns.RcodeNotAuth:
		remedy = fmt.Sprintf("it is no primary of %s, or does not know the key %s", zone, p.key.name)
	case reply.Rcode == dns.RcodeNotImplemented:
		remedy = "it takes no updates"
	}
	return fmt.Errorf("%s refuses the update of %s with %s: %s", server, zone, code, remedy)
}

// tsigKey is a shared key (RFC 8945).
type tsigKey struct{ name, algorithm, secret string }

// maxKeyFile bounds what is read, in octets.
const maxKeyFile = 64 << 10

// The forms in which servers write keys: BIND's (tsig-keygen), and Knot's (keymgr -t).
var (
	comment    = regexp.MustCompile(`(?m)(#|//).*$`)
	bindKey    = regexp.MustCompile(`\bkey\s+"?([^\s"{;]+)"?\s*\{`)
	bindFields = regexp.MustCompile(`\b(algorithm|secret)\s+"?([^\s";]+)"?\s*;`)
	knotFields = regexp.MustCompile(`\b(id|algorithm|secret)\s*:\s*"?([^\s"]+)"?`)
)

// readTSIG reads the file of a key.
func readTSIG(file string) (k tsigKey, err error) {
	content, err := owned.Daemon().Read(file, maxKeyFile)
	if err != nil {
		return k, err
	}
	if info, err := os.Stat(file); err == nil && info.Mode()&0o004 != 0 {
		return k, fmt.Errorf("%s may be read by everybody, and who has the key can change the zone: chmod o-r %[1]s",
			file)
	}
	text := comment.ReplaceAllString(string(content), "")
	fields := map[string][]string{}
	if names := bindKey.FindAllStringSubmatch(text, -1); len(names) > 0 {
		for _, m := range names {
			fields["id"] = append(fields["id"], m[1])
		}
		for _, m := range bindFields.FindAllStringSubmatch(text, -1) {
			fields[m[1]] = append(fields[m[1]], m[2])
		}
	} else {
		for _, m := range knotFields.FindAllStringSubmatch(text, -1) {
			fields[m[1]] = append(fields[m[1]], m[2])
		}
	}
	for _, field := range []string{"id", "algorithm", "secret"} {
		if n := len(fields[field]); n != 1 {
			return k, fmt.Errorf("%s: it has to hold one key, as `tsig-keygen NAME` or `keymgr -t NAME` writes it, "+
				"and "+
				"has %s", file, counted(n, map[string]string{"id": "name"}[field]+strings.TrimPrefix(field, "id")))
		}
	}
	k = tsigKey{dns.CanonicalName(fields["id"][0]), dns.CanonicalName(fields["algorithm"][0]), fields["secret"][0]}
	known := []string{dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512}
	if !slices.Contains(known, k.algorithm) {
		return k, fmt.Errorf("%s: %q is no algorithm that keys have here: make one with hmac-sha256", file,
			printable.Short(fields["algorithm"][0]))
	}
	if secret, err := base64.StdEncoding.DecodeString(k.secret); err != nil || len(secret) == 0 {
		return k, fmt.Errorf("%s: its secret is not base64", file) // which is not told
	}
	return k, nil
}

// parsePrimary reads ADDR or ADDR:PORT.
func parsePrimary(text string) (netip.AddrPort, error) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at, nil
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is no address: write one such as 192.0.2.53, 192.0.2.53:5353 or "+
			"[2001:db8::53]:53", text)
	}
	return netip.AddrPortFrom(a, 53), nil
}

// shell runs a command of the operator's with /bin/sh, which the operator has written.
type shell func(ctx context.Context, command string, environment ...string) error

// commandLife is how long a command may take: a provider's API is slow at times.
const commandLife = 5 * time.Minute

// shellTo is a shell whose commands write to the same place as warnings do.
func shellTo(w io.Writer) shell {
	return func(ctx context.Context, command string, environment ...string) error {
		ctx, cancel := context.WithTimeout(ctx, commandLife)
		defer cancel()
		c := exec.CommandContext(ctx, "/bin/sh", "-c", command)
		c.Env = append(os.Environ(), environment...)
		c.Stdout, c.Stderr = w, w
		c.WaitDelay = time.Second // what it has started may hold its output
		err := c.Run()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("killed, as it took longer than %v", commandLife)
		}
		if err != nil {
			return fmt.Errorf("`%s` has failed: %w", command, err)
		}
		return nil
	}
}

// commanded has a command change the zone, one record at a time.
type commanded struct {
	command string
	run     shell
}

func (c *commanded) publish(ctx context.Context, zone string, add, remove []*dns.TLSA) error {
	for _, change := range []struct {
		action  string
		records []*dns.TLSA
	}{{"add", add}, {"remove", remove}} {
		for _, r := range change.records {
			err := c.run(ctx, c.command, "DANELAW_ACTION="+change.action, "DANELAW_ZONE="+zone,
				"DANELAW_NAME="+r.Hdr.Name,
				fmt.Sprintf("DANELAW_TTL=%d", r.Hdr.Ttl), "DANELAW_RECORD="+rdata(r))
			if err != nil {
				return fmt.Errorf("to %s the record %s at %s: %w", change.action, rdata(r), r.Hdr.Name, err)
			}
		}
	}
	return nil
}

// rdata is what stands behind TLSA in a zone file.
func rdata(r *dns.TLSA) string {
	return fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, strings.ToLower(r.Certificate))
}
