//go:build linux

package image

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

const (
	near, nearby = "172.29.54.0/24", "172.29.54.10" // a network that may receive AD
	far, faraway = "172.29.55.0/24", "172.29.55.10" // one that is served without
	address      = "172.29.54.53"                   // of the container
)

// TestContainer: with a root that may only be read, without rights and without capabilities, the image answers, and
// with AD where it is allowed to. SIGTERM ends it, it leaves what it has learned, and it begins again.
func TestContainer(t *testing.T) {
	suite.Needs(t)
	route(t)
	here, there := newLAN(t, "near", near), newLAN(t, "far", far)
	client, other := here.host("client", nearby), there.host("other", faraway)
	c := newContainer(t, runtime.GOARCH, here.host("danelaw", address))
	c.follow(here.gateway().String(), newWorld(t, here.gateway().String()))
	c.setenv("DANELAW_ALLOW_CLIENTS", "172.29.54.0/23") // both
	c.setenv("DANELAW_AD_CLIENTS", near)
	c.start()

	client.expect(address, "1053", sound, "NOERROR", true)
	client.expect(address, "1053", broken, "SERVFAIL", false)
	other.expect(address, "1053", sound, "NOERROR", false)
	if reply := client.dig(address, "1053", broken, "MX"); !strings.Contains(reply, "EDE: 7") {
		t.Errorf("no Extended DNS Error says why:\n%s", reply)
	}
	endpoints(t)
	confined(t, c.pid())
	if out, err := c.exec("/usr/bin/danelaw", "status"); err != nil || !strings.Contains(out, "\nready;") {
		t.Errorf("status: %v\n%s", err, out)
	}

	if err := c.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.state, "trust-anchors.json")); err != nil {
		t.Errorf("what it has learned is lost: %v", err)
	}
	c.start()
	client.expect(address, "1053", sound, "NOERROR", true)
	if log := c.log.String(); strings.Contains(log, "[ERROR]") {
		t.Errorf("after a restart it complains:\n%s", log)
	}
}

// endpoints: health, readiness and metrics are where the README says.
func endpoints(t *testing.T) {
	t.Helper()
	for path, want := range map[string]string{"8080/health": "OK", "8181/ready": "OK",
		"9153/metrics": "\ncoredns_danelaw_"} {
		reply, err := http.Get("http://" + address + ":" + path)
		if err != nil {
			t.Error(err)
			continue
		}
		body, err := io.ReadAll(reply.Body)
		reply.Body.Close() //nolint:errcheck // it was read only
		if err != nil || reply.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v, %v\n%.300s", path, reply.Status, err, body)
		}
	}
}

// confined: the process is no root's, has no capability and can get none, and even root cannot write to its root.
func confined(t *testing.T, pid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	const none = "0000000000000000"
	for _, want := range []string{"Uid:\t65532\t65532\t65532\t65532", "Gid:\t65532\t65532\t65532\t65532",
		"CapInh:\t" + none, "CapPrm:\t" + none, "CapEff:\t" + none, "CapBnd:\t" + none, "CapAmb:\t" + none,
		"NoNewPrivs:\t1"} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("its status lacks %q:\n%s", want, text)
		}
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	for _, file := range []string{"/new", "/etc/passwd", "/usr/bin/new"} {
		f, err := os.OpenFile(root+file, os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			f.Close() //nolint:errcheck // it was not to be opened
		}
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s can be opened for writing: %v", file, err)
		}
	}
}

// TestDefaults: without any variable danelaw serves, at port 1053, who shares its network namespace, as the containers
// of a pod do, and nobody else.
func TestDefaults(t *testing.T) {
	suite.Needs(t)
	l := newLAN(t, "near", near)
	client, own := l.host("client", nearby), l.host("danelaw", address)
	c := newContainer(t, runtime.GOARCH, own)
	c.follow(l.gateway().String(), newWorld(t, l.gateway().String()))
	c.start()
	own.expect("127.0.0.1", "1053", sound, "NOERROR", true)
	client.expect(address, "1053", sound, "REFUSED", false)
}

// TestBareRoot: where nobody makes volumes of the directories that danelaw writes to, it says so, and serves.
func TestBareRoot(t *testing.T) {
	suite.Needs(t)
	l := newLAN(t, "near", near)
	own := l.host("danelaw", address)
	c := newContainer(t, runtime.GOARCH, own)
	c.follow(l.gateway().String(), newWorld(t, l.gateway().String()))
	c.unmount("/run/danelaw", "/var/lib/danelaw")
	c.start()
	own.expect("127.0.0.1", "1053", sound, "NOERROR", true)
	if log := c.log.String(); strings.Count(log, "read-only file system") < 2 {
		t.Errorf("it does not say that it can write nothing:\n%s", log)
	}
	if err := c.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// TestForeignProcessor: the image of arm64 answers too, under QEMU where the processor is another.
func TestForeignProcessor(t *testing.T) {
	suite.Needs(t)
	l := newLAN(t, "near", near)
	client, own := l.host("client", nearby), l.host("danelaw", address)
	c := newContainer(t, "arm64", own)
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Fatal(err)
	}
	const inside = "/usr/bin/qemu-aarch64-static"
	c.bind(qemu, inside, "ro") // so that the kernel need not know it (binfmt_misc)
	c.spec.Process.Args = append([]string{inside}, c.spec.Process.Args...)
	c.follow(l.gateway().String(), newWorld(t, l.gateway().String()))
	c.setenv("DANELAW_ALLOW_CLIENTS", near)
	c.setenv("DANELAW_AD_CLIENTS", near)
	c.start()
	client.expect(address, "1053", sound, "NOERROR", true)
	client.expect(address, "1053", broken, "SERVFAIL", false)
	if out, err := c.exec(inside, "/usr/bin/danelaw", "version"); err != nil || !strings.Contains(out, "linux/arm64") {
		t.Errorf("version: %v\n%s", err, out)
	}
	if err := c.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}
