package danelaw

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
)

// told is a server of CoreDNS that begins to serve, and the directive that has heard of it.
type told struct {
	*dnsserver.Server
	directive *directive
	zones     map[string]*passing // of all its server blocks: what may pass by CoreDNS; nil: nothing
	only      *passing            // has all names, as it is the only block, that of the root; else nil
	why       []string            // not
}

// passing is a server block whose hits pass by the plugins before danelaw: none of them wants to see them.
type passing struct {
	directive *directive
	requests  *requests // nil if CoreDNS counts none there
}

// blind are the plugins that never look at a query. Of the others that a Corefile has for the daemon itself (bind,
// ready, health, reload, pprof) none is among those that handle queries.
var blind = []string{"errors", prometheusName}

const prometheusName = "prometheus"

// newTold finds out what may pass by CoreDNS, which tells nobody the server blocks of a server.
func newTold(s *dnsserver.Server, d *directive) told {
	t := told{Server: s, directive: d, zones: map[string]*passing{}}
	if clog.D.Value() {
		t.why = append(t.why, "the plugin debug has each reply logged")
	}
	all, ok := hidden(s, "zones", map[string][]*dnsserver.Config{})
	if !ok {
		t.why = append(t.why, errUnknownCoreDNS.Error())
		return t
	}
	for zones := all.MapRange(); zones.Next(); {
		zone, blocks := zones.Key().String(), zones.Value()
		if blocks.Len() > 1 { // of several views, each asks about the query
			t.zones[zone], t.why = nil, append(t.why, zone+" has views")
			continue
		}
		p, err := newPassing((*dnsserver.Config)(blocks.Index(0).UnsafePointer()), s)
		if t.zones[zone] = p; err != nil {
			t.why = append(t.why, fmt.Sprintf("%s: %v", zone, err))
		}
	}
	t.sole()
	slices.Sort(t.why)
	return t
}

// sole finds out whether one block has all names.
func (t *told) sole() {
	if len(t.zones) == 1 {
		t.only = t.zones["."]
	}
}

// newPassing returns nil for a block without danelaw, and an error that says what keeps the hits of another from
// passing.
func newPassing(c *dnsserver.Config, s *dnsserver.Server) (*passing, error) {
	d, ok := c.Handler(pluginName).(*directive)
	switch {
	case !ok:
		return nil, nil
	case !d.serving().config.FastPath:
		return nil, fmt.Errorf("fastpath off")
	case len(c.FilterFuncs) > 0:
		return nil, fmt.Errorf("the plugin view looks at each query")
	}
	before, ok := namesBefore(c)
	if !ok {
		return nil, errUnknownCoreDNS
	}
	for _, name := range before {
		if !slices.Contains(blind, name) {
			return nil, fmt.Errorf("the plugin %s comes before danelaw", name)
		}
	}
	return &passing{d, newRequests(c, s)}, nil
}

// namesBefore are the names of the plugins that see a query before danelaw, or may do so: those that are no directive,
// too.
func namesBefore(c *dnsserver.Config) (names []string, ok bool) {
	handlers, ok := hidden(c, "registry", map[string]plugin.Handler{})
	if !ok {
		return nil, false
	}
	self := slices.Index(dnsserver.Directives, pluginName)
	for _, key := range handlers.MapKeys() {
		if name := key.String(); slices.Index(dnsserver.Directives, name) < self {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, true
}

// errUnknownCoreDNS is of a version of CoreDNS that is not built as the one in go.mod.
var errUnknownCoreDNS = errors.New("this version of CoreDNS does not let danelaw see what it needs")

// hidden returns a field that CoreDNS shows nobody, if it has one of that name, and of the type of like.
func hidden(of any, name string, like any) (field reflect.Value, ok bool) {
	field = reflect.ValueOf(of).Elem().FieldByName(name)
	return field, field.IsValid() && field.Type() == reflect.TypeOf(like)
}

// owner returns the block that answers a question: that of the longest zone; nil if its hits may not pass.
func (t *told) owner(name string, qtype uint16) *passing {
	if t.only != nil {
		return t.only
	}
	if qtype == dns.TypeDS {
		return t.ownerOfDS(name)
	}
	for at := range dnssec.Ancestors(name) {
		if p, ok := t.zones[at]; ok {
			return p
		}
	}
	return nil
}

// ownerOfDS returns the block that answers a question for DS, as CoreDNS chooses it: that of the shortest zone but the
// root's, which it asks only where there is no other. Of the others none may keep their hits from passing: CoreDNS
// looks at each on its way.
func (t *told) ownerOfDS(name string) (owner *passing) {
	for at := range dnssec.Ancestors(name) {
		p, ok := t.zones[at]
		switch {
		case !ok || at == "." && owner != nil:
		case p == nil:
			return nil
		default:
			owner = p
		}
	}
	return owner
}
