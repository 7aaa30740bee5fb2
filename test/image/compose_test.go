//go:build linux

package image

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// load reads deploy/image/compose.yaml, and files that go on from there, as Compose does.
func load(t *testing.T, env []string, more ...string) (*types.Project, error) {
	t.Helper()
	o, err := cli.NewProjectOptions(append([]string{project + "/deploy/image/compose.yaml"}, more...), cli.WithEnv(env))
	if err != nil {
		return nil, err
	}
	return o.LoadProject(t.Context())
}

// composed is the file alone.
func composed(t *testing.T, env ...string) *types.Project {
	t.Helper()
	p, err := load(t, env)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const composedImage = "DANELAW_IMAGE=danelaw:" + version

// network is the network of the service, and its fixed address there.
func network(p *types.Project) (subnet, address string) {
	return p.Networks["mail"].Ipam.Config[0].Subnet, p.Services["danelaw"].Networks["mail"].Ipv4Address
}

// TestExistingNetwork: the lines of the README put danelaw onto a network that is there already.
func TestExistingNetwork(t *testing.T) {
	text, err := os.ReadFile(project + "/deploy/image/README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "\n    networks:\n      mail: !override\n"
	_, rest, found := strings.Cut(string(text), begin)
	if !found {
		t.Fatalf("the README lacks %q", begin)
	}
	lines, _, _ := strings.Cut(rest, "\n\n")
	second := filepath.Join(t.TempDir(), "second.yaml")
	if err := os.WriteFile(second, []byte(begin+lines+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := load(t, []string{composedImage, "DANELAW_PREFIX=172.22.1"}, second)
	if err != nil {
		t.Fatal(err)
	}
	n, address := p.Networks["mail"], p.Services["danelaw"].Networks["mail"].Ipv4Address
	if !n.External || n.Name != "mailcowdockerized_mailcow-network" || len(n.Ipam.Config) > 0 ||
		address != "172.22.1.53" {
		t.Errorf("the network is %+v, and danelaw at %s", n, address)
	}
}

// TestComposeFile: one variable moves the network with all that names it; and without an image there is an error that
// says what is missing.
func TestComposeFile(t *testing.T) {
	p := composed(t, composedImage, "DANELAW_PREFIX=172.22.1")
	s := p.Services["danelaw"]
	if subnet, address := network(p); subnet != "172.22.1.0/24" || address != "172.22.1.53" ||
		*s.Environment["DANELAW_ALLOW_CLIENTS"] != subnet || *s.Environment["DANELAW_AD_CLIENTS"] != subnet {
		t.Errorf("the network is %s, danelaw %s; the environment %v", subnet, address, s.Environment)
	}
	if _, err := load(t, nil); err == nil || !strings.Contains(err.Error(), "such as danelaw:0.1.0") {
		t.Errorf("without an image the error is %v", err)
	}
}

// TestCompose does with crun what the compose file says: danelaw has the address that it says, the containers of its
// network get AD at port 53, and those of another get nothing.
func TestCompose(t *testing.T) {
	suite.Needs(t)
	route(t)
	p := composed(t, composedImage)
	subnet, address := network(p)
	mail, another := newLAN(t, "mail", subnet), newLAN(t, "far", far)
	postfix, stranger := mail.host("postfix", mail.gateway().Next().String()), another.host("stranger", faraway)
	c := newContainer(t, runtime.GOARCH, mail.host("danelaw", address))
	c.follow(mail.gateway().String(), newWorld(t, mail.gateway().String()))
	enact(c, p.Services["danelaw"])
	c.start()

	postfix.expect(address, "53", sound, "NOERROR", true)
	postfix.expect(address, "53", broken, "SERVFAIL", false)
	stranger.expect(address, "53", sound, "REFUSED", false)
	eventually(t, "the health check to succeed", func() bool {
		_, err := c.exec(p.Services["danelaw"].HealthCheck.Test[1:]...)
		return err == nil
	})
	if err := c.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// enact gives a container what a service says. Not enacted is the bound on memory: there may be no such controller.
func enact(c *container, s types.ServiceConfig) {
	c.t.Helper()
	c.spec.Root.Readonly = s.ReadOnly
	if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 ||
		!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.User != "" || len(s.Command) > 0 {
		c.t.Fatalf("the service has rights that are not enacted here: %+v", s)
	}
	for name, value := range s.Environment {
		c.setenv(name, *value)
	}
	c.spec.Linux.Sysctl = s.Sysctls
	for _, text := range s.Tmpfs {
		path, options, _ := strings.Cut(text, ":")
		c.mount(specs.Mount{Destination: path, Type: "tmpfs", Source: "tmpfs", Options: strings.Split(options, ",")})
	}
	for _, v := range s.Volumes {
		if v.Type != "volume" || v.Source != "learned" {
			c.t.Fatalf("the volume %+v is not enacted here", v)
		}
		c.bind(c.state, v.Target, "rw")
	}
}
