package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// cacheMiB is what each server may use for what it remembers, if [Setup] says nothing else.
const cacheMiB = 256

// Danelaw is the danelaw of a program file.
func Danelaw(name, program string) Server {
	return Server{Name: name, Program: program, Ours: true, configure: danelaw, counts: countsOfDanelaw}
}

func danelaw(s Setup) setting {
	return setting{
		arguments: []string{"serve", "--quiet", "--conf", "Corefile"},
		files: map[string]string{"Corefile": fmt.Sprintf(`.:%d {
    bind %s
    errors
    danelaw {
        upstream . %s
        trust_anchor %q
        control control.sock
        cache %dMiB
        %s
    }
}
`, s.Listen.Port(), s.Listen.Addr(), s.Upstream, anchorFile, cmp.Or(s.CacheMiB, cacheMiB),
			strings.Join(s.Options, "\n        "))},
	}
}

// Echo is the program itself as it answers without a look at the question: what no server can be cheaper than.
func Echo(program string, size int) Server {
	return Server{Name: EchoName, Program: program, configure: func(s Setup) setting {
		return setting{
			arguments: []string{"bench", "--echo", s.Listen.String(), "--echo-size", fmt.Sprint(size)},
			files:     map[string]string{}, begun: replies,
		}
	}}
}

// The names of servers. Those of Debian's are what users call them.
const (
	EchoName    = "echo"
	UnboundName = "unbound"
	policyName  = "postfix-mta-sts-resolver"
)

// peer is a program of Debian's.
type peer struct {
	name, program, pack string
	Server
}

var peers = []peer{
	{UnboundName, "unbound", "unbound", Server{configure: unbound, counts: countsOfUnbound}},
	{"bind", "named", "bind9", Server{configure: bind, counts: countsOfBind}},
	{"knot", "kresd", "knot-resolver", Server{configure: knot, counts: countsOfKnot}},
	{"pdns", "pdns_recursor", "pdns-recursor", Server{configure: pdns, counts: countsOfPDNS, Guesses: true}},
	{policyName, "mta-sts-daemon", policyName, Server{configure: mtaSTS, Postfix: true}},
}

// Peers are the names of the servers of others that can be measured.
func Peers() (names []string) {
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}

// ErrMissing is that of a server that is not installed.
var ErrMissing = errors.New("not installed")

// Peer is an installed server of others, configured as Debian does: what is set here is what the measurement needs.
func Peer(name string) (Server, error) {
	for _, p := range peers {
		if p.name != name {
			continue
		}
		path, err := find(p.program)
		if err != nil {
			return Server{}, fmt.Errorf("%s is %w (no program %s); on Debian: apt-get install %s",
				name, ErrMissing, p.program, p.pack)
		}
		p.Name, p.Program = name, path
		return p.Server, nil
	}
	return Server{}, fmt.Errorf("there is no server %q, only %s", name, strings.Join(Peers(), ", "))
}

// find looks where not every user's PATH leads, too.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	return path, err
}

func unbound(s Setup) setting {
	size := cmp.Or(s.CacheMiB, cacheMiB)
	return setting{
		arguments: []string{"-d", "-c", "unbound.conf"},
		files: map[string]string{"unbound.conf": fmt.Sprintf(`server:
	interface: %s@%d
	do-daemonize: no
	username: ""
	chroot: ""
	directory: "."
	pidfile: ""
	use-syslog: no
	do-not-query-localhost: no
	trust-anchor-file: %q
	msg-cache-size: %dm
	rrset-cache-size: %dm
	key-cache-size: %dm
	neg-cache-size: %dm
forward-zone:
	name: "."
	forward-addr: %s@%d
remote-control:
	control-enable: yes
	control-interface: %q
	control-use-cert: no
`, s.Listen.Addr(), s.Listen.Port(), anchorFile, size, size, max(4, size/8), max(1, size/8),
			s.Upstream.Addr(), s.Upstream.Port(), s.control)},
	}
}

func bind(s Setup) setting {
	return setting{
		arguments: []string{"-g", "-4", "-n", "1", "-c", "named.conf"},
		files: map[string]string{"named.conf": fmt.Sprintf(`options {
	directory "."; pid-file none; session-keyfile none;
	listen-on port %d { %s; }; listen-on-v6 { none; };
	recursion yes; empty-zones-enable no; max-cache-size %dM; recursive-clients 10000;
	clients-per-query 0; max-clients-per-query 0;
	dnssec-validation yes;
	forward only; forwarders { %s port %d; };
};
controls { };
statistics-channels { inet %s port %d; };
logging { category default { null; }; category general { default_stderr; }; };
trust-anchors { . static-ds %d %d %d "%s"; };
`, s.Listen.Port(), s.Listen.Addr(), cmp.Or(s.CacheMiB, cacheMiB), s.Upstream.Addr(), s.Upstream.Port(),
			s.Listen.Addr(), s.statistics.Port(),
			s.Anchor.KeyTag, s.Anchor.Algorithm, s.Anchor.DigestType, s.Anchor.Digest)},
	}
}

func knot(s Setup) setting {
	return setting{
		arguments: []string{"-n", "-c", "kresd.conf", "."},
		files: map[string]string{"kresd.conf": fmt.Sprintf(`net.listen('%s', %d)
net.ipv6 = false
modules = { 'stats' }
cache.size = %d * MB
trust_anchors.remove('.')
trust_anchors.add('%s')
policy.add(policy.all(policy.FORWARD('%s@%d')))
`, s.Listen.Addr(), s.Listen.Port(), cmp.Or(s.CacheMiB, cacheMiB), s.Anchor, s.Upstream.Addr(), s.Upstream.Port())},
	}
}

// PowerDNSAlone are settings of a PowerDNS recursor of one thread that asks and answers on this host only, in the
// foreground, and looks at nothing of the system's.
const PowerDNSAlone = `daemon=no
disable-syslog=yes
write-pid=no
threads=1
dont-query=
allow-from=127.0.0.0/8
query-local-address=0.0.0.0
security-poll-suffix=
serve-rfc1918=no
export-etc-hosts=no
loglevel=3
`

func pdns(s Setup) setting {
	// it counts entries: one of either kind takes about 1 kB
	entries := cmp.Or(s.CacheMiB, cacheMiB) << 10
	return setting{
		arguments: []string{"--config-dir=."},
		files: map[string]string{
			"anchors.lua": fmt.Sprintf("clearTA('.')\naddTA('.', \"%d %d %d %s\")\n",
				s.Anchor.KeyTag, s.Anchor.Algorithm, s.Anchor.DigestType, s.Anchor.Digest),
			"recursor.conf": fmt.Sprintf(`local-address=%s
local-port=%d
socket-dir=.
dnssec=validate
max-cache-entries=%d
max-packetcache-entries=%d
max-mthreads=8192
network-timeout=10000
server-down-max-fails=0
lua-config-file=anchors.lua
forward-zones-recurse=.=%s
`+PowerDNSAlone, s.Listen.Addr(), s.Listen.Port(), entries, entries, s.Upstream),
		},
	}
}

// PolicyAddr is where Postfix asks for policies, in a [Network] where nobody else is: what mta-sts-daemon has by
// default.
var PolicyAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 8461)

// mtaSTS has its cache in memory, which is the fastest of those that it can have; Debian's configuration is SQLite.
// Whom it asks for names stands in /etc/resolv.conf.
func mtaSTS(Setup) setting {
	return setting{
		arguments: []string{"--verbosity", "warn", "--config", "mta-sts-daemon.yml"}, begun: accepts,
		files: map[string]string{"mta-sts-daemon.yml": fmt.Sprintf("host: %s\nport: %d\ncache:\n  type: internal\n",
			PolicyAddr.Addr(), PolicyAddr.Port())},
	}
}
