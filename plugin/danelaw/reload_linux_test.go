package danelaw

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/ports"
)

// danelawReads fails the test unless danelaw reads many queries over UDP and TCP: CoreDNS would take a trailing octet.
func danelawReads(t *testing.T, what string, c *coreDNS) {
	t.Helper()
	odd := fromHex(t, "abcd 0100 0001 0000 0000 0000"+goodMX+"00")
	for range 20 {
		overTCP := connect(t, c.tcp)
		overTCP.send(odd)
		for transport, r := range map[string]*dns.Msg{
			"UDP": raw(t, c.udp, odd, 30*time.Second), "TCP": overTCP.receive(),
		} {
			if r == nil || r.Rcode != formErr {
				t.Fatalf("%s, %s: CoreDNS read: %v", what, transport, r)
			}
		}
	}
}

// TestSocketsComeAndGo: danelaw reads all that comes, too, after a reload has changed the number of CoreDNS's sockets,
// and with it perhaps that of danelaw's own among them.
func TestSocketsComeAndGo(t *testing.T) {
	port := fmt.Sprintf(".:%d", ports.Closed(t))
	text := func(sockets int) string {
		return blockOf(port, optionsFor(t, lab().Addr()), fmt.Sprintf("multisocket %d", sockets))
	}
	c := startCoreDNS(t, text(3))
	for _, sockets := range []int{1, 4, 2} {
		if err := c.reload(text(sockets)); err != nil {
			t.Fatal(err)
		}
		danelawReads(t, fmt.Sprintf("%d sockets", sockets), c)
	}
}

// TestProxyInAnotherBlock: where another server block of the address has the PROXY protocol, CoreDNS reads for both.
func TestProxyInAnotherBlock(t *testing.T) {
	port := ports.Closed(t)
	options := optionsFor(t, lab().Addr(), "allow_clients 192.0.2.1/32 127.0.0.0/8")
	c := startCoreDNS(t, blockOf(fmt.Sprintf(".:%d", port), options, "")+
		fmt.Sprintf("example.:%d {\n bind 127.0.0.1\n proxyproto\n whoami\n}\n", port))
	s := connect(t, c.tcp)
	fmt.Fprint(s, "PROXY TCP4 192.0.2.1 127.0.0.1 4000 53\r\n")
	s.send(pack(t, newMsg("good.dane.", dns.TypeMX, withDO)))
	if r := s.receive(); r.Rcode != noError {
		t.Error(r)
	}
}

// TestReloadBringsTSIG: a signature is judged, by CoreDNS, from the reload on that asks for it.
func TestReloadBringsTSIG(t *testing.T) {
	port, options := fmt.Sprintf(".:%d", ports.Closed(t)), optionsFor(t, lab().Addr())
	c := startCoreDNS(t, blockOf(port, options, ""))
	danelawReads(t, "no TSIG", c)
	if err := c.reload(blockOf(port, options, "tsig {\n secret key. aGVsbG8=\n require all\n}")); err != nil {
		t.Fatal(err)
	}
	m := newMsg("good.dane.", dns.TypeMX, withDO)
	m.SetTsig("key.", dns.HmacSHA256, 300, time.Now().Unix())
	forged, _, err := dns.TsigGenerate(m, "Zm9yZ2Vk", "", false)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the forged signature to be refused", func() bool {
		r := raw(t, c.udp, forged, 30*time.Second)
		return r != nil && r.Rcode == dns.RcodeNotAuth
	})
}

// TestReloadOfOtherKeys: no query is lost while reloads change the keys of the server block.
func TestReloadOfOtherKeys(t *testing.T) {
	port := ports.Closed(t)
	options := optionsFor(t, lab().Addr())
	keys := []string{fmt.Sprintf(".:%d", port), fmt.Sprintf(".:%d example.:%d", port, port)}
	c := startCoreDNS(t, blockOf(keys[0], options, ""))
	defer asking(4, func(client, n int) bool {
		m := newMsg(fmt.Sprintf("k%d-%d.rsasha256.dane.", client, n), dns.TypeMX, withDO)
		r, _, err := (&dns.Client{Timeout: 8 * time.Second}).Exchange(m, c.udp)
		if err != nil || r.Rcode != dns.RcodeNameError || !r.AuthenticatedData {
			t.Errorf("%s: %v %v", m.Question[0].Name, err, r)
			return false
		}
		return true
	})()
	for i := range 10 {
		if err := c.reload(blockOf(keys[(i+1)%2], options, "")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReloadTakesDanelawAway: no query is lost or refused while reloads take danelaw out of a server block and put it
// back, whether it stays in another block or not.
func TestReloadTakesDanelawAway(t *testing.T) {
	port, other := fmt.Sprintf(".:%d", ports.Closed(t)), fmt.Sprintf(".:%d", ports.Closed(t))
	with := blockOf(port, optionsFor(t, lab().Addr()), "")
	without := port + " {\n bind 127.0.0.1\n forward . " + lab().Addr() + "\n}\n"
	elsewhere := blockOf(other, optionsFor(t, lab().Addr()), "")
	c := startCoreDNS(t, with)
	defer asking(4, func(int, int) bool {
		r, _, err := (&dns.Client{Timeout: 8 * time.Second}).Exchange(newMsg("good.dane.", dns.TypeMX, withDO), c.udp)
		if err != nil || r.Rcode != noError {
			t.Errorf("%v %v", err, r)
			return false
		}
		return true
	})()
	for _, text := range []string{
		without, with, without + elsewhere, with + elsewhere, without, with + elsewhere, without,
	} {
		if err := c.reload(text); err != nil {
			t.Fatal(err)
		}
	}
}
