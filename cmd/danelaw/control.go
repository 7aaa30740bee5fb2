package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// controlFlags are those of every command that speaks to the daemon.
func controlFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "socket", Value: danelaw.DefaultControl,
			Usage: "the daemon's control socket is `PATH`, see the option control of its Corefile"},
		boolFlag("json", "print the daemon's reply as it is, for programs"),
	}, more...)
}

// controlPatience is how long a reply may take: to test a negative trust anchor the daemon asks upstreams.
const controlPatience = 40 * time.Second

// call sends a request to the daemon that c names, reads its reply into out, and prints that: with --json as it came,
// else by print.
func call(ctx context.Context, c *cli.Command, method, path string, in, out any, print func(to io.Writer)) error {
	socket := c.String("socket")
	text, err := request(ctx, socket, method, path, in)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("what listens on %s is no danelaw: %w", socket, err)
	}
	if to := c.Root().Writer; c.Bool("json") {
		to.Write(printable.JSON(text)) //nolint:errcheck // see printer
	} else {
		print(to)
	}
	return nil
}

// request sends one to the daemon behind a control socket, and returns its reply.
func request(ctx context.Context, socket, method, path string, in any) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://danelaw"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	reply, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return nil, unreachable(socket, err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return nil, unreachable(socket, err)
	}
	if reply.StatusCode != http.StatusOK {
		var failure danelaw.ErrorReply
		if json.Unmarshal(text, &failure) != nil || failure.Error == "" {
			return nil, fmt.Errorf("what listens on %s is no danelaw: it says %s", socket, reply.Status)
		}
		return nil, errors.New(failure.Error)
	}
	return text, nil
}

// unreachable says why there is no daemon to speak to, and what to do.
func unreachable(socket string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no danelaw listens on %s: start it, or name with --socket what its "+
			"Corefile has as `control`; "+
			"without one there is a socket only if the directory of %s exists", socket, danelaw.DefaultControl)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is not for you: be root, or %s", socket, keepers(socket))
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("danelaw does not answer on %s within %v", socket, controlPatience)
	}
	if network, ok := errors.AsType[*net.OpError](err); ok {
		err = network
	}
	return fmt.Errorf("danelaw cannot be reached on %s: %w", socket, err)
}

// keepers says who may use a socket.
func keepers(socket string) string {
	info, err := os.Stat(socket)
	if err != nil {
		return "somebody who may enter its directory"
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "its owner"
	}
	group := strconv.FormatUint(uint64(owner.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return "a member of the group " + group
}

// group is a command of commands.
func group(c *cli.Command) *cli.Command {
	c.Action = func(_ context.Context, c *cli.Command) error {
		if !c.Args().Present() {
			return misused(c, "%s needs one of %s", short(c), names(c.Commands))
		}
		return unknownCommand(c, c.Args().First())
	}
	return c
}
