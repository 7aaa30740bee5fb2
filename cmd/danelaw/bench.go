package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
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
	workloads := strings.Join(bench.Workloads(), ", ")
	floods := strings.Join(bench.Floods(), ", ")
	return slices.Concat([]cli.Flag{
		&cli.StringSliceFlag{Name: "beside", Usage: "measure the danelaw at `PATH`, too; NAME=PATH gives it a name"},
		&cli.StringSliceFlag{Name: "peer", HideDefault: true, Usage: "measure `NAME`, too: " +
			strings.Join(server.Peers(), ", ") + " or none (default: all that are installed)"},
		&cli.StringSliceFlag{Name: "workload", HideDefault: true,
			Usage: "`NAME` is " + workloads + ", or one of " + floods + " (default: all)"},
		&cli.StringFlag{Name: "against", Usage: "measure the resolver that answers at `HOST:PORT`, and no other"},
		&cli.StringFlag{Name: "names", Usage: "with --against: ask about the mail domains in `FILE`, one a line " +
			"(default: a few well-known ones)"},
		&cli.BoolFlag{Name: "quick", Usage: "take a minute or so, for a first look"},
		&cli.IntFlag{Name: "rounds", Value: 3, Validator: positive,
			Usage: "each server does each workload `N` times; quarter, memory, algorithms and floods once, latency " +
				"at most twice"},
		&cli.DurationFlag{Name: "seconds", Value: 2 * time.Second, Validator: lasting,
			Usage: "ask cached questions for a `DURATION` each time"},
		&cli.IntFlag{Name: "in-flight", Value: 200, Usage: "cold: `N` deliveries at a time", Validator: positive},
		&cli.DurationFlag{Name: "delay", Value: 20 * time.Millisecond, Validator: lasting,
			Usage: "latency, policy: the upstream answers after a `DURATION`"},
		&cli.IntFlag{Name: "answers", Value: 100_000, Usage: "memory: `N` answers are cached", Validator: positive},
		&cli.BoolFlag{Name: "json", Usage: "print all samples, for a program"},
		&cli.StringFlag{Name: "save", Usage: "write them into `FILE`, beside the tables"},
		&cli.StringFlag{Name: "echo", Usage: "measure nothing, but be the echo at an `ADDRESS`"},
		&cli.IntFlag{Name: "echo-size", Usage: "the echo's replies have `N` octets"},
	}, universeFlags())
}

// universeFlags say what DNS is made up.
func universeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "domains", Value: 6000, Validator: positive,
			Usage: "`N` domains are in the DNS made up; latency has 500 of its own, algorithms 1000 at most"},
		&cli.FloatFlag{Name: "insecure", Value: universe.AsReal, HideDefault: true,
			Usage: "`SHARE` of domains that are not signed, 0 to 1 (default: as in com, cz, nl, se)"},
		&cli.FloatFlag{Name: "shared", Value: 0.6, Usage: "`SHARE` of domains whose mail host is a provider's, 0 to 1"},
		&cli.IntFlag{Name: "providers", HideDefault: true,
			Usage: "there are `N` of them (default, and always in latency and algorithms: a domain in 60)"},
		&cli.IntSliceFlag{Name: "algorithm", Value: []int{13}, HideDefault: true,
			Usage: "sign with algorithm `N`: 8, 10, 13, 14 or 15 (default: 13)"},
		&cli.StringFlag{Name: "denial", Value: string(universe.Mixed),
			Usage: "domains deny names by `KIND`: nsec, nsec3, opt-out or mixed"},
		&cli.StringFlag{Name: "tld-denial", Value: string(universe.Mixed), HideDefault: true,
			Usage: "so do top-level domains (default: mixed, as com, cz, nl, se do)"},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "draw names, keys and domains from `N`"},
	}
}

func positive(n int) error {
	if n < 1 {
		return errors.New("give a number from 1 on")
	}
	return nil
}

func lasting(d time.Duration) error {
	if d <= 0 {
		return errors.New("give a time above 0, such as 500ms")
	}
	return nil
}

func runBench(ctx context.Context, c *cli.Command) error {
	if at := c.String("echo"); at != "" {
		addr, err := netip.ParseAddrPort(at)
		if err != nil {
			return misused(c, "--echo %s: %v", at, err)
		}
		return server.RunEcho(ctx, addr, c.Int("echo-size"))
	}
	if err := savable(c.String("save")); err != nil {
		return misused(c, "--save: %v", err)
	}
	progress := func(what string, steps int) func(int) { return benchBar(c, what, steps) }
	if at := c.String("against"); at != "" {
		return runAgainst(ctx, c, at, progress)
	}
	if c.IsSet("names") {
		return misused(c, "--names is for --against HOST:PORT, which is not there")
	}
	config, err := benchConfigOf(c)
	if err != nil {
		return err
	}
	if err := config.Check(); err != nil {
		return misused(c, "%v", err)
	}
	report, err := bench.Run(ctx, config, progress)
	if err != nil {
		return cmp.Or(interrupted(ctx), err)
	}
	return cmp.Or(tellBench(c, report), interrupted(ctx))
}

// runAgainst measures a resolver that runs already.
func runAgainst(ctx context.Context, c *cli.Command, at string, progress bench.Progress) error {
	for _, flag := range c.LocalFlagNames() {
		if !slices.Contains(ofAgainst, flag) {
			return misused(c, "--%s says nothing of a resolver that runs already: leave it or --against out", flag)
		}
	}
	addr, err := net.ResolveUDPAddr("udp", at)
	if err != nil {
		return misused(c, "--against %s: %v", at, err)
	}
	if addr.IP == nil {
		return misused(c, "--against %s: no host; give HOST:PORT, such as 127.0.0.1%s", at, at)
	}
	domains, err := mailDomains(c)
	if err != nil {
		return err
	}
	config := bench.Config{Rounds: c.Int("rounds"), Hot: c.Duration("seconds")}
	to := netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), uint16(addr.Port))
	report, err := bench.Against(ctx, to, domains, config, progress)
	if err != nil {
		return cmp.Or(interrupted(ctx), err)
	}
	return cmp.Or(tellBench(c, report), interrupted(ctx))
}

// ofAgainst are the flags that say how a resolver is measured that runs already.
var ofAgainst = []string{"against", "names", "rounds", "seconds", "json", "save"}

// mailDomains are those that a resolver is asked about.
func mailDomains(c *cli.Command) ([]string, error) {
	file := c.String("names")
	if file == "" {
		return wellKnown, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, misused(c, "--names: %v", err)
	}
	domains := strings.Fields(string(text))
	if len(domains) == 0 {
		return nil, misused(c, "--names %s: it has no domain; write one a line", file)
	}
	return domains, nil
}

// wellKnown are mail domains whose records are worth asking for, signed or not.
var wellKnown = []string{
	"debian.org", "freebsd.org", "ietf.org", "isc.org", "mailbox.org", "nic.cz", "nlnetlabs.nl", "posteo.de",
	"gmail.com", "outlook.com",
}

func interrupted(ctx context.Context) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return nil
}

// savable says why a file cannot be written, before it takes long to have something to write. Nothing is left of it
// that was not there, and of what was there nothing is lost.
func savable(file string) error {
	if file == "" {
		return nil
	}
	_, before := os.Stat(file)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if err = f.Close(); errors.Is(before, fs.ErrNotExist) {
		err = cmp.Or(err, os.Remove(file))
	}
	return err
}

// tellBench prints what a run found. That it is void is an error.
func tellBench(c *cli.Command, report *bench.Report) (err error) {
	if c.Bool("json") {
		err = writeJSON(c.Root().Writer, benchViewOf(report))
	} else {
		err = report.Print(c.Root().Writer)
	}
	if file := c.String("save"); file != "" && err == nil {
		var text bytes.Buffer
		if err = writeJSON(&text, benchViewOf(report)); err == nil {
			err = os.WriteFile(file, text.Bytes(), 0o644)
		}
	}
	if err == nil && len(report.Void) > 0 {
		return fmt.Errorf("the run is void: %s", report.Void[0])
	}
	return err
}

func benchConfigOf(c *cli.Command) (bench.Config, error) {
	servers, err := contenders(c)
	if err != nil {
		return bench.Config{}, err
	}
	config := bench.Config{
		Servers: servers, Self: servers[0].Program, Workloads: c.StringSlice("workload"), Rounds: c.Int("rounds"),
		Hot: c.Duration("seconds"), InFlight: c.Int("in-flight"), Delay: c.Duration("delay"), Answers: c.Int("answers"),
		Universe: universeOf(c),
	}
	if c.Bool("quick") {
		quicken(c, &config)
	}
	return config, nil
}

// quicken makes a run short where the user has not said how long it is to be.
func quicken(c *cli.Command, config *bench.Config) {
	unless := func(flag string, shorten func()) {
		if !c.IsSet(flag) {
			shorten()
		}
	}
	unless("rounds", func() { config.Rounds = 1 })
	unless("seconds", func() { config.Hot = 500 * time.Millisecond })
	unless("domains", func() { config.Universe.Domains = 1000 })
	unless("providers", func() { config.Universe.Providers = max(1, config.Universe.Domains/perProvider) })
	unless("answers", func() { config.Answers = 10_000 })
	unless("workload", func() { config.Workloads = []string{"cold", "hot", "latency"} })
}

// perProvider is for how many domains there is a provider of mail hosts, by default.
const perProvider = 60

func universeOf(c *cli.Command) universe.Spec {
	providers := c.Int("providers")
	if providers == 0 {
		providers = max(1, c.Int("domains")/perProvider)
	}
	return universe.Spec{
		Seed: c.Uint64("seed"), Domains: c.Int("domains"), Insecure: c.Float("insecure"), Shared: c.Float("shared"),
		Providers: providers, Algorithms: c.IntSlice("algorithm"), Denial: universe.Denial(c.String("denial")),
		TopLevel: universe.Denial(c.String("tld-denial")), Now: time.Now(),
	}
}

// benchBar shows how far something is, and how long it may still take, to people at a terminal.
func benchBar(c *cli.Command, what string, steps int) func(int) {
	bar := newBar(c, what, steps)
	if bar == nil {
		return func(int) {}
	}
	return func(n int) { bar.Add(n) } //nolint:errcheck // it is for looks
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
		return installedPeers(c)
	}
	for _, name := range asked {
		if name == "none" {
			continue
		}
		peer, err := server.Peer(name)
		if errors.Is(err, server.ErrMissing) {
			return nil, err
		}
		if err != nil {
			return nil, misused(c, "--peer takes %s or none, not %q", strings.Join(server.Peers(), ", "), name)
		}
		all = append(all, peer)
	}
	return all, nil
}

// installedPeers are those that are there. Which are not is told.
func installedPeers(c *cli.Command) (all []server.Server, err error) {
	for _, name := range server.Peers() {
		peer, err := server.Peer(name)
		if err != nil {
			fmt.Fprintf(c.Root().ErrWriter, "danelaw bench: %v. It is not measured.\n", err)
			continue
		}
		all = append(all, peer)
	}
	return all, nil
}
