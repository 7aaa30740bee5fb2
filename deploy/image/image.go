// Command image builds the container image of danelaw, without a container engine:
//
//	go run . -version 1.2.3 -out DIR
//
// It is a module of its own, so that what images are made with is no dependency of danelaw, and is pinned in its
// go.mod. README.md says what is in the image, and how to run it.
package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/danelaw-dns/danelaw/deploy/program"
)

// order is what is asked for.
type order struct {
	ref       name.Tag // the name of the image, with its version as the tag
	platforms []v1.Platform
	formats   []string
	out       string
	date      time.Time // of all files, and of the image
	stage     string    // where programs are built
}

func main() { program.Main("image", run) }

func run(ctx context.Context) error {
	o, err := parse()
	if err != nil {
		return err
	}
	if o.date, err = program.Date(ctx); err != nil {
		return err
	}
	if o.stage, err = os.MkdirTemp("", "danelaw-image-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.stage)
	var built []*platform
	for _, p := range o.platforms {
		b, err := o.build(ctx, p)
		if err != nil {
			return err
		}
		built = append(built, b)
	}
	made, err := o.write(built)
	if err != nil {
		return err
	}
	rows := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, f := range made {
		fmt.Fprintf(rows, "%s\t%s\n", f.digest, f.name)
	}
	return rows.Flush()
}

// parse reads the command line.
func parse() (*order, error) {
	flag.Usage = usage
	version := flag.String("version", "0.0.0-dev", "`VERSION` of the image, and its tag")
	repository := flag.String("name", "danelaw", "`NAME` of the image, with the registry if it is to go to one")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "build for `PLATFORMS`")
	forms := flag.String("formats", "oci-archive,docker-archive", "write the `FORMATS` oci (an OCI layout in "+
		"a directory), oci-archive (the same in a tar file), docker-archive (a tar file for each platform)")
	out := flag.String("out", ".", "write into `DIR`, which must be there")
	flag.Parse()
	if flag.NArg() > 0 {
		return nil, fmt.Errorf("%q: there are only flags, see -help", flag.Arg(0))
	}
	o := &order{out: *out, formats: strings.Split(*forms, ",")}
	for _, f := range o.formats {
		if !slices.Contains([]string{"oci", "oci-archive", "docker-archive"}, f) {
			return nil, fmt.Errorf("-formats: %q is none of oci, oci-archive, docker-archive", f)
		}
	}
	for _, text := range strings.Split(*platforms, ",") {
		p, err := v1.ParsePlatform(text)
		if err != nil || p.OS != "linux" || p.Architecture == "" || p.String() != "linux/"+p.Architecture {
			return nil, fmt.Errorf("-platforms: %q is none: write linux/amd64, or linux/ and another GOARCH", text)
		}
		if slices.ContainsFunc(o.platforms, p.Equals) {
			return nil, fmt.Errorf("-platforms: %s is there twice", text)
		}
		o.platforms = append(o.platforms, *p)
	}
	if _, err := os.Stat(filepath.Join(program.Project, "cmd/danelaw")); err != nil {
		return nil, errors.New("danelaw's sources are not here: run go run -C deploy/image . where they are")
	}
	var err error
	if o.ref, err = name.NewTag(*repository+":"+*version, name.WithDefaultRegistry("")); err != nil {
		return nil, fmt.Errorf("-name %s, -version %s: %w", *repository, *version, err)
	}
	if info, err := os.Stat(o.out); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("-out: %s is no directory: make it first; a relative path begins in deploy/image",
			o.out)
	}
	return o, nil
}

func usage() {
	fmt.Fprint(flag.CommandLine.Output(), `Builds danelaw, and writes container images and their SBOMs into a directory.
Prints the digest of each file: of an OCI layout that of its index, of a
docker-archive the image's ID, of an SBOM its own. With the same sources,
version of Go and SOURCE_DATE_EPOCH (by default the time of the commit) they
are the same wherever it runs.

  go run -C deploy/image . -version 1.2.3 -out /tmp

`)
	flag.PrintDefaults()
}

// platform is what is made for one platform.
type platform struct {
	v1.Platform
	oci, docker v1.Image // the same layers; the second has what only Docker's form of a configuration knows
	bom         []byte
}

// build makes the image of a platform.
func (o *order) build(ctx context.Context, p v1.Platform) (*platform, error) {
	log.Printf("building danelaw for %s, which takes a minute if little is cached", p)
	file := filepath.Join(o.stage, p.Architecture)
	if err := program.Build(ctx, p.Architecture, o.date, file); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, err
	}
	binary, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	b := &platform{Platform: p}
	if b.bom, err = o.bom(info, binary); err != nil {
		return nil, err
	}
	return b, o.assemble(b, info, binary)
}
