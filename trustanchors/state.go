package trustanchors

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// StateVersion is that of the form in which the points are kept.
const StateVersion = 1

// file is what is kept of all points, and filedPoint and filedKey of one.
type (
	file struct {
		Version int          `json:"version"`
		Points  []filedPoint `json:"points"`
	}
	filedPoint struct {
		Zone       string     `json:"zone"`
		Asked      time.Time  `json:"asked,omitzero"`
		Wait       seconds    `json:"wait_seconds"`
		Refreshed  time.Time  `json:"refreshed,omitzero"`
		Interval   seconds    `json:"interval_seconds"`
		Retry      seconds    `json:"retry_seconds"`
		Imported   []string   `json:"imported,omitempty"`   // DS records
		Configured []string   `json:"configured,omitempty"` // too
		Keys       []filedKey `json:"keys"`
	}
	filedKey struct {
		Key    string    `json:"dnskey"` // a record
		State  State     `json:"state"`
		Since  time.Time `json:"since,omitzero"`
		Seen   time.Time `json:"seen,omitzero"`
		Signed time.Time `json:"signed,omitzero"`
		Hold   seconds   `json:"hold_seconds,omitempty"`
	}
	seconds int64
)

func secondsOf(d time.Duration) seconds   { return seconds(d / time.Second) }
func (s seconds) duration() time.Duration { return time.Duration(s) * time.Second }

// mostSeconds bounds what is read: no time of RFC 5011 is longer than the longest TTL, 68 years.
const mostSeconds = 1<<31 - 1

// FormatState returns points in the form in which they are kept, with whole seconds.
func FormatState(points []Point) []byte {
	out := file{Version: StateVersion, Points: []filedPoint{}}
	for _, p := range points {
		f := filedPoint{
			Zone: p.Zone, Asked: whole(p.Asked), Wait: secondsOf(p.Wait), Refreshed: whole(p.Refreshed),
			Interval: secondsOf(p.Interval), Retry: secondsOf(p.Retry), Keys: []filedKey{},
		}
		for _, ds := range p.Imported {
			f.Imported = append(f.Imported, record(ds))
		}
		for _, ds := range p.Configured {
			f.Configured = append(f.Configured, record(ds))
		}
		for _, k := range p.Keys {
			f.Keys = append(f.Keys, filedKey{
				record(k.DNSKEY), k.State, whole(k.Since), whole(k.Seen), whole(k.Signed), secondsOf(k.Hold),
			})
		}
		out.Points = append(out.Points, f)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		panic(err) // years beyond 9999, which no parser has let in
	}
	return append(text, '\n')
}

// record is a record on one line, with single spaces.
func record(rr dns.RR) string { return strings.Join(strings.Fields(rr.String()), " ") }

func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// ParseState reads what FormatState has written. What it would not have written is an error.
func ParseState(text []byte) ([]Point, error) {
	var in file
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	if in.Version != StateVersion {
		return nil, fmt.Errorf("it is of version %d, this danelaw knows %d", in.Version, StateVersion)
	}
	var points []Point
	for _, f := range in.Points {
		p, err := f.point()
		if err != nil {
			return nil, fmt.Errorf("point %q: %w", f.Zone, err)
		}
		points = append(points, p)
	}
	return points, nil
}

func (f filedPoint) point() (p Point, err error) {
	if _, ok := dns.IsDomainName(f.Zone); !ok || f.Zone != dns.CanonicalName(f.Zone) {
		return p, errors.New("that is no zone")
	}
	if err := proper(f.Wait, f.Interval, f.Retry); err != nil {
		return p, err
	}
	p = Point{
		Zone: f.Zone, Asked: whole(f.Asked), Wait: f.Wait.duration(), Refreshed: whole(f.Refreshed),
		Interval: f.Interval.duration(), Retry: f.Retry.duration(),
	}
	if p.Imported, err = parseDS(f.Imported, f.Zone); err != nil {
		return p, err
	}
	if p.Configured, err = parseDS(f.Configured, f.Zone); err != nil {
		return p, err
	}
	if len(f.Keys) > maxKeys {
		return p, fmt.Errorf("it has %d keys", len(f.Keys))
	}
	for _, filed := range f.Keys {
		k, err := filed.key(f.Zone)
		if err != nil {
			return p, err
		}
		if slices.ContainsFunc(p.Keys, func(o Key) bool { return same(o.DNSKEY, k.DNSKEY) }) {
			return p, fmt.Errorf("key %d is there twice", k.DNSKEY.KeyTag())
		}
		p.Keys = append(p.Keys, k)
	}
	return p, nil
}

func (f filedKey) key(zone string) (k Key, err error) {
	key, err := parseRecord[*dns.DNSKEY](f.Key, zone)
	if err != nil {
		return k, err
	}
	switch {
	case !candidate(key) || key.ToDS(dns.SHA256) == nil:
		return k, fmt.Errorf("the key %q cannot be a trust anchor", f.Key)
	case !slices.Contains([]State{AddPend, Valid, Missing, Revoked, Removed}, f.State):
		return k, fmt.Errorf("%q is no state of a key", f.State)
	case f.State == AddPend && f.Hold.duration() < addHoldDown:
		return k, fmt.Errorf("the hold-down of key %d is shorter than 30 days", key.KeyTag())
	}
	return Key{key, f.State, whole(f.Since), whole(f.Seen), whole(f.Signed), f.Hold.duration()}, proper(f.Hold)
}

func parseDS(texts []string, zone string) (all []*dns.DS, err error) {
	for _, text := range texts {
		ds, err := parseRecord[*dns.DS](text, zone)
		if err != nil {
			return nil, err
		}
		if err := checkDigest(ds); err != nil {
			return nil, err
		}
		all = append(all, ds)
	}
	return all, nil
}

// proper returns an error unless the times are ones that RFC 5011 has.
func proper(all ...seconds) error {
	for _, s := range all {
		if s < 0 || s > mostSeconds {
			return fmt.Errorf("%d seconds are no time to wait", s)
		}
	}
	return nil
}

// parseRecord reads a record of a zone.
func parseRecord[T dns.RR](text, zone string) (t T, err error) {
	rr, err := dns.NewRR(text)
	if err != nil {
		return t, fmt.Errorf("%.100q is no record: %w", text, err)
	}
	t, ok := rr.(T)
	if !ok || rr.Header().Name != zone || rr.Header().Class != dns.ClassINET {
		return t, fmt.Errorf("%.100q is no record of the zone that belongs here", text)
	}
	rr.Header().Ttl = 0
	return t, nil
}
