package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/zones"
)

// firstLabPort is where the lab's danelaw listens if nothing else is said and nobody is there.
const (
	firstLabPort = 5300
	labPorts     = 100
)

func labCommand() *cli.Command {
	return &cli.Command{
		Name:  "lab",
		Usage: "start a small signed mail internet, with broken domains, and a danelaw in front of it",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "port", Usage: "listen on port `N` (default: 5300 or the next free one)",
				HideDefault: true, Validator: checkPort},
			stringFlag("socket", "take the commands nta, flush and cache on the control socket `PATH`"),
			boolFlag("json", "print addresses, trust anchor, domains and expected verdicts for a program"),
		},
		Action: noArguments(runLab),
	}
}

func runLab(ctx context.Context, c *cli.Command) error {
	lab, err := zones.Start(zones.Options{})
	if err != nil {
		return err
	}
	defer lab.Close()
	port := c.Int("port")
	if port == 0 {
		if port, err = freePort(); err != nil {
			return err
		}
	}
	src, forget, err := labSource(lab, port, c.String("socket"))
	if err != nil {
		return err
	}
	defer forget()
	var told error
	err = daemon(ctx, src, func(i *caddy.Instance) {
		forget()
		at := i.Servers()[0].LocalAddr().(*net.UDPAddr)
		told = show(c, newLabJSON(lab, at), func(to io.Writer) { printLab(to, lab, at) })
		c.Root().Writer.(*printer).Flush() //nolint:errcheck // see printer
	})
	return errors.Join(err, told)
}

func freePort() (int, error) {
	var err error
	for port := firstLabPort; port < firstLabPort+labPorts; port++ {
		if err = danelaw.Free(fmt.Sprintf("127.0.0.1:%d", port), "udp", "tcp"); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free (%w); name one with --port", firstLabPort,
		firstLabPort+labPorts-1, err)
}

// labSource returns a Corefile for a danelaw that asks the lab. It names a file with the lab's trust anchor, which is
// only needed while danelaw is set up; forget removes it. control is the path of its control socket, "" for none.
func labSource(lab *zones.Lab, port int, control string) (src *source, forget func(), err error) {
	dir, err := os.MkdirTemp("", "danelaw-lab-")
	if err != nil {
		return nil, nil, err
	}
	forget = func() { os.RemoveAll(dir) }
	anchors := filepath.Join(dir, "root.ds")
	if err := os.WriteFile(anchors, []byte(strings.Join(lines(lab.DS()), "\n")+"\n"), 0o600); err != nil {
		forget()
		return nil, nil, err
	}
	src = fixedSource("the lab's configuration", fmt.Sprintf(`.:%d {
    bind 127.0.0.1
    errors
    danelaw {
        upstream . %s
        trust_anchor "%s"
        control "%s"
    }
}
`, port, lab.Addr(), anchors, cmp.Or(control, "off")))
	src.dial = lab.Dial
	return src, forget, nil
}

// lines returns records in zone-file form.
func lines[R dns.RR](rrs []R) (all []string) {
	for _, rr := range rrs {
		all = append(all, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	return all
}

// dig is a complete command line for a question.
func dig(at *net.UDPAddr, q zones.Question) string {
	return fmt.Sprintf("dig @%s -p %d %s %s +dnssec", at.IP, at.Port, q.Name, dns.Type(q.Type))
}

// printLab prints the table of domains.
func printLab(out io.Writer, lab *zones.Lab, at *net.UDPAddr) {
	fmt.Fprintf(out, "danelaw answers on %s. Secure answers have the flag ad, Insecure ones have not, Bogus ones are\n"+
		"SERVFAIL with an EDE that says why.\n\n", at)
	for _, d := range lab.Domains() {
		q := d.Questions[0]
		fmt.Fprintf(out, "%-13s  %-33s %s\n%15s%s\n", q.Status, d.Name, d.Shows, "", dig(at, q))
	}
	fmt.Fprintf(out, "\nThe mail hosts receive on %s, with STARTTLS and by SNI; that of no-starttls.dane on %s.\n"+
		"How a sender of mail sees a domain, without dig:  danelaw check --lab --smtp %s\n",
		lab.Receivers()["192.0.2.25"], lab.Receivers()["192.0.2.27"], lab.Domains()[0].Name)
	if _, err := exec.LookPath("dig"); err != nil {
		fmt.Fprintln(out, "dig is not installed here: it is in the package bind9-dnsutils (Debian), bind-utils "+
			"(Fedora) or bind-tools (Alpine).")
	}
	fmt.Fprintln(out, "Ctrl-C ends the lab.")
}

// The form of `danelaw lab --json`.
type (
	labJSON struct {
		Address     string            `json:"address"`     // of danelaw, UDP and TCP
		Recursor    string            `json:"recursor"`    // its upstream, which validates nothing
		Authorities map[string]string `json:"authorities"` // by zone
		// SMTP with STARTTLS and SNI, by the addresses of mail hosts in DNS
		Receivers map[string]string `json:"receivers"`
		Anchor    anchorJSON        `json:"anchor"`
		Domains   []domainJSON      `json:"domains"`
	}
	anchorJSON struct {
		DS     []string `json:"ds"`
		DNSKEY []string `json:"dnskey"`
		Delv   string   `json:"delv"` // the content of a file for delv -a and named.conf
	}
	domainJSON struct {
		Name      string         `json:"name"`
		Shows     string         `json:"shows"`
		Fault     string         `json:"fault,omitempty"`
		Questions []questionJSON `json:"questions"`
	}
	questionJSON struct {
		Name   string `json:"name"`
		Type   string `json:"type"`
		Status string `json:"status"`
		Rcode  string `json:"rcode"`
		EDE    uint16 `json:"ede,omitempty"`
		Dig    string `json:"dig"`
	}
)

func newLabJSON(lab *zones.Lab, at *net.UDPAddr) labJSON {
	out := labJSON{
		Address: at.String(), Recursor: lab.Addr(), Authorities: lab.Authorities(), Receivers: lab.Receivers(),
		Anchor: anchorJSON{DS: lines(lab.DS()), DNSKEY: lines(lab.DNSKEY()), Delv: delvAnchors(lab.DNSKEY())},
	}
	for _, d := range lab.Domains() {
		domain := domainJSON{Name: d.Name, Shows: d.Shows, Fault: d.Fault}
		for _, q := range d.Questions {
			domain.Questions = append(domain.Questions, questionJSON{
				Name: q.Name, Type: dns.Type(q.Type).String(), Status: q.Status, Rcode: dns.RcodeToString[q.Rcode],
				EDE: q.EDE, Dig: dig(at, q),
			})
		}
		out.Domains = append(out.Domains, domain)
	}
	return out
}

// delvAnchors is what delv and named read as trust anchors.
func delvAnchors(keys []*dns.DNSKEY) string {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "\t%s static-key %d %d %d %q;\n", k.Hdr.Name, k.Flags, k.Protocol, k.Algorithm, k.PublicKey)
	}
	return "trust-anchors {\n" + b.String() + "};\n"
}
