package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/zones"
)

// asker asks and judges in this process, and connects to mail hosts. It is safe for concurrent use.
type asker struct {
	prober *probe.Prober
	end    func() // ends what its configuration needs

	mu     sync.Mutex
	blocks danelaw.Blocks
}

// askFlags are the flags of commands that ask the DNS themselves: they say whom.
func askFlags() []cli.Flag {
	return []cli.Flag{confFlag(), upstreamFlag(), boolFlag("lab", "ask a lab of its own, see danelaw lab")}
}

// openAsker makes an asker by the flags of askFlags.
func openAsker(ctx context.Context, c *cli.Command) (*asker, error) {
	src, end, err := askerSource(ctx, c)
	if err != nil {
		return nil, err
	}
	blocks, err := setUp(ctx, src, danelaw.Load)
	if err != nil {
		end()
		return nil, err
	}
	return &asker{prober: newProber(c, src), end: end, blocks: blocks}, nil
}

// askerSource returns the configuration to ask with; end ends what it needs.
func askerSource(ctx context.Context, c *cli.Command) (src *source, end func(), err error) {
	if !c.Bool("lab") {
		src, err = configuration(ctx, c, false)
		return src, func() {}, err
	}
	if c.IsSet("conf") || c.IsSet("upstream") {
		return nil, nil, wrong("--lab has a configuration of its own: leave out --conf and --upstream")
	}
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		return nil, nil, err
	}
	src, forget, err := labSource(lab, firstLabPort, "") // where nobody listens
	if err != nil {
		lab.Close()
		return nil, nil, err
	}
	return src, func() { forget(); lab.Close() }, nil
}

func (a *asker) close() {
	a.blocks.Close()
	a.end()
}

func (a *asker) handler(name string) (*danelaw.Handler, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.blocks.Handler(name)
}

// explain asks for what there is under a name; the error is for names that are not validated, of which
// the explanation says what can be said.
func (a *asker) explain(ctx context.Context, name string, qtype uint16) (*resolve.Explanation, error) {
	h, err := a.handler(name)
	if err != nil {
		note := &dnssec.Failure{Owner: name, Type: qtype, Text: err.Error()}
		return &resolve.Explanation{Answer: &resolve.Answer{Rcode: dns.RcodeServerFailure,
			Notes: []*dnssec.Failure{note}}}, err
	}
	q := dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
	e, err := h.Explain(ctx, q)
	if err != nil {
		e = h.Unvalidated(q, err)
	}
	return e, err
}

// now is the time as of which a name is judged.
func (a *asker) now(name string) time.Time {
	if h, err := a.handler(name); err == nil {
		return h.JudgedAt()
	}
	return time.Now()
}

// setUp makes up a Corefile without serving it. Whatever hangs meanwhile, a FIFO that it imports or names, is left
// behind when ctx ends.
func setUp(ctx context.Context, src *source, load func(caddy.Input) (danelaw.Blocks, error)) (danelaw.Blocks, error) {
	input, err := src.Load(serverType)
	if err != nil {
		return nil, err
	}
	var blocks danelaw.Blocks
	ended, err := unlessEnded(ctx, func() (err error) { blocks, err = load(input); return err })
	if ended {
		return nil, errInterrupted
	}
	return blocks, redacted(err)
}

// users finds the users and passwords of URLs.
var users = regexp.MustCompile(`://\S*@`)

// withoutUsers returns a text of any kind without them.
func withoutUsers(text string) string { return users.ReplaceAllString(text, "://") }

// redacted is what a Corefile has to be complained of, without the secrets in its URLs: caddy and the plugins repeat
// what they do not understand.
func redacted(err error) error {
	if err == nil || upstream.Redact(err.Error()) == err.Error() {
		return err
	}
	return errors.New(upstream.Redact(err.Error()))
}

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
