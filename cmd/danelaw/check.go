package main

import (
	"context"
	"fmt"

	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/chain"
	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/zones"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "show the chain of trust of a name, and what is wrong with it",
		ArgsUsage: "NAME [TYPE]",
		Description: "The name is asked for and judged here, with the upstreams and trust anchors of the configuration; a danelaw that\n" +
			"runs on this host is not asked. TYPE is MX if it is not given.\n\n" +
			"Exit codes: 0 for an answer that is Secure or Insecure, 1 for one that clients get SERVFAIL for, 2 for a wrong\ncommand line.",
		Flags: []cli.Flag{
			confFlag(),
			upstreamFlag(),
			&cli.BoolFlag{Name: "lab", Usage: "ask a lab of its own, see danelaw lab"},
		},
		Action: check,
	}
}

func check(ctx context.Context, c *cli.Command) error {
	q, err := checkQuestion(c.Args().Slice())
	if err != nil {
		return err
	}
	src, end, err := checkSource(c)
	if err != nil {
		return err
	}
	defer end()
	found, err := explain(ctx, src, q)
	if err != nil {
		return err
	}
	if err := printChain(c.Root().Writer, q, found); err != nil {
		return err
	}
	if found.Answer.Status <= dnssec.Bogus {
		return errTold
	}
	return nil
}

// checkQuestion reads NAME [TYPE].
func checkQuestion(args []string) (q dns.Question, err error) {
	if len(args) < 1 || len(args) > 2 {
		return q, usageError{fmt.Errorf("check takes a name and perhaps a type, not %q; see danelaw check -help", args)}
	}
	q = dns.Question{Name: dns.CanonicalName(args[0]), Qtype: dns.TypeMX, Qclass: dns.ClassINET}
	if _, ok := dns.IsDomainName(q.Name); !ok {
		return q, usageError{fmt.Errorf("%q is not a domain name", args[0])}
	}
	if len(args) == 2 {
		if q.Qtype, err = parseType(args[1]); err != nil {
			return q, usageError{err}
		}
	}
	return q, nil
}

// checkSource returns the configuration to ask with; end ends what it needs.
func checkSource(c *cli.Command) (src *source, end func(), err error) {
	if !c.Bool("lab") {
		src, err = configuration(c, false)
		return src, func() {}, err
	}
	if c.IsSet("conf") || c.IsSet("upstream") {
		return nil, nil, usageError{fmt.Errorf("-lab has a configuration of its own: leave out -conf and -upstream")}
	}
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		return nil, nil, err
	}
	src, forget, err := labSource(lab, firstLabPort) // where nobody listens
	if err != nil {
		lab.Close()
		return nil, nil, err
	}
	return src, func() { forget(); lab.Close() }, nil
}

// explain asks q in this process.
func explain(ctx context.Context, src *source, q dns.Question) (*chain.Explanation, error) {
	blocks, err := load(src)
	if err != nil {
		return nil, err
	}
	defer blocks.Close()
	h, err := blocks.Handler(q.Name)
	if err != nil {
		return nil, err
	}
	return h.Explain(ctx, q)
}
