package danelaw

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/dnssec"
	"github.com/danelaw-dns/danelaw/plugin/resolve"
)

// TestLoad: a Corefile that is only looked at gives the Handler of the block that owns a name, ready to be asked,
// upstreams and forward alike, and listens on nothing.
func TestLoad(t *testing.T) {
	noLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // a server would find the port taken
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	blocks, err := Load(corefile(
		blockOf("dane:"+port+" nsec3:"+port, optionsFor(t, lab().Addr(), "sha1 verify"), "") +
			blockOf(".:"+port, "trust_anchor "+anchorFile(t), "forward . "+lab().Addr()) +
			"other.example:" + port + " {\n whoami\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer blocks.Close()
	if len(process.all()) > 0 {
		t.Error("handlers are live")
	}
	var handlers []*Handler
	for range 2 { // forward is started once
		for _, name := range []string{"good.dane.", "Good.NSEC3", "good.opt-out.", "."} {
			h, err := blocks.Handler(name)
			if err != nil {
				t.Fatal(err)
			}
			handlers = append(handlers, h)
			a := h.Resolver().Resolve(context.Background(),
				dns.Question{Name: dns.CanonicalName(name), Qtype: dns.TypeNS, Qclass: dns.ClassINET})
			if a.Status != dnssec.Secure {
				t.Errorf("%s: %+v", name, a)
			}
		}
	}
	if handlers[0] != handlers[1] || handlers[0] == handlers[2] || handlers[2] != handlers[3] ||
		handlers[0] != handlers[4] {
		t.Error("names and handlers do not belong together")
	}
	if !handlers[0].config.Policy.SHA1 || handlers[2].config.Policy.SHA1 ||
		handlers[0].config.Block == handlers[2].config.Block {
		t.Error("options and blocks do not belong together")
	}
	// DS is looked at like any other type: the block of the name itself.
	if e := handlers[0].Resolver().Explain(context.Background(), dns.Question{Name: "good.dane.", Qtype: dns.TypeMX,
		Qclass: dns.ClassINET}); len(e.Zones) != 3 {
		t.Errorf("the chain of good.dane. has %d zones", len(e.Zones))
	}
	blocks.Close() // twice does no harm
}

// TestLoadErrors: errors are those of a start, and leave nothing behind.
func TestLoadErrors(t *testing.T) {
	noLeak(t)
	good := blockOf("a.example:0", optionsFor(t, lab().Addr()), "")
	for text, want := range map[string]string{
		"a {": "Corefile",
		blockOf(".:0", "serve_stole 1h",
			""): `Corefile:4 - Error during parsing: danelaw has no option "serve_stole"`,
		good + blockOf(".:0", "", ""):          "nobody to ask",
		good + blockOf(".:0", "", "cache"):     "plugin cache",
		good + blockOf(".:0", "", "forward ."): "forward",
	} {
		if _, err := Load(corefile(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if things[*memory]() > 0 {
		t.Errorf("%d memories are left", things[*memory]())
	}
	if loading.active || loading.blocks != nil {
		t.Error("it is still loading")
	}
	blocks, err := Load(corefile(good + "b.example:0 {\n whoami\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer blocks.Close()
	for _, name := range []string{"b.example.", "xa.example.", "."} {
		if _, err := blocks.Handler(name); err == nil ||
			!strings.Contains(err.Error(), "no server block with danelaw serves this name") {
			t.Errorf("%s: %v", name, err)
		}
	}
	blocks, err = Load(corefile(".:0 {\n danelaw\n forward . /nonexistent\n}\n"))
	if err == nil {
		blocks.Close()
		t.Error("forward to nobody")
	}
}

// TestExplainChain: the chain of a name that is validated; an error for those that are not.
func TestExplainChain(t *testing.T) {
	c := config(t)
	c.Next, c.Private = &site{}, []string{"corp.example."}
	h := open(t, c)
	explain := func(name string) (*resolve.Explanation, error) {
		return h.Explain(context.Background(), dns.Question{Name: name, Qtype: dns.TypeMX, Qclass: dns.ClassINET})
	}
	for name, want := range map[string]string{"X.Corp.Example.": "private", "localhost.": "special",
		"10.in-addr.arpa.": "special"} {
		if _, err := explain(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for range 2 {
		e, err := explain("Good.Dane.")
		if err != nil || e.Answer.Status != dnssec.Secure || len(e.Zones) != 3 || e.Zones[2].Name != "good.dane." {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// TestNew: what a configuration lacks is told, and what it leaves to be chosen has a default.
func TestNew(t *testing.T) {
	for want, change := range map[string]func(c *Config){
		"nobody to ask:":             func(c *Config) { c.Routes = nil },
		"private a.example.":         func(c *Config) { c.Private = []string{"a.example."} },
		"no trust anchor":            func(c *Config) { c.Anchors = nil },
		"the trust anchor of .:":     func(c *Config) { c.Routes[0].From = "example." },
		"give a domain name":         func(c *Config) { c.Routes[0].To = nil },
		"EDNS size 100":              func(c *Config) { c.EDNSSize = 100 },
		"upstream . is given twice:": func(c *Config) { c.Routes = append(c.Routes, c.Routes...) },
	} {
		c := config(t)
		change(&c)
		if h, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %q", h, err, want)
		}
	}
	c := config(t)
	c.Clock = nil
	if r := from("127.0.0.1:5300").ask(t, open(t, c), secureMX, dns.TypeMX, withDO); !r.AuthenticatedData {
		t.Errorf("%s", describes(r))
	}
}
