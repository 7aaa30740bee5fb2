// Package apiserver has a real kube-apiserver, on an etcd of its own, take what deploy/helm has for Kubernetes, with
// the commands of the guides. It is a module of its own: Kubernetes is a thousand packages that nothing else here
// needs. README.md says how to run it.
package apiserver

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// variable of the environment that has the tests run.
const variable = "DANELAW_TEST_APISERVER"

// As in test/cluster.
const (
	helm     = "helm.sh/helm/v4/cmd/helm@v4.3.1"
	operator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
)

// The project's directory.
const project = "../.."

// cluster is an API server, and a directory in which commands for it run.
type cluster struct{ dir string }

// start starts one. The directory has deploy, as the guides' commands want it, the programs that they call, and the
// resources of the Prometheus operator.
func start(t *testing.T) cluster {
	t.Helper()
	c := cluster{t.TempDir()}
	deploy, err := filepath.Abs(filepath.Join(project, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	c.link(t, deploy, "deploy")
	c.link(t, crds(t), "crds")
	c.install(t, helm)
	// a server of no version is none that the chart takes
	c.install(t, "-ldflags", "-X k8s.io/component-base/version.gitVersion="+version(t), "./kubernetes")
	c.link(t, "kubernetes", "bin/kubectl")
	c.serve(t)
	return c
}

// install builds a program.
func (c cluster) install(t *testing.T, args ...string) {
	t.Helper()
	begun := time.Now()
	install := exec.CommandContext(t.Context(), "go", append([]string{"install"}, args...)...)
	install.Env = append(os.Environ(), "GOBIN="+filepath.Join(c.dir, "bin"))
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", install, err, out)
	}
	t.Logf("%s: built in %.0f s", args[len(args)-1], time.Since(begun).Seconds())
}

// version returns that of Kubernetes in go.mod.
func version(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// serve starts the API server, and waits until it is ready. If the test fails, the end of its log is logged.
func (c cluster) serve(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(filepath.Join(c.dir, "bin", "kubernetes"), c.dir)
	server.Stdout, server.Stderr = log, log
	stdin, err := server.StdinPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { server.Wait(); close(ended) }()
	t.Cleanup(func() {
		stdin.Close()
		<-ended
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the API server:\n%s", text[max(0, len(text)-4000):])
		}
	})
	for begun := time.Now(); ; time.Sleep(time.Second / 4) {
		if _, err := c.try("kubectl get --raw /readyz", ""); err == nil {
			return
		}
		select {
		case <-ended:
			t.Fatal("the API server has ended")
		default:
		}
		if time.Since(begun) > 5*time.Minute {
			t.Fatal("the API server does not get ready")
		}
	}
}

func (c cluster) link(t *testing.T, old, name string) {
	t.Helper()
	if err := os.Symlink(old, filepath.Join(c.dir, name)); err != nil {
		t.Fatal(err)
	}
}

// crds returns the directory with the resources of the Prometheus operator.
func crds(t *testing.T) string {
	t.Helper()
	download := exec.Command("go", "mod", "download", "-json", operator)
	download.Dir = t.TempDir() // outside of a module
	out, err := download.Output()
	var module struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil {
		t.Fatalf("%v: %v\n%s", download, err, out)
	}
	return filepath.Join(module.Dir, "example", "prometheus-operator-crd")
}

// try runs a line of shell. It fails, too, if the API server warns of something.
func (c cluster) try(line, stdin string) (out string, err error) {
	shell := exec.Command("bash", "-euo", "pipefail", "-c", line)
	shell.Dir, shell.Stdin = c.dir, strings.NewReader(stdin)
	shell.Env = append(os.Environ(), "PATH="+filepath.Join(c.dir, "bin")+":"+os.Getenv("PATH"),
		"KUBECONFIG="+filepath.Join(c.dir, "config"), "HOME="+c.dir)
	text, err := shell.CombinedOutput()
	if err == nil && strings.Contains(string(text), "Warning: ") {
		err = fmt.Errorf("the API server warns")
	}
	return string(text), err
}

// run runs a line of shell that has to succeed.
func (c cluster) run(t *testing.T, line string) (out string) {
	t.Helper()
	return c.feed(t, line, "")
}

// feed is run with something to read.
func (c cluster) feed(t *testing.T, line, stdin string) (out string) {
	t.Helper()
	out, err := c.try(line, stdin)
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", line, err, out, stdin)
	}
	return out
}

// refused runs a line of shell that has to fail for a reason.
func (c cluster) refused(t *testing.T, line, stdin, reason string) {
	t.Helper()
	out, err := c.try(line, stdin)
	if err == nil || !strings.Contains(out, reason) {
		t.Errorf("%s: %v, want %q\n%s\n%s", line, err, reason, out, stdin)
		return
	}
	t.Logf("refused, as it should be: %s", strings.TrimSpace(out))
}

// follow runs the lines of a guide below deploy, which has them word for word.
func (c cluster) follow(t *testing.T, guide string, lines ...string) (out string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(project, "deploy", guide))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if !strings.Contains(string(text), "\n    "+line+"\n") {
			t.Fatalf("deploy/%s has no line %q", guide, line)
		}
	}
	all := strings.Join(lines, "\n")
	out = c.run(t, all)
	t.Logf("$ %s\n%s", all, out)
	return out
}

// get reads an object.
func (c cluster) get(t *testing.T, namespace, what string) object {
	t.Helper()
	var o object
	text := c.run(t, "kubectl -n "+namespace+" get "+what+" -o json")
	if err := json.Unmarshal([]byte(text), &o.value); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return o
}

// object is an object of Kubernetes, or a part of one.
type object struct{ value any }

// at follows names and indices. What is not there is nil.
func (o object) at(path ...any) object {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := o.value.(map[string]any)
			o.value = m[step]
		case int:
			all, _ := o.value.([]any)
			o.value = nil
			if step < len(all) {
				o.value = all[step]
			}
		}
	}
	return o
}

// fields are the parts of an object that has names.
func (o object) fields() map[string]any {
	m, _ := o.value.(map[string]any)
	return m
}

// text is the object in JSON, which is YAML.
func (o object) text(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(o.value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
