package danelaw

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/mail"
	"github.com/danelaw-dns/danelaw/test/certificates"
	"github.com/danelaw-dns/danelaw/test/receiver"
	"github.com/danelaw-dns/danelaw/test/world"
	"github.com/danelaw-dns/danelaw/trustanchors"
	"github.com/danelaw-dns/danelaw/zones"
)

// ownWorld is the domain own. with MTA-STS, a policy host and a mail host, none of which is at fault.
type ownWorld struct {
	t        *testing.T
	clock    *world.Clock
	tree     *world.Tree
	upstream *world.Upstream
	ca       *certificates.Authority
	certs    map[string]tls.Certificate // by name
	file     string                     // the policy
	status   int                        // of the policy host
	at       map[string]string          // where is what has an address in the tree
}

const ownText = world.Base + `@ MX 10 mx
mx A 192.0.2.25
mta-sts A 9.9.9.9
_mta-sts TXT "v=STSv1; id=1"
_smtp._tls TXT "v=TLSRPTv1; rua=mailto:postmaster@own"
`

func newOwnWorld(t *testing.T) *ownWorld {
	w := &ownWorld{t: t, clock: world.NewClock(time.Now().Truncate(time.Second)), ca: certificates.New(t),
		certs: map[string]tls.Certificate{}, status: http.StatusOK,
		file: "version: STSv1\nmode: enforce\nmx: mx.own\nmax_age: 604800\n"}
	w.tree = world.New(w.clock.Now, world.Zone("."), zones.Plan{Name: "own.", Text: ownText})
	w.upstream = w.tree.Upstream()
	for _, name := range []string{"mx.own", "mta-sts.own"} {
		w.certs[name] = w.ca.Server(t, name, w.clock.Now().Add(90*24*time.Hour))
	}
	present := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := w.certs[hello.ServerName]
		return &c, nil
	}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(to http.ResponseWriter, _ *http.Request) {
		to.Header().Set("Content-Type", "text/plain")
		to.WriteHeader(w.status)
		io.WriteString(to, w.file) //nolint:errcheck // the client sees that
	}))
	s.TLS, s.Config.ErrorLog = present, stdlog.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	w.at = map[string]string{"9.9.9.9:443": s.Listener.Addr().String(), "192.0.2.25:25": w.receives(present),
		"192.0.2.26:25": w.receives(nil)}
	return w
}

// receives opens a mail host.
func (w *ownWorld) receives(c *tls.Config) string {
	l, err := net.Listen("tcp", world.AnyPort)
	if err != nil {
		w.t.Fatal(err)
	}
	receiver.Serve(w.t, l, "mx.own", c, func([]string, bool) {})
	return l.Addr().String()
}

func (w *ownWorld) dial(_ context.Context, network, address string) (net.Conn, error) {
	if at := w.at[address]; at != "" {
		return net.Dial(network, at)
	}
	return nil, fmt.Errorf("nobody is at %s", address)
}

// change changes the zone.
func (w *ownWorld) change(pairs ...string) {
	plan := w.tree.Plan("own.")
	plan.Text = strings.NewReplacer(pairs...).Replace(plan.Text)
	w.tree.Publish()
}

// policy changes the policy.
func (w *ownWorld) policy(pairs ...string) { w.file = strings.NewReplacer(pairs...).Replace(w.file) }

// spoil changes the answers to a question; nil is none.
func (w *ownWorld) spoil(pattern string, f func(m *dns.Msg) *dns.Msg) {
	w.upstream.Spoil(func(q dns.Question, m *dns.Msg) *dns.Msg {
		if world.Matches(pattern, q) {
			return f(m)
		}
		return m
	})
}

func unanswered(*dns.Msg) *dns.Msg { return nil }

func forged(m *dns.Msg) *dns.Msg {
	m = m.Copy()
	m.Answer = m.Answer[:1] // without its signature
	return m
}

// watcher is one that looks at own. in this world.
func (w *ownWorld) watcher(change ...func(*Config)) *watcher {
	w.t.Helper()
	c := config(w.t, w.upstream.Serve(w.t, world.AnyPort))
	c.Anchors, c.Clock = trustanchors.Set{".": w.tree.DS(".")}, w.clock.Now
	c.Watch, c.WatchDial = []string{"own."}, w.dial
	c.PolicyRoots, c.PolicyDial = w.ca.Pool, w.dial
	for _, f := range change {
		f(&c)
	}
	h := open(w.t, c)
	process.begin(h)
	watch := newWatcher(h)
	watch.prober.Timeout = patience
	watch.begin()
	return watch
}

// looks looks once, and returns what is known then.
func (w *watcher) looks(t *testing.T) *Seen {
	t.Helper()
	if _, err := w.look(t.Context(), "own."); err != nil {
		t.Fatal(err)
	}
	return w.watches.known()["own."].seen
}

// findings are those of a look as "WEIGHT: TEXT", with what is wrong with certificates at addresses.
func findings(s *Seen) (all []string) {
	for _, f := range s.Policies.Findings {
		all = append(all, fmt.Sprintf("%s: %s", f.Weight, f.Text))
	}
	for where, text := range faults(s) {
		all = append(all, where+": "+text)
	}
	return all
}

// TestLookPolicies: D-34, each world with its one fault.
func TestLookPolicies(t *testing.T) {
	const day = 24 * time.Hour
	testing := func(w *ownWorld) { w.policy("enforce", "testing") }
	for name, c := range map[string]struct {
		world  func(w *ownWorld)
		state  STSState
		faults int
		want   []string // all there is to tell, in part
	}{
		"sound":         {func(w *ownWorld) {}, STSEnforce, 0, nil},
		"testing":       {testing, STSTesting, 0, nil},
		"none":          {func(w *ownWorld) { w.policy("enforce", "none", "mx: mx.own\n", "") }, STSNone, 0, nil},
		"no MTA-STS":    {func(w *ownWorld) { w.change("_mta-sts TXT", "other TXT") }, STSAbsent, 0, nil},
		"another's TXT": {func(w *ownWorld) { w.change("v=STSv1; id=1", "hello") }, STSAbsent, 0, nil},
		"wildcard":      {func(w *ownWorld) { w.policy("mx.own", "*.own") }, STSEnforce, 0, nil},
		"unsigned":      {func(w *ownWorld) { w.unsigned() }, STSEnforce, 0, nil},
		"null MX":       {func(w *ownWorld) { w.change("MX 10 mx", "MX 0 .") }, STSEnforce, 0, nil},
		"policy is gone": {func(w *ownWorld) { w.status = 404 }, STSBroken, 1,
			[]string{"fault: senders cannot have the policy at https://mta-sts.own that _mta-sts.own. announces: " +
				"the policy cannot be fetched: mta-sts.own answers 404, where 200 alone counts, and no redirect; " +
				"serve the policy there, or take the TXT record away"}},
		"no policy host": {func(w *ownWorld) { w.change("mta-sts A 9.9.9.9\n", "") }, STSBroken, 1,
			[]string{"announces: the policy cannot be fetched: mta-sts.own. has no address; serve the policy there"}},
		"nobody listens": {func(w *ownWorld) { w.change("9.9.9.9", "9.9.9.10") }, STSBroken, 1,
			[]string{"nobody is at 9.9.9.10:443; serve the policy there, or take the TXT record away"}},
		"not public": {func(w *ownWorld) { w.change("9.9.9.9", "10.0.0.1") }, STSBroken, 1,
			[]string{"10.0.0.1, which is not public"}},
		"not a policy": {func(w *ownWorld) { w.policy("enforce", "Enforce") }, STSBroken, 1,
			[]string{`its mode "Enforce" is neither enforce nor testing nor none; mend the file`}},
		"policy host of another name": {func(w *ownWorld) { w.certs["mta-sts.own"] = w.certs["mx.own"] }, STSBroken, 1,
			[]string{"it is not for mta-sts.own; give the policy host a certificate for its name"}},
		"policy host Bogus": {func(w *ownWorld) { w.spoil("mta-sts.own. A*", withoutSignatures) }, STSBroken, 1,
			[]string{"the lookup of mta-sts.own. AAAA fails; serve"}},
		"policy host unanswered": {func(w *ownWorld) { w.spoil("mta-sts.own. A*", unanswered) }, STSUnknown, 0,
			[]string{"warning: whether the policy at https://mta-sts.own can be had could not be found out: "}},
		"two records": {func(w *ownWorld) { w.change("_smtp", "_mta-sts TXT \"v=STSv1; id=2\"\n_smtp") }, STSBroken, 1,
			[]string{"fault: senders take the TXT record at _mta-sts.own. for none: there are 2 records with " +
				`v=STSv1, and so none counts; publish one, such as "v=STSv1; id=20`}},
		"no id": {func(w *ownWorld) { w.change("id=1", "x=1") }, STSBroken, 1, []string{"it has no id; publish one"}},
		"record Bogus": {func(w *ownWorld) { w.spoil("_mta-sts.own. TXT", forged) }, STSBogus, 1,
			[]string{"fault: the answer for _mta-sts.own. TXT does not validate"}},
		"record unanswered": {func(w *ownWorld) { w.spoil("_mta-sts.own. TXT", unanswered) }, STSUnknown, 0,
			[]string{"warning: whether there is a TXT record at _mta-sts.own. could not be found out: "}},
		"not covered": {func(w *ownWorld) {
			w.policy("mx: mx.own", "mx: mx.own\nmx: b.own")
			w.more("mx2")
		}, STSEnforce, 1,
			[]string{"fault: the mail host mx2.own. is no mx of the policy, so that senders do not deliver to it; " +
				"add it to the policy, then give the TXT record another id",
				"note: 1 mx of the policy cover no mail host, among them b.own; take them out"}},
		"not covered in testing": {func(w *ownWorld) { testing(w); w.more("mx2") }, STSTesting, 0,
			[]string{"warning: the mail host mx2.own. is no mx of the policy, so that senders would not deliver"}},
		"wildcard of two labels": {func(w *ownWorld) {
			w.policy("mx.own", "*.own")
			w.change("mx", "a.mx")
		}, STSEnforce, 1,
			[]string{"fault: the mail host a.mx.own. is no mx", "note: 1 mx of the policy cover no mail host"}},
		"held for an hour": {func(w *ownWorld) { w.policy("604800", "3600") }, STSEnforce, 0,
			[]string{"note: the policy is held for 1h0m0s only"}},
		"held for a day": {func(w *ownWorld) { w.policy("604800", "86400") }, STSEnforce, 0, nil},
		"of no authority": {func(w *ownWorld) {
			w.certs["mx.own"] = certificates.New(t).Server(t, "mx.own", w.clock.Now().Add(day))
		}, STSEnforce, 1,
			[]string{"fault: senders by MTA-STS do not deliver to mx.own. at 192.0.2.25 ECDSA: no authority"}},
		"of no authority in testing": {func(w *ownWorld) {
			testing(w)
			w.certs["mx.own"] = certificates.New(t).Server(t, "mx.own", w.clock.Now().Add(day))
		}, STSTesting, 0, nil},
		"another name": {func(w *ownWorld) { w.certs["mx.own"] = w.ca.Server(t, "own", w.clock.Now().Add(day)) },
			STSEnforce, 1, []string{"its certificate is not for mx.own; have one issued with that name"}},
		"expired": {func(w *ownWorld) { w.certs["mx.own"] = w.ca.Server(t, "mx.own", w.clock.Now().Add(-time.Hour)) },
			STSEnforce, 1, []string{"ECDSA: its certificate is valid from "}},
		"no STARTTLS": {func(w *ownWorld) { w.change("192.0.2.25", "192.0.2.26") }, STSEnforce, 0,
			[]string{"mx.own. at 192.0.2.26: the host does not offer STARTTLS"}},
		"no STARTTLS in testing": {func(w *ownWorld) {
			testing(w)
			w.change("192.0.2.25", "192.0.2.26")
		}, STSTesting, 0,
			nil},
		"no reports": {func(w *ownWorld) { w.change("_smtp._tls", "other") }, STSEnforce, 0,
			[]string{"note: there is no TXT record at _smtp._tls.own., so that nobody tells when senders cannot " +
				`deliver; publish one, such as "v=TLSRPTv1; rua=mailto:postmaster@own"`}},
		"neither reports nor MTA-STS": {func(w *ownWorld) {
			w.change("_smtp._tls", "a", "_mta-sts", "b")
		}, STSAbsent, 0,
			nil},
		"reports nowhere": {func(w *ownWorld) { w.change("mailto:", "") }, STSEnforce, 1,
			[]string{"fault: nobody sends TLS reports, as the TXT record at _smtp._tls.own. does not count: its rua"}},
		"two for reports": {func(w *ownWorld) { w.change("_smtp", "_smtp._tls TXT \"v=TLSRPTv1; rua=\"\n_smtp") },
			STSEnforce, 1, []string{"there are 2 records with v=TLSRPTv1, and so none counts; publish one"}},
		"reports Bogus": {func(w *ownWorld) { w.spoil("_smtp._tls.own. TXT", forged) }, STSEnforce, 1,
			[]string{"fault: the answer for _smtp._tls.own. TXT does not validate"}},
		"reports unanswered": {func(w *ownWorld) { w.spoil("_smtp._tls.own. TXT", unanswered) }, STSEnforce, 0,
			[]string{"warning: whether there is a TXT record at _smtp._tls.own. could not be found out"}},
	} {
		w := newOwnWorld(t)
		c.world(w)
		s := w.watcher().looks(t)
		got := findings(s)
		if s.Policies.State != c.state || s.Policies.Faults() != c.faults || len(got) != len(c.want) {
			t.Errorf("%s: %s, %q, want %s, %d faults, %q", name, s.Policies.State, got, c.state, c.faults, c.want)
		}
		for _, want := range c.want {
			if !slices.ContainsFunc(got, func(text string) bool { return strings.Contains(text, want) }) {
				t.Errorf("%s: %q lacks %q", name, got, want)
			}
		}
		if unknown := strings.Contains(name, "unanswered"); s.Policies.Unknown != unknown {
			t.Errorf("%s: unknown is %v", name, !unknown)
		}
	}
}

func withoutSignatures(m *dns.Msg) *dns.Msg {
	m = m.Copy()
	not := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeRRSIG }
	m.Answer, m.Ns = slices.DeleteFunc(m.Answer, not), slices.DeleteFunc(m.Ns, not)
	return m
}

// unsigned takes the zone's signatures and DS away.
func (w *ownWorld) unsigned() {
	w.tree.Plan("own.").Config.Unsigned = true
	w.tree.Publish()
}

// more adds a mail host, as good as the other.
func (w *ownWorld) more(name string) {
	w.certs[name+".own"] = w.ca.Server(w.t, name+".own", w.clock.Now().Add(90*24*time.Hour))
	w.change("@ MX 10 mx\n", "@ MX 10 mx\n@ MX 20 "+name+"\n"+name+" A 192.0.2.25\n")
}

// TestLookPolicyWithDANE: a host with DANE whose certificate no authority vouches for is good to who does DANE, and not
// to who does MTA-STS alone; that one asks with the name in the MX record, also where that is an alias.
func TestLookPolicyWithDANE(t *testing.T) {
	for _, alias := range []bool{false, true} {
		w := newOwnWorld(t)
		base := "mx"
		if alias {
			base = "real"
			w.change("mx A 192.0.2.25", "mx CNAME real\nreal A 192.0.2.25")
		}
		other := certificates.New(t).Server(t, base+".own", w.clock.Now().Add(24*time.Hour))
		w.certs[base+".own"] = other
		leaf, err := x509.ParseCertificate(other.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		data, err := dns.CertificateToDANE(mail.SPKI, mail.SHA256, leaf)
		if err != nil {
			t.Fatal(err)
		}
		w.change("mta-sts A", "_25._tcp."+base+" TLSA 3 1 1 "+data+"\nmta-sts A")
		s := w.watcher().looks(t)
		want := []string{"fault: senders by MTA-STS do not deliver to mx.own. at 192.0.2.25 ECDSA: no authority that " +
			"this system knows vouches for its certificate; take one of a public authority, and have the server send " +
			"its intermediates, too"}
		if alias { // the host has a sound one for that name
			want = nil
		}
		if got := findings(s); s.State != StateSecure || !slices.Equal(got, want) || s.Good() != (want == nil) {
			t.Errorf("alias %v: %s, %q, want %q", alias, s.State, got, want)
		}
	}
}

// TestLookPolicyPrivate: a policy host in a private zone is looked for there, and may have an address of one's own
// network.
func TestLookPolicyPrivate(t *testing.T) {
	w := newOwnWorld(t)
	w.at["10.0.0.1:443"] = w.at["9.9.9.9:443"]
	w.change("mta-sts A 9.9.9.9", "mta-sts CNAME elsewhere")
	s := w.watcher(func(c *Config) {
		c.Private = []string{"mta-sts.own."}
		c.Next = plugin.HandlerFunc(func(_ context.Context, to dns.ResponseWriter, q *dns.Msg) (int, error) {
			m := new(dns.Msg).SetReply(q)
			if q.Question[0].Qtype == dns.TypeA {
				rr, _ := dns.NewRR("mta-sts.own. A 10.0.0.1")
				m.Answer = append(m.Answer, rr)
			}
			return dns.RcodeSuccess, to.WriteMsg(m)
		})
	}).looks(t)
	if got := findings(s); s.Policies.State != STSEnforce || len(got) > 0 {
		t.Errorf("%s, %q", s.Policies.State, got)
	}
}

// TestWatchPolicyID: a policy that changes under an id is a fault until the id is another; another id for the same
// policy is told once.
func TestWatchPolicyID(t *testing.T) {
	w := newOwnWorld(t)
	watch := w.watcher()
	book := logged(t)
	for i, step := range []struct {
		change func()
		want   string
	}{
		{func() {}, ""},
		{func() { w.policy("604800", "1209600") }, "fault: the policy is another one than before, and its id 1 is not"},
		{func() {}, "fault: the policy is another one than before, and its id 1 is not"},
		{func() { w.policy("1209600", "604800") }, ""}, // as senders have it
		{func() { w.policy("mx: mx.own", "mx: mx.own\nmx: *.own") }, "fault: the policy is another one"},
		{func() { w.change("id=1", "id=2") }, ""},
		{func() { w.policy("mx: mx.own\nmx: *.own", "mx: *.own\nmx: mx.own") }, ""}, // the order says nothing
		{func() { w.change("id=2", "id=3") }, "note: the id is 3 now and was 2"},
		{func() {}, ""},
		{func() { w.status = http.StatusNotFound; w.policy("1209600", "86400") }, "fault: senders cannot have"},
		{func() { w.status = http.StatusOK; w.policy("604800", "86400") }, "fault: the policy is another one"},
	} {
		step.change()
		got := strings.Join(findings(watch.looks(t)), "\n")
		if !strings.HasPrefix(got, step.want) || step.want == "" && got != "" {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
	for text, want := range map[string]int{"[WARNING] plugin/danelaw: watch own.: the policy is another one": 3,
		"[INFO] plugin/danelaw: watch own.: no more: the policy is another one": 2,
		"[INFO] plugin/danelaw: watch own.: the id is 3 now":                    1,
		"no more: the id is": 0} {
		if got := strings.Count(book.String(), text); got != want {
			t.Errorf("%q is there %d times, want %d:\n%s", text, got, want, book)
		}
	}
}

// TestAlarmsOfOwnPolicy: what is wrong with MTA-STS is an alarm until it is mended; not to know is no change (S-32);
// the certificate of the policy host ends.
func TestAlarmsOfOwnPolicy(t *testing.T) {
	n, r, clock := noted(t)
	clock.Set(time.Now())
	w := newOwnWorld(t)
	watch := w.watcher(func(c *Config) { c.Notify = n.command })
	const gone = " own. MTA-STS, MX mx.own.: the mail host mx.own. is no mx of the policy, so that senders do not " +
		"deliver to it; add it to the policy, then give the TXT record another id"
	const same = " own. MTA-STS, id: the policy is another one than before, and its id 1 is not, so that senders " +
		"keep to the old one; give the TXT record another id"
	value := func(name string, labels ...string) float64 {
		return metric(t, name, append(labels, "block", watch.config.Block, "domain", "own.")...)
	}
	end := w.clock.Now().Add(90 * 24 * time.Hour)
	for _, step := range []struct {
		name   string
		change func()
		state  STSState
		faults float64
		want   []string
	}{
		{"sound", func() {}, STSEnforce, 0, nil},
		{"another host", func() { w.policy("mx.own", "b.own") }, STSEnforce, 2, []string{"raised" + gone,
			"raised" + same}},
		{"unanswered", func() { w.spoil("_mta-sts.own. TXT", unanswered) }, STSUnknown, 2, nil},
		{"answered", func() { w.spoil("", unanswered) }, STSEnforce, 2, nil},
		{"mended", func() { w.policy("b.own", "mx.own") }, STSEnforce, 0, []string{
			"resolved" + gone, "resolved" + same}},
		{"not yet soon", func() { w.renew(endingCertificate) }, STSEnforce, 0, nil},
		{"soon", func() { w.renew(endingCertificate - time.Second) }, STSEnforce, 0, []string{"raised own. policy " +
			"host, its end: the certificate of the policy host mta-sts.own ends " +
			stamp(w.clock.Now().Add(endingCertificate-time.Second))}},
	} {
		clock.Advance(2 * time.Hour)
		step.change()
		s := watch.looks(t)
		got := r.take(t, n)
		slices.Sort(got)
		tells(t, step.name, got, step.want...)
		if s.Policies.State != step.state || value("watch_mta_sts_state", "state", string(step.state)) != 1 ||
			value("watch_mta_sts_state") != 1 || value("watch_mta_sts_faults") != step.faults {
			t.Errorf("%s: %s, and the metrics %v and %v", step.name, s.Policies.State,
				value("watch_mta_sts_state", "state", string(step.state)), value("watch_mta_sts_faults"))
		}
		if step.name == "sound" {
			if left := value("watch_policy_host_certificate_left_seconds"); left != end.Sub(w.clock.Now()).Seconds() {
				t.Errorf("the certificate of the policy host ends in %v", left)
			}
			if value("watch_host_reached") != 1 || value("watch_certificate_left_seconds") == 0 ||
				value("watch_certificate_matches") != 0 {
				t.Error("a host without DANE is shown as one with it, or is not")
			}
		}
	}
}

// renew gives the policy host a certificate that ends so much later.
func (w *ownWorld) renew(later time.Duration) {
	w.certs["mta-sts.own"] = w.ca.Server(w.t, "mta-sts.own", w.clock.Now().Add(later))
}
