package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func ntaCommand() *cli.Command {
	return group(&cli.Command{
		Name:  "nta",
		Usage: "leave a broken zone unvalidated for a while (negative trust anchors)",
		Commands: []*cli.Command{{
			Name:      "add",
			Usage:     "leave a zone, and all below it, unvalidated",
			ArgsUsage: "ZONE [DURATION [REASON]]",
			Flags: controlFlags(boolFlag("keep",
				"do not drop it when the zone validates: it may fail for other names or types, such as TLSA alone")),
			Action: addNTA,
		}, {
			Name:   "list",
			Usage:  "show all, with what came when they were tested",
			Flags:  controlFlags(),
			Action: noArguments(listNTAs),
		}, {
			Name:      "remove",
			Usage:     "validate a zone again",
			ArgsUsage: "ZONE",
			Flags:     controlFlags(),
			Action:    removeNTA,
		}},
	})
}

func addNTA(ctx context.Context, c *cli.Command) error {
	args := c.Args().Slice()
	if len(args) < 1 {
		return misused(c, "nta add takes a zone, and perhaps a duration and a reason")
	}
	zone, err := domainName(args[0])
	if err != nil {
		return err
	}
	in := danelaw.NTARequest{Zone: zone, Life: "1h", Keep: c.Bool("keep")}
	if len(args) > 1 {
		if _, err := time.ParseDuration(args[1]); err != nil {
			return wrong("%q is not a duration such as 30m or 24h, which stands before the reason", args[1])
		}
		if _, err := danelaw.NTALife(args[1]); err != nil {
			return usageError{err}
		}
		in.Life, in.Reason = args[1], strings.Join(args[2:], " ")
	}
	var reply danelaw.NTAReply
	return call(ctx, c, "POST", "/v1/nta", in, &reply, func(to io.Writer) { printAdded(to, &reply) })
}

// domainName reads a name of the command line.
func domainName(text string) (string, error) {
	name, err := parseName(text)
	if err != nil {
		return "", usageError{err}
	}
	return name, nil
}

func printAdded(out io.Writer, reply *danelaw.NTAReply) {
	for _, n := range reply.NTAs {
		fmt.Fprintf(out, "%s and all below are not validated until %s UTC\n", printable.Text(n.Zone), minute(n.Until))
		for _, test := range n.Tests {
			fmt.Fprintf(out, "  %s\n", printable.Text(fmt.Sprintf("%s %s: %s", test.Name, test.Type, test.Result)))
		}
		switch {
		case reply.Well && !n.Keep:
			fmt.Fprintln(out, "All of this validates: the negative trust anchor will be dropped in five minutes. If "+
				"something else fails, add it with --keep.")
		case !n.Keep:
			fmt.Fprintln(out, "It is dropped before, once this validates.")
		}
	}
	if !reply.Kept {
		fmt.Fprintln(out, "It does not outlive a restart of the daemon: there is no trust_anchor_state in its "+
			"Corefile, or it cannot be written.")
	}
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func listNTAs(ctx context.Context, c *cli.Command) error {
	var reply danelaw.NTAReply
	return call(ctx, c, "GET", "/v1/nta", nil, &reply, func(to io.Writer) { printNTAs(to, reply.NTAs, time.Now()) })
}

func printNTAs(to io.Writer, all []danelaw.NTA, now time.Time) {
	if len(all) == 0 {
		fmt.Fprintln(to, "There is no negative trust anchor: all is validated.")
		return
	}
	rows := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(rows, "ZONE\tUNTIL (UTC)\tLEFT\tFROM\tREASON")
	for _, n := range all {
		left, from := n.Until.Sub(now).Round(time.Second).String(), "nta add"
		if n.Over != "" || n.Until.Before(now) {
			left = "over"
		}
		if n.Block != "" {
			from = "Corefile"
		}
		if n.Keep {
			from += ", keep"
		}
		fmt.Fprintf(rows, "%s\t%s\t%s\t%s\t%s\n", printable.Text(n.Zone), minute(n.Until), left, from,
			printable.Text(n.Reason))
	}
	rows.Flush() //nolint:errcheck // see printer
	for _, n := range all {
		for _, test := range n.Tests {
			if !n.Tested.IsZero() && n.Over == "" {
				fmt.Fprintf(to, "\n%s\n", printable.Text(fmt.Sprintf("%s %s, tested %s: %s", test.Name, test.Type,
					minute(n.Tested), test.Result)))
			}
		}
	}
}

func removeNTA(ctx context.Context, c *cli.Command) error {
	zone, err := onlyName(c)
	if err != nil {
		return err
	}
	path := "/v1/nta?" + url.Values{"zone": {zone}}.Encode()
	return call(ctx, c, "DELETE", path, nil, new(danelaw.NTAReply), func(to io.Writer) {
		fmt.Fprintf(to, "%s and all below are validated again\n", zone)
	})
}

// onlyName returns the only argument, which is a domain name.
func onlyName(c *cli.Command) (string, error) {
	if c.NArg() != 1 {
		return "", misused(c, "%s takes one name, not %d", short(c), c.NArg())
	}
	return domainName(c.Args().First())
}
