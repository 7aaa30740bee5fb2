//go:build linux

package mta

import (
	"slices"
	"strings"
	"testing"
)

func (d delivery) wanted(mta int) string { return d.want[mta] }

func (d delivery) wantedSurprised(mta int) string {
	if d.surprised[mta] != "" {
		return d.surprised[mta]
	}
	return d.want[mta]
}

// String returns an outcome as the table has it.
func (o outcome) String() string {
	switch {
	case o.status != "sent":
		return o.status + " " + o.reason
	case o.level == "":
		return clear
	}
	return "sent " + o.level
}

// is reports whether o is the outcome in the table. A message must be in the queue if it is deferred, and only then.
func (o outcome) is(want string) bool {
	status, detail, _ := strings.Cut(want, " ")
	return o.status == status && strings.Contains(o.String(), detail) && o.queued == (status == "deferred")
}

// judge compares the outcomes of all messages with those wanted.
func (s *stage) judge(t *testing.T, got map[string]outcome, mta int, wanted func(delivery, int) string) {
	t.Helper()
	for _, d := range s.to {
		o, want := got[d.domain], wanted(d, mta)
		t.Logf("%-24s %v", d.domain, o)
		if !o.is(want) {
			t.Errorf("%s: %v (in the queue: %t), want %s", d.domain, o, o.queued, want)
		}
		s.judgeReceipts(t, d, want)
	}
}

// judgeReceipts compares what receivers got with what they should get.
func (s *stage) judgeReceipts(t *testing.T, d delivery, want string) {
	t.Helper()
	var wanted []receipt
	if strings.HasPrefix(want, "sent") {
		wanted = []receipt{{s.receiver(d), want != clear}}
	}
	if got := s.receivers.of(d.domain); !slices.Equal(got, wanted) {
		t.Errorf("%s: receivers got %+v, want %+v", d.domain, got, wanted)
	}
}

// receiver returns the address of the receiver that gets a domain's mail.
func (s *stage) receiver(d delivery) string {
	domain := d.domain
	if d.by != "" {
		domain = d.by
	}
	return address(slices.IndexFunc(s.to, func(o delivery) bool { return o.domain == domain }))
}

// judgeWithoutTrustAD sends a message to a host from which an attacker has stripped STARTTLS. The C library hides AD
// from Exim, which then sends in clear. Postfix asks for AD itself.
func (s *stage) judgeWithoutTrustAD(t *testing.T, m transferAgent, mta int) {
	t.Helper()
	s.expect(t, m, map[string]string{"stripped-starttls.dane": [2]string{noSTARTTLS[0], clear}[mta]})
}

// expect sends a message to each of some domains, and compares the outcomes with those wanted.
func (s *stage) expect(t *testing.T, m transferAgent, want map[string]string) {
	t.Helper()
	others := func(d delivery) bool { return want[d.domain] == "" }
	to := slices.DeleteFunc(slices.Clone(s.to), others)
	got := s.deliver(t, m, to)
	for _, d := range to {
		o := got[d.domain]
		t.Logf("%-24s %v", d.domain, o)
		if !o.is(want[d.domain]) {
			t.Errorf("%s: %v (in the queue: %t), want %s", d.domain, o, o.queued, want[d.domain])
		}
		s.judgeReceipts(t, d, want[d.domain])
	}
}

// judgeLoot checks that, without validation, every attacker gets the mail, and that no mail is Verified.
func (s *stage) judgeLoot(t *testing.T, got map[string]outcome) {
	t.Helper()
	for _, d := range s.to {
		o := got[d.domain]
		t.Logf("%-24s %v", d.domain, o)
		if o.level == "Verified" {
			t.Errorf("%s: verified by DANE although nobody validates", d.domain)
		}
		s.judgePrey(t, d, o)
	}
}

// judgePrey checks that the attacker on the mail of a domain, if there is one, gets it.
func (s *stage) judgePrey(t *testing.T, d delivery, o outcome) {
	t.Helper()
	if d.prey == "" {
		return
	}
	at := strings.ReplaceAll(d.prey, "{A}", s.receiver(d))
	if loot := s.receivers.of(d.domain); o.status != "sent" || len(loot) != 1 || loot[0].at != at {
		t.Errorf("%s: the attacker at %s got nothing: %v, receipts %+v", d.domain, at, o, loot)
	}
}
