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
	version, revision, coredns := "unknown", "", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = fmt.Sprintf(" (%.12s)", s.Value)
			}
		}
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
	return fmt.Sprintf("danelaw %s%s, built %s\nCoreDNS %s, %s, %s/%s\nroot trust anchors %s\n", version, revision,
		danelaw.BuildDate().Format(time.DateOnly), coredns, runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.Join(anchors, ", "))
}
