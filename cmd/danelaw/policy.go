package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/policy"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func policyCommand() *cli.Command {
	return group(&cli.Command{
		Name:  "policy",
		Usage: "show what the daemon tells the mail server about TLS",
		Commands: []*cli.Command{{
			Name:      "query",
			Usage:     "show how mail for a domain is to be secured, and why",
			ArgsUsage: "DOMAIN",
			Flags:     controlFlags(),
			Action:    queryPolicy,
		}},
	})
}

func queryPolicy(ctx context.Context, c *cli.Command) error {
	name, err := onlyName(c)
	if err != nil {
		return err
	}
	var reply danelaw.PolicyReply
	path := "/v1/policy?" + url.Values{"name": {name}}.Encode()
	err = call(ctx, c, "GET", path, nil, &reply, func(to io.Writer) { printPolicy(to, &reply) })
	if err == nil && reply.Level == string(policy.Temp) {
		return errTold
	}
	return err
}

// printPolicy prints an answer of the policy service.
func printPolicy(to io.Writer, r *danelaw.PolicyReply) {
	fmt.Fprintf(to, "%s  %s\n%s\n", printable.Text(r.Domain), r.Level, printable.Text(r.Why))
	if s := r.STS; s != nil {
		fmt.Fprintf(to, "MTA-STS   %s, mx %s; id %s, fetched %s, held until %s UTC\n", s.Mode,
			printable.Text(strings.Join(s.MX, " ")), printable.Text(s.ID), s.Fetched.Format("2006-01-02 15:04"),
			s.Until.Format("2006-01-02 15:04"))
	}
	if r.Failure != "" {
		fmt.Fprintf(to, "%s  %s\n", printable.Text(r.ResultType), printable.Text(r.Failure))
	}
	fmt.Fprintf(to, "Postfix   %s\n", printable.Text(r.Postfix))
	if r.PostfixTLSRPT != r.Postfix {
		fmt.Fprintf(to, "3.10      %s\n", printable.Text(r.PostfixTLSRPT))
	}
}
