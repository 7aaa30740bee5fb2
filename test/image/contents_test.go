//go:build linux

package image

import (
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// ours is the beginning of the names of all files that deploy/image writes.
const ours = "danelaw_" + version

// TestReproducible: whatever the directory, the umask, the time zone and the times of the sources, and with nothing
// compiled before, all files are the same, octet by octet, and so are the digests that are printed.
func TestReproducible(t *testing.T) {
	suite.Needs(t)
	first, second := files(t, "first"), files(t, "second")
	names := slices.Sorted(maps.Keys(first))
	if !slices.Equal(names, slices.Sorted(maps.Keys(second))) || len(names) < 15 {
		t.Fatalf("the first build has %q, the second %q", names, slices.Sorted(maps.Keys(second)))
	}
	for _, name := range names {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs", name)
		}
	}
	printed := func(build string) string {
		text, err := os.ReadFile(suite.Dir(build + ".printed"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), suite.Dir(build), "DIR")
	}
	if one, two := printed("first"), printed("second"); one != two || strings.Count(one, "sha256:") != 6 {
		t.Errorf("printed was first\n%sand then\n%s", one, two)
	}
}

// files are all that a build has written.
func files(t *testing.T, build string) map[string][]byte {
	t.Helper()
	all, dir := map[string][]byte{}, os.DirFS(suite.Dir(build))
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		all[name], err = fs.ReadFile(dir, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// configuration is what an image says of itself, as skopeo shows it.
type configuration struct {
	Architecture string
	Created      string
	Config       struct {
		User, StopSignal string
		Entrypoint, Cmd  []string
		Env              []string
		ExposedPorts     map[string]struct{}
		Volumes          map[string]struct{}
		Labels           map[string]string
		Healthcheck      struct{ Test []string }
	}
}

// TestConfiguration: the OCI image and the docker-archive of each platform say the same of themselves, but that
// Docker's alone has a health check, which the image specification does not know.
func TestConfiguration(t *testing.T) {
	suite.Needs(t)
	for _, arch := range []string{"amd64", "arm64"} {
		docker := "docker-archive:" + suite.Dir("first", ours+"_"+arch+"_docker.tar")
		for _, from := range []string{"oci:" + suite.Dir("first", ours+"_oci") + ":" + version,
			"oci-archive:" + suite.Dir("first", ours+"_oci.tar") + ":" + version, docker} {
			var c configuration
			if err := json.Unmarshal([]byte(sh(t, "skopeo", "inspect", "--override-arch", arch, "--raw", "--config",
				from)), &c); err != nil {
				t.Fatal(err)
			}
			want := []string(nil)
			if from == docker {
				want = []string{"CMD", "/usr/bin/danelaw", "status"}
			}
			_, dns := c.Config.ExposedPorts["1053/udp"]
			_, state := c.Config.Volumes["/var/lib/danelaw"]
			if c.Architecture != arch || c.Created != "2026-01-01T00:00:00Z" || c.Config.User != "65532:65532" ||
				c.Config.StopSignal != "SIGTERM" || !dns || !state ||
				!slices.Equal(c.Config.Entrypoint, []string{"/usr/bin/danelaw"}) ||
				c.Config.Labels["org.opencontainers.image.version"] != version ||
				!slices.Equal(c.Config.Healthcheck.Test, want) {
				t.Errorf("%s says\n%+v", from, c)
			}
		}
	}
}

// TestContents: scratch and no more: one program, which is static, what it needs, and nothing that the user of the
// container could change but two directories, which are volumes.
func TestContents(t *testing.T) {
	suite.Needs(t)
	root := filepath.Join(unpack(t, "amd64"), "rootfs")
	var found, executable []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		path := strings.TrimPrefix(name, root)
		s, mode := info.Sys().(*syscall.Stat_t), info.Mode()
		switch {
		case mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSymlink|0o022) != 0, s.Uid != s.Gid, s.Uid != 0 && s.Uid != 65532:
			t.Errorf("%s has mode %v and is %d:%d's", path, mode, s.Uid, s.Gid)
		case s.Uid == 65532:
			found = append(found, path)
		case mode.IsRegular() && mode&0o111 != 0:
			executable = append(executable, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, []string{"/run/danelaw", "/var/lib/danelaw"}) {
		t.Errorf("the user may change %q", found)
	}
	if !slices.Equal(executable, []string{"/usr/bin/danelaw"}) {
		t.Errorf("executable is %q", executable)
	}
	info, err := buildinfo.ReadFile(filepath.Join(root, "usr/bin/danelaw"))
	if err != nil || !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "CGO_ENABLED" && s.Value == "0"
	}) {
		t.Errorf("the program may need libraries: %v, %v", info, err)
	}
	authorities(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
}

// authorities: the certificates can be read, all of them, and there are as many as browsers have.
func authorities(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !c.IsCA {
			t.Errorf("certificate %d: %v", count, err)
		}
		count++
	}
	if count < 100 || count != bytes.Count(text, []byte("BEGIN CERTIFICATE")) {
		t.Errorf("%d certificates", count)
	}
}

// descriptor is how manifests and indexes name another blob.
type descriptor struct {
	Digest, ArtifactType string
	Platform             struct{ Architecture string }
}

// TestSBOM: the list of each platform has exactly the modules that Go says are in its program, beside the certificates
// and Go itself; and it is attached to the platform's image, so that registries list it there.
func TestSBOM(t *testing.T) {
	suite.Needs(t)
	layout := os.DirFS(suite.Dir("first", ours+"_oci"))
	blob := func(digest string, into any) []byte {
		text, err := fs.ReadFile(layout, "blobs/"+strings.Replace(digest, ":", "/", 1))
		if err == nil && into != nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var top, index struct{ Manifests []descriptor }
	text, err := fs.ReadFile(layout, "index.json")
	if err != nil || json.Unmarshal(text, &top) != nil || len(top.Manifests) != 1 {
		t.Fatalf("index.json is %s, %v", text, err)
	}
	blob(top.Manifests[0].Digest, &index)
	lists := map[string][]byte{} // by the digest of the image
	for _, m := range index.Manifests {
		if m.ArtifactType == "" {
			continue
		}
		var manifest struct {
			ArtifactType string
			Layers       []descriptor
			Subject      descriptor
		}
		blob(m.Digest, &manifest)
		if manifest.ArtifactType != "application/vnd.cyclonedx+json" || len(manifest.Layers) != 1 {
			t.Errorf("attached is %+v", manifest)
		}
		lists[manifest.Subject.Digest] = blob(manifest.Layers[0].Digest, nil)
	}
	for _, m := range index.Manifests {
		if m.ArtifactType != "" {
			continue
		}
		arch := m.Platform.Architecture
		beside, err := os.ReadFile(suite.Dir("first", ours+"_"+arch+".cdx.json"))
		if err != nil || !bytes.Equal(beside, lists[m.Digest]) {
			t.Errorf("%s: the file is not what is attached: %v", arch, err)
		}
		listed(t, arch, beside)
	}
	if len(lists) != 2 || len(index.Manifests) != 4 {
		t.Errorf("the index is %+v", index)
	}
}

// listed compares a list with the program.
func listed(t *testing.T, arch string, list []byte) {
	t.Helper()
	info, err := buildinfo.ReadFile(filepath.Join(unpack(t, arch), "rootfs/usr/bin/danelaw"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	var bom struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version, Purl, Type string }
	}
	if err := json.Unmarshal(list, &bom); err != nil || bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" {
		t.Fatalf("%s: %v, %.200s", arch, err, list)
	}
	var got []string
	certificates := 0
	for _, c := range bom.Components {
		if c.Purl != "pkg:golang/"+c.Name+"@"+c.Version {
			t.Errorf("%s: %s is called %s", arch, c.Name, c.Purl)
		}
		if c.Type == "data" {
			certificates++
			continue
		}
		got = append(got, c.Name+" "+c.Version)
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) || len(want) < 30 || certificates != 1 {
		t.Errorf("%s: the list has\n%q\nand the program\n%q", arch, got, want)
	}
}
