package trustanchors

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const day = 24 * time.Hour

// TestTransitions: each state with each event leads where the table of RFC 5011 section 4.2 says; what is empty there
// changes nothing (T-5).
func TestTransitions(t *testing.T) {
	states := []State{Start, AddPend, Valid, Missing, Revoked, Removed}
	events := []event{newKey, keyPres, keyRem, addTime, remTime, revBit}
	want := map[State][]State{ // by event
		Start:   {AddPend, Start, Start, Start, Start, Start},
		AddPend: {AddPend, AddPend, Start, Valid, AddPend, AddPend},
		Valid:   {Valid, Valid, Missing, Valid, Valid, Revoked},
		Missing: {Missing, Valid, Missing, Missing, Missing, Revoked},
		Revoked: {Revoked, Revoked, Revoked, Revoked, Removed, Revoked},
		Removed: {Removed, Removed, Removed, Removed, Removed, Removed},
	}
	for _, from := range states {
		for i, e := range events {
			l := &look{Point: Point{Keys: []Key{{State: from, Since: today}}}, seen: Sight{At: today.Add(day)}}
			l.step(0, e)
			to, moved := want[from][i], want[from][i] != from
			if k := l.Keys[0]; k.State != to || k.Since.Equal(today) == moved || len(l.changes) != count(moved) {
				t.Errorf("%q, event %d: %q since %v with %d changes, want %q", from, e, k.State, k.Since,
					len(l.changes), to)
			}
		}
		if got, want := from.Trusted(), from == Valid || from == Missing; got != want {
			t.Errorf("%q is trusted: %v", from, got)
		}
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// key returns the n-th key of the root.
func key(n byte) *dns.DNSKEY {
	octets := fmt.Sprintf("%c%s", 'A'+n, strings.Repeat("A", 42))
	return &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 172800},
		Flags: 257, Protocol: 3, Algorithm: dns.ED25519, PublicKey: octets + "=",
	}
}

// revoked is a key with its REVOKE bit.
func revoked(k *dns.DNSKEY) *dns.DNSKEY {
	r := *k
	r.Flags |= dns.REVOKE
	return &r
}

// follower follows the root, which began with configured anchors, in a time of its own.
type follower struct {
	t          *testing.T
	now        time.Time
	configured []*dns.DS
	Point
}

func follows(t *testing.T, keys ...*dns.DNSKEY) *follower {
	f := &follower{t: t, now: today, Point: Point{Zone: "."}}
	for _, k := range keys {
		f.configured = append(f.configured, k.ToDS(dns.SHA256))
	}
	return f
}

// sees has a valid RRset of two days and signatures of 21 be there after some time; revoked keys have signed it.
func (f *follower) sees(after time.Duration, keys ...*dns.DNSKEY) []Change {
	f.t.Helper()
	f.now = f.now.Add(after)
	s := Sight{At: f.now, Keys: keys, Valid: true, TTL: 2 * day, Expires: f.now.Add(21 * day)}
	for _, k := range keys {
		if k.Flags&dns.REVOKE != 0 {
			s.Revoked = append(s.Revoked, k)
		}
	}
	return f.apply(s)
}

func (f *follower) apply(s Sight) (changes []Change) {
	f.t.Helper()
	before := fmt.Sprint(f.Point)
	old := f.Point
	f.Point, changes = f.See(s, f.configured)
	if now := fmt.Sprint(old); now != before {
		f.t.Errorf("the point before was changed:\n%s\n%s", before, now)
	}
	return changes
}

// daily has the keys be seen each day for so many days, the first after one.
func (f *follower) daily(days int, keys ...*dns.DNSKEY) {
	f.t.Helper()
	for range days {
		f.sees(day, keys...)
	}
}

// are checks the states of the keys known, in the order in which they came, and which of the keys are trusted.
func (f *follower) are(what, states string, trusted ...*dns.DNSKEY) {
	f.t.Helper()
	var all []string
	for _, k := range f.Keys {
		all = append(all, string(k.State))
	}
	if got := strings.Join(all, " "); got != states {
		f.t.Errorf("%s: the states are %q, want %q", what, got, states)
	}
	var got, want []string
	for _, ds := range f.Anchors(f.configured) {
		got = append(got, ds.Digest)
	}
	for _, k := range trusted {
		want = append(want, k.ToDS(dns.SHA256).Digest)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.t.Errorf("%s: trusted are %v, want %v", what, got, want)
	}
}

// T-7: a new key is trusted after 30 days of being there, at the next look, and not a moment earlier.
func TestAddHoldDown(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a)
	f.sees(0, a)
	f.are("before", "Valid", a)
	if changes := f.sees(day, a, b); len(changes) != 1 || changes[0].From != Start || changes[0].Key.State != AddPend {
		t.Errorf("changes: %+v", changes)
	}
	f.daily(29, a, b)
	f.are("29 days", "Valid AddPend", a)
	f.sees(day-time.Second, a, b)
	f.are("a second less than 30 days", "Valid AddPend", a)
	f.Failed(f.now.Add(time.Second))
	f.are("30 days without another look", "Valid AddPend", a)
	f.sees(time.Second, a, b)
	f.are("30 days", "Valid Valid", a, b)
}

// T-7: of an RRset whose Original TTL is longer than 30 days the hold-down is that, as it was when the key came.
func TestAddHoldDownOfTTL(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a)
	sees := func(ttl time.Duration) {
		f.now = f.now.Add(10 * day)
		f.apply(Sight{At: f.now, Keys: []*dns.DNSKEY{a, b}, Valid: true, TTL: ttl, Expires: f.now.Add(40 * day)})
	}
	sees(45 * day)
	for range 4 {
		sees(20 * day)
	}
	f.are("40 days", "Valid AddPend", a)
	sees(20 * day)
	f.are("50 days", "Valid Valid", a, b)
}

// T-7: absence begins the hold-down anew; a look to which nothing came, or nothing that a trusted key has signed, is no
// absence.
func TestAbsence(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a)
	f.daily(20, a, b)
	f.Point = f.Failed(f.now.Add(time.Hour))
	f.apply(Sight{At: f.now.Add(2 * time.Hour), Keys: []*dns.DNSKEY{key(2)}})
	f.daily(11, a, b)
	f.are("31 days", "Valid Valid", a, b)

	f = follows(t, a)
	f.daily(20, a, b)
	f.sees(day, a)
	f.are("gone", "Valid", a)
	f.daily(30, a, b)
	f.are("29 days anew", "Valid AddPend", a)
	f.daily(1, a, b)
	f.are("30 days anew", "Valid Valid", a, b)
}

// T-5: a trusted key that is missing stays trusted; so it may come back.
func TestMissing(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a, b)
	f.sees(0, a, b)
	f.daily(100, b)
	f.are("missing", "Missing Valid", a, b)
	f.sees(day, a, b)
	f.are("back", "Valid Valid", a, b)
}

// T-8: a key that revokes itself is trusted no more, at once, for good, and whoever else has signed; after 30 days of
// absence it is Removed (T-7), and what people have configured does not bring it back (T-10a).
func TestRevoked(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a, b)
	f.sees(0, a, b)
	changes := f.apply(Sight{At: f.now.Add(time.Hour), Revoked: []*dns.DNSKEY{revoked(a)}})
	if len(changes) != 1 || changes[0].Key.State != Revoked || changes[0].Key.DNSKEY.Flags != 257 {
		t.Errorf("changes: %+v", changes)
	}
	f.are("revoked", "Revoked Valid", b)
	f.sees(day, a, b)
	f.are("there without the bit", "Revoked Valid", b)
	f.daily(5, revoked(a), b)
	f.daily(29, b)
	f.are("29 days away", "Revoked Valid", b)
	f.daily(1, b)
	f.are("30 days away", "Removed Valid", b)
	f.daily(40, a, b)
	f.are("back", "Removed Valid", b)
}

// T-8: a revoked key that was never seen before is one that people have given, or nobody's; that somebody else signed
// says nothing of it.
func TestRevokedUnseen(t *testing.T) {
	a, b, c := key(0), key(1), key(2)
	f := follows(t, a, b)
	f.sees(0, revoked(a), b, revoked(c))
	f.are("at the first look", "Revoked Valid", b)

	f = follows(t, b)
	f.apply(Sight{At: f.now, Keys: []*dns.DNSKEY{revoked(a), b}, Valid: true, TTL: day, Expires: f.now.Add(day)})
	f.are("revoked, and not signed by itself", "Valid", b)
	f = follows(t, a, b)
	f.sees(0, a, b)
	f.apply(Sight{At: f.now, Keys: []*dns.DNSKEY{revoked(a), b}, Valid: true, TTL: day, Expires: f.now.Add(day)})
	f.are("the same of a key that was there", "Missing Valid", a, b)

	f = follows(t, b)
	f.daily(5, a, b)
	f.sees(day, revoked(a), b)
	f.are("revoked in its hold-down", "Valid", b)
}

// T-9: with all keys revoked none is trusted, and a new one would need one that is.
func TestAllRevoked(t *testing.T) {
	a := key(0)
	f := follows(t, a)
	f.sees(0, a)
	f.sees(day, revoked(a), key(1))
	f.are("all revoked", "Revoked AddPend")
	f.Imported = []*dns.DS{key(1).ToDS(dns.SHA256)}
	f.are("one imported", "Revoked AddPend", key(1))
	f.sees(day, revoked(a), key(1))
	f.are("and seen", "Revoked Valid", key(1))
}

// T-9: five new keys at once are all followed, and there is a bound.
func TestManyKeys(t *testing.T) {
	a := key(0)
	f := follows(t, a)
	all := []*dns.DNSKEY{a, key(1), key(2), key(3), key(4), key(5)}
	f.daily(31, all...)
	f.are("five more", "Valid Valid Valid Valid Valid Valid", all...)
	for n := range 200 {
		k := key(0)
		k.PublicKey = fmt.Sprintf("%043d=", n)
		all = append(all, k)
	}
	f.sees(day, all...)
	if len(f.Keys) != maxKeys {
		t.Errorf("%d keys are followed", len(f.Keys))
	}
}

// T-8: keys without SEP, without the zone bit, of another protocol or with the REVOKE bit are no anchors.
func TestCandidates(t *testing.T) {
	a := key(0)
	f := follows(t, a)
	odd := []*dns.DNSKEY{key(1), key(2), key(3), revoked(key(4))}
	odd[0].Flags, odd[1].Flags, odd[2].Protocol = 256, 1, 2
	f.now = f.now.Add(day)
	f.apply(Sight{At: f.now, Keys: append(odd, a), Valid: true, TTL: day, Expires: f.now.Add(day)})
	f.are("four that are none", "Valid", a)
}

// T-10a: a key that a newer danelaw or configuration brings is trusted at once, also in its hold-down; the state of an
// older one adds what it has learned.
func TestConfiguredLater(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a)
	f.daily(5, a, b)
	f.configured = append(f.configured, b.ToDS(dns.SHA384))
	if got := f.Anchors(f.configured); len(got) != 2 {
		t.Errorf("with an anchor of another digest: %v", got)
	}
	f.sees(day, a, b)
	f.configured[1] = b.ToDS(dns.SHA256)
	f.are("configured in its hold-down", "Valid Valid", a, b)

	f = follows(t, a)
	f.daily(31, a, b)
	f.configured = f.configured[:1]
	f.are("learned", "Valid Valid", a, b)
}

// T-6: half of the Original TTL or of what is left of the signature, from an hour to 15 days; after a failure a tenth,
// from an hour to a day. Before the first success it is a minute (T-13).
func TestWaits(t *testing.T) {
	for _, tt := range []struct{ ttl, life, interval, retry time.Duration }{
		{2 * day, 21 * day, day, 288 * time.Minute},
		{2 * day, day, 12 * time.Hour, 144 * time.Minute},
		{time.Minute, 21 * day, time.Hour, time.Hour},
		{2 * day, time.Minute, time.Hour, time.Hour},
		{100 * day, 100 * day, 15 * day, day},
	} {
		f := follows(t, key(0))
		f.apply(Sight{At: f.now, Keys: []*dns.DNSKEY{key(0)}, Valid: true, TTL: tt.ttl, Expires: f.now.Add(tt.life)})
		if f.Next() != f.now.Add(tt.interval) || f.Failed(f.now).Next() != f.now.Add(tt.retry) {
			t.Errorf("TTL %v, %v left: in %v, after a failure in %v", tt.ttl, tt.life, f.Wait, f.Failed(f.now).Wait)
		}
		if f.Due(f.Next().Add(-time.Second)) || !f.Due(f.Next()) {
			t.Errorf("TTL %v: not due at %v", tt.ttl, f.Next())
		}
		if f.apply(Sight{At: f.now, Keys: nil}); f.Wait != tt.retry {
			t.Errorf("TTL %v: what no trusted key has signed is asked for again in %v", tt.ttl, f.Wait)
		}
	}
	if p := (Point{}).Failed(today); p.Wait != time.Minute || !(Point{}).Due(today) {
		t.Errorf("before the first success: %v", p.Wait)
	}
}

// T-11: a look after a jump of the clock, or after a long sleep, ends no hold-down: another one does, an hour later.
func TestJumpForward(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a)
	f.daily(5, a, b)
	f.sees(200*day, a, b)
	f.are("200 days later", "Valid AddPend", a)
	if f.Wait != time.Hour {
		t.Errorf("the next look is in %v", f.Wait)
	}
	f.sees(time.Hour, a, b)
	f.are("an hour more", "Valid Valid", a, b)
	if f.Wait != day {
		t.Errorf("the next look is in %v", f.Wait)
	}

	f = follows(t, a) // an outage that ends within the hold-down costs nothing
	f.daily(5, a, b)
	f.sees(10*day, a, b)
	if f.Wait != day {
		t.Errorf("the next look is in %v", f.Wait)
	}
	f.daily(16, a, b)
	f.are("31 days", "Valid Valid", a, b)
}

// T-11: with a clock that is set back the hold-down ends no earlier, and looks go on.
func TestJumpBack(t *testing.T) {
	a, b := key(0), key(1)
	f := follows(t, a)
	f.daily(20, a, b)
	if f.now = f.now.Add(-365 * day); !f.Due(f.now) {
		t.Error("not due after the clock was set back")
	}
	f.daily(30, a, b)
	f.are("29 days after a year back", "Valid AddPend", a)
	f.daily(1, a, b)
	f.are("30 days after a year back", "Valid Valid", a, b)
	for _, k := range f.Keys {
		if k.Since.After(f.now) || k.Seen.After(f.now) {
			t.Errorf("%+v is of the future", k)
		}
	}
}

// state is one of two points with all that there can be.
func state(t *testing.T) []Point {
	a, b, c := key(0), key(1), key(2)
	f := follows(t, a, b)
	f.Imported = []*dns.DS{plain(key(5)).ToDS(dns.SHA256)}
	f.Configured = []*dns.DS{plain(a).ToDS(dns.SHA256)}
	f.sees(0, a, b, c)
	f.sees(day, revoked(a), c)
	return []Point{{Zone: "example."}, f.Point}
}

// TestState: what is written is read as it was; what danelaw would not have written is refused, with the reason.
func TestState(t *testing.T) {
	text := string(FormatState(state(t)))
	points, err := ParseState([]byte(text))
	if err != nil || string(FormatState(points)) != text || len(points) != 2 || len(points[1].Keys) != 3 ||
		points[1].Keys[0].State != Revoked || !points[1].Next().Equal(today.Add(2*day)) ||
		len(points[1].Imported) != 1 || len(points[1].Configured) != 1 {
		t.Fatalf("%v, %+v of\n%s", err, points, text)
	}
	none, err := ParseState(FormatState(nil))
	if err != nil || len(none) != 0 {
		t.Errorf("nothing: %v, %v", none, err)
	}
	for old, tt := range map[string]struct{ new, want string }{
		`"version": 1`:            {`"version": 2`, "it is of version 2, this danelaw knows 1"},
		`"zone": "."`:             {`"zone": "A."`, "no zone"},
		`"Revoked"`:               {`"Trusted"`, "no state of a key"},
		`"AddPend"`:               {`""`, "no state of a key"},
		"DNSKEY 257":              {"DNSKEY 256", "cannot be a trust anchor"},
		`"wait_seconds": 86400`:   {`"wait_seconds": -1`, "no time to wait"},
		`"hold_seconds": 2592000`: {`"hold_seconds": 60`, "shorter than 30 days"},
		". 0 IN DS":               {". 0 IN A 192.0.2.1 ;", "no record of the zone"},
		". 0 IN DNSKEY":           {"com. 0 IN DNSKEY", "no record of the zone"},
		`"points"`:                {`"points`, "invalid character"},
		record(plain(key(1))):     {record(plain(key(0))), "there twice"},
	} {
		if i := strings.LastIndex(text, old); i < 0 {
			t.Errorf("%q is not in\n%s", old, text)
		} else if _, err := ParseState([]byte(text[:i] + tt.new + text[i+len(old):])); err == nil ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s in the place of %s: %v", tt.new, old, err)
		}
	}
}

// FuzzState: no state file makes danelaw panic, and one that it takes is written as it was read.
func FuzzState(f *testing.F) {
	f.Add(FormatState(nil))
	f.Add(FormatState([]Point{{Zone: "."}}))
	f.Add([]byte(`{"version":1,"points":[{"zone":".","keys":[{"dnskey":". DNSKEY 257 3 15 ` +
		`AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","state":"Valid","since":"2026-06-01T12:00:00Z"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		points, err := ParseState(text)
		if err != nil {
			return
		}
		out := FormatState(points)
		again, err := ParseState(out)
		if err != nil || string(FormatState(again)) != string(out) {
			t.Fatalf("%v\n%s\n%s", err, out, FormatState(again))
		}
		for _, p := range points {
			p.See(Sight{At: today, Valid: true}, nil)
			p.Anchors(nil)
		}
	})
}
