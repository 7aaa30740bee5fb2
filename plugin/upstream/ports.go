package upstream

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// firstPort is the lowest local port used: those below are reserved (RFC 6335 section 6).
	firstPort = 1024
	// portsLife is how long the ports in use and the reserved ones are taken as they were read.
	portsLife = time.Minute
)

// assigned are ports that daemons are known to bind, by UDP or TCP: what Debian's netbase 6.4 has in /etc/services from
// 1024 on, which are those of IANA's Service Name and Transport Protocol Port Number Registry that are in use, and
// after them the registry's others that a mail host, a monitored one or a node of a cluster often has, with the
// defaults of WireGuard, Flannel and Kubernetes, which are not registered. A daemon that is started later must find its
// port free.
const assigned = `
1080,1093,1094,1099,1127,1178,1194,1210,1236,1313,1314,1352,1433,1434,1524,1645,1646,1649,1677,1701,1812,1813,2000,
2049,2086,2101-2104,2119,2121,2135,2401,2430-2433,2583,2600-2608,2628,2792,2811,2947,3050,3130,3205,3260,3306,3389,
3493,3632,3689,3690,4031,4094,4190,4353,4369,4373,4460,4500,4557,4559,4569,4691,4899,4949,5060,5061,5222,5269,5308,
5353,5432,5555,5556,5666,5667,5671,5672,5680,6000-6007,6346,6347,6379,6444-6446,6514,6566,6667,6696,6697,7000-7005,
7007-7009,7100,8021,8080,8081,8088,8140,8990,9098,9101-9103,9418,9667,9673,10000,10050,10051,10080-10083,10809,
11112,11371,17001-17004,17500,22125,22128,22273,24554,27374,30865,57000,60177,60179,

1110,1214,1300,1344,1512,1521,1629,1718-1720,1723,1755,1761,1883,1900,1935,1984,1985,2082,2083,2087,2123,2152,2181,
2222,2375,2376,2379,2380,2427,2484,2597,2727,2944,2945,2948,3020,3074,3128,3225,3268,3269,3283,3288,3290,3300,3343,
3386,3401,3478,3479,3527,3535,3544,3653,3659,3702,3724,3784,3785,3799,4000,4045,4100,4116,4125,4172,4244,4245,4303,
4502,4672,4711,4739,4740,4754,4784,4786,4789,4790,4803,4840,5000,5001,5004,5005,5050,5093,5190,5223,5246,5247,5298,
5349-5351,5355,5357,5358,5402,5405,5406,5500,5601,5631,5632,5673,5683,5684,5701,5900,5901,5938,5984-5986,6080,6081,
6160,6343,6363,6432,6443,6515,6522,6544,6568,6633,6653,6771,6783,6784,6789,6881,6969,7010,7022,7080,7085,7400,7401,
7410,7411,7473,7474,7624,7777,7784,8000,8008,8009,8086,8089,8090,8125,8181,8200,8300-8302,8400,8443,8472,8500,8554,
8600,8649,8786,8787,8805,8883,8888,8891,8893,9000,9001,9042,9053,9080,9090-9094,9100,9153,9160,9200,9253,9300,9389,
9600,9653,9993,9995-9999,10001,10024-10026,10110,10161,10162,10248-10250,10255-10257,10259,10514,11211,11311,
11332-11335,12201,13720,13721,15000,15672,18080,19132,19302,20048,20595,21025,22000,22221,24224,24441,24800,25565,
25672,25826,26000,26257,27015,27017,27960,28015,28960,30120,32400,32410,32412-32414,33434,34197,41641,44818,47808,
49152,50000,51413,51820,51821,61613,61616,64738`

// portPool holds the local ports that questions may come from: those that no service of this host has bound, is
// configured to bind, or may want later.
type portPool struct {
	root string // of the files under /proc, for tests

	mu   sync.Mutex
	free []uint16
	read time.Time
}

// local is shared by all upstreams, as the ports are.
var local = portPool{root: "/proc"}

// random returns a port that may be tried; 0 if there is none at all. Each of them is as likely (S-6).
func (p *portPool) random(now time.Time) int {
	free := p.known(now)
	if len(free) == 0 {
		return 0
	}
	return int(free[random(len(free))])
}

// known returns the ports that are free, as they were a short while ago. One question at a time looks again, and others
// go by what was known, once anything is.
func (p *portPool) known(now time.Time) []uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := now.Sub(p.read)
	switch {
	case p.free == nil:
		p.free, p.read = p.look(), now
	case age < 0 || age > portsLife:
		p.read = now
		p.mu.Unlock()
		free := p.look()
		p.mu.Lock()
		p.free = free
	}
	return p.free
}

// look finds the ports that are free. Where the system does not tell, the attempt to bind one has to.
func (p *portPool) look() []uint16 {
	var taken [1 << 16]bool
	take := func(port uint16) { taken[port] = true }
	reserved(assigned, take)
	for _, table := range []struct{ file, state string }{
		{"udp", unconnected}, {"udp6", unconnected}, {"tcp", listening}, {"tcp6", listening},
	} {
		if octets, err := os.ReadFile(p.root + "/net/" + table.file); err == nil {
			bound(octets, table.state, take)
		}
	}
	if octets, err := os.ReadFile(p.root + "/sys/net/ipv4/ip_local_reserved_ports"); err == nil {
		reserved(string(octets), take)
	}
	free := make([]uint16, 0, len(taken)-firstPort)
	for port := firstPort; port < len(taken); port++ {
		if !taken[port] {
			free = append(free, uint16(port))
		}
	}
	return free
}

// States of sockets in /proc/net, as of Linux' include/net/tcp_states.h: our own sockets are connected and no reason to
// avoid a port.
const (
	unconnected = "07"
	listening   = "0A"
)

// bound reads the ports of a table of sockets in /proc/net.
func bound(table []byte, state string, found func(port uint16)) {
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // sl local_address rem_address st ...
		if len(fields) < 4 || fields[3] != state {
			continue
		}
		_, port, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil {
			found(uint16(n))
		}
	}
}

// reserved reads a list of ports as the administrator sets them aside, such as "8080,9148-9150".
func reserved(list string, found func(port uint16)) {
	for span := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == '\n' }) {
		from, to, isSpan := strings.Cut(span, "-")
		if !isSpan {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		for port := first; err == nil && err2 == nil && port <= last; port++ {
			found(uint16(port))
		}
	}
}
