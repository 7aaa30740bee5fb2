package mail

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// STSMode is what a sender does about hosts that do not satisfy a policy (RFC 8461 section 5).
type STSMode string

// The modes.
const (
	Enforce STSMode = "enforce" // it does not deliver to them
	Testing STSMode = "testing" // it delivers, and reports
	NoSTS   STSMode = "none"    // the domain has no policy any more
)

// MaxSTSAge is the longest time for which a policy can be held: a little over a year (RFC 8461 section 3.2).
const MaxSTSAge = 31557600 * time.Second

// STSPolicy is the policy of a domain.
type STSPolicy struct {
	Mode   STSMode       `json:"mode"`
	MX     []string      `json:"mx"`      // patterns, in lower case, without dot at the end
	MaxAge time.Duration `json:"max_age"` // from when it was fetched; at most MaxSTSAge
}

// stsMX is a pattern of hosts: a domain of RFC 5321 section 4.1.2, before which one wildcard may stand.
var stsMX = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*` +
	`[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// longestDomain is that of a domain in text, without dot at the end (RFC 1035 section 2.3.4).
const longestDomain = 253

// ParseSTSPolicy reads the file of a policy (D-24, RFC 8461 section 3.2). Of a field that is there twice, mx apart, the
// first one counts. Fields that nobody knows are passed over. The error names the line.
func ParseSTSPolicy(text string) (*STSPolicy, error) {
	var patterns []string
	number, fields := 0, map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		number++
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), wsp)
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimLeft(value, wsp)
		switch _, twice := fields[name]; {
		case line == "":
		case !ok:
			return nil, fmt.Errorf("line %d: %.100q has no colon", number, line)
		case name == "mx":
			if !stsMX.MatchString(value) || len(value) > longestDomain {
				return nil, fmt.Errorf("line %d: mx %.100q is neither a host nor *. before a domain", number, value)
			}
			patterns = append(patterns, strings.ToLower(value))
		case !twice:
			fields[name] = value
		}
	}
	return newSTSPolicy(fields, patterns)
}

// newSTSPolicy is the policy with such fields and patterns.
func newSTSPolicy(fields map[string]string, patterns []string) (*STSPolicy, error) {
	mode := STSMode(fields["mode"])
	age, err := stsAge(fields["max_age"])
	switch {
	case fields["version"] != "STSv1":
		return nil, fmt.Errorf("its version is %.100q, not STSv1", fields["version"])
	case mode != Enforce && mode != Testing && mode != NoSTS:
		return nil, fmt.Errorf("its mode %.100q is neither enforce nor testing nor none", mode)
	case mode != NoSTS && len(patterns) == 0:
		return nil, errors.New("it has no mx")
	case err != nil:
		return nil, err
	}
	return &STSPolicy{mode, patterns, age}, nil
}

// stsAge reads seconds, of which there are 1 to 10 digits. More than MaxSTSAge is as much.
func stsAge(text string) (time.Duration, error) {
	const mostDigits = 10
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil && digits(text) && len(text) <= mostDigits {
		return time.Duration(min(seconds, uint64(MaxSTSAge/time.Second))) * time.Second, nil
	}
	return 0, fmt.Errorf("its max_age %.100q is no number of seconds", text)
}

// stsLabel is what a wildcard stands for. Other octets, such as colons, have a meaning to those who are told of a host:
// with x:hostname:y.example.com in its list of names Postfix would take any certificate that is of the host itself.
var stsLabel = regexp.MustCompile(`^[a-z0-9_-]+$`)

// Covers reports whether a host is one of those of the policy. A wildcard stands for one label, neither for none nor
// for several (D-25, RFC 8461 section 4.1).
func (p *STSPolicy) Covers(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	label, parent, _ := strings.Cut(host, ".")
	return slices.Contains(p.MX, host) || stsLabel.MatchString(label) && slices.Contains(p.MX, "*."+parent)
}

// Lines are those of the file that says the same.
func (p *STSPolicy) Lines() []string {
	lines := []string{"version: STSv1", "mode: " + string(p.Mode)}
	for _, pattern := range p.MX {
		lines = append(lines, "mx: "+pattern)
	}
	return append(lines, fmt.Sprintf("max_age: %d", int64(p.MaxAge/time.Second)))
}
