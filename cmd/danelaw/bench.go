package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/bench"
	"github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/bench/universe"
)

func benchCommand() *cli.Command {
	return &cli.Command{
		Name:   "bench",
		Usage:  "measure what validation costs, beside other resolvers",
		Flags:  benchFlags(),
		Action: noArguments(runBench),
	}
}

func benchFlags() []cli.Flag {
	workloads := strings.Join(bench.Workloads(), " or ")
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "beside", Usage: "measure the danelaw at `PATH`, too; NAME=PATH gives it a name"},
		&cli.StringSliceFlag{Name: "peer", Usage: "measure `NAME`, too: unbound (default) or none", HideDefault: true},
		&cli.StringSliceFlag{Name: "workload", Usage: "`NAME` is " + workloads + " (default: both)", HideDefault: true},
		&cli.IntFlag{Name: "rounds", Value: 5, Usage: "each server does each workload `N` times", Validator: positive},
		&cli.DurationFlag{Name: "seconds", Value: 4 * time.Second, Usage: "hot: each time for a `DURATION`"},
		&cli.IntFlag{Name: "in-flight", Value: 200, Usage: "cold: `N` deliveries at a time", Validator: positive},
		&cli.DurationFlag{Name: "delay", Usage: "the upstream answers after a `DURATION`", HideDefault: true},
		&cli.IntFlag{Name: "domains", Value: 6000, Usage: "`N` domains are in the DNS made up", Validator: positive},
		&cli.FloatFlag{Name: "insecure", Value: 0.6, Usage: "`SHARE` of domains that are not signed, 0 to 1"},
		&cli.FloatFlag{Name: "shared", Value: 0.6, Usage: "`SHARE` of domains whose mail host is a provider's, 0 to 1"},
		&cli.IntFlag{Name: "providers", Usage: "there are `N` of them (default: a domain in 60)", HideDefault: true},
		&cli.IntFlag{Name: "algorithm", Value: 13, Usage: "sign with algorithm `N`: 8, 10, 13, 14 or 15"},
		&cli.StringFlag{Name: "denial", Value: string(universe.Mixed), Usage: "`KIND` is nsec, nsec3 or mixed"},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "draw names, keys and domains from `N`"},
		&cli.BoolFlag{Name: "json", Usage: "print all samples, for a program"},
	}
}

func positive(n int) error {
	if n < 1 {
		return errors.New("give a number from 1 on")
	}
	return nil
}

func runBench(ctx context.Context, c *cli.Command) error {
	servers, err := contenders(c)
	if err != nil {
		return err
	}
	config := bench.Config{
		Servers: servers, Workloads: c.StringSlice("workload"), Rounds: c.Int("rounds"), Hot: c.Duration("seconds"),
		InFlight: c.Int("in-flight"), Delay: c.Duration("delay"), Universe: universeOf(c),
	}
	if err := config.Check(); err != nil {
		return misused(c, "%v", err)
	}
	report, err := bench.Run(ctx, config, func(what string, steps int) func() { return progressBar(c, what, steps) })
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = writeJSON(c.Root().Writer, benchViewOf(report))
	} else {
		err = report.Print(c.Root().Writer)
	}
	if err == nil && len(report.Void) > 0 {
		return fmt.Errorf("the run is void: %s", report.Void[0])
	}
	return err
}

func universeOf(c *cli.Command) universe.Spec {
	providers := c.Int("providers")
	if providers == 0 {
		providers = max(1, c.Int("domains")/60)
	}
	return universe.Spec{
		Seed: c.Uint64("seed"), Domains: c.Int("domains"), Insecure: c.Float("insecure"), Shared: c.Float("shared"),
		Providers: providers, Algorithm: c.Int("algorithm"), Denial: universe.Denial(c.String("denial")),
		Now: time.Now(),
	}
}

// contenders are the servers that are to be measured, this danelaw first.
func contenders(c *cli.Command) ([]server.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := []server.Server{server.Danelaw("danelaw", self)}
	for _, given := range c.StringSlice("beside") {
		name, path, named := strings.Cut(given, "=")
		if !named {
			name, path = filepath.Base(given), given
		}
		if path, err = exec.LookPath(path); err != nil {
			return nil, misused(c, "--beside %s: it is no program: %v", given, err)
		}
		all = append(all, server.Danelaw(name, path))
	}
	peers, err := peers(c)
	if err != nil {
		return nil, err
	}
	all = append(all, peers...)
	for i, s := range all {
		if slices.ContainsFunc(all[:i], func(o server.Server) bool { return o.Name == s.Name }) {
			return nil, misused(c, "two servers are named %s; --beside NAME=PATH gives one another name", s.Name)
		}
	}
	return all, nil
}

// peers are the servers of others. One that is asked for has to be there.
func peers(c *cli.Command) (all []server.Server, err error) {
	asked := c.StringSlice("peer")
	if len(asked) == 0 {
		unbound, err := server.Unbound()
		if err != nil {
			fmt.Fprintf(c.Root().ErrWriter, "danelaw bench: %v. danelaw is measured without a peer.\n", err)
			return nil, nil
		}
		return append(all, unbound), nil
	}
	for _, name := range asked {
		switch name {
		case server.UnboundName:
			unbound, err := server.Unbound()
			if err != nil {
				return nil, err
			}
			all = append(all, unbound)
		case "none":
		default:
			return nil, misused(c, "--peer takes unbound or none, not %q", name)
		}
	}
	return all, nil
}
