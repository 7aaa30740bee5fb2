//go:build linux

package cluster

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"
)

const (
	chart    = "../../deploy/helm/danelaw"
	manifest = "../../deploy/helm/danelaw.yaml"
	release  = "danelaw"
	system   = "kube-system"
)

// values are settings of the chart.
type values map[string]any

// cases reads what people set, by name.
func cases(t *testing.T) (all map[string]values) {
	t.Helper()
	text, err := os.ReadFile("testdata/cases.yaml")
	if err == nil {
		err = yaml.UnmarshalStrict(text, &all)
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("testdata/cases.yaml: %d cases, %v", len(all), err)
	}
	return all
}

// each runs a test with each case.
func each(t *testing.T, f func(t *testing.T, v values)) {
	suite.Needs(t)
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) { f(t, v) })
	}
}

// run runs a program in the directory of the run, or from the system, and returns what it writes to stdout.
func run(t *testing.T, name string, args ...string) (stdout, all string, err error) {
	t.Helper()
	if path := suite.Dir(name); exists(path) {
		name = path
	}
	var out, both bytes.Buffer
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), "HOME="+suite.Dir(), "HELM_NAMESPACE="+system) // nothing of the user's counts
	c.Stdout, c.Stderr = writers{&out, &both}, &both
	err = c.Run()
	return out.String(), both.String(), err
}

type writers []*bytes.Buffer

func (all writers) Write(text []byte) (int, error) {
	for _, w := range all {
		w.Write(text)
	}
	return len(text), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// must is run for a program that has to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, all, err := run(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, all)
	}
	return out
}

// file writes values for helm.
func (v values) file(t *testing.T) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), "values.yaml"), string(text))
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// render is the chart with some values, as helm would install it.
func render(t *testing.T, v values) string {
	t.Helper()
	return must(t, "helm", "template", release, chart, "--namespace", system, "--kube-version", "1.34.0",
		"--values", v.file(t))
}

// TestLint: helm finds nothing to say of the chart.
func TestLint(t *testing.T) {
	each(t, func(t *testing.T, v values) {
		must(t, "helm", "lint", "--strict", chart, "--namespace", system, "--values", v.file(t))
	})
}

// TestManifest: the manifest for kubectl apply is the chart's default rendering.
func TestManifest(t *testing.T) {
	suite.Needs(t)
	const head = "# Made of the chart beside this file, by a test: " +
		"DANELAW_WRITE_MANIFEST=1 DANELAW_TEST_CLUSTER=1 go test -run TestManifest ./test/cluster\n"
	want := head + render(t, values{})
	if os.Getenv("DANELAW_WRITE_MANIFEST") != "" {
		write(t, manifest, want)
	}
	if is, err := os.ReadFile(manifest); err != nil || string(is) != want {
		t.Errorf("%s is not the default rendering of the chart (%v): see its first line", manifest, err)
	}
}

// TestSchemas: every rendering is what the API of Kubernetes takes, without an unknown field.
func TestSchemas(t *testing.T) {
	each(t, func(t *testing.T, v values) {
		at := write(t, filepath.Join(t.TempDir(), "rendering.yaml"), render(t, v))
		must(t, "kubectl-validate", at, "--local-crds", suite.Dir("crds"))
	})
	t.Run("an unknown field", func(t *testing.T) { // that the tool finds what there is to find
		spoilt := strings.Replace(render(t, values{}), "readOnlyRootFilesystem:", "readOnlyRoot:", 1)
		at := write(t, filepath.Join(t.TempDir(), "rendering.yaml"), spoilt)
		if _, all, err := run(t, "kubectl-validate", at); err == nil || !strings.Contains(all, "readOnlyRoot") {
			t.Errorf("kubectl-validate says of it: %v\n%s", err, all)
		}
	})
}

// passedOver are the marks of kube-score that do not count, each for a reason.
var passedOver = []string{
	"container-image-pull-policy", // Always: names have to resolve while the registry is away
	"pod-networkpolicy",           // of a sidecar's pod: its owner's
}

// TestScore: kube-score has no warning.
func TestScore(t *testing.T) {
	each(t, func(t *testing.T, v values) {
		args := []string{"score", "--exit-one-on-warning", "--ignore-container-cpu-limit"}
		for _, mark := range passedOver {
			args = append(args, "--ignore-test", mark)
		}
		if name := t.Name(); strings.HasSuffix(name, "/small") || strings.HasSuffix(name, "/alone") {
			args = append(args, "--ignore-test", "deployment-replicas",
				"--ignore-test", "deployment-has-poddisruptionbudget")
		}
		must(t, "kube-score", append(args, write(t, filepath.Join(t.TempDir(), "rendering.yaml"), render(t, v)))...)
	})
}

// TestMistakes: a wrong value is named by helm, before anything is installed.
func TestMistakes(t *testing.T) {
	suite.Needs(t)
	for _, m := range []struct {
		v    values
		want string
	}{
		{values{"form": "daemonset"}, "form"},
		{values{"cache": "64Mi"}, "cache"},
		{values{"cahce": "64MiB"}, "cahce"},
		{values{"upstreams": values{".": []string{"dns.quad9.net"}}}, "upstreams"},
		{values{"upstreams": values{".": []string{}}}, "upstreams"},
		{values{"adClients": []string{"pods"}}, "adClients"},
		{values{"ports": values{"dns": 53}}, "ports"},
		{values{"image": values{"digest": "latest"}}, "digest"},
	} {
		_, all, err := run(t, "helm", "template", release, chart, "--values", m.v.file(t))
		if err == nil || !strings.Contains(all, m.want) {
			t.Errorf("%v: %v\n%s", m.v, err, all)
		}
	}
}

// object is what the tests want to know of an object of Kubernetes.
type object struct {
	Kind string
	Data map[string]string
	Spec struct {
		Replicas int
		Template struct {
			Spec pod
		}
	}
}

type pod struct {
	Containers     []container
	InitContainers []container `yaml:"initContainers"`
}

type container struct {
	Args []string
	Env  []struct{ Name, Value string }

	RestartPolicy string `yaml:"restartPolicy"`
	Resources     struct {
		Limits struct{ Memory string }
	}
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		RunAsNonRoot             bool  `yaml:"runAsNonRoot"`
		RunAsUser                int   `yaml:"runAsUser"`
		Capabilities             struct{ Drop, Add []string }
		SeccompProfile           struct{ Type string } `yaml:"seccompProfile"`
	} `yaml:"securityContext"`
}

// rendering is what a rendering has of danelaw.
type rendering struct {
	container
	files map[string]string // as they lie in /etc/danelaw
	patch string            // for a mail server's pod
}

// read reads a rendering.
func read(t *testing.T, v values) (r rendering) {
	t.Helper()
	var found []container
	for _, text := range strings.Split(render(t, v), "\n---\n") {
		var o object
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if o.Kind == "ConfigMap" {
			r.patch, r.files = o.Data["patch.yaml"], o.Data
			delete(r.files, "patch.yaml")
		}
		found = append(found, o.Spec.Template.Spec.Containers...)
	}
	if r.patch != "" {
		var o object
		if err := yaml.Unmarshal([]byte(r.patch), &o); err != nil {
			t.Fatalf("%v\n%s", err, r.patch)
		}
		found = append(found, o.Spec.Template.Spec.InitContainers...)
	}
	if len(found) != 1 || len(r.files) == 0 {
		t.Fatalf("%d containers, %d files", len(found), len(r.files))
	}
	r.container = found[0]
	return r
}

// unpack writes the files into a directory, and returns that of the Corefile.
func (r rendering) unpack(t *testing.T) (corefile string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for danelaw's user
		t.Fatal(err)
	}
	for name, text := range r.files {
		write(t, filepath.Join(dir, name), strings.ReplaceAll(text, "/etc/danelaw/", dir+"/"))
	}
	return filepath.Join(dir, "Corefile")
}

// TestCorefiles: danelaw takes the Corefile of every rendering.
func TestCorefiles(t *testing.T) {
	each(t, func(t *testing.T, v values) { must(t, "danelaw", "--validate", "--conf", read(t, v).unpack(t)) })
	t.Run("a mistake", func(t *testing.T) {
		r := read(t, values{"options": "prefetch maybe"})
		_, all, err := run(t, "danelaw", "--validate", "--conf", r.unpack(t))
		if err == nil || !strings.Contains(all, "prefetch") {
			t.Errorf("%v\n%s", err, all)
		}
	})
}

// TestRestricted: danelaw asks for no more than Kubernetes's pod security standard "restricted" allows.
func TestRestricted(t *testing.T) {
	each(t, func(t *testing.T, v values) {
		r := read(t, v)
		s := r.SecurityContext
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem ||
			!s.RunAsNonRoot || s.RunAsUser != 65532 || s.SeccompProfile.Type != "RuntimeDefault" ||
			strings.Join(s.Capabilities.Drop, " ") != "ALL" || len(s.Capabilities.Add) > 0 {
			t.Errorf("securityContext: %+v", s)
		}
		if native := r.RestartPolicy == "Always"; native != (r.patch != "") {
			t.Errorf("restartPolicy: %q", r.RestartPolicy)
		}
	})
}

// mib reads a size in MiB.
func mib(t *testing.T, text, unit string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(text, unit))
	if err != nil || !strings.HasSuffix(text, unit) {
		t.Fatalf("%q is no size in %s", text, unit)
	}
	return n
}

// environment returns a variable of the container.
func (r rendering) environment(name string) string {
	for _, e := range r.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

var cacheLine = regexp.MustCompile(`(?m)^ +cache ([0-9]+)(MiB|GiB)$`)

// TestMemoryFollowsCache: of the one value `cache` come the option, the limit on memory, and what Go's heap may take
// of it: the limit, less seven eighths of the cache, which lie outside of the heap, less a base of 54 MiB.
func TestMemoryFollowsCache(t *testing.T) {
	each(t, func(t *testing.T, v values) {
		r := read(t, v)
		m := cacheLine.FindStringSubmatch(r.files["Corefile"])
		if m == nil {
			t.Fatalf("no cache in\n%s", r.files["Corefile"])
		}
		cache, _ := strconv.Atoi(m[1])
		if m[2] == "GiB" {
			cache *= 1024
		}
		limit, heap := mib(t, r.Resources.Limits.Memory, "Mi"), mib(t, r.environment("GOMEMLIMIT"), "MiB")
		if limit != cache+96 || heap != limit-(cache-cache/8)-54 {
			t.Errorf("a cache of %d MiB, a limit of %d MiB, a heap of %d MiB", cache, limit, heap)
		}
	})
}
