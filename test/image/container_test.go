//go:build linux

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/zones"
)

// unpack has others read the image: skopeo takes that of one platform out of the OCI archive, umoci makes a bundle of
// it, with the container's configuration as the image says it is to be.
func unpack(t *testing.T, arch string) (bundle string) {
	t.Helper()
	dir := t.TempDir()
	one := filepath.Join(dir, "one") + ":" + version
	sh(t, "skopeo", "copy", "--insecure-policy", "--quiet", "--override-arch", arch,
		"oci-archive:"+suite.Dir("first", ours+"_oci.tar")+":"+version, "oci:"+one)
	bundle = filepath.Join(dir, "bundle")
	sh(t, "umoci", "unpack", "--image", one, bundle)
	return bundle
}

// container is one that is to run the image, without capabilities, with a root that may only be read.
type container struct {
	t      *testing.T
	bundle string
	spec   *specs.Spec
	state  string // the directory that is its volume for what it learns
	// while it runs
	id    string
	log   *observe.Output
	ended chan error
}

// newContainer unpacks one, which is to be on a host. What engines do with the volumes of the image is done: each has
// the owner that it has in the image.
func newContainer(t *testing.T, arch string, h host) *container {
	t.Helper()
	c := &container{t: t, bundle: unpack(t, arch), spec: new(specs.Spec), state: t.TempDir()}
	text, err := os.ReadFile(filepath.Join(c.bundle, "config.json"))
	if err == nil {
		err = json.Unmarshal(text, c.spec)
	}
	if err = errors.Join(err, os.Chown(c.state, 65532, 65532)); err != nil {
		t.Fatal(err)
	}
	c.spec.Process.Terminal = false
	c.spec.Process.Capabilities = &specs.LinuxCapabilities{}
	c.spec.Root.Readonly = true
	c.spec.Linux.Resources = nil // rules for devices need a right that containers such as that of CI do not have
	for i := range c.spec.Linux.Namespaces {
		if n := &c.spec.Linux.Namespaces[i]; n.Type == specs.NetworkNamespace {
			n.Path = h.network
		}
	}
	c.mount(specs.Mount{Destination: "/run/danelaw", Type: "tmpfs", Source: "tmpfs",
		Options: []string{"mode=0750", "uid=65532", "gid=65532"}})
	c.bind(c.state, "/var/lib/danelaw", "rw")
	return c
}

// mount adds a mount, instead of one that the image asks for.
func (c *container) mount(m specs.Mount) {
	c.unmount(m.Destination)
	c.spec.Mounts = append(c.spec.Mounts, m)
}

// unmount leaves out mounts.
func (c *container) unmount(destinations ...string) {
	c.spec.Mounts = slices.DeleteFunc(c.spec.Mounts, func(m specs.Mount) bool {
		return slices.Contains(destinations, m.Destination)
	})
}

func (c *container) bind(from, to, how string) {
	c.mount(specs.Mount{Destination: to, Type: "bind", Source: from, Options: []string{"rbind", how}})
}

// setenv sets a variable, as run -e does.
func (c *container) setenv(name, value string) {
	c.spec.Process.Env = append(slices.DeleteFunc(c.spec.Process.Env, func(v string) bool {
		return strings.HasPrefix(v, name+"=")
	}), name+"="+value)
}

// follow has the container ask a resolver and trust its world, by a Corefile that differs in nothing else from that of
// the image.
func (c *container) follow(upstream, anchor string) {
	c.t.Helper()
	shipped, err := os.ReadFile(filepath.Join(c.bundle, "rootfs/etc/danelaw/Corefile"))
	const usual = "upstream . tls://9.9.9.9%dns.quad9.net tls://149.112.112.112%dns.quad9.net\n"
	if err != nil || strings.Count(string(shipped), usual) != 1 {
		c.t.Fatalf("the Corefile of the image is %v\n%s", err, shipped)
	}
	dir := c.t.TempDir()
	corefile, key := filepath.Join(dir, "Corefile"), filepath.Join(dir, "anchor")
	text := strings.Replace(string(shipped), usual, "upstream . "+upstream+"\ntrust_anchor /etc/danelaw/anchor\n", 1)
	if err := errors.Join(os.WriteFile(key, []byte(anchor), 0o644),
		os.WriteFile(corefile, []byte(text), 0o644)); err != nil {
		c.t.Fatal(err)
	}
	c.bind(corefile, "/etc/danelaw/Corefile", "ro")
	c.bind(key, "/etc/danelaw/anchor", "ro")
}

// started counts containers, so that each has a name of its own.
var started atomic.Int64

// start runs the container until stop is called, or the test ends.
func (c *container) start() {
	c.t.Helper()
	text, err := json.Marshal(c.spec)
	if err = errors.Join(err, os.WriteFile(filepath.Join(c.bundle, "config.json"), text, 0o644)); err != nil {
		c.t.Fatal(err)
	}
	c.id = fmt.Sprintf("%s-%d", filepath.Base(suite.Dir()), started.Add(1))
	log, ended := new(observe.Output), make(chan error, 1)
	run := crun("run", "--bundle", c.bundle, c.id)
	run.Stdout, run.Stderr = log, log
	if err := run.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() { ended <- run.Wait() }()
	c.log, c.ended = log, ended
	c.t.Cleanup(func() {
		crun("delete", "--force", c.id).Run() //nolint:errcheck // it has ended by itself
		if c.t.Failed() {
			c.t.Logf("the container wrote\n%s", log)
		}
	})
	eventually(c.t, "danelaw to listen", func() bool {
		select {
		case err := <-ended:
			c.t.Fatalf("the container has ended: %v\n%s", err, log)
		default:
		}
		return strings.Contains(log.String(), "danelaw listens on")
	})
}

func crun(args ...string) *exec.Cmd {
	return exec.Command("crun", append([]string{"--root", suite.Dir("crun")}, args...)...)
}

// stop ends the container as engines do, and says how it has ended.
func (c *container) stop() error {
	c.t.Helper()
	if out, err := crun("kill", c.id, "TERM").CombinedOutput(); err != nil {
		c.t.Fatalf("kill: %v\n%s", err, out)
	}
	select {
	case err := <-c.ended:
		return err
	case <-time.After(10 * time.Second): // after which Docker sends SIGKILL
		return errors.New("it has not ended for 10 s")
	}
}

// exec runs a command in the container, as its user, and returns all that it writes.
func (c *container) exec(args ...string) (string, error) {
	user := fmt.Sprintf("%d:%d", c.spec.Process.User.UID, c.spec.Process.User.GID)
	out, err := crun(append([]string{"exec", "--user", user, c.id}, args...)...).CombinedOutput()
	return string(out), err
}

// pid is the number of danelaw, outside the container.
func (c *container) pid() int {
	c.t.Helper()
	var state struct{ PID int }
	out, err := crun("state", c.id).Output()
	if err == nil {
		err = json.Unmarshal(out, &state)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return state.PID
}

const (
	sound  = "good.dane."
	broken = "expired.dane."
)

// newWorld makes a signed world, and an upstream for it at port 53 of an address.
func newWorld(t *testing.T, address string) (anchor string) {
	t.Helper()
	bad := world.Domain(broken)
	bad.Fault = zones.Faults["expired"]
	tree := world.New(time.Now, zones.Plan{Name: ".", Text: world.Base}, world.Zone("dane."), world.Domain(sound), bad)
	tree.Caching().Serve(t, address+":53")
	return tree.DS(".")[0].String() + "\n"
}
