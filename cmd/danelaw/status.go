package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:   "status",
		Usage:  "show how the daemon is: ready or not and why, upstreams, cache, the last hour",
		Flags:  controlFlags(),
		Action: noArguments(showStatus),
	}
}

func showStatus(ctx context.Context, c *cli.Command) error {
	var reply danelaw.StatusReply
	err := call(ctx, c, "GET", "/v1/status", nil, &reply, func(to io.Writer) { printStatus(to, &reply) })
	return cmp.Or(err, toldUnless(reply.Ready))
}

func printStatus(out io.Writer, s *danelaw.StatusReply) {
	state := "ready"
	if !s.Ready {
		state = "not ready"
	}
	fmt.Fprintf(out, "danelaw %s\n%s; running for %s, since %s UTC\n", s.Version, state,
		s.Now.Sub(s.Since).Round(time.Second), minute(s.Since))
	for _, block := range slices.Sorted(maps.Keys(s.Blocks)) {
		printBlock(out, block, s.Blocks[block], s.Now)
	}
	fmt.Fprintln(out)
	printNTAs(out, s.NTAs, s.Now)
}

func printBlock(out io.Writer, block string, b *danelaw.BlockStatus, now time.Time) {
	fmt.Fprintf(out, "\n%s\n", block)
	if b.Obstacle != "" {
		fmt.Fprintf(out, "  %s\n", printable.Text(b.Obstacle))
	}
	rows := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, u := range b.Upstreams {
		fmt.Fprintf(rows, "  upstream\t%s\t%s\n", u.Upstream, u.State())
	}
	for _, zone := range slices.Sorted(maps.Keys(b.Anchors)) {
		anchors := cmp.Or(strings.Join(b.Anchors[zone], ", "), "none is supported: unsigned")
		fmt.Fprintf(rows, "  anchors\t%s\t%s\n", zone, anchors)
	}
	if len(b.Private) > 0 {
		fmt.Fprintf(rows, "  private\t%s\n", strings.Join(b.Private, ", "))
	}
	if b.Policies != nil {
		fmt.Fprintf(rows, "  policies\t%s\n", b.Policies)
	}
	used := b.Cache.Answers.Bytes + b.Cache.Zones.Bytes + b.Cache.Failures.Bytes + b.Cache.Proofs.Bytes +
		b.Cache.Signatures.Bytes
	fmt.Fprintf(rows, "  cache\t%s, %s\t%d of %d KiB, %s of all questions answered from it\n",
		counted(b.Cache.Answers.Entries, "answer"), counted(b.Cache.Zones.Entries, "zone"), used>>10,
		b.Cache.Limit>>10, cmp.Or(share(b.Cache.Hits, b.Cache.Misses), "none"))
	if b.Cache.Stale > 0 {
		fmt.Fprintf(rows, "  stale\t%.0f answers were told past their TTL, as no upstream answered\n", b.Cache.Stale)
	}
	fmt.Fprintf(rows, "  last hour\t%s\n", cmp.Or(mostFirst(b.Verdicts), "no question"))
	rows.Flush() //nolint:errcheck // see printer
	for _, concern := range b.Concerns {
		fmt.Fprintf(out, "  %s\n", printable.Text(concern))
	}
	if b.Policies != nil {
		for _, f := range b.Policies.Failures {
			fmt.Fprintf(out, "  %s ago  %s\n", now.Sub(f.At).Round(time.Second), printable.Text(f.String()))
		}
	}
	for _, f := range b.Failures {
		fmt.Fprintf(out, "  %s ago  %s\n", now.Sub(f.At).Round(time.Second),
			printable.Text(fmt.Sprintf("%s %s: %s", f.Name, f.Type, f.Text)))
	}
}
