package differential

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// Case is a tree of zones, the faults in it, and the questions to ask about it, in their order. Its names are relative
// to the top of the tree, so that the tree can be built any number of times, each time under a new name that no cache
// has seen.
type Case struct {
	Seed      uint64 // of its keys
	OneServer bool   // one authoritative server for all zones
	Zones     []Zone // each one after the zone above it
	Faults    []Fault
	Questions []Question
}

// Zone is one zone of a tree.
type Zone struct {
	Name       string // relative; "@" is the top of the tree
	Algorithms []uint8
	Denial     string // nsec, nsec3, optout or compact
	Iterations uint16
	Salt       string
	Digests    []uint8
	Unsigned   bool
	Island     bool // signed, but without DS in the zone above
	Split      bool // a key-signing and a zone-signing key
	// Records are lines of a zone file. Names without a final dot are relative to the zone, and names that end in
	// "TREE." to the tree. SOA, NS and delegations are added to them.
	Records []string
}

// Fault is one thing that is wrong with a tree.
type Fault struct {
	Kind string // a name in breakers
	Zone string // the zone that has it
	// of the RRset, or of the questions, that the fault is about, relative to the tree; "": all
	Owner string
	Type  uint16 // likewise; 0: all
	N     uint64 // a random number for whatever the fault leaves open
}

// Question is a question with the flags that a client sets.
type Question struct {
	Name       string // relative to the tree
	Type       uint16
	DO, AD, CD bool
	Want       string // danelaw's verdict, in the cases of testdata
}

const top = "@"

// under returns the absolute name of a relative one.
func under(tree, name string) string {
	switch name {
	case top:
		return tree
	default:
		return name + "." + tree
	}
}

// join puts a label in front of a name that is relative to the tree.
func join(label, name string) string {
	if name == top {
		return label
	}
	return label + "." + name
}

// relative is the inverse of under.
func relative(tree, name string) string {
	if name == tree {
		return top
	}
	return strings.TrimSuffix(name, "."+tree)
}

// inside reports whether a relative name is the zone's or below it.
func inside(zone, name string) bool {
	return zone == top || name == zone || strings.HasSuffix(name, "."+zone)
}

// above returns the zone above another, or nil for the top of the tree.
func (c *Case) above(name string) *Zone {
	var best *Zone
	for i := range c.Zones {
		z := &c.Zones[i]
		if z.Name != name && inside(z.Name, name) && (best == nil || inside(best.Name, z.Name)) {
			best = z
		}
	}
	if name == top {
		return nil
	}
	return best
}

func (c *Case) zone(name string) *Zone {
	for i := range c.Zones {
		if c.Zones[i].Name == name {
			return &c.Zones[i]
		}
	}
	return nil
}

// clone returns a deep copy.
func (c *Case) clone() *Case {
	d := *c
	d.Zones, d.Faults, d.Questions = slices.Clone(c.Zones), slices.Clone(c.Faults), slices.Clone(c.Questions)
	for i := range d.Zones {
		d.Zones[i].Records = slices.Clone(d.Zones[i].Records)
	}
	return &d
}

// text returns the zone file of a zone in the tree of that name.
func (z *Zone) text(tree string) string {
	var b strings.Builder
	b.WriteString("@ SOA ns hostmaster 1 7200 3600 1209600 900\n@ NS ns\nns A 192.0.2.53\n")
	for _, r := range z.Records {
		b.WriteString(strings.ReplaceAll(r, "TREE.", tree) + "\n")
	}
	return b.String()
}

// String returns the text that parse reads.
func (c *Case) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n", c.Seed)
	if c.OneServer {
		b.WriteString("one-server\n")
	}
	for _, z := range c.Zones {
		fmt.Fprintln(&b, "zone", z)
		for _, r := range z.Records {
			fmt.Fprintln(&b, "\t"+r)
		}
	}
	for _, f := range c.Faults {
		fmt.Fprintln(&b, "fault", f)
	}
	for _, q := range c.Questions {
		fmt.Fprintln(&b, "ask", q)
	}
	return b.String()
}

func (z Zone) String() string {
	words := []string{z.Name}
	if z.Unsigned {
		return z.Name + " unsigned"
	}
	for _, a := range z.Algorithms {
		words = append(words, "alg="+strconv.Itoa(int(a)))
	}
	for _, d := range z.Digests {
		words = append(words, "digest="+strconv.Itoa(int(d)))
	}
	words = append(words, z.Denial)
	if z.hashed() {
		words = append(words, "iterations="+strconv.Itoa(int(z.Iterations)), "salt="+z.Salt)
	}
	if z.Island {
		words = append(words, "island")
	}
	if z.Split {
		words = append(words, "split")
	}
	return strings.Join(words, " ")
}

func (z Zone) hashed() bool { return z.Denial == "nsec3" || z.Denial == "optout" }

func (f Fault) String() string {
	return fmt.Sprintf("%s zone=%s owner=%s type=%s n=%d", f.Kind, f.Zone, f.Owner, typeName(f.Type), f.N)
}

func (q Question) String() string {
	words := []string{q.Name, typeName(q.Type)}
	for _, flag := range []struct {
		set  bool
		name string
	}{{q.DO, "do"}, {q.AD, "ad"}, {q.CD, "cd"}} {
		if flag.set {
			words = append(words, flag.name)
		}
	}
	if q.Want != "" {
		words = append(words, "want "+q.Want)
	}
	return strings.Join(words, " ")
}

func typeName(t uint16) string {
	if t == 0 {
		return "any"
	}
	return dns.Type(t).String()
}

func typeOf(name string) (uint16, error) {
	t, ok := dns.StringToType[name]
	if !ok && name != "any" {
		return 0, fmt.Errorf("there is no type %q", name)
	}
	return t, nil
}

// parse reads a case. Lines that begin with # are comments.
func parse(text string) (*Case, error) {
	c := &Case{}
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := c.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if len(c.Zones) == 0 || c.Zones[0].Name != top {
		return nil, fmt.Errorf("the first zone is not %s", top)
	}
	for _, f := range c.Faults {
		if c.zone(f.Zone) == nil {
			return nil, fmt.Errorf("there is no zone for the fault %s", f)
		}
	}
	return c, nil
}

func (c *Case) line(line string) (err error) {
	if record, ok := strings.CutPrefix(line, "\t"); ok {
		if len(c.Zones) == 0 {
			return fmt.Errorf("a record before the first zone: %s", record)
		}
		z := &c.Zones[len(c.Zones)-1]
		z.Records = append(z.Records, record)
		return nil
	}
	verb, rest, _ := strings.Cut(line, " ")
	words := strings.Fields(rest)
	switch {
	case verb == "seed" && len(words) == 1:
		c.Seed, err = strconv.ParseUint(words[0], 10, 64)
	case verb == "one-server":
		c.OneServer = true
	case verb == "zone" && len(words) > 0:
		var z Zone
		z, err = parseZone(words)
		c.Zones = append(c.Zones, z)
	case verb == "fault" && len(words) > 0:
		var f Fault
		f, err = parseFault(words)
		c.Faults = append(c.Faults, f)
	case verb == "ask" && len(words) > 1:
		var q Question
		q, err = parseQuestion(words)
		c.Questions = append(c.Questions, q)
	default:
		err = fmt.Errorf("%q is no line of a case", line)
	}
	return err
}

func parseZone(words []string) (z Zone, err error) {
	z.Name = words[0]
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "alg":
			z.Algorithms = append(z.Algorithms, uint8(n))
		case "digest":
			z.Digests = append(z.Digests, uint8(n))
		case "iterations":
			z.Iterations = uint16(n)
		case "salt":
			z.Salt = value
		case "nsec", "nsec3", "optout", "compact":
			z.Denial = key
		case "unsigned":
			z.Unsigned = true
		case "island":
			z.Island = true
		case "split":
			z.Split = true
		default:
			err = fmt.Errorf("%q is no property of a zone", word)
		}
	}
	return z, err
}

func parseFault(words []string) (f Fault, err error) {
	f.Kind = words[0]
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "zone":
			f.Zone = value
		case "owner":
			f.Owner = value
		case "type":
			f.Type, err = typeOf(value)
		case "n":
			f.N, err = strconv.ParseUint(value, 10, 64)
		default:
			err = fmt.Errorf("%q is no property of a fault", word)
		}
		if err != nil {
			return f, err
		}
	}
	if breakers[f.Kind] == nil {
		return f, fmt.Errorf("there is no fault %q", f.Kind)
	}
	return f, nil
}

func parseQuestion(words []string) (q Question, err error) {
	q.Name = words[0]
	if q.Type, err = typeOf(words[1]); err != nil {
		return q, err
	}
	for i := 2; i < len(words); i++ {
		switch words[i] {
		case "do":
			q.DO = true
		case "ad":
			q.AD = true
		case "cd":
			q.CD = true
		case "want":
			q.Want = strings.Join(words[i+1:], " ")
			return q, nil
		default:
			return q, fmt.Errorf("%q is no flag of a question", words[i])
		}
	}
	return q, nil
}
