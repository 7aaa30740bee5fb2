package zones

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Options say how a lab is started. The zero value is a lab of the present.
type Options struct {
	Now time.Time // when the zones are signed; zero: now
	// Edit, if set, may change each zone before it is signed: put the digest of a real certificate in the place of a
	// TLSA record, or the address of a receiver in that of an A.
	Edit func(*Zone)
}

// Lab is the running lab.
type Lab struct {
	world     *World
	domains   []Domain
	recursor  string            // its address
	authority map[string]string // addresses by zone
	ends      []func() error    // of all servers, the recursor last
	receivers *receivers
}

// Domain is one line of the lab's table.
type Domain struct {
	Name  string // canonical
	Shows string // what it shows, in a few words
	Fault string // the name of its fault in [Faults]; "" if nothing is wrong with it
	// Questions have at the front the one that shows it best.
	Questions []Question
}

// Question is what may be asked about a domain, with the verdict that a validator with danelaw's defaults must come to.
type Question struct {
	Name   string // canonical
	Type   uint16
	Status string // Secure, Insecure, Bogus or Indeterminate
	Rcode  int    // SERVFAIL if Bogus or Indeterminate
	EDE    uint16 // the Extended DNS Error to be seen (RFC 8914), 0 for none
}

// Start builds the lab, binds its servers to free ports of 127.0.0.1 and serves until Close.
func Start(o Options) (*Lab, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	entries, err := readTable()
	if err != nil {
		return nil, err
	}
	l := &Lab{authority: map[string]string{}}
	if l.receivers, err = newReceivers(o.Now, entries); err != nil {
		return nil, err
	}
	var failed error
	edit := func(z *Zone) {
		failed = errors.Join(failed, l.receivers.fill(z))
		if o.Edit != nil {
			o.Edit(z)
		}
	}
	var plans []Plan
	for _, e := range entries {
		plans = append(plans, Plan{Name: e.name, Text: e.text, Config: e.config, Fault: Faults[e.fault], Edit: edit})
	}
	if l.world, err = Build(o.Now, plans...); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	for _, e := range entries {
		if e.shows != "" {
			l.domains = append(l.domains, e.domain(l.world.Zone(e.name)))
		}
	}
	if err := errors.Join(l.listen(), l.receivers.listen()); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// listen starts the servers: one each for the root, for top-level domains and for all below, as they are different
// hands in the world; then the recursor that knows them.
func (l *Lab) listen() (err error) {
	authorities := make([]Authority, 3)
	for _, name := range slices.Sorted(maps.Keys(l.world.zones)) {
		a := &authorities[min(dns.CountLabel(name), 2)]
		a.Zones = append(a.Zones, l.world.zones[name])
	}
	r := &Recursor{Servers: map[string]Server{}, Clock: time.Now}
	for _, a := range authorities {
		at, err := l.serve(a.Answer)
		if err != nil {
			return err
		}
		for _, z := range a.Zones {
			l.authority[z.Name], r.Servers[z.Name] = at, over(at)
		}
	}
	l.recursor, err = l.serve(r.Answer)
	return err
}

func (l *Lab) serve(a answerer) (at string, err error) {
	at, end, err := Listen("127.0.0.1:0", a)
	if err == nil {
		l.ends = append(l.ends, end)
	}
	return at, err
}

// Close ends all servers and waits for them: the recursor first, as its questions end with replies of the others.
func (l *Lab) Close() {
	l.receivers.close()
	for _, end := range slices.Backward(l.ends) {
		end() //nolint:errcheck // the sockets are loopback's and about to go
	}
	l.ends = nil
}

// Addr is the recursor's address, host and port, for UDP and TCP.
func (l *Lab) Addr() string { return l.recursor }

// Authorities are the addresses of the authoritative servers by zone.
func (l *Lab) Authorities() map[string]string { return l.authority }

// DS is the trust anchor of the root.
func (l *Lab) DS() []*dns.DS { return l.world.Zone(".").DS(dns.SHA256) }

// DNSKEY is the key-signing key of the root: what the DS of the trust anchor names, for programs that want the key
// itself.
func (l *Lab) DNSKEY() []*dns.DNSKEY {
	var keys []*dns.DNSKEY
	for _, k := range l.world.Zone(".").Signers(dns.TypeDNSKEY) {
		keys = append(keys, k.DNSKEY)
	}
	return keys
}

// Domains are the lines of the table, in its order.
func (l *Lab) Domains() []Domain { return l.domains }

// entry is one zone of the lab's table; its comment says what the columns mean.
type entry struct {
	name    string // canonical
	text    string
	config  Config
	fault   string
	verdict Question // of what a mail server asks, without name and type
	shows   string
	extra   []Question
}

// tableColumns are: zone, text, signing, fault, verdict, shows.
const tableColumns = 6

// readTable reads the lab's table.
func readTable() ([]*entry, error) {
	table, err := internet.ReadFile("internet/table")
	if err != nil {
		return nil, err
	}
	var entries []*entry
	for i, line := range strings.Split(string(table), "\n") {
		switch text := strings.TrimSpace(line); {
		case text == "" || text[0] == '#':
		case line[0] != ' ':
			e, failed := parseEntry(text)
			entries, err = append(entries, e), failed
		case len(entries) > 0:
			err = entries[len(entries)-1].addQuestion(text)
		}
		if err != nil {
			return nil, fmt.Errorf("internet/table:%d: %w", i+1, err)
		}
	}
	return entries, nil
}

func parseEntry(line string) (*entry, error) {
	columns := strings.Split(line, "|")
	if len(columns) != tableColumns {
		return nil, fmt.Errorf("%d columns, not %d", len(columns), tableColumns)
	}
	for i, c := range columns {
		columns[i] = strings.TrimSpace(c)
	}
	e := &entry{name: dns.CanonicalName(columns[0]), fault: columns[3], shows: columns[5]}
	if _, known := Faults[e.fault]; e.fault != "" && !known {
		return nil, fmt.Errorf("unknown fault %q; there are %s", e.fault, strings.Join(FaultNames(), " "))
	}
	text, err := internet.ReadFile("internet/" + columns[1] + ".zone")
	if err != nil {
		return nil, err
	}
	e.text = string(text)
	for _, word := range strings.Fields(columns[2]) {
		if err := e.config.parse(word); err != nil {
			return nil, fmt.Errorf("signing %q: %w", word, err)
		}
	}
	if e.shows == "" {
		return e, nil
	}
	return e, e.verdict.parseVerdict(strings.Fields(columns[4]))
}

// parse reads how a zone is signed, from one of the words that the table's comment explains.
func (c *Config) parse(word string) error {
	key, value, _ := strings.Cut(word, ":")
	number, salt, _ := strings.Cut(value, ":")
	n, err := strconv.ParseUint(number, 10, 16)
	algorithm, none := strconv.ParseUint(word, 10, 8)
	switch {
	case none == nil:
		c.Algorithms = append(c.Algorithms, uint8(algorithm))
	case word == "nsec":
	case word == "compact":
		c.Compact = true
	case word == "split":
		c.Split = true
	case word == "unsigned":
		c.Unsigned = true
	case key == "nsec3", key == "opt-out":
		c.NSEC3 = &NSEC3{Iterations: uint16(n), Salt: salt, OptOut: key == "opt-out"}
		return err
	case key == "flags":
		c.Flags = uint16(n)
		return err
	case key == "digest":
		c.Digests = append(c.Digests, uint8(n))
		return err
	default:
		return errors.New("unknown word")
	}
	return nil
}

// addQuestion reads a line below a zone: name, type, verdict, RCODE.
func (e *entry) addQuestion(line string) error {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return errors.New("a question has a name, a type, a verdict and an RCODE")
	}
	q := Question{Name: e.name, Type: dns.StringToType[fields[1]]}
	if fields[0] != "@" {
		q.Name = dns.CanonicalName(child(fields[0], e.name))
	}
	rcode, ok := dns.StringToRcode[fields[3]]
	if q.Type == 0 || !ok {
		return fmt.Errorf("unknown type %s or RCODE %s", fields[1], fields[3])
	}
	err := q.parseVerdict(append(fields[2:3], fields[4:]...))
	q.Rcode = rcode
	e.extra = append(e.extra, q)
	return err
}

// parseVerdict reads a status and perhaps an EDE code.
func (q *Question) parseVerdict(fields []string) error {
	if len(fields) == 0 || !slices.Contains([]string{"Secure", "Insecure", "Bogus", "Indeterminate"}, fields[0]) {
		return fmt.Errorf("a verdict is Secure, Insecure, Bogus or Indeterminate, not %v", fields)
	}
	q.Status = fields[0]
	if q.failed() {
		q.Rcode = dns.RcodeServerFailure
	}
	if len(fields) > 1 {
		code, err := strconv.ParseUint(fields[1], 10, 16)
		q.EDE = uint16(code)
		return err
	}
	return nil
}

func (q *Question) failed() bool { return q.Status == "Bogus" || q.Status == "Indeterminate" }

// domain is the table's line with all its questions: those written there, then what a mail server asks.
func (e *entry) domain(z *Zone) Domain {
	d := Domain{Name: e.name, Shows: e.shows, Fault: e.fault, Questions: e.extra}
	for _, q := range mailQuestions(z) {
		same := func(o Question) bool { return o.Name == q.Name && o.Type == q.Qtype }
		if slices.ContainsFunc(d.Questions, same) {
			continue
		}
		expected := e.verdict
		expected.Name, expected.Type = q.Name, q.Qtype
		if !expected.failed() {
			expected.Rcode = z.respond(q, false).Rcode
		}
		d.Questions = append(d.Questions, expected)
	}
	return d
}

// mailQuestions are what a mail server asks to deliver to a domain: MX, then address and TLSA of each host; nothing of
// a zone without MX.
func mailQuestions(z *Zone) (all []dns.Question) {
	set := z.set(z.Name, dns.TypeMX)
	if set == nil {
		return nil
	}
	ask := func(name string, types ...uint16) {
		for _, t := range types {
			all = append(all, dns.Question{Name: dns.CanonicalName(name), Qtype: t, Qclass: dns.ClassINET})
		}
	}
	ask(z.Name, dns.TypeMX)
	for _, rr := range set.rrs {
		if host := rr.(*dns.MX).Mx; host != "." {
			ask(host, dns.TypeA, dns.TypeAAAA)
			ask("_25._tcp."+host, dns.TypeTLSA)
		}
	}
	return all
}
