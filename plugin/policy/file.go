package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
)

// fileVersion is that of the form below.
const fileVersion = 1

// The form of the file in which policies outlive a restart.
type (
	fileJSON struct {
		Version  int        `json:"version"`
		Policies []heldJSON `json:"policies"`
	}
	heldJSON struct {
		Domain  string       `json:"domain"`
		ID      string       `json:"id"`
		Mode    mail.STSMode `json:"mode"`
		MX      []string     `json:"mx,omitempty"`
		MaxAge  int64        `json:"max_age"` // seconds
		Fetched time.Time    `json:"fetched"`
		Used    time.Time    `json:"used"`
	}
)

// octets are about those that a policy takes in the file.
func octets(h *Held) int {
	const fields = 250
	size := fields + len(h.Domain) + len(h.ID)
	for _, pattern := range h.Policy.MX {
		size += len(pattern) + len(`"",`)
	}
	return size
}

// Unsaved counts the changes so far: a file that was made at another count is not of now.
func (s *Store) Unsaved() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes
}

// Format returns the content of the file.
func (s *Store) Format() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := fileJSON{fileVersion, []heldJSON{}}
	for _, domain := range slices.Sorted(maps.Keys(s.entries)) {
		if e := s.entries[domain]; e.held != nil {
			p := e.held.Policy
			out.Policies = append(out.Policies, heldJSON{domain, e.held.ID, p.Mode, p.MX, int64(p.MaxAge / time.Second),
				e.held.Fetched.UTC(), e.used.UTC()})
		}
	}
	text, err := json.Marshal(out)
	return append(text, '\n'), err
}

// Load reads a file that Format has made, and holds what is in force and not held yet. What could not have been written
// is an error, and nothing is held then.
func (s *Store) Load(text []byte, now time.Time) error {
	var in fileJSON
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	if in.Version != fileVersion {
		return fmt.Errorf("it is of version %d, this danelaw knows %d", in.Version, fileVersion)
	}
	read := map[string]*entry{}
	for _, j := range in.Policies {
		h, err := j.held(now)
		if err != nil {
			return fmt.Errorf("the policy of %.300q: %w", j.Domain, err)
		}
		read[h.Domain] = &entry{held: h, octets: octets(h), used: j.Used, tried: h.Fetched, renew: h.renewal()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for domain, e := range read {
		if s.entries[domain] == nil && now.Before(e.held.Ends()) {
			s.entries[domain] = e
			s.octets += e.octets
		}
	}
	s.shrink("")
	return nil
}

// held is the policy, read as if it came from its host.
func (j *heldJSON) held(now time.Time) (*Held, error) {
	if _, ok := dns.IsDomainName(j.Domain); !ok || j.Domain != dns.CanonicalName(j.Domain) {
		return nil, fmt.Errorf("that is no domain")
	}
	p := mail.STSPolicy{Mode: j.Mode, MX: j.MX, MaxAge: time.Duration(j.MaxAge) * time.Second}
	read, err := mail.ParseSTSPolicy(strings.Join(p.Lines(), "\n"))
	if err != nil {
		return nil, err
	}
	if j.Fetched.After(now) { // by a clock that was ahead; else it would be held for longer than it says
		j.Fetched = now
	}
	return &Held{j.Domain, j.ID, read, j.Fetched}, nil
}
