package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/smallstep/pkcs7"
	"github.com/urfave/cli/v3"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/printable"
	"github.com/danelaw-dns/danelaw/trustanchors"
)

func anchorsCommand() *cli.Command {
	return &cli.Command{
		Name:   "anchors",
		Usage:  "show the daemon's trust anchors, and what will become of them",
		Flags:  controlFlags(),
		Action: noArguments(showAnchors),
		Commands: []*cli.Command{{
			Name:      "import",
			Usage:     "have the daemon trust the keys of a root-anchors.xml that IANA has signed",
			ArgsUsage: "FILE",
			Flags: controlFlags(
				&cli.StringFlag{Name: "signature", Required: true,
					Usage: "the detached CMS signature of FILE is in `P7S`"},
				&cli.StringFlag{Name: "ca", Required: true,
					Usage: "the certificate of the CA that vouches for it is in `PEM`"},
				&cli.StringFlag{Name: "signer", Usage: "it is signed by who has the mail address `ADDRESS`",
					Value: "dnssec@iana.org"}),
			Action: importAnchors,
		}},
	}
}

func showAnchors(ctx context.Context, c *cli.Command) error {
	var reply danelaw.AnchorsReply
	err := call(ctx, c, "GET", "/v1/anchors", nil, &reply, func(to io.Writer) { printAnchors(to, &reply) })
	return cmp.Or(err, toldUnless(!slices.ContainsFunc(reply.Points, func(p danelaw.AnchorPoint) bool {
		return p.Stale || p.Trusted == 0
	})))
}

func printAnchors(out io.Writer, reply *danelaw.AnchorsReply) {
	for _, p := range reply.Points {
		fmt.Fprintf(out, "%s\n", printable.Text(p.Zone))
		rows := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, k := range p.Keys {
			fmt.Fprintf(rows, "  %d\t%s\t%s\n", k.KeyTag, k.State, printable.Text(k.Text))
		}
		rows.Flush() //nolint:errcheck // see printer
		switch {
		case p.Refreshed.IsZero():
			fmt.Fprintln(out, "  Its keys have not been looked at with success yet.")
		default:
			fmt.Fprintf(out, "  Its keys were looked at %s UTC, and will be again %s UTC.\n", minute(p.Refreshed),
				minute(p.Next))
		}
		if p.Fault != "" && !p.Stale {
			fmt.Fprintf(out, "  The last look failed: %s\n", printable.Text(p.Fault))
		}
		for _, concern := range p.Concerns {
			fmt.Fprintf(out, "  ! %s\n", printable.Text(concern))
		}
	}
	switch {
	case len(reply.Points) == 0:
		fmt.Fprintln(out, "There are no trust anchors whose keys are followed.")
	case !reply.Kept:
		fmt.Fprintln(out, "What is learned of keys does not outlive a restart of the daemon: there is no "+
			"trust_anchor_state in its Corefile, or it cannot be written.")
	}
}

// Where IANA has the files.
const (
	anchorsAt   = "https://data.iana.org/root-anchors/root-anchors.xml"
	signatureAt = "https://data.iana.org/root-anchors/root-anchors.p7s"
	caAt        = "https://data.iana.org/root-anchors/icannbundle.pem"
)

func importAnchors(ctx context.Context, c *cli.Command) error {
	if c.NArg() != 1 {
		return misused(c, "anchors import takes one file, not %d", c.NArg())
	}
	file := signedFile{xml: c.Args().First(), signature: c.String("signature"), ca: c.String("ca"),
		signer: c.String("signer")}
	request, err := file.anchors(time.Now())
	if err != nil {
		return err
	}
	var reply danelaw.AnchorsReply
	return call(ctx, c, "POST", "/v1/anchors", request, &reply, func(to io.Writer) { printAnchors(to, &reply) })
}

// signedFile is a root-anchors.xml with what vouches for it (RFC 9718 section 4).
type signedFile struct{ xml, signature, ca, signer string }

// mostOctets is more than any of the files has.
const mostOctets = 1 << 20

// anchors returns the trust anchors of the file that are valid now, once its signature has been verified (T-12).
func (f signedFile) anchors(now time.Time) (request danelaw.AnchorsRequest, err error) {
	content, err := owned.AnyGroup().Read(f.xml, mostOctets)
	if err != nil {
		return request, err
	}
	if err := f.verify(content, now); err != nil {
		return request, err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(content), []byte("<")) {
		return request, fmt.Errorf("%s is no root-anchors.xml: fetch it from %s", f.xml, anchorsAt)
	}
	set, warnings, err := trustanchors.Load(f.xml, content, now, false)
	if err != nil {
		return request, err
	}
	if len(warnings) > 0 {
		return request, errors.New(warnings[0])
	}
	for _, ds := range set["."] {
		request.DS = append(request.DS, ds.String())
	}
	return request, nil
}

// verify holds the signature against the content, and its signer against the CA, at the time now: what was signed by a
// certificate that is over has a newer signature.
func (f signedFile) verify(content []byte, now time.Time) error {
	roots, err := f.roots()
	if err != nil {
		return err
	}
	text, err := owned.AnyGroup().Read(f.signature, mostOctets)
	if err != nil {
		return err
	}
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	signed, err := pkcs7.Parse(text)
	if err != nil {
		return fmt.Errorf("%s is no CMS signature (%v): fetch it from %s", f.signature, err, signatureAt)
	}
	if len(signed.Content) > 0 {
		return fmt.Errorf("%s is a signature of a content of its own, not one of %s: fetch it from %s", f.signature,
			f.xml, signatureAt)
	}
	signed.Content = content
	if err := signed.VerifyWithChainAtTime(roots, now); err != nil {
		return fmt.Errorf("%s does not verify with %s and %s (%s): fetch all three anew, and check the clock", f.xml,
			f.signature, f.ca, strings.TrimPrefix(err.Error(), "pkcs7: "))
	}
	signer := signed.GetOnlySigner()
	if signer == nil || !slices.Contains(mailAddresses(signer), f.signer) {
		return fmt.Errorf("%s: it is not signed by %s, but by %s: name with --signer who is to have signed it",
			f.signature, f.signer, signers(signed))
	}
	return nil
}

// roots reads the certificate of the CA, which decides what is believed (T-10).
func (f signedFile) roots() (*x509.CertPool, error) {
	text, err := owned.Daemon().Read(f.ca, mostOctets)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in it: give one in PEM, such as %s", f.ca, caAt)
	}
	return roots, nil
}

// emailAddress is the attribute of PKCS #9 in the subject of old certificates.
var emailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// mailAddresses are the mail addresses of a certificate.
func mailAddresses(c *x509.Certificate) []string {
	all := slices.Clone(c.EmailAddresses)
	for _, name := range c.Subject.Names {
		if text, ok := name.Value.(string); ok && name.Type.Equal(emailAddress) {
			all = append(all, text)
		}
	}
	return all
}

// signers names who has signed.
func signers(p *pkcs7.PKCS7) string {
	var all []string
	for _, c := range p.Certificates {
		all = append(all, fmt.Sprintf("%s %s", c.Subject, strings.Join(mailAddresses(c), " ")))
	}
	return printable.Short(cmp.Or(strings.Join(all, " or "), "nobody"))
}
