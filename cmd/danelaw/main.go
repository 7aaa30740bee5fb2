// A mail host's certificate with a negative serial number is one to senders, and tls.Config has no field for it.

//go:debug x509negativeserial=1

// Command danelaw is a DNSSEC-validating resolver for mail servers: a daemon, a lab of signed and broken domains to try
// it on, and commands that explain what it sees. `danelaw help` lists them.
package main

import (
	"bufio"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// Exit codes.
const (
	exitFailure = 1 // it did not work, or the answer is a failure
	exitUsage   = 2 // the command line is wrong
	exitLater   = 3 // there is more to do, at a time that was told
)

func main() {
	ctx, end := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // before anything ends: a second Ctrl-C ends all at once
		end()
	}()
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

func init() {
	cli.HelpPrinter = printHelp
	cli.VersionPrinter = func(c *cli.Command) { fmt.Fprint(c.Root().Writer, about()) }
}

// run is main with everything it touches given; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := &printer{bufio.NewWriter(stdout), stdout}
	root := command(out, stderr)
	err := aboutHelp(root.Run(ctx, commandFirst(root, args)))
	if unwritten := out.Flush(); err == nil || err == errTold {
		err = cmp.Or(unwritten, err)
	}
	if err == nil {
		return 0
	}
	code := exitFailure
	switch {
	case errors.As(err, new(usageError)):
		code = exitUsage
	case errors.Is(err, errLater):
		code = exitLater
	}
	if !errors.Is(err, errTold) {
		fmt.Fprintln(stderr, "danelaw:", withoutUsers(printable.Text(strings.ReplaceAll(inWords(err), "\n", "; "))))
	}
	return code
}

// errTold is a failure that the command has told by itself.
var errTold = errors.New("told")

// toldUnless is errTold unless all is well.
func toldUnless(good bool) error {
	if good {
		return nil
	}
	return errTold
}

// command is the whole command line.
func command(stdout, stderr io.Writer) *cli.Command {
	root := &cli.Command{
		Name:  "danelaw",
		Usage: "a DNSSEC-validating resolver for mail servers",
		UsageText: "danelaw [serve] [options]       answer the mail server of this host\n" +
			"danelaw COMMAND [options] ...   see below; danelaw COMMAND --help tells more",
		Version:        "see about", // has the flag --version; VersionPrinter prints
		DefaultCommand: "serve",

		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: describeCompletion,
		Commands: []*cli.Command{serveCommand(), labCommand(), checkCommand(), doctorCommand(), setupCommand(),
			tlsaCommand(), watchCommand(), statusCommand(), anchorsCommand(), ntaCommand(), flushCommand(),
			cacheCommand(), policyCommand(), benchCommand(), versionCommand()},
		Writer:         stdout,
		ErrWriter:      stderr,
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // run does that
	}
	prepare(root, root, "")
	return root
}

// helpTexts are what help says of commands at length, by their path.
//
//go:embed help
var helpTexts embed.FS

// prepare gives all commands what they have in common, and their texts.
func prepare(c, root *cli.Command, path string) {
	text, _ := helpTexts.ReadFile("help/" + path + ".txt") // some need none
	c.Description = string(text)
	c.HideHelpCommand = c != root
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error { return misread(c, err) }
	for _, sub := range c.Commands {
		prepare(sub, root, strings.TrimPrefix(path+"-"+sub.Name, "-"))
	}
}
