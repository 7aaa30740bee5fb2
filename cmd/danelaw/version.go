package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print what this danelaw is",
		Action: noArguments(func(_ context.Context, c *cli.Command) error {
			_, err := fmt.Fprint(c.Root().Writer, about())
			return err
		}),
	}
}

// about is the text of `danelaw version`.
func about() string {
	coredns := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/coredns/coredns" {
				coredns = m.Version
			}
		}
	}
	var anchors []string
	for _, ds := range trustanchors.Embedded()["."] {
		anchors = append(anchors, fmt.Sprint(ds.KeyTag))
	}
	return fmt.Sprintf("danelaw %s, built %s\nCoreDNS %s, %s, %s/%s\nroot trust anchors %s\n", danelaw.ThisBuild(),
		danelaw.BuildDate().Format(time.DateOnly), coredns, runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.Join(anchors, ", "))
}
