package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// file is one that has been written.
type file struct {
	name   string
	digest v1.Hash // see usage
}

// base is how the names of all files begin.
func (o *order) base() string { return path.Base(o.ref.RepositoryStr()) + "_" + o.ref.TagStr() }

// write writes all that is asked for.
func (o *order) write(built []*platform) (made []file, err error) {
	index, err := o.index(built)
	if err != nil {
		return nil, err
	}
	for _, format := range o.formats {
		var more []file
		switch format {
		case "oci":
			more, err = o.directory(index)
		case "oci-archive":
			more, err = o.archive(index)
		case "docker-archive":
			more, err = o.dockers(built)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", format, err)
		}
		made = append(made, more...)
	}
	for _, p := range built {
		f, err := o.save(o.fileNameOfBOM(p), p.bom)
		if err != nil {
			return nil, err
		}
		if f.digest, _, err = v1.SHA256(bytes.NewReader(p.bom)); err != nil {
			return nil, err
		}
		made = append(made, f)
	}
	return made, nil
}

// index is the image of all platforms, and beside each its SBOM, which names it as its subject. A registry lists that
// among what refers to the image, and who copies the image takes it along.
func (o *order) index(built []*platform) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var boms []mutate.IndexAddendum
	for _, p := range built {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: plain{p.oci}, Descriptor: v1.Descriptor{
			Platform: &p.Platform}})
		bom, err := attached(p)
		if err != nil {
			return nil, err
		}
		boms = append(boms, mutate.IndexAddendum{Add: bom, Descriptor: v1.Descriptor{
			ArtifactType: bomType, Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	}
	annotations := maps.Clone(about)
	annotations["org.opencontainers.image.version"] = o.ref.TagStr()
	return mutate.Annotations(mutate.AppendManifests(index, boms...), annotations).(v1.ImageIndex), nil
}

// plain is an image, which the index is not to call an artifact.
type plain struct{ v1.Image }

// ArtifactType is what go-containerregistry asks for.
func (plain) ArtifactType() (string, error) { return "", nil }

const bomType = "application/vnd.cyclonedx+json"

// artifact is a manifest without an image: a list that refers to one. It implements partial.CompressedImageCore.
type artifact struct {
	manifest, config []byte
	list             v1.Layer
}

// attached is the list of a platform as it is attached to its image.
func attached(p *platform) (v1.Image, error) {
	subject, err := partial.Descriptor(p.oci)
	if err != nil {
		return nil, err
	}
	a := &artifact{config: []byte("{}"), list: static.NewLayer(p.bom, bomType)}
	list, err := partial.Descriptor(a.list)
	if err != nil {
		return nil, err
	}
	config, size, err := v1.SHA256(bytes.NewReader(a.config))
	if err != nil {
		return nil, err
	}
	a.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: bomType,
		Config:  v1.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: config, Size: size},
		Layers:  []v1.Descriptor{*list},
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(a)
}

func (a *artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (a *artifact) RawManifest() ([]byte, error)        { return a.manifest, nil }
func (a *artifact) RawConfigFile() ([]byte, error)      { return a.config, nil }

func (a *artifact) LayerByDigest(v1.Hash) (partial.CompressedLayer, error) { return a.list, nil }

// directory writes an OCI layout. One that is there is replaced, and nothing else is.
func (o *order) directory(index v1.ImageIndex) ([]file, error) {
	digest, err := index.Digest()
	if err != nil {
		return nil, err
	}
	name := filepath.Join(o.out, o.base()+"_oci")
	if _, err := os.Stat(name); err == nil {
		if _, err := os.Stat(filepath.Join(name, "oci-layout")); err != nil {
			return nil, fmt.Errorf("%s is there, and is no OCI layout: remove it, or choose another -out", name)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	beside := name + ".new"
	if err := errors.Join(os.RemoveAll(beside), o.layOut(beside, index), os.RemoveAll(name),
		os.Rename(beside, name)); err != nil {
		return nil, err
	}
	return []file{{name, digest}}, nil
}

// layOut makes the files of an OCI layout.
func (o *order) layOut(dir string, index v1.ImageIndex) error {
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return to.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": o.ref.TagStr()}))
}

// archive writes an OCI layout into a tar file.
func (o *order) archive(index v1.ImageIndex) ([]file, error) {
	digest, err := index.Digest()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(o.stage, "oci")
	if err := o.layOut(dir, index); err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	if err := pack(&packed, os.DirFS(dir), o.date); err != nil {
		return nil, err
	}
	f, err := o.save(o.base()+"_oci.tar", packed.Bytes())
	f.digest = digest
	return []file{f}, err
}

// pack writes a tar file of all files, with rights and times that depend on nothing but what is given.
func pack(to io.Writer, files fs.FS, date time.Time) error {
	w := tar.NewWriter(to)
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: date,
			Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
	return errors.Join(err, w.Close())
}

// dockers writes what docker load takes.
func (o *order) dockers(built []*platform) (made []file, err error) {
	for _, p := range built {
		var packed bytes.Buffer
		if err := tarball.Write(o.ref, p.docker, &packed); err != nil {
			return nil, err
		}
		f, err := o.save(fmt.Sprintf("%s_%s_docker.tar", o.base(), p.Architecture), packed.Bytes())
		if err != nil {
			return nil, err
		}
		if f.digest, err = p.docker.ConfigName(); err != nil {
			return nil, err
		}
		made = append(made, f)
	}
	return made, nil
}

// save writes a file, whole or not at all.
func (o *order) save(name string, text []byte) (file, error) {
	name = filepath.Join(o.out, name)
	err := os.WriteFile(name+".new", text, 0o644)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	return file{name: name}, err
}
