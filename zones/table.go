package zones

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

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
	if err := e.config.parse(strings.Fields(columns[2])); err != nil {
		return nil, err
	}
	if e.shows == "" {
		return e, nil
	}
	return e, e.verdict.parseVerdict(strings.Fields(columns[4]))
}

// parse reads how a zone is signed, from the words that the table's comment explains.
func (c *Config) parse(words []string) error {
	for _, word := range words {
		if err := c.parseWord(word); err != nil {
			return fmt.Errorf("signing %q: %w", word, err)
		}
	}
	return nil
}

func (c *Config) parseWord(word string) (err error) {
	key, value, valued := strings.Cut(word, ":")
	number, salt, _ := strings.Cut(value, ":")
	var n uint64
	if valued {
		n, err = strconv.ParseUint(number, 10, 16)
	}
	switch algorithm, none := strconv.ParseUint(key, 10, 8); key {
	case "nsec":
	case "compact":
		c.Compact = true
	case "split":
		c.Split = true
	case "unsigned":
		c.Unsigned = true
	case "nsec3", "opt-out":
		c.NSEC3 = &NSEC3{Iterations: uint16(n), Salt: salt, OptOut: key == "opt-out"}
	case "flags":
		c.Flags = uint16(n)
	case "digest":
		c.Digests = append(c.Digests, uint8(n))
	default:
		if none != nil {
			return errors.New("unknown word")
		}
		c.Algorithms = append(c.Algorithms, uint8(algorithm))
	}
	return err
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

// plans turns the table into what Build takes.
func plans(entries []*entry, edit func(*Zone)) (all []Plan) {
	for _, e := range entries {
		all = append(all, Plan{Name: e.name, Text: e.text, Config: e.config, Fault: Faults[e.fault], Edit: edit})
	}
	return all
}

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
