package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/probe"
)

// probeFlags are those of commands that connect to mail hosts.
func probeFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "helo", Usage: "introduce yourself to mail hosts as `NAME` (default: " +
			"the name of this host)", Validator: func(text string) error {
			_, err := heloName(text)
			return err
		}},
		&cli.DurationFlag{Name: "wait", Value: probe.Timeout, Usage: "wait so `LONG` for a mail host; senders wait 5m",
			Validator: func(d time.Duration) error {
				if d < time.Second || d > time.Hour {
					return fmt.Errorf("give 1s to 1h, such as 5m")
				}
				return nil
			}},
	}, more...)
}

func implicitFlag() cli.Flag {
	return boolFlag("implicit-tls", "begin with TLS, as port 465 wants it, without STARTTLS")
}

// newProber makes a prober by the flags of probeFlags.
func newProber(c *cli.Command, src *source) *probe.Prober {
	helo, _ := heloName(c.String("helo")) // which was looked at when it was read
	return &probe.Prober{Dial: src.dial, Helo: helo, Timeout: c.Duration("wait"), Implicit: c.Bool("implicit-tls")}
}

// heloName reads what may stand behind EHLO: a name, or an address in brackets (RFC 5321 section 4.1.3); "" for the
// default.
func heloName(text string) (string, error) {
	if address, ok := strings.CutPrefix(text, "["); ok {
		address, closed := strings.CutSuffix(address, "]")
		if _, err := netip.ParseAddr(strings.TrimPrefix(address, "IPv6:")); err != nil || !closed {
			return "", fmt.Errorf("give a name, or an address such as [192.0.2.1] or [IPv6:2001:db8::1]")
		}
		return text, nil
	}
	if text == "" {
		return "", nil
	}
	name, err := parseName(text)
	return strings.TrimSuffix(name, "."), err
}
