package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// parseType reads the name of a type, or TYPE and its number (RFC 3597 section 5).
func parseType(name string) (uint16, error) {
	name = strings.ToUpper(name)
	if t, ok := dns.StringToType[name]; ok {
		return t, nil
	}
	if number, ok := strings.CutPrefix(name, "TYPE"); ok {
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			return uint16(n), nil
		}
	}
	return 0, fmt.Errorf("%q is not a type of DNS records; write one such as MX, or TYPE65 for one without a name",
		name)
}

// printChain writes the verdict in one line, and the tree: a line for each zone, below it what it holds.
func printChain(to io.Writer, v *drawing.Chain) {
	width := widthOf(to)
	fmt.Fprintln(to, wrapped(v.Verdict, 0, width))
	for _, f := range v.Failures {
		fmt.Fprintln(to, wrapped(fmt.Sprintf("%s (EDE %d)", printable.Text(f.Text), f.EDE), 0, width))
	}
	fmt.Fprintln(to)
	var rows []drawing.Row
	add := func(depth int, what, status, how string) {
		rows = append(rows, drawing.Row{What: strings.Repeat("  ", depth) + what, Word: status, Text: how})
	}
	for _, z := range v.Zones {
		add(depthOf(v, z.Name), z.Name, z.Status, z.How)
	}
	for _, s := range v.Sets {
		depth := len(v.Zones) // below the last one that there is, if it is in none
		if s.Zone != "" {
			depth = depthOf(v, s.Zone) + 1
		}
		add(depth, s.Owner+" "+s.Type, s.Status, s.How)
		for _, r := range s.Records {
			add(depth+1, r, "", "")
		}
	}
	printRows(to, rows, 0, painterFor(to), width)
}

// depthOf is how many zones of the chain lie above one of them.
func depthOf(v *drawing.Chain, zone string) (n int) {
	for _, other := range v.Zones {
		if other.Name != zone && dns.IsSubDomain(other.Name, zone) {
			n++
		}
	}
	return n
}
