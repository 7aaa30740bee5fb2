package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"maps"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// assemble makes the two images of a platform.
func (o *order) assemble(p *platform, info *buildinfo.BuildInfo, binary []byte) error {
	beside, err := surroundings()
	if err != nil {
		return err
	}
	below, err := layer(o.date, beside...)
	if err != nil {
		return err
	}
	above, err := layer(o.date, entry{"usr/bin/danelaw", 0o755, 0, binary})
	if err != nil {
		return err
	}
	labels := o.labels(info)
	if p.oci, err = o.image(p, labels, nil, below, above); err != nil {
		return err
	}
	p.oci = mutate.Annotations(p.oci, labels).(v1.Image)
	p.docker, err = o.image(p, labels, health, below, above)
	return err
}

// health is how Docker learns that danelaw has upstreams that are fit, so that what needs it may start. It restarts
// nothing.
var health = &v1.HealthConfig{Test: []string{"CMD", "/usr/bin/danelaw", "status"}, Interval: 30 * time.Second,
	Timeout: 10 * time.Second, StartPeriod: 30 * time.Second, Retries: 3}

// image makes an image.
func (o *order) image(p *platform, labels map[string]string, health *v1.HealthConfig, layers ...v1.Layer) (v1.Image,
	error) {
	created := v1.Time{Time: o.date}
	img, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		types.OCIConfigJSON), &v1.ConfigFile{
		OS: p.OS, Architecture: p.Architecture, Created: created,
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint:   []string{"/usr/bin/danelaw"},
			Cmd:          []string{"--conf", "/etc/danelaw/Corefile"},
			Env:          environment,
			User:         fmt.Sprintf("%d:%[1]d", user),
			WorkingDir:   "/",
			StopSignal:   "SIGTERM",
			ExposedPorts: ports,
			Volumes:      map[string]struct{}{"/run/danelaw": {}, "/var/lib/danelaw": {}},
			Labels:       labels,
			Healthcheck:  health,
		},
	})
	if err != nil {
		return nil, err
	}
	made := []string{"certificates, Corefile, directories", "danelaw"}
	for i, l := range layers {
		if img, err = mutate.Append(img, mutate.Addendum{Layer: l, History: v1.History{
			Created: created, CreatedBy: "deploy/image: " + made[i]}}); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// environment is what the Corefile of the image takes from it. A port below 1024 needs a right that danelaw does not
// have unless the network namespace of the container gives it to all (net.ipv4.ip_unprivileged_port_start).
var environment = []string{"PATH=/usr/bin", "DANELAW_PORT=1053", "DANELAW_ALLOW_CLIENTS=127.0.0.0/8",
	"DANELAW_AD_CLIENTS=127.0.0.0/8"}

var ports = map[string]struct{}{"1053/udp": {}, "1053/tcp": {}, "8080/tcp": {}, "8181/tcp": {}, "9153/tcp": {}}

// labels are the annotations of the image specification, which are labels for Docker.
func (o *order) labels(info *buildinfo.BuildInfo) map[string]string {
	all := maps.Clone(about)
	all["org.opencontainers.image.version"] = o.ref.TagStr()
	all["org.opencontainers.image.created"] = o.date.Format(time.RFC3339)
	if revision := setting(info, "vcs.revision"); revision != "" {
		if setting(info, "vcs.modified") == "true" {
			revision += "+" // with changes that are in no commit
		}
		all["org.opencontainers.image.revision"] = revision
	}
	return all
}

var about = map[string]string{
	"org.opencontainers.image.title":         "danelaw",
	"org.opencontainers.image.description":   "DNSSEC-validating resolver for mail servers",
	"org.opencontainers.image.licenses":      "Apache-2.0",
	"org.opencontainers.image.url":           source,
	"org.opencontainers.image.source":        source,
	"org.opencontainers.image.documentation": source + "/blob/main/deploy/image/README.md",
}

const source = "https://github.com/danelaw-dns/danelaw"

// setting is one of those that Go built a program with, or "".
func setting(info *buildinfo.BuildInfo, key string) (value string) {
	for _, s := range info.Settings {
		if s.Key == key {
			value = cmp.Or(value, s.Value)
		}
	}
	return value
}
