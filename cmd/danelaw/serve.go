package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	systemd "github.com/coreos/go-systemd/v22/daemon"
	psnet "github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/plugin/upstream"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "answer the mail server of this host (the default)",
		Flags: append([]cli.Flag{
			confFlag(),
			upstreamFlag(),
			intFlag("port", 53, "listen on port `N` where the Corefile names none", checkPort),
			boolFlag("validate", "check the configuration, without listening or asking anything, and exit"),
			boolFlag("print-default-config", "print the Corefile that is used without --conf, and exit"),
			stringFlag("user", "started by root: run as `NAME`, who keeps the right to bind port 53 and no other "+
				"(Linux)"),
		}, outputFlags()...),
		Action: serve,
	}
}

func confFlag() cli.Flag {
	return stringFlag("conf", "take the Corefile `FILE`, or stdin (also -)")
}

func upstreamFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "upstream", Aliases: []string{"server"},
		Usage: "without --conf: ask `ADDR`, such as 192.0.2.53 or tls://9.9.9.9%dns.quad9.net"}
}

func boolFlag(name, usage string) cli.Flag { return &cli.BoolFlag{Name: name, Usage: usage} }

func stringFlag(name, usage string) cli.Flag { return &cli.StringFlag{Name: name, Usage: usage} }

func intFlag(name string, value int, usage string, check func(int) error) cli.Flag {
	return &cli.IntFlag{Name: name, Value: value, Usage: usage, Validator: check}
}

var checkPort = within("port", 1, 65535)

// within checks the number of a flag.
func within(what string, least, most int) func(n int) error {
	return func(n int) error {
		if n < least || n > most {
			return fmt.Errorf("%d is no %s, they go from %d to %d", n, what, least, most)
		}
		return nil
	}
}

func serve(ctx context.Context, c *cli.Command) error {
	if c.Args().Present() {
		return unknownCommand(c.Root(), c.Args().First())
	}
	if c.IsSet("user") {
		if err := become(c.String("user")); err != nil {
			return err
		}
	}
	dnsserver.Port = fmt.Sprint(c.Int("port"))
	if c.Bool("print-default-config") {
		d, err := newDefaults(c.Int("port"), c.StringSlice("upstream"))
		if err == nil {
			_, err = io.WriteString(c.Root().Writer, d.corefile())
		}
		return err
	}
	o, restore, err := logTo(c.Root().ErrWriter, c)
	if err != nil {
		return err
	}
	defer restore()
	src, err := configuration(ctx, c, !c.Bool("validate"))
	switch {
	case err == nil && c.Bool("validate"):
		err = validate(ctx, src, c.Root().Writer)
	case err == nil:
		err = daemon(ctx, src, func(i *caddy.Instance) {
			log.Printf("[INFO] %s: danelaw listens on %s", danelaw.ThisBuild(), strings.Join(addresses(i), ", "))
		})
	}
	return o.told(err)
}

// told is an error that has been logged where the log is for programs, which would not understand it otherwise.
func (o *output) told(err error) error {
	if err == nil || o.form == formText || errors.As(err, new(usageError)) {
		return err
	}
	log.Printf("[ERROR] %s", printable.Text(strings.ReplaceAll(inWords(err), "\n", "; ")))
	return errTold
}

// configuration returns the Corefile that the flags --conf, --upstream and --port ask for; toServe says that it is to
// be served here and now.
func configuration(ctx context.Context, c *cli.Command, toServe bool) (*source, error) {
	upstreams := c.StringSlice("upstream")
	if c.IsSet("conf") {
		if len(upstreams) > 0 {
			return nil, wrong("--upstream is for the default configuration; with --conf write it into the Corefile")
		}
		return openSource(ctx, c.String("conf"))
	}
	d, err := newDefaults(max(c.Int("port"), 1), upstreams)
	if err != nil {
		return nil, err
	}
	if toServe {
		d.leaveOutTaken()
	}
	src := fixedSource("the default configuration", d.corefile())
	if len(upstreams) == 0 {
		src.made = d.again
	}
	return src, nil
}

// validate runs all checks of a start.
func validate(ctx context.Context, src *source, to io.Writer) error {
	blocks, err := setUp(ctx, src, danelaw.Validate)
	if err != nil {
		return err
	}
	blocks.Close()
	if len(blocks) == 0 {
		return fmt.Errorf("%s: no server block has the directive danelaw", src.name)
	}
	fmt.Fprintf(to, "%s is valid\n", src.name)
	return nil
}

// daemon serves until ctx ends; up is called once it answers. A reader of stdout or stderr who goes away does not end
// it, and whatever hangs while it starts or reloads does not keep it from ending.
func daemon(ctx context.Context, src *source, up func(*caddy.Instance)) error {
	signal.Ignore(syscall.SIGPIPE)
	danelaw.BoundMemory()
	danelaw.SpareCollector()
	if err := upstream.KeepFiles(); err != nil {
		log.Printf("[WARNING] the bound on open files stays as it was: %v", err)
	}
	caddy.RegisterCaddyfileLoader("danelaw", src) // for the plugin reload
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGUSR1, syscall.SIGHUP)
	defer signal.Stop(reloads)
	if ended, err := unlessEnded(ctx, func() error { return begin(ctx, src, up) }); ended || err != nil {
		return err
	}
	defer stop()
	manage(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		reloadUntil(ctx, src, reloads)
	}()
	<-ctx.Done()
	tell(systemd.SdNotifyStopping)
	select {
	case <-ended:
	case <-time.After(reloadPatience):
	}
	return nil
}

// reloadUntil reloads, one time after the other, when a signal asks for it or the system has other nameservers.
func reloadUntil(ctx context.Context, src *source, signals <-chan os.Signal) {
	changes := make(chan string)
	go followSystem(ctx, src, changes)
	for {
		select {
		case s := <-signals:
			reload(src, unix.SignalName(s.(syscall.Signal)))
		case why := <-changes:
			restart(src, why)
		case <-ctx.Done():
			return
		}
	}
}

// begin starts service.
func begin(ctx context.Context, src *source, up func(*caddy.Instance)) error {
	input, err := src.Load(serverType)
	if err != nil {
		return err
	}
	i, err := caddy.Start(input)
	if err != nil {
		return explainStart(err)
	}
	if err := loops(ctx); err != nil {
		stop()
		return err
	}
	up(i)
	return nil
}

// loopPatience is how long a start waits for a question that may come back: one that does takes no longer on its way
// through this host.
var loopPatience = 300 * time.Millisecond // more in a test

func loops(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loopPatience)
	defer cancel()
	return danelaw.Loops(ctx)
}

// reloadPatience is how long the end of the daemon waits for a reload, which would otherwise serve on.
const reloadPatience = 5 * time.Second

// addresses lists where an instance listens.
func addresses(i *caddy.Instance) (all []string) {
	for _, s := range i.Servers() {
		for _, a := range []net.Addr{s.LocalAddr(), s.Addr()} {
			if a != nil && !slices.Contains(all, a.String()) {
				all = append(all, a.String())
			}
		}
	}
	slices.Sort(all)
	return all
}

// reload reads the Corefile anew, as a signal asks.
func reload(src *source, signal string) {
	if !src.again() {
		log.Printf("[WARNING] %s: %s cannot be read again: it is kept; start with --conf FILE to have one that can",
			signal, printable.Text(src.name))
		return
	}
	restart(src, signal)
}

// restart serves with what the Corefile says now, for a reason. What is wrong with it is logged, and the old one stays.
func restart(src *source, why string) {
	input, err := src.Load(serverType)
	if err != nil {
		log.Printf("[ERROR] %s: %s: the configuration is kept", why, printable.Text(inWords(err)))
		danelaw.ReloadFailed()
		return
	}
	for _, i := range caddy.Instances() { // not the one of the start: the plugin reload may have replaced it
		if _, err := i.Restart(input); err != nil {
			log.Printf("[ERROR] %s: %s: the configuration is kept", why, printable.Text(explainStart(err).Error()))
		}
	}
}

// stop ends all service: no new questions, those in flight are answered, then the plugins end.
func stop() {
	for _, i := range caddy.Instances() {
		err := i.Stop()
		for _, err := range append(i.ShutdownCallbacks(), err) {
			if err != nil {
				log.Printf("[ERROR] while stopping: %s", printable.Text(err.Error()))
			}
		}
	}
}

// heldBy says who has a socket at an address, " by NAME (process 123)", as far as this process may know it.
func heldBy(network, address string) string {
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	names := holders(network, addr)
	if len(names) == 0 {
		return fmt.Sprintf(" by a process of another user; as root, `ss -lpn sport = %d` names it", addr.Port())
	}
	return " by " + strings.Join(names, ", ")
}

// overlap reports whether a socket at a keeps another from being bound at b.
func overlap(a, b netip.Addr) bool { return a == b || a.IsUnspecified() || b.IsUnspecified() }

// holders names the processes, this one left out, that have a socket in the way of another at an address. Of other
// users' only root is told.
func holders(network string, at netip.AddrPort) (names []string) {
	sockets, err := psnet.Connections(network)
	if err != nil {
		return nil
	}
	self := ownPID()
	for _, s := range sockets {
		addr, _ := netip.ParseAddr(s.Laddr.IP)
		if s.Laddr.Port != uint32(at.Port()) || !overlap(addr.Unmap(), at.Addr().Unmap()) || s.Raddr.Port != 0 ||
			s.Pid == 0 || s.Pid == self {
			continue
		}
		name := fmt.Sprintf("process %d", s.Pid)
		if p, err := process.NewProcess(s.Pid); err == nil {
			if comm, err := p.Name(); err == nil {
				name = fmt.Sprintf("%s (process %d)", printable.Text(comm), s.Pid) // a process calls itself as it likes
			}
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// ownPID is the number of this process in /proc, which may be that of another PID namespace.
func ownPID() int32 {
	if link, err := os.Readlink("/proc/self"); err == nil {
		if pid, err := strconv.ParseInt(link, 10, 32); err == nil {
			return int32(pid)
		}
	}
	return int32(os.Getpid())
}

// bindError is how net's errors about an address end up in the texts of caddy and of plugins, which do not wrap them.
var bindError = regexp.MustCompile(`listen (tcp|udp)[46]? (\S+): bind: (address already in use|permission denied|` +
	`cannot assign requested address)`)

// caddysWords stand before what is wrong with a Corefile in a reload, and say nothing.
const caddysWords = "starting with listener file descriptors: "

// explainStart adds to an error of a start who holds the address, or what to do, and takes secrets out.
func explainStart(err error) error {
	if text, found := strings.CutPrefix(err.Error(), caddysWords); found {
		err = errors.New(text)
	}
	err = redacted(err)
	m := bindError.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	switch network, address := m[1], m[2]; m[3] {
	case "permission denied":
		return fmt.Errorf("%w: a port below 1024 needs root or CAP_NET_BIND_SERVICE; for a trial take "+
			"another, with --port 5300", err)
	case "cannot assign requested address":
		return fmt.Errorf("%w: this host has no such address; correct `bind` in the Corefile", err)
	default:
		by := heldBy(network, address)
		if strings.Contains(err.Error(), "Error during parsing: ") { // it names line and remedy
			return fmt.Errorf("%w (it is in use%s)", err, by)
		}
		return taken(network, address, by)
	}
}

// taken is the error for an address that another process has.
func taken(network, address, by string) error {
	return fmt.Errorf("%s over %s is in use%s: stop that, or listen elsewhere (`bind` in the Corefile, or --port)",
		address, strings.ToUpper(network), by)
}
