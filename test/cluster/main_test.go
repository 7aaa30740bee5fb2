//go:build linux

// Package cluster tries the Helm chart of deploy/helm: what Kubernetes's own tools say of its renderings, that
// danelaw takes their Corefiles, that AD comes through a CoreDNS in front of it, that the limit on memory suffices,
// and that replicas behind one address lose nothing when one ends. All of it runs in namespaces of its own; there is
// no cluster.
package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/danelaw-dns/danelaw/test/namespace"
)

var suite = namespace.Suite{
	Variable:  "DANELAW_TEST_CLUSTER",
	Programs:  []string{"nft", "nsenter", "setpriv", "sysctl"},
	Prepare:   prepare,
	Addresses: func() []string { return nil },
}

func TestMain(m *testing.M) { suite.Main(m) }

// The tools that look at the chart, built while there is a network.
var tools = []string{
	"helm.sh/helm/v4/cmd/helm@v4.3.1",
	"sigs.k8s.io/kubectl-validate@v0.0.4",
	"github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
}

// operator has the resources of the Prometheus operator, for kubectl-validate.
const operator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

// prepare puts the tools into the directory of the run, and the resources of the Prometheus operator into crds there.
func prepare(dir string) error {
	for _, tool := range tools {
		c := exec.Command("go", "install", tool)
		c.Env = append(os.Environ(), "GOBIN="+dir)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("go install %s: %w\n%s", tool, err, out)
		}
	}
	c := exec.Command("go", "mod", "download", "-json", operator)
	c.Dir = dir // outside of a module
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("%v: %w\n%s", c, err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(module.Dir, "example", "prometheus-operator-crd"), filepath.Join(dir, "crds"))
}
