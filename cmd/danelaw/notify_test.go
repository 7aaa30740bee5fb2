package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
)

// TestNotify: a daemon runs the program of its Corefile for a verdict that changes, and when it is well again, over a
// reload; danelaw check of the same Corefile runs nothing.
func TestNotify(t *testing.T) {
	lab, dir := newLab(t), socketDir(t)
	file, socket := filepath.Join(dir, "alarms"), filepath.Join(dir, "control.sock")
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ncat >> \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, port, corefile := serving(t, lab, lab.Addr(), "control "+socket, "notify "+program+" "+file)
	if m := ask(t, port, "good.dane.", dns.TypeMX); !m.AuthenticatedData {
		t.Fatalf("%v", m)
	}
	alarms := func() (all []danelaw.Alarm) {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			var a danelaw.Alarm
			if err := json.Unmarshal([]byte(line), &a); err == nil { // else it is being written
				all = append(all, a)
			}
		}
		return all
	}
	told(t, "nta", "add", "good.dane", "1h", "told them", "--socket", socket)
	ask(t, port, "good.dane.", dns.TypeMX)
	eventually(t, "the alarm", func() bool { return len(alarms()) > 0 })
	if a := alarms()[0]; a.Kind != danelaw.OfVerdict || a.State != danelaw.Raised || a.Subject != "good.dane. MX" ||
		!strings.HasPrefix(a.Text, "it is Insecure now, it was Secure: good.dane.: not validated, by a negative") {
		t.Errorf("%+v", a)
	}
	p.Process.Signal(syscall.SIGUSR1)
	p.says(t, &p.err, "Reloading complete")
	told(t, "nta", "remove", "good.dane", "--socket", socket)
	ask(t, port, "good.dane.", dns.TypeMX)
	eventually(t, "its end", func() bool { return len(alarms()) > 1 })
	if a := alarms()[1]; a.State != danelaw.Resolved || a.Subject != "good.dane. MX" {
		t.Errorf("%+v", a)
	}
	here("check", "-conf", corefile, "good.dane", "MX")
	here("check", "-conf", corefile, "expired.dane", "MX")
	if code := p.terminate(t); code != 0 || len(alarms()) != 2 {
		t.Errorf("exit code %d, %+v", code, alarms())
	}
}
