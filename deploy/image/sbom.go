package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"runtime/debug"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/package-url/packageurl-go"
)

// authoritiesModule has the certificates of the image.
const authoritiesModule = "golang.org/x/crypto/x509roots/fallback"

// bom lists what the image is made of, in CycloneDX: the modules that Go says the program is built from, the
// certificates, and Go itself.
func (o *order) bom(info *buildinfo.BuildInfo, binary []byte) ([]byte, error) {
	digest := sha256.Sum256(binary)
	whole := component(&debug.Module{Path: info.Main.Path, Version: o.ref.TagStr()}, "Apache-2.0")
	whole.Type = cyclonedx.ComponentTypeApplication
	whole.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(digest[:])}}
	certificates, err := certificateModule()
	if err != nil {
		return nil, err
	}
	parts := []cyclonedx.Component{
		component(&debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}, "BSD-3-Clause"),
		certificates,
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, component(m, ""))
	}
	var refs []string
	for _, p := range parts {
		refs = append(refs, p.BOMRef)
	}
	list := cyclonedx.NewBOM()
	list.Metadata = &cyclonedx.Metadata{Timestamp: o.date.Format(time.RFC3339), Component: &whole}
	list.Components = &parts
	list.Dependencies = &[]cyclonedx.Dependency{{Ref: whole.BOMRef, Dependencies: &refs}}
	var out bytes.Buffer
	err = cyclonedx.NewBOMEncoder(&out, cyclonedx.BOMFileFormatJSON).SetPretty(true).
		EncodeVersion(list, cyclonedx.SpecVersion1_6)
	return out.Bytes(), err
}

// certificateModule is the module that the certificates are from, which is one of this program's own.
func certificateModule() (cyclonedx.Component, error) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == authoritiesModule {
				c := component(m, "MPL-2.0") // Mozilla's list
				c.Type = cyclonedx.ComponentTypeData
				return c, nil
			}
		}
	}
	return cyclonedx.Component{}, errors.New(
		"this program does not know of its modules: build it with go run or go build")
}

// component describes a module; license is an SPDX identifier, or "" where it is not known here.
func component(m *debug.Module, license string) cyclonedx.Component {
	purl := packageurl.NewPackageURL(packageurl.TypeGolang, strings.TrimPrefix(path.Dir(m.Path), "."),
		path.Base(m.Path), m.Version, nil, "").ToString()
	c := cyclonedx.Component{BOMRef: purl, Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
		PackageURL: purl}
	if license != "" {
		c.Licenses = &cyclonedx.Licenses{{License: &cyclonedx.License{ID: license}}}
	}
	// What go.sum has of it: a digest over the digests of its files.
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) == 32 {
		c.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}}
	}
	return c
}

// fileNameOfBOM is the name of the list of a platform.
func (o *order) fileNameOfBOM(p *platform) string {
	return fmt.Sprintf("%s_%s.cdx.json", o.base(), p.Architecture)
}
