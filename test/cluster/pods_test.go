//go:build linux

package cluster

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/danelaw-dns/danelaw/bench/universe"
	"github.com/danelaw-dns/danelaw/test/observe"
	"github.com/danelaw-dns/danelaw/test/world"
)

// The addresses of the cluster, as the chart has them.
const (
	node       = "10.244.0.1" // and that of the world beside it
	clusterDNS = "10.96.0.10"
	service    = "10.96.0.53"
	domains    = 200
)

// patience is how long anything may take on a machine that is busy with something else.
const patience = time.Minute

// network makes a node: its address, and the way to services.
func network(t *testing.T) {
	t.Helper()
	for _, line := range []string{
		"link add node type veth peer name cable", "link set node up", "link set cable up",
		"address add " + node + "/32 dev node",
		"address add " + clusterDNS + "/32 dev node", "route add 10.96.0.0/12 dev node src " + node,
	} {
		must(t, "ip", strings.Fields(line)...)
	}
	t.Cleanup(func() { exec.Command("ip", "link", "delete", "node").Run() })
	for _, setting := range []string{
		"net.ipv4.ip_forward=1",
		// what an asker of TestReplicas asks from a port is forgotten before it comes to that port again
		"net.netfilter.nf_conntrack_udp_timeout=1", "net.netfilter.nf_conntrack_udp_timeout_stream=1",
	} {
		must(t, "sysctl", "-q", "-w", setting)
	}
}

// outside is a signed DNS, with an upstream for it at an address of the node.
type outside struct {
	*universe.Universe
	at string
}

func newOutside(t *testing.T, count int) *outside {
	t.Helper()
	u, err := universe.New(t.Context(), universe.Spec{
		Domains: count, Insecure: 0.3, Shared: 0.5, Providers: 5, Algorithms: []int{13}, Denial: universe.Mixed,
		TopLevel: universe.Mixed, Now: time.Now(),
	}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	at := world.Serve(t, node+":0", func(q dns.Question, do bool) *dns.Msg {
		query, err := new(dns.Msg).SetQuestion(q.Name, q.Qtype).SetEdns0(dns.DefaultMsgSize, do).Pack()
		m := new(dns.Msg)
		if err != nil || m.Unpack(u.Reply(nil, query, true)) != nil {
			return nil
		}
		m.Extra = nil
		return m
	})
	return &outside{u, at}
}

// values have danelaw ask this world.
func (o *outside) values(more values) values {
	v := values{"upstreams": values{".": []string{o.at}}, "trustAnchors": o.Anchor().String(),
		"allowClients": []string{"10.244.0.0/16"}, "adClients": []string{"10.244.0.0/16"}}
	for key, value := range more {
		v[key] = value
	}
	return v
}

// questions are what a mail server asks about all domains.
func (o *outside) questions(t *testing.T, count int) (all []universe.Question) {
	t.Helper()
	for i := range count {
		some, err := o.Delivery(i)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

// replica is a danelaw in a network namespace of its own.
type replica struct {
	t       *testing.T
	address string // "": it has loopback alone
	holder  *exec.Cmd
	process *exec.Cmd
	log     *observe.Output
	ended   chan struct{}
}

// newPod makes a network namespace. With an address it is on the node's network.
func newPod(t *testing.T, number int) *replica {
	t.Helper()
	r := &replica{t: t, address: fmt.Sprintf("10.244.0.%d", 10+number), log: new(observe.Output)}
	r.holder = exec.Command("sleep", "infinity")
	r.holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := r.holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.holder.Process.Kill(); r.holder.Wait() })
	link := fmt.Sprintf("pod%d", number)
	inside := fmt.Sprint(r.holder.Process.Pid)
	must(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", inside)
	t.Cleanup(func() { exec.Command("ip", "link", "delete", link).Run() })
	must(t, "ip", "link", "set", link, "up")
	must(t, "ip", "route", "add", r.address+"/32", "dev", link, "src", node)
	for _, line := range []string{
		"link set lo up", "link set eth0 up", "address add " + r.address + "/32 dev eth0",
		"route add " + node + "/32 dev eth0", "route add default via " + node + " dev eth0",
	} {
		must(t, "nsenter", append(r.inside(), append([]string{"ip"}, strings.Fields(line)...)...)...)
	}
	must(t, "nsenter", append(r.inside(), "sysctl", "-q", "-w", "net.ipv4.ip_unprivileged_port_start=53")...)
	return r
}

// inside are the arguments of nsenter.
func (r *replica) inside() []string {
	return []string{"-t", fmt.Sprint(r.holder.Process.Pid), "-n", "--"}
}

// start starts danelaw there as Kubernetes would: with the rendering's arguments and environment, as its user and with
// no capability.
func (r *replica) start(what rendering, wrapped ...string) {
	r.t.Helper()
	corefile := what.unpack(r.t)
	args := append(wrapped, "nsenter")
	args = append(args, r.inside()...)
	args = append(args, "setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all",
		"--bounding-set=-all", "--no-new-privs", suite.Danelaw())
	for _, a := range what.Args {
		args = append(args, strings.ReplaceAll(a, "/etc/danelaw/Corefile", corefile))
	}
	c := exec.Command(args[0], args[1:]...)
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, e := range what.Env {
		c.Env = append(c.Env, e.Name+"="+e.Value)
	}
	c.Stdout, c.Stderr = r.log, r.log
	if err := c.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.process, r.ended = c, make(chan struct{})
	go func() {
		defer close(r.ended)
		c.Wait() //nolint:errcheck // what it says is in its log
	}()
	r.t.Cleanup(func() {
		r.kill()
		if r.t.Failed() {
			text := r.log.String()
			r.t.Logf("%s wrote\n%s", r.address, text[max(0, len(text)-3000):])
		}
	})
	r.eventually("it is alive and ready", func() bool { return r.probe(8053, "/health") && r.probe(8181, "/ready") })
}

func (r *replica) kill() {
	r.process.Process.Kill() //nolint:errcheck // it has ended by itself
	<-r.ended
}

// probe asks as the kubelet does: from the node, by the address of the pod.
func (r *replica) probe(port int, path string) bool {
	client := http.Client{Timeout: 3 * time.Second}
	response, err := client.Get(fmt.Sprintf("http://%s:%d%s", r.address, port, path))
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// scrape reads its metrics as Prometheus does.
func (r *replica) scrape() string {
	r.t.Helper()
	response, err := http.Get(fmt.Sprintf("http://%s:9153/metrics", r.address))
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		r.t.Fatalf("%s, %v", response.Status, err)
	}
	return string(text)
}

func (r *replica) eventually(what string, is func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-r.ended:
			r.t.Fatalf("waiting until %s: it has ended\n%s", what, r.log)
		default:
		}
		if time.Now().After(end) {
			r.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// asks asks the DNS of a pod, in it.
func (r *replica) asks(name string, qtype uint16) *dns.Msg {
	r.t.Helper()
	client := dns.Client{Timeout: 10 * time.Second, UDPSize: dns.DefaultMsgSize}
	conn, err := r.dial(&client)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	query := new(dns.Msg).SetQuestion(name, qtype)
	asMailu(query)
	reply, _, err := client.ExchangeWithConn(query, conn)
	if err != nil {
		r.t.Fatalf("%s %s in the pod: %v", name, dns.Type(qtype), err)
	}
	return reply
}

// dial opens a socket in the pod. The thread that goes there does not come back.
func (r *replica) dial(client *dns.Client) (conn *dns.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var there *os.File
		if there, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", r.holder.Process.Pid)); err != nil {
			return
		}
		defer there.Close()
		if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = client.Dial("127.0.0.1:53")
		}
	}()
	<-done
	return conn, err
}

// balance has questions to the service go to the replicas, as kube-proxy does with nftables: at random, each with its
// answer by way of the connection table. What is under way stays there.
func balance(t *testing.T, to []*replica) {
	t.Helper()
	var rules bytes.Buffer
	say := func(format string, args ...any) { fmt.Fprintf(&rules, format+"\n", args...) }
	say("table ip proxy {\nchain services {}")
	for _, hook := range []string{"output", "prerouting"} {
		say("chain %s { type nat hook %[1]s priority -100 ; }", hook)
	}
	var choice []string
	for i, r := range to {
		choice = append(choice, fmt.Sprintf("%d : goto %s", i, r.endpoint()))
		say("chain %s {}", r.endpoint())
	}
	say("}\nflush table ip proxy")
	for _, hook := range []string{"output", "prerouting"} {
		say("add rule ip proxy %s jump services", hook)
	}
	for _, r := range to {
		say("add rule ip proxy %s meta l4proto { tcp, udp } dnat to %s:1053", r.endpoint(), r.address)
	}
	say("add rule ip proxy services ip daddr %s meta l4proto { tcp, udp } th dport 53 numgen random mod %d vmap { %s }",
		service, len(to), strings.Join(choice, ", "))
	c := exec.CommandContext(t.Context(), "nft", "-f", "-")
	c.Stdin = &rules
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
}

// endpoint is the name of its chain.
func (r *replica) endpoint() string { return "to_" + strings.ReplaceAll(r.address, ".", "_") }

// sum adds up the samples of a metric, or those that have some label.
func sum(t *testing.T, scraped, metric string, labels ...string) (all float64) {
	t.Helper()
	for line := range strings.Lines(scraped) {
		lacks := func(label string) bool { return !strings.Contains(line, label) }
		if !strings.HasPrefix(line, metric+"{") || slices.ContainsFunc(labels, lacks) {
			continue
		}
		fields := strings.Fields(line)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all += n
	}
	return all
}
