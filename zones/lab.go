package zones

import (
	"errors"
	"time"

	"github.com/miekg/dns"
)

// Options say how a lab is started. The zero value is a lab of the present.
type Options struct {
	Now   time.Time        // when the zones are signed; zero: Clock's time
	Clock func() time.Time // by which the recursor's cache ages; nil: time.Now
	// Edit, if set, may change each zone before it is signed: put the digest of a real certificate in the place of a
	// TLSA record, or the address of a receiver in that of an A.
	Edit func(*Zone)
}

// Lab is the running lab.
type Lab struct {
	world     *World
	domains   []Domain
	recursor  *listener
	authority map[string]*listener // by zone
	listeners []*listener          // all of them, the recursor last
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
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Now.IsZero() {
		o.Now = o.Clock()
	}
	entries, err := readTable()
	if err != nil {
		return nil, err
	}
	l := &Lab{authority: map[string]*listener{}}
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
	if l.world, err = Build(o.Now, plans(entries, edit)...); err != nil || failed != nil {
		return nil, errors.Join(err, failed)
	}
	for _, e := range entries {
		if e.shows != "" {
			l.domains = append(l.domains, e.domain(l.world.Zone(e.name)))
		}
	}
	if err := errors.Join(l.listen(o.Clock), l.receivers.listen()); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// listen starts the servers: one each for the root, for top-level domains and for all below, as they are different
// hands in the world; then the recursor that knows them.
func (l *Lab) listen(clock func() time.Time) error {
	authorities := make([]Authority, 3)
	for _, name := range l.world.names() {
		a := &authorities[min(dns.CountLabel(name), 2)]
		a.Zones = append(a.Zones, l.world.zones[name])
	}
	r := &Recursor{Servers: map[string]Server{}, Clock: clock}
	for _, a := range authorities {
		served, err := l.serve(a.Answer)
		if err != nil {
			return err
		}
		for _, z := range a.Zones {
			l.authority[z.Name] = served
			r.Servers[z.Name] = over(served.addr)
		}
	}
	var err error
	l.recursor, err = l.serve(r.Answer)
	return err
}

func (l *Lab) serve(a answerer) (*listener, error) {
	served, err := listen("127.0.0.1:0", a)
	if err == nil {
		l.listeners = append(l.listeners, served)
	}
	return served, err
}

// Close ends all servers and waits for them.
func (l *Lab) Close() { l.close() } //nolint:errcheck // the sockets are loopback's and about to go

// close ends the recursor first, as its questions end with replies of the others.
func (l *Lab) close() error {
	l.receivers.close()
	var errs []error
	for len(l.listeners) > 0 {
		last := len(l.listeners) - 1
		errs = append(errs, l.listeners[last].close())
		l.listeners = l.listeners[:last]
	}
	return errors.Join(errs...)
}

// Addr is the recursor's address, host and port, for UDP and TCP.
func (l *Lab) Addr() string { return l.recursor.addr }

// Authorities are the addresses of the authoritative servers by zone.
func (l *Lab) Authorities() map[string]string {
	addrs := map[string]string{}
	for zone, served := range l.authority {
		addrs[zone] = served.addr
	}
	return addrs
}

// DS is the trust anchor of the root.
func (l *Lab) DS() []*dns.DS { return l.world.Zone(".").DS(dns.SHA256) }

// DNSKEY is the key-signing key of the root: what the DS of the trust anchor names, for programs that want the key
// itself.
func (l *Lab) DNSKEY() []*dns.DNSKEY {
	var keys []*dns.DNSKEY
	for _, k := range l.world.Zone(".").signers(dns.TypeDNSKEY) {
		keys = append(keys, k.DNSKEY)
	}
	return keys
}

// Domains are the lines of the table, in its order.
func (l *Lab) Domains() []Domain { return l.domains }
