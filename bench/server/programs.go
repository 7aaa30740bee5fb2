package server

import (
	"errors"
	"fmt"
	"os/exec"
)

// cacheSize is what each server may use for what it remembers; more than a measurement fills.
const cacheSize = "256"

// Danelaw is the danelaw of a program file.
func Danelaw(name, program string) Server {
	return Server{name, program, []string{"serve", "--quiet", "--conf"}, "Corefile", corefile}
}

func corefile(s Setup) string {
	return fmt.Sprintf(`.:%d {
    bind %s
    errors
    danelaw {
        upstream . %s
        trust_anchor %q
        control off
        cache %sMiB
    }
}
`, s.listen.Port(), s.listen.Addr(), s.Upstream, s.anchor, cacheSize)
}

// UnboundName is the name of the server [Unbound].
const UnboundName = "unbound"

// Unbound is the installed one, configured as Debian does: what is set here is what the measurement needs.
func Unbound() (Server, error) {
	program, err := exec.LookPath("unbound")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/unbound") // not in every user's PATH
	}
	if err != nil {
		return Server{}, errors.New("Unbound is not installed; on Debian: apt-get install unbound")
	}
	return Server{UnboundName, program, []string{"-d", "-c"}, "unbound.conf", unboundConf}, nil
}

func unboundConf(s Setup) string {
	return fmt.Sprintf(`server:
	interface: %s@%d
	do-daemonize: no
	username: ""
	chroot: ""
	directory: "."
	pidfile: ""
	use-syslog: no
	do-not-query-localhost: no
	trust-anchor-file: %q
	msg-cache-size: %sm
	rrset-cache-size: %sm
forward-zone:
	name: "."
	forward-addr: %s@%d
remote-control:
	control-enable: no
`, s.listen.Addr(), s.listen.Port(), s.anchor, cacheSize, cacheSize, s.Upstream.Addr(), s.Upstream.Port())
}
