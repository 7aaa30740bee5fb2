package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// hookDir is below where each host has its directory.
const hookDir = "/var/lib/danelaw-tlsa"

// leastMargin is what has to pass beside TTLs, by default: deliveries last some time after their lookups.
const leastMargin = 5 * time.Minute

func hookCommand() *cli.Command {
	return &cli.Command{
		Name:      "hook",
		Usage:     "bring a renewed certificate into use without breaking TLSA, for certbot, acme.sh and lego",
		ArgsUsage: "[FULLCHAIN KEY]",
		Flags: slices.Concat([]cli.Flag{confFlag(), upstreamFlag()}, probeFlags(), []cli.Flag{
			&cli.StringSliceFlag{Name: "host", Usage: "the certificate is that of the mail host `NAME`, as MX " +
				"records have it"},
			&cli.IntSliceFlag{Name: "port", Value: []int{mail.Port}, Usage: "there are records for port `N`"},
			stringFlag("dir", "keep state and certificates in `DIR` (default: "+hookDir+"/NAME)"),
			stringFlag("group", "members of `GROUP` may read the key, as Debian-exim"),
			intFlag("usage", 3, "`N` is 3 for the host's own certificate (DANE-EE), 2 for its authority's (DANE-TA)",
				nil),
			intFlag("selector", 1, "`N` is 1 for the public key, 0 for the whole certificate", nil),
			intFlag("matching", 1, "`N` is 1 for SHA-256, 2 for SHA-512, 0 for the thing itself", nil),
			&cli.IntFlag{Name: "ttl", Usage: "publish with a TTL of `SECONDS` (default: that of the records there, " +
				"or 3600)", HideDefault: true},
			&cli.StringSliceFlag{Name: "primary", Usage: "publish by updates to the primary at `ADDR[:PORT]`, with " +
				"--tsig"},
			stringFlag("tsig", "sign updates with the key in `FILE`, as tsig-keygen or keymgr writes it"),
			stringFlag("publish", "publish by `COMMAND`, which a shell runs"),
			stringFlag("reload", "have the mail server read its files by `COMMAND`, which a shell runs"),
			&cli.StringSliceFlag{Name: "at", Usage: "look at the certificate in use at `ADDR[:PORT]` (default: " +
				"port 25 of the host's addresses)"},
			&cli.DurationFlag{Name: "margin", Value: leastMargin, Usage: "let so `LONG` pass beside the TTL, and " +
				"before old records go", Validator: checkMargin},
			boolFlag("stay", "wait here for what has to pass, in the place of exit code 3"),
			boolFlag("defer", "exit with 0 in the place of 3: a timer runs this again"),
		}),
		Action: runHook,
	}
}

func checkMargin(d time.Duration) error {
	if d < 0 || d > 24*time.Hour {
		return errors.New("give 0s to 24h, such as 5m")
	}
	return nil
}

// outside is what the hook meets; it is another in tests.
var outside = struct {
	ask   askDirectly
	now   func() time.Time
	pause func(ctx context.Context, d time.Duration) bool // false if ctx ends before
}{exchangeDirectly, time.Now, pause}

// hook brings the certificates of one mail host into use.
type hook struct {
	c         *cli.Command
	hosts     []string // canonical
	kind      tlsaPlan // what all plans have in common
	store     *store
	given     *pair     // the renewed one, if the hook was called with one
	publisher publisher // nil: records are published by hand
	primaries []netip.AddrPort
	at        []netip.AddrPort // where the host is looked at; none: at its addresses
	*asker
}

func runHook(ctx context.Context, c *cli.Command) error {
	h := &hook{c: c}
	ours, err := h.read(ctx)
	if err != nil || !ours {
		return err
	}
	if h.asker, err = openAsker(ctx, c); err != nil {
		return err
	}
	defer h.close()
	return h.run(ctx)
}

// errLater is the end of a run after which another has to come.
var errLater = fmt.Errorf("not yet complete: %w", errTold)

// run goes on until all is done, or until something has to be waited for.
func (h *hook) run(ctx context.Context) error {
	for {
		again, err := h.round(ctx)
		if err != nil {
			return err
		}
		if again.IsZero() {
			return nil
		}
		wait := again.Sub(outside.now())
		if !h.c.Bool("stay") {
			h.say("run this again at %s UTC", minute(again.Add(time.Minute-1)))
			if h.c.Bool("defer") {
				return nil
			}
			return errLater
		}
		if err := h.c.Root().Writer.(*printer).Flush(); err != nil {
			return err
		}
		if !outside.pause(ctx, max(wait, 0)) {
			return errInterrupted
		}
	}
}

// say tells what is done.
func (h *hook) say(format string, args ...any) {
	fmt.Fprintf(h.c.Root().Writer, "%s\n", printable.Text(fmt.Sprintf(format, args...)))
}

// warn tells what an operator should know besides.
func (h *hook) warn(format string, args ...any) {
	fmt.Fprintf(h.c.Root().ErrWriter, "danelaw: %s\n", printable.Text(fmt.Sprintf(format, args...)))
}

// read reads the command line and the environment that clients of authorities make. Ours is false if it is the
// certificate of another host that was renewed.
func (h *hook) read(ctx context.Context) (ours bool, err error) {
	if err := h.readHosts(); err != nil {
		return false, err
	}
	if err := cmp.Or(h.kind.readTTL(h.c), h.kind.readKind(h.c), h.readPublisher()); err != nil {
		return false, err
	}
	for _, text := range h.c.StringSlice("at") {
		at, err := parseAt(text)
		if err != nil {
			return false, err
		}
		h.at = append(h.at, at)
	}
	return h.readRenewed(ctx)
}

// readHosts reads whose certificate it is, and for which ports.
func (h *hook) readHosts() error {
	c := h.c
	for _, name := range c.StringSlice("host") {
		host, err := mailHost(name)
		if err != nil {
			return err
		}
		h.hosts = append(h.hosts, host)
	}
	if len(h.hosts) == 0 {
		return misused(c, "say with --host which mail host has the certificate")
	}
	for _, port := range c.IntSlice("port") {
		if err := checkPort(port); err != nil {
			return wrong("--port: %w", err)
		}
	}
	return nil
}

// parseAt reads where a host is looked at.
func parseAt(text string) (at netip.AddrPort, err error) {
	host, port, err := splitTarget(text)
	if err != nil {
		return at, err
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return at, wrong("--at %s: write an address, such as 127.0.0.1 or [::1]:25", text)
	}
	return netip.AddrPortFrom(a, port), nil
}

// readPublisher reads how records are published.
func (h *hook) readPublisher() error {
	c := h.c
	for _, text := range c.StringSlice("primary") {
		at, err := parsePrimary(text)
		if err != nil {
			return wrong("--primary: %w", err)
		}
		h.primaries = append(h.primaries, at)
	}
	switch command := c.String("publish"); {
	case command != "" && len(h.primaries) > 0:
		return misused(c, "--primary and --publish are two ways to publish: leave out one")
	case command != "":
		h.publisher = &commanded{command, shellTo(c.Root().ErrWriter)}
	case len(h.primaries) > 0 && !c.IsSet("tsig"):
		return misused(c, "--primary needs --tsig FILE, the key that signs updates")
	case len(h.primaries) > 0:
		key, err := readTSIG(c.String("tsig"))
		if err != nil {
			return fmt.Errorf("--tsig: %w", err)
		}
		h.publisher = &primaries{h.primaries, key}
	case c.IsSet("tsig"):
		return misused(c, "--tsig signs updates: say with --primary where they go")
	}
	return nil
}

// renewedFiles are where a client has put a renewed certificate: the arguments, else what certbot, acme.sh and lego
// tell hooks. Client is empty if nothing was renewed.
func renewedFiles(c *cli.Command) (chain, key, client string, err error) {
	if args := c.Args().Slice(); len(args) > 0 {
		if len(args) != 2 {
			return "", "", "", misused(c, "hook takes the certificate with those above it, and its key: two files")
		}
		return args[0], args[1], "the command line", nil
	}
	if dir := os.Getenv("RENEWED_LINEAGE"); dir != "" {
		return filepath.Join(dir, chainFile), filepath.Join(dir, keyFile), "certbot", nil
	}
	for _, v := range []struct{ chain, key, client string }{
		{"CERT_FULLCHAIN_PATH", "CERT_KEY_PATH", "acme.sh"},
		{"LEGO_CERT_PATH", "LEGO_CERT_KEY_PATH", "lego"},
	} {
		chain, key = os.Getenv(v.chain), os.Getenv(v.key)
		if chain == "" {
			continue
		}
		if key == "" {
			return "", "", "", fmt.Errorf("%s is set, and %s is not: %s sets both", v.chain, v.key, v.client)
		}
		return chain, key, v.client, nil
	}
	return "", "", "", nil
}

// readRenewed reads the renewed certificate, if there is one, and opens the store. Ours is false if a client has
// renewed the certificate of another host: hooks are called for all.
func (h *hook) readRenewed(ctx context.Context) (ours bool, err error) {
	chain, key, client, err := renewedFiles(h.c)
	if err == nil && client != "" {
		h.given, err = readPair(ctx, chain, key, outside.now())
	}
	if err != nil {
		return false, err
	}
	dir := h.c.String("dir")
	if dir == "" {
		dir = filepath.Join(hookDir, strings.TrimSuffix(h.hosts[0], "."))
	}
	if h.given != nil && client != "the command line" && !h.forThisHost() {
		h.say("the certificate that %s has renewed is for %s, not for %s: it is left to others", client,
			strings.Join(h.given.identity.chain[0].DNSNames, ", "), strings.Join(h.hosts, ", "))
		return false, nil
	}
	h.store, err = openStore(dir, h.c.String("group"))
	return err == nil, err
}

// forThisHost reports whether the renewed certificate has the name of one of the hosts.
func (h *hook) forThisHost() bool {
	return slices.ContainsFunc(h.hosts, func(host string) bool {
		return h.given.identity.chain[0].VerifyHostname(strings.TrimSuffix(host, ".")) == nil
	})
}

// soon is when to look again at what should be a matter of moments.
func soon() time.Time { return outside.now().Add(time.Minute) }

// round does what can be done now. It returns when there may be more to do; the zero time if all is done.
func (h *hook) round(ctx context.Context) (again time.Time, err error) {
	unlock, err := h.store.lock(ctx, func() {
		h.warn("another hook is at work on %s: waiting for its end", h.store.dir)
	})
	if err != nil {
		return again, err
	}
	defer unlock()
	r, err := h.store.read()
	if err != nil {
		return again, err
	}
	if err := h.take(r); err != nil {
		return again, err
	}
	switch {
	case r.Next == "":
		return again, fmt.Errorf("%s holds no certificate yet: name the two files of the one in use now, such as "+
			"fullchain.pem privkey.pem", h.store.dir)
	case r.Done:
		h.say("nothing to do: since %s UTC the host shows the certificate that was taken last", minute(r.Shown))
		return again, nil
	}
	w, err := h.work(ctx, r)
	if err != nil {
		return again, err
	}
	for _, step := range []func(context.Context) (time.Time, error){
		w.publish, w.hold, w.install, w.settle, w.retire,
	} {
		if again, err = step(ctx); err != nil || !again.IsZero() {
			return again, err
		}
	}
	return again, nil
}

// take keeps the certificate that the hook was called with.
func (h *hook) take(r *renewal) error {
	p := h.given
	h.given = nil
	if p == nil || p.id == r.Next {
		return nil
	}
	if err := h.store.keep(p); err != nil {
		return err
	}
	// What was begun for another ends with this one. A cache may still hold what it could have held for that.
	next := renewal{Next: p.id, Records: r.Records, Cached: r.Cached}
	if r.Seen.IsZero() {
		next.TTL = r.TTL
	}
	*r = next
	if err := h.store.save(r); err != nil {
		return err
	}
	reached("taken")
	h.say("%s is taken", p)
	return nil
}
