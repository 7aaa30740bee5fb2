//go:build linux

package servers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"

	bench "github.com/danelaw-dns/danelaw/bench/server"
	"github.com/danelaw-dns/danelaw/test/namespace"
)

// resolver is a resolver of another maker, as an upstream or as a validator.
type resolver struct {
	kind     string // unbound, bind, knot, pdns, dnsmasq, forward
	validate bool
	to       string // the address to which it forwards; "": it iterates from the root
	address  string
	anchors  anchors // if it validates
	apart    border
}

// border says that a zone is asked of another server than all else. If unsigned is set, it need not be signed there,
// whatever the zone above says.
type border struct {
	zone, to string
	unsigned bool
}

// anchors are trust anchors, named by the files that have them in the format of each validator.
type anchors string

const (
	ofRoot anchors = "root"
	// ofSome has none for the root (V-1a), and some below others (V-12).
	ofSome anchors = "some"
)

// as returns the file with the anchors in a format.
func (a anchors) as(form string) string { return suite.Dir(string(a) + "." + form) }

// run starts it and waits until it answers.
func (r resolver) run(t *testing.T) {
	directory := suite.Dir(place(t), r.address)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	config := map[string]func(*testing.T, string) []string{
		"unbound": r.unbound, "bind": r.bind, "knot": r.knot, "pdns": r.pdns, "dnsmasq": r.dnsmasq,
		"forward": r.forward,
	}[r.kind]
	namespace.Start(t, fmt.Sprintf("%+v", r), directory, config(t, directory)...)
	await(t, r.address, ".", dns.TypeNS)
}

// place returns the name of a directory for the servers of a test. It is short, since there will be sockets in it.
func place(t *testing.T) string {
	_, path, _ := strings.Cut(t.Name(), "/")
	return strings.ReplaceAll("of-"+path, "/", "-")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (r resolver) unbound(t *testing.T, directory string) []string {
	config := fmt.Sprintf(`server:
	interface: %s@53
	do-daemonize: no
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	do-ip6: no
	do-not-query-localhost: no
	num-threads: 1
	val-log-level: 2
	root-hints: %q
	infra-host-ttl: 1
`, r.address, directory, suite.Dir("root.hints"))
	if r.validate {
		config += fmt.Sprintf("	module-config: \"validator iterator\"\n	trust-anchor-file: %q\n",
			r.anchors.as("ds"))
	} else {
		config += "	module-config: \"iterator\"\n"
	}
	if r.to != "" {
		config += fmt.Sprintf("forward-zone:\n	name: \".\"\n	forward-addr: %s\n", r.to)
	}
	if r.apart.zone != "" {
		config += fmt.Sprintf("forward-zone:\n	name: %q\n	forward-addr: %s\n", r.apart.zone, r.apart.to)
	}
	if r.apart.unsigned {
		config += fmt.Sprintf("server:\n	domain-insecure: %q\n", r.apart.zone)
	}
	return []string{"unbound", "-d", "-c", write(t, directory, "unbound.conf", config)}
}

func (r resolver) bind(t *testing.T, directory string) []string {
	config := fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none;
	listen-on port 53 { %s; }; listen-on-v6 { none; };
	recursion yes; empty-zones-enable no; max-cache-size 32M;
	dnssec-validation %s;
	qname-minimization relaxed;
`, directory, r.address, yesNo(r.validate))
	if r.to != "" {
		config += fmt.Sprintf("	forward only; forwarders { %s; };\n", r.to)
	}
	if r.apart.unsigned {
		config += fmt.Sprintf("	validate-except { %q; };\n", r.apart.zone)
	}
	config += "};\ncontrols { };\n"
	if r.apart.zone != "" {
		config += fmt.Sprintf("zone %q { type forward; forward only; forwarders { %s; }; };\n", r.apart.zone,
			r.apart.to)
	}
	if r.to == "" {
		config += fmt.Sprintf("zone \".\" { type hint; file %q; };\n", suite.Dir("root.hints"))
	}
	if r.validate {
		config += fmt.Sprintf("include %q;\n", r.anchors.as("anchors"))
	}
	return []string{"named", "-g", "-4", "-n", "1", "-c", write(t, directory, "named.conf", config)}
}

func (r resolver) knot(t *testing.T, directory string) []string {
	config := fmt.Sprintf(`net.listen(%q, 53)
net.ipv6 = false
modules = { 'hints > iterate' }
hints.root_file(%q)
cache.size = 20 * MB
`, r.address, suite.Dir("root.hints"))
	if r.validate {
		config += fmt.Sprintf("dofile(%q)\n", r.anchors.as("kresd"))
	} else {
		config += "trust_anchors.remove('.')\noption('NO_MINIMIZE', true)\n"
	}
	if r.apart.unsigned {
		config += fmt.Sprintf("trust_anchors.set_insecure({'%s'})\n", r.apart.zone)
	}
	if r.apart.zone != "" {
		config += fmt.Sprintf("policy.add(policy.suffix(policy.FORWARD('%s@53'), policy.todnames({'%s'})))\n",
			r.apart.to, r.apart.zone)
	}
	if r.to != "" {
		config += fmt.Sprintf("policy.add(policy.all(policy.FORWARD('%s@53')))\n", r.to)
	}
	return []string{"kresd", "-n", "-c", write(t, directory, "kresd.conf", config), directory}
}

func (r resolver) pdns(t *testing.T, directory string) []string {
	mode := "process-no-validate"
	if r.validate {
		mode = "validate"
	}
	config := fmt.Sprintf(`local-address=%s
local-port=53
socket-dir=%s
hint-file=%s
dnssec=%s
`+bench.PowerDNSAlone, r.address, directory, suite.Dir("root.hints"), mode)
	if r.to != "" {
		config += fmt.Sprintf("forward-zones-recurse=.=%s\n", r.to)
	}
	if r.apart.zone != "" {
		config += fmt.Sprintf("forward-zones-recurse+=%s=%s\n", r.apart.zone, r.apart.to)
	}
	switch {
	case r.apart.unsigned:
		config += fmt.Sprintf("lua-config-file=%s\n", write(t, directory, "lua",
			fmt.Sprintf("dofile(%q)\naddNTA(%q)\n", r.anchors.as("pdns"), r.apart.zone)))
	case r.validate:
		config += fmt.Sprintf("lua-config-file=%s\n", r.anchors.as("pdns"))
	}
	write(t, directory, "recursor.conf", config)
	return []string{"pdns_recursor", "--config-dir=" + directory}
}

func (r resolver) dnsmasq(*testing.T, string) []string {
	return []string{
		"dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--user=root",
		"--bind-interfaces", "--port=53",
		"--log-facility=-", "--pid-file=", "--listen-address=" + r.address, "--server=" + r.to,
	}
}

// forward runs danelaw's binary as a CoreDNS that only forwards.
func (r resolver) forward(t *testing.T, directory string) []string {
	return []string{suite.Danelaw(), "-conf", write(t, directory, "Corefile",
		fmt.Sprintf(".:53 {\n bind %s\n forward . %s\n}\n", r.address, r.to))}
}

// stranger is a client that danelaw answers without AD (V-78).
var stranger = dead.address()

// runDanelaw starts danelaw with an upstream, with further options, and with further plugins. It has to read what comes
// by itself, as users have it.
func runDanelaw(t *testing.T, address, upstream string, a anchors, options, below string) {
	directory := suite.Dir(place(t), address)
	_, wrote := namespace.StartHeard(t, "danelaw", directory, suite.Danelaw(), "-conf", write(t, directory, "Corefile",
		fmt.Sprintf(`.:53 {
	bind %s
	danelaw {
		upstream . %s
		trust_anchor %s
		allow_clients 127.0.0.0/8 %s/32
		control off
		%s
	}
	%s
}
`, address, upstream, a.as("ds"), stranger, options, below)))
	t.Cleanup(func() {
		for _, slow := range []string{"CoreDNS reads what comes", "through CoreDNS"} {
			if strings.Contains(wrote.String(), slow) {
				t.Errorf("danelaw says: %s", slow)
			}
		}
	})
	await(t, address, ".", dns.TypeNS)
}

// write writes the keys as trust anchors, in the format of each validator.
func (a anchors) write(t *testing.T, keys ...*dns.DNSKEY) {
	var ds, static, kresd, pdns strings.Builder
	kresd.WriteString("trust_anchors.remove('.')\n")
	pdns.WriteString("clearTA('.')\n")
	for _, key := range keys {
		rdata := strings.Join(strings.Fields(key.ToDS(dns.SHA256).String())[4:], " ")
		fmt.Fprintf(&ds, "%s IN DS %s\n", key.Hdr.Name, rdata)
		fmt.Fprintf(&kresd, "trust_anchors.add('%s')\n", key)
		fmt.Fprintf(&static, "trust-anchors { %s static-key %d %d %d %q; };\n", key.Hdr.Name, key.Flags,
			key.Protocol, key.Algorithm,
			key.PublicKey)
		fmt.Fprintf(&pdns, "addTA('%s', %q)\n", key.Hdr.Name, rdata)
	}
	for form, text := range map[string]*strings.Builder{"ds": &ds, "anchors": &static, "kresd": &kresd, "pdns": &pdns} {
		write(t, suite.Dir(), string(a)+"."+form, text.String())
	}
}

// anchor returns the key-signing key of a zone.
func (tr tree) anchor(t *testing.T, name string) *dns.DNSKEY {
	key, _ := tr[name].signed.key(dns.ZONE | dns.SEP)
	if key == nil {
		t.Fatal(tr[name].signed.err)
	}
	return key
}

// anchors writes both sets of trust anchors, and the root hints.
func (tr tree) anchors(t *testing.T) {
	write(t, suite.Dir(), "root.hints", fmt.Sprintf(". 3600000 NS ns.\nns. 3600000 A %s\n", bind.address()))
	ofRoot.write(t, tr.anchor(t, "."))
	wrong := func(name string) *dns.DNSKEY {
		key := dns.Copy(tr.anchor(t, "bind.")).(*dns.DNSKEY)
		key.Hdr.Name = name
		return key
	}
	ofSome.write(t, tr.anchor(t, "bind."), wrong("order.bind."), wrong("mx.p256.bind."), tr.anchor(t, "island.plain."),
		tr.anchor(t, "island.u.p256.bind."))
}
