package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func flushCommand() *cli.Command {
	return &cli.Command{
		Name:      "flush",
		Usage:     "have the daemon forget what it has cached of a name",
		ArgsUsage: "NAME",
		Flags:     controlFlags(),
		Action:    flush,
	}
}

func cacheCommand() *cli.Command {
	return group(&cli.Command{
		Name:  "cache",
		Usage: "show what the daemon has cached",
		Commands: []*cli.Command{{
			Name:   "stats",
			Usage:  "show how much it is",
			Flags:  controlFlags(),
			Action: noArguments(showStats),
		}, {
			Name:      "dump",
			Usage:     "show what is cached of a name and of all names below it",
			ArgsUsage: "NAME",
			Flags: controlFlags(
				intFlag("limit", 1000, "show at most `N` entries of each server block", within("limit", 1, 10000))),
			Action: dump,
		}},
	})
}

func flush(ctx context.Context, c *cli.Command) error {
	name, err := onlyName(c)
	if err != nil {
		return err
	}
	var reply danelaw.FlushReply
	path := "/v1/flush?" + url.Values{"name": {name}}.Encode()
	return call(ctx, c, "POST", path, nil, &reply, func(to io.Writer) {
		for _, block := range slices.Sorted(maps.Keys(reply.Blocks)) {
			n := reply.Blocks[block]
			fmt.Fprintf(to, "%s: forgotten of %s and all below: %s, %s, %s\n", block, dns.CanonicalName(name),
				counted(n.Answers, "answer"), counted(n.Zones, "zone"), counted(n.Failures, "failure"))
		}
	})
}

func showStats(ctx context.Context, c *cli.Command) error {
	var reply danelaw.CacheReply
	return call(ctx, c, "GET", "/v1/cache", nil, &reply, func(to io.Writer) { printStats(to, &reply) })
}

func printStats(to io.Writer, reply *danelaw.CacheReply) {
	rows := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(rows, "\tentries\tKiB\t")
	for _, block := range slices.Sorted(maps.Keys(reply.Blocks)) {
		s := reply.Blocks[block]
		fmt.Fprintf(rows, "%s answers\t%d\t%d\t\n", block, s.Answers.Entries, s.Answers.Bytes>>10)
		fmt.Fprintf(rows, "zones\t%d\t%d\t\n", s.Zones.Entries, s.Zones.Bytes>>10)
		fmt.Fprintf(rows, "failures\t%d\t%d\t\n", s.Failures.Entries, s.Failures.Bytes>>10)
		fmt.Fprintf(rows, "proofs\t%d\t%d\t\n", s.Proofs.Entries, s.Proofs.Bytes>>10)
		fmt.Fprintf(rows, "signatures\t%d\t%d\t\n", s.Signatures.Entries, s.Signatures.Bytes>>10)
		fmt.Fprintf(rows, "at most\t\t%d\t\n", s.Limit>>10)
		fmt.Fprintf(rows, "questions answered from it\t%.0f\t%s\t\n", s.Hits, share(s.Hits, s.Misses))
		fmt.Fprintf(rows, "stale answers\t%.0f\t\t\n", s.Stale)
	}
	rows.Flush() //nolint:errcheck // see printer
}

// share says which part of all questions hits are.
func share(hits, misses float64) string {
	if hits+misses == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*hits/(hits+misses))
}

func dump(ctx context.Context, c *cli.Command) error {
	name, err := onlyName(c)
	if err != nil {
		return err
	}
	var reply danelaw.DumpReply
	path := "/v1/cache/dump?" + url.Values{"name": {name}, "limit": {fmt.Sprint(c.Int("limit"))}}.Encode()
	return call(ctx, c, "GET", path, nil, &reply, func(to io.Writer) {
		for _, block := range slices.Sorted(maps.Keys(reply.Blocks)) {
			dumpBlock(to, block, name, reply.Blocks[block])
		}
	})
}

// dumpBlock prints what one server block has, in the form of a zone file.
func dumpBlock(out io.Writer, block, name string, d danelaw.DumpBlock) {
	if d.Found == 0 {
		fmt.Fprintf(out, "; %s has nothing of %s and the names below\n", block, dns.CanonicalName(name))
		return
	}
	fmt.Fprintf(out, "; %s, %d entries\n", block, d.Found)
	for _, e := range d.Entries {
		kind := cmp.Or(e.Type, "(any type)")
		fmt.Fprintf(out, "\n; %s, for %d s\n",
			printable.Text(fmt.Sprintf("%s %s: %s, %s", e.Name, kind, e.Status, e.Rcode)), e.TTL)
		for _, note := range e.Notes {
			fmt.Fprintf(out, "; %s\n", printable.Text(note))
		}
		for _, rr := range e.Records {
			fields := strings.Split(rr, "\t")
			for i, field := range fields {
				fields[i] = printable.Text(field)
			}
			fmt.Fprintln(out, strings.Join(fields, "\t"))
		}
	}
	if d.Found > len(d.Entries) {
		fmt.Fprintf(out, "\n; %d more are not shown, see --limit\n", d.Found-len(d.Entries))
	}
}
