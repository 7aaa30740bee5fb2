package danelaw

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/unbound"
	"github.com/danelaw-dns/danelaw/trustanchors"
	"github.com/danelaw-dns/danelaw/zones"
)

// TestRollBeside: Unbound, by its auto-trust-anchor-file, trusts the same keys of a root that rolls and revokes one as
// danelaw does, and answers on the same days (T-5, T-7, T-8), but for two things. Of anchors that are given as DS it
// forgets those that match no key yet, and so waits with a key that danelaw trusts at once (T-10a). And it ends a
// hold-down by the clock alone, though nothing that it trusts signs any more; danelaw waits for a DNSKEY RRset that
// validates, as RFC 5011 section 2.4.1 says. Times are before 2038, after which Unbound 1.17 knows no hold-down.
func TestRollBeside(t *testing.T) {
	needs.Tools(t, "unbound", "faketime")
	const old, new, both = "old", "new", "both"
	const step = 5 // days between two looks of Unbound's, which is started for each
	never := func(int) bool { return false }
	for _, tt := range []struct {
		start        int
		has          string
		fewer, later func(day int) bool // Unbound trusts fewer keys, or one whose hold-down danelaw does not end
	}{
		{0, old, never, never},
		{0, both, func(day int) bool { return day < published+30 }, never},
		{signing - 20, old, never, func(day int) bool { return day > signing }},
		{signing + 10, new, never, never},
		{revoking + 10, both, never, never},
	} {
		t.Run(fmt.Sprintf("%s from day %d", tt.has, tt.start), func(t *testing.T) {
			r := newRollingIn(t, 2032)
			r.to(tt.start)
			keys := map[string][]*zones.Key{old: {r.old}, new: {r.new}, both: {r.old, r.new}}[tt.has]
			h := r.below("", keys...)
			beside := newBeside(t, r.upstream.Serve(t, "127.0.0.1:0"), keys)
			differed := false
			for on := tt.start; on <= 250; on += step {
				r.lives(h, on)
				re := from("127.0.0.1:5300").ask(t, h, "example.com.", dns.TypeMX, withDO)
				ours, theirs := r.trusted(h), beside.trusted(t, r.begun, on)
				if slices.Equal(ours, theirs.tags) && re.AuthenticatedData == theirs.ad {
					continue
				}
				known := tt.later(on) || tt.fewer(on) && re.AuthenticatedData && theirs.ad
				if differed = true; !known {
					t.Errorf("day %d: trusted: %v, AD %v; by Unbound %v, %v", on, ours, re.AuthenticatedData,
						theirs.tags, theirs.ad)
				}
			}
			if known := tt.later(250) || tt.fewer(0); known && !differed {
				t.Error("they differ no more")
			}
		})
	}
}

// trusted are the tags of the keys that danelaw trusts.
func (r *rolling) trusted(h *Handler) (tags []string) {
	for _, k := range h.follows["."].Keys {
		if k.State == trustanchors.Valid || k.State == trustanchors.Missing {
			tags = append(tags, fmt.Sprint(k.DNSKEY.KeyTag()))
		}
	}
	slices.Sort(tags)
	return tags
}

// beside is an Unbound that follows the keys of the root, started anew for each look.
type beside struct{ upstream, file string }

func newBeside(t *testing.T, upstream string, keys []*zones.Key) beside {
	t.Helper()
	var anchors string
	for _, k := range keys {
		anchors += k.DS(dns.SHA256).String() + "\n"
	}
	file := filepath.Join(t.TempDir(), "root.key")
	if err := os.WriteFile(file, []byte(anchors), 0o600); err != nil {
		t.Fatal(err)
	}
	return beside{upstream, file}
}

// What Unbound writes of a look, and of a key that it trusts.
var (
	lookOfUnbound    = regexp.MustCompile(`(?m)^;;last_queried: (\d+)`)
	trustedByUnbound = regexp.MustCompile(`;\{id = (\d+) .*;;state=\d \[ *(?:VALID|MISSING) *\]`)
)

// trusted has Unbound look at the keys on a day, and returns which it trusts then, and whether a domain is Secure.
func (b beside) trusted(t *testing.T, begun time.Time, on int) (found struct {
	tags []string
	ad   bool
}) {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	conf := unbound.Configure(t, addr, b.upstream, nil, "do-ip6: no", "num-threads: 1",
		`module-config: "validator iterator"`, fmt.Sprintf("auto-trust-anchor-file: %q", b.file))
	at := begun.AddDate(0, 0, on).Add(time.Duration(on) * time.Minute) // so that 30 days are over 30 days later
	defer unbound.StartAt(t, at, "-d", "-c", conf)()
	eventually(t, "a look of Unbound's", func() bool {
		text, _ := os.ReadFile(b.file)
		if look := lookOfUnbound.FindSubmatch(text); look == nil {
			return false
		} else if when, _ := strconv.ParseInt(string(look[1]), 10, 64); when < at.Unix() {
			return false
		}
		found.tags = nil
		for _, key := range trustedByUnbound.FindAllSubmatch(text, -1) {
			found.tags = append(found.tags, string(key[1]))
		}
		slices.Sort(found.tags)
		q := new(dns.Msg).SetQuestion("example.com.", dns.TypeMX).SetEdns0(4096, true)
		m, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(q, addr)
		found.ad = err == nil && m.AuthenticatedData
		return err == nil
	})
	return found
}
