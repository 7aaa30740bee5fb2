package main

import (
	"context"
	"fmt"
	"io"
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
		Flags: []cli.Flag{boolFlag("json", "print JSON for a program")},
		Action: noArguments(func(_ context.Context, c *cli.Command) error {
			return show(c, thisDanelaw(), func(to io.Writer) { fmt.Fprint(to, about()) })
		}),
	}
}

// versionJSON is the form of `danelaw version --json`. What is not known is "unknown".
type versionJSON struct {
	Version  string   `json:"version"`
	Revision string   `json:"revision"`
	Time     string   `json:"time"`  // of the revision
	Built    string   `json:"built"` // the day before which no clock can be right
	CoreDNS  string   `json:"coredns"`
	Go       string   `json:"go"`
	Platform string   `json:"platform"`
	Anchors  []uint16 `json:"root_trust_anchors"` // key tags
}

func thisDanelaw() versionJSON {
	b := danelaw.ThisBuild()
	v := versionJSON{
		Version: b.Version, Revision: b.Revision, Time: b.Time, Built: danelaw.BuildDate().Format(time.DateOnly),
		CoreDNS: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/coredns/coredns" {
				v.CoreDNS = m.Version
			}
		}
	}
	for _, ds := range trustanchors.Embedded()["."] {
		v.Anchors = append(v.Anchors, ds.KeyTag)
	}
	return v
}

// about is the text of `danelaw version`.
func about() string {
	v := thisDanelaw()
	anchors := strings.Trim(strings.ReplaceAll(fmt.Sprint(v.Anchors), " ", ", "), "[]")
	return fmt.Sprintf("danelaw %s, built %s\nCoreDNS %s, %s, %s\nroot trust anchors %s\n", danelaw.ThisBuild(),
		v.Built, v.CoreDNS, v.Go, v.Platform, anchors)
}
