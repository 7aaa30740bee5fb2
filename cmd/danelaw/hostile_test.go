package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/plugin/probe"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/zones"
)

// forged begins what hostile words would have taken for a line of danelaw's own.
const forged = "FORGED: all is well"

// hostileWords are what drives terminals, forges lines, turns texts round and hides in them.
const hostileWords = "evil\x1b[31m\u009b2J\r\n" + forged + "\x00\t\u202etxt\u2066\u200b\u2028\u3164"

// hostileASCII are those of them that stand in an IA5String or an SMTP reply.
const hostileASCII = "evil\x1b[31m\x07\x7f\r" + forged

// harmless checks that an output holds nothing but text in lines of its own, and the words that it must.
func harmless(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && r != '\t' && (!unicode.IsPrint(r) || r == '\u3164' || r == unicode.ReplacementChar) {
			t.Errorf("%s shows %q in %q", what, r, text[max(0, i-40):min(len(text), i+20)])
			return
		}
	}
	if strings.HasPrefix(text, forged) || strings.Contains(text, "\n"+forged) {
		t.Errorf("%s has a forged line:\n%s", what, text)
	}
	contains(t, what, text, wants...)
}

// hostileCertificate is one with such names, of an authority with such a name.
func hostileCertificate(t *testing.T) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{hostileASCII, "\nwatch: " + forged}
	for range 200 {
		names = append(names, "many."+strings.Repeat("x", 60)+".example")
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hostileWords,
			Organization: []string{strings.Repeat("long", 1000)}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true,
	}
	ca, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := x509.ParseCertificate(ca)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.IsCA, template.DNSNames = big.NewInt(2), false, names
	template.Subject.CommonName += " itself"
	leaf, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf, ca}, PrivateKey: key}, authority
}

// hostileReceivers are one that shows such a certificate, and one that refuses in such words, at the same port of two
// addresses.
func hostileReceivers(t *testing.T, c tls.Certificate) (port int) {
	t.Helper()
	serve := func(address string, talk func(net.Conn)) string {
		l, err := net.Listen("tcp", address)
		switch {
		case err != nil && runtime.GOOS != "linux": // elsewhere 127.0.0.2 is not there unless somebody adds it
			needs.Host(t, fmt.Errorf("a second address of loopback, as `ifconfig lo0 alias 127.0.0.2` adds: %w", err))
		case err != nil:
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				go func() { defer conn.Close(); talk(conn) }()
			}
		}()
		return l.Addr().String()
	}
	at := serve("127.0.0.1:0", func(conn net.Conn) {
		answer := func(text string) {
			io.WriteString(conn, text)
			conn.Read(make([]byte, 512))
		} //nolint:errcheck // the prober tells
		answer("220 " + hostileASCII + "\r\n")
		answer("250-" + hostileASCII + "\r\n250 STARTTLS\r\n")
		io.WriteString(conn, "220 go\r\n")                                            //nolint:errcheck // as above
		tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c}}).Handshake() //nolint:errcheck // as above
	})
	_, digits, _ := net.SplitHostPort(at)
	serve("127.0.0.2:"+digits, func(conn net.Conn) {
		io.WriteString(conn, "554 "+hostileASCII+"\xff\xc2\x9b\r\n")
	}) //nolint:errcheck // as above
	fmt.Sscan(digits, &port)
	return port
}

// hostileLab is a lab where hostile.good.dane has all of this, behind a resolver that fails with hostile words for
// lame.good.dane.
func hostileLab(t *testing.T) (lab *zones.Lab, upstream string, port int) {
	t.Helper()
	c, authority := hostileCertificate(t)
	port = hostileReceivers(t, c)
	digest, err := dns.CertificateToDANE(mail.SPKI, mail.SHA256, authority)
	if err != nil {
		t.Fatal(err)
	}
	const raw = `evil\027[31m\155\010\226\128\174`
	lab, err = zones.Start(zones.Options{Edit: func(z *zones.Zone) {
		if z.Name != "good.dane." {
			return
		}
		addRecords(t, z,
			`hostile MX 10 mx.hostile`, `hostile MX 20 `+raw, raw+` A 127.0.0.1`, `mx.hostile A 127.0.0.1`,
			`mx.hostile A 127.0.0.2`,
			`hostile TXT "`+raw+forged+`" "\194\155"`, `hostile CAA 0 issue "`+raw+`"`, `hostile URI 1 1 "`+raw+`"`,
			`hostile TYPE65280 \# 4 1b5b316d`, `_mta-sts.hostile TXT "v=STSv1; id=`+raw+`"`,
			`_smtp._tls.hostile TXT "v=TLSRPTv1; rua=mailto:`+raw+`"`,
			`_25._tcp.mx.hostile TLSA 2 1 1 `+digest, fmt.Sprintf(`_%d._tcp.mx.hostile TLSA 2 1 1 %s`, port, digest),
		)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Close)
	return lab, hostileResolver(t, lab.Addr()), port
}

// addRecords puts records into good.dane; of each its owner, type and data are given.
func addRecords(t *testing.T, z *zones.Zone, lines ...string) {
	t.Helper()
	for _, line := range lines {
		rr, err := dns.NewRR("$ORIGIN good.dane.\n" + strings.Replace(line, " ", " 60 IN ", 1) + "\n")
		if err != nil || rr == nil {
			t.Fatalf("%s: %v", line, err)
		}
		z.Add(rr)
	}
}

// hostileResolver asks another one, but for lame.good.dane.
func hostileResolver(t *testing.T, behind string) string {
	t.Helper()
	port := ports.Closed(t)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		s := &dns.Server{Addr: address, Net: network, NotifyStartedFunc: func() { close(started) }}
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			if !dns.IsSubDomain("lame.good.dane.", q.Question[0].Name) {
				if r, _, err := (&dns.Client{Net: network, Timeout: patience}).Exchange(q, behind); err == nil {
					w.WriteMsg(r) //nolint:errcheck // the client tells
				}
				return
			}
			r := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
			r.SetEdns0(1232, true)
			r.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 22, ExtraText: hostileWords}}
			w.WriteMsg(r) //nolint:errcheck // the client tells
		})
		go s.ListenAndServe() //nolint:errcheck // it ends with Shutdown
		<-started
		t.Cleanup(func() { s.Shutdown() }) //nolint:errcheck // as above
	}
	return address
}

// TestHostileChecks: nothing that a domain, its mail hosts and its resolver say comes to a terminal, a page or a
// program as it is.
func TestHostileChecks(t *testing.T) {
	lab, upstream, port := hostileLab(t)
	file := write(t, "Corefile", corefile(ports.Closed(t), upstream, anchors(t, lab)))
	page := filepath.Join(t.TempDir(), "page.html")
	list := write(t, "domains", "hostile.good.dane\nlame.good.dane\n")
	at := fmt.Sprint(port)
	check := []string{"check", "-conf", file, "-smtp", "-smtp-port", at}
	for _, test := range []struct {
		args  []string
		wants []string
	}{
		{append(check, "-html", page, "hostile.good.dane", "lame.good.dane"), []string{
			`evil\027[31m\155\010\226\128\174.good.dane.`, `554 evil\u001b[31m\u0007\u007f\r` + forged + `\xff\u009b`,
			`the certificate is for evil\u001b[31m`, ` more, not for`,
			`EDE 22 "evil\x1b[31m`}},
		{append(check, "-json", "hostile.good.dane", "lame.good.dane"),
			[]string{`554 evil\\u001b[31m`, `CN=evil\\u001b[31m\\u009b2J\\r\\n` + forged}},
		{append(check, "-file", list), []string{"hostile.good.dane.", "lame.good.dane."}},
		{[]string{"check", "-conf", file, "hostile.good.dane", "TXT"}, []string{forged, `\027[31m`, `\194\155`}},
		{[]string{"check", "-conf", file, "hostile.good.dane", "MX"}, []string{`evil\027[31m`}},
		{[]string{"check", "-conf", file, "-json", "lame.good.dane", "MX"}, []string{`EDE 22 \"evil\\x1b[31m`}},
		{[]string{"check", "-conf", file, "hostile.good.dane", "CAA"}, []string{`\027[31m`}},
		{[]string{"check", "-conf", file, "hostile.good.dane", "URI"}, []string{`\027[31m`}},
		{[]string{"check", "-conf", file, "hostile.good.dane", "TYPE65280"}, []string{`1b5b316d`}},
		{[]string{"check", "-conf", file, "lame.good.dane", "MX"}, []string{`EDE 22 "evil\x1b[31m`}},
		{[]string{"check", "-conf", file, hostileWords}, []string{"is not a domain name"}},
		{[]string{"check", "-conf", file, "good.dane", hostileWords}, nil},
		{[]string{"check", "-conf", hostileWords, "good.dane"}, []string{forged}},
		{[]string{"check", "-conf", file, "-file", hostileWords}, []string{forged}},
		{[]string{"watch", "-conf", file, hostileWords}, []string{"is not a domain"}},
		{[]string{"tlsa", "-conf", file, "-host", "mx.hostile.good.dane", "-check", "-port", at, "-smtp",
			"mx.hostile.good.dane:" + at},
			[]string{`554 evil\u001b[31m`, "TLSA 3 1 1"}},
		{[]string{"tlsa", "-host", hostileWords, file}, nil},
		{[]string{hostileWords}, []string{"is no command"}},
		{
			[]string{
				"serve", "-conf", write(t, "Corefile", ".:53 {\n danelaw {\n upstream "+strings.NewReplacer("\n", "",
					"\r", "").Replace(hostileWords)+"\n }\n}\n"),
			}, []string{forged},
		},
		{[]string{"doctor", "-conf", file, "-resolver", upstream, "-signed", "lame.good.dane", "-dnsbl",
			"lame.good.dane"}, []string{`SERVFAIL (evil\u001b[31m\u009b2J\r\n` + forged}},
		{[]string{"doctor", "-json", "-conf", file, "-resolver", upstream, "-signed", "lame.good.dane"},
			[]string{`(evil\\u001b[31m\\u009b2J\\r\\n` + forged}},
	} {
		_, out, stderr := here(test.args...)
		harmless(t, strings.Join(test.args, " "), out+stderr, test.wants...)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	harmless(t, "the page", string(text), `evil\u001b[31m`)
}

// TestHostileWatch: the same of watch, which connects to port 25 only.
func TestHostileWatch(t *testing.T) {
	lab, upstream, port := hostileLab(t)
	src, err := openSource(t.Context(), write(t, "Corefile", corefile(ports.Closed(t), upstream, anchors(t, lab))))
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := setUp(t.Context(), src, danelaw.Load)
	if err != nil {
		t.Fatal(err)
	}
	defer blocks.Close()
	h, err := blocks.Handler("good.dane.")
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(host, fmt.Sprint(port)))
	}
	seen, err := h.Look(t.Context(), "hostile.good.dane.", &probe.Prober{Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	var text, program bytes.Buffer
	d := report(seen, 0)
	d.print(&text)
	if err := writeJSON(&program, d); err != nil {
		t.Fatal(err)
	}
	harmless(t, "watch", text.String(), `the certificate is for evil\u001b[31m`, `554 evil\u001b[31m`, " more, not for")
	harmless(t, "watch -json", program.String(), `the certificate is for evil\\u001b[31m`)
}

// TestHostileDaemon: the same of the daemon's log, metrics and Extended DNS Errors, and of the commands that speak to
// it.
func TestHostileDaemon(t *testing.T) {
	lab, upstream, _ := hostileLab(t)
	socket, metrics, port := filepath.Join(socketDir(t), "control.sock"), ports.Closed(t), ports.Closed(t)
	file := write(t, "Corefile", strings.Replace(
		corefile(port, upstream, anchors(t, lab), "control "+socket, "watch hostile.good.dane", "trust_anchor_state "+
			t.TempDir()),
		"danelaw {", fmt.Sprintf("prometheus 127.0.0.1:%d\n errors\n danelaw {", metrics), 1))
	p := start(t, nil, "serve", "-conf", file)
	p.says(t, &p.err, fmt.Sprintf("danelaw listens on 127.0.0.1:%d\n", port))
	for _, name := range []string{"lame.good.dane.", `ev\027\010il.lame.good.dane.`} {
		for _, e := range errorsOf(ask(t, port, name, dns.TypeMX)) {
			harmless(t, "an Extended DNS Error", e.ExtraText)
			if strings.Contains(e.ExtraText, "\n") || strings.Contains(e.ExtraText, "\t") {
				t.Errorf("more than a line: %q", e.ExtraText)
			}
		}
	}
	ask(t, port, "hostile.good.dane.", dns.TypeTXT)
	ask(t, port, "hostile.good.dane.", dns.TypeMX)
	for _, command := range []struct {
		name string
		args []string
	}{
		{"cache dump", []string{"."}}, {"cache dump", []string{"-json", "."}}, {"cache dump", []string{hostileWords}},
		{"cache stats", nil}, {"status", nil}, {"status", []string{"-json"}},
		{"nta add", []string{"lame.good.dane", "1h", "because"}},
		{"nta add", []string{"lame.good.dane", "1h", hostileWords}},
		{"nta add", []string{hostileWords}}, {"nta list", nil}, {"nta list", []string{"-json"}},
		{"nta remove", []string{hostileWords}},
		{"flush", []string{hostileWords}}, {"flush", []string{"."}}, {"flush", []string{"-socket", hostileWords, "."}},
	} {
		_, out, stderr := here(slices.Concat(strings.Fields(command.name), []string{"-socket", socket},
			command.args)...)
		harmless(t, command.name, out+stderr)
	}
	reply, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	harmless(t, "the metrics", string(text), "coredns_danelaw_responses_total")
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	harmless(t, "the log", p.out.String()+p.err.String(), `EDE 22 "evil\x1b[31m`,
		"lame.good.dane. MX from 127.0.0.1: SERVFAIL")
}
