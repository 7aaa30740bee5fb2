package danelaw

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.yaml.in/yaml/v2"

	"github.com/danelaw-dns/danelaw/plugin/upstream"
	"github.com/danelaw-dns/danelaw/test/needs"
	"github.com/danelaw-dns/danelaw/test/ports"
	"github.com/danelaw-dns/danelaw/test/world"
)

// The files for Prometheus and Grafana.
const (
	rulesFile     = "../../deploy/prometheus/danelaw.rules.yml"
	rulesTests    = "../../deploy/prometheus/danelaw.tests.yml"
	scrapeFile    = "../../deploy/prometheus/danelaw.scrape.yml"
	rulesReadme   = "../../deploy/prometheus/README.md"
	dashboardFile = "../../deploy/grafana/danelaw.json"
)

// alert is one of the rules.
type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

// readYAML reads a file of YAML, of which JSON is a kind.
func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	readYAML(t, rulesFile, &file)
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 20 {
		t.Fatalf("%+v", file)
	}
	return file.Groups[0].Rules
}

// dashboard is what is looked at of Grafana's.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct{ List []dashboardVariable }
	Panels        []panel
}

type dashboardVariable struct {
	Name, Type string
	Datasource source
	Query      json.RawMessage
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               source
	GridPos                  struct{ X, Y, W, H int }
	Targets                  []struct {
		RefID, Expr string
		Datasource  source
	}
}

type source struct{ Type, UID string }

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	d := new(dashboard)
	if err := json.Unmarshal(text, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// queries are those of all panels, by panel and letter, as Grafana puts them while nothing is chosen.
func (d *dashboard) queries(interval string) map[string]string {
	all := map[string]string{}
	choose := strings.NewReplacer("$__rate_interval", interval, "$instance", ".*", "$block", ".*")
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all[p.Title+" "+q.RefID] = choose.Replace(q.Expr)
		}
	}
	return all
}

// busy is a danelaw of whose metrics all that alerts and dashboard look at has something to show: it is ready, has
// looked at its anchors and at watched domains, and answers questions. It returns where it is asked and scraped.
func busy(t *testing.T) (server, scraped string) {
	t.Helper()
	c, own := config(t), newOwnWorld(t)
	c.Routes = append(c.Routes, upstream.Route{From: "own.",
		To: []upstream.Address{upstreamAt(t, own.upstream.Serve(t, world.AnyPort))}})
	c.Anchors["own."] = own.tree.DS("own.")
	c.Watch, c.WatchDial = []string{"two-certificates.dane.", "mismatch.dane.", "own."}, lab().Dial
	c.PolicyService, c.PolicyRoots, c.PolicyDial = "unix:/nowhere", own.ca.Pool, own.dial
	h := started(t, c)
	w := newWatcher(h)
	w.prober.Timeout = patience
	for _, domain := range c.Watch {
		if _, err := w.look(t.Context(), domain); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a look at the anchors", func() bool {
		return metric(t, "trust_anchor_refresh_timestamp_seconds", "block", c.Block) > 0
	})
	server = serve(t, h)
	questions(t, server, 0)
	page := httptest.NewServer(promhttp.Handler())
	t.Cleanup(page.Close)
	return server, strings.TrimPrefix(page.URL, "http://")
}

// questions asks for a bit of everything, once for each number.
func questions(t *testing.T, server string, number int) {
	t.Helper()
	for _, name := range []string{secureMX, insecureMX, bogusMX, fmt.Sprintf("n%d.%s", number, secureMX)} {
		ask(t, server, name, dns.TypeMX, withDO)
	}
	ask(t, server, "_25._tcp.mx.tlsa-servfail.dane.", dns.TypeTLSA, withDO)
}

// metricNames finds those of danelaw and of its process in a text.
var metricNames = regexp.MustCompile(`\b(?:coredns_danelaw|process)_\w+`)

// TestEyesNames: every metric that an alert or the dashboard names is there when a danelaw is scraped.
func TestEyesNames(t *testing.T) {
	_, scraped := busy(t)
	r, err := http.Get("http://" + scraped)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	page, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, name := range regexp.MustCompile(`(?m)^\w+`).FindAllString(string(page), -1) {
		there[name] = true
	}
	named := 0
	for _, file := range []string{rulesFile, rulesTests, rulesReadme, dashboardFile} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricNames.FindAllString(string(text), -1) {
			if named++; !there[name] {
				t.Errorf("%s names %s, which a danelaw does not have", file, name)
			}
		}
	}
	if named < 120 {
		t.Errorf("%d names were found", named)
	}
}

// TestEyesRules: each alert says what it is about, how grave it is and what to do, has a case that fires and one that
// does not, and is described.
func TestEyesRules(t *testing.T) {
	var cases struct {
		Tests []struct {
			Rules []struct {
				Alertname string
				Expected  []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, rulesTests, &cases)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, c := range cases.Tests {
		for _, r := range c.Rules {
			if len(r.Expected) > 0 {
				fires[r.Alertname] = true
			} else {
				silent[r.Alertname] = true
			}
		}
	}
	readme, err := os.ReadFile(rulesReadme)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !silent[a.Alert] || seen[a.Alert] {
			t.Errorf("%s: fires %v, silent %v, twice %v", a.Alert, fires[a.Alert], silent[a.Alert], seen[a.Alert])
		}
		seen[a.Alert] = true
		if !slices.Contains([]string{"info", "warning", "critical"}, a.Labels["severity"]) ||
			a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%+v", a)
		}
		if !strings.Contains(string(readme), "| "+a.Alert+" | "+a.Labels["severity"]+" |") {
			t.Errorf("README.md has no line of %s, %s", a.Alert, a.Labels["severity"])
		}
	}
}

// TestEyesDashboard: the dashboard has one data source, to be chosen, and nothing in it lacks a description or lies on
// another.
func TestEyesDashboard(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 {
		t.Errorf("%+v", d)
	}
	chosen := source{"prometheus", "${datasource}"}
	sources := 0
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			sources++
		} else if v.Datasource != chosen {
			t.Errorf("the variable %s asks %+v", v.Name, v.Datasource)
		}
	}
	if sources != 1 {
		t.Errorf("%d data sources", sources)
	}
	const width = 24
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %d %q", p.ID, p.Title)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.X+g.W > width || g.W == 0 || g.H == 0 {
			t.Errorf("%s lies at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if on := taken[[2]int{x, y}]; on != "" {
					t.Fatalf("%s lies on %s", p.Title, on)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || p.Datasource != chosen || len(p.Targets) == 0 {
			t.Errorf("%+v", p)
		}
		for _, q := range p.Targets {
			if q.Datasource != chosen || q.Expr == "" || q.RefID == "" {
				t.Errorf("%s: %+v", p.Title, q)
			}
		}
	}
}

// TestPromtoolRules: promtool finds nothing wrong with rules and scrape configuration, and each alert fires when it
// should, and not before.
func TestPromtoolRules(t *testing.T) {
	needs.Tools(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "--lint-fatal", rulesFile}, {"check", "config", scrapeFile},
		{"test", "rules", rulesTests}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// TestPrometheus: a Prometheus that scrapes a danelaw under a little load evaluates all alerts, whose every selector
// finds something, and has data for all of the dashboard.
func TestPrometheus(t *testing.T) {
	needs.Tools(t, "prometheus")
	server, scraped := busy(t)
	p := startPrometheus(t, scraped)
	for n, begun := 1, time.Now(); time.Since(begun) < 8*time.Second; n++ {
		questions(t, server, n)
		time.Sleep(100 * time.Millisecond)
	}
	for what, query := range readDashboard(t).queries("8s") {
		eventually(t, what+": "+query, func() bool { return p.has(t, query) })
	}
	for _, v := range readDashboard(t).Templating.List {
		if v.Type == "query" {
			label := regexp.MustCompile(`label_values\((.*), (\w+)\)`).FindStringSubmatch(string(v.Query))
			query := strings.NewReplacer(`\"`, `"`, "$instance", ".*").Replace(label[1])
			if !p.has(t, fmt.Sprintf(`count by (%s) (%s{%s!=""})`, label[2], strings.TrimSuffix(query,
				`{instance=~".*"}`), label[2])) {
				t.Errorf("the variable %s has no values", v.Name)
			}
		}
	}
	selectors := regexp.MustCompile(`\b(?:coredns_danelaw_\w+|up)(?:\{[^}]*\})?`)
	for _, a := range alerts(t) {
		for _, selector := range selectors.FindAllString(a.Expr, -1) {
			if !p.has(t, selector) {
				t.Errorf("%s looks at %s, which is not there", a.Alert, selector)
			}
		}
	}
	eventually(t, "all rules evaluated", func() bool { return p.evaluated(t) })
}

// running is a Prometheus.
type running struct{ url string }

// startPrometheus runs one that scrapes an address every second, and evaluates the alerts.
func startPrometheus(t *testing.T, scraped string) *running {
	t.Helper()
	dir, at := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", ports.Closed(t))
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var scrape map[string]any
	readYAML(t, scrapeFile, &scrape)
	scrape["global"] = map[string]string{"scrape_interval": "1s", "evaluation_interval": "1s"}
	scrape["rule_files"] = []string{rules}
	config, err := yaml.Marshal(scrape)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(config), "127.0.0.1:9153", scraped)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil || !strings.Contains(text, scraped) {
		t.Fatalf("%v\n%s", err, text)
	}
	c := exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+dir,
		"--web.listen-address="+at, "--log.level=warn")
	said := new(strings.Builder)
	c.Stderr = said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill() //nolint:errcheck // nobody needs what it has stored
		if c.Wait(); t.Failed() {
			t.Log(said)
		}
	})
	p := &running{"http://" + at}
	eventually(t, "a scrape", func() bool { return p.has(t, `up{job="danelaw"} == 1`) })
	return p
}

// get reads a reply of its API; false if it does not listen yet.
func (p *running) get(t *testing.T, path string, into any) bool {
	t.Helper()
	r, err := http.Get(p.url + path)
	if err != nil {
		return false
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode == http.StatusServiceUnavailable { // it is starting
		return false
	}
	if err := json.Unmarshal(body, into); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v\n%s", path, r.Status, err, body)
	}
	return true
}

// has reports whether a query has a result that is a number.
func (p *running) has(t *testing.T, query string) bool {
	t.Helper()
	var reply struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if !p.get(t, "/api/v1/query?query="+url.QueryEscape(query), &reply) {
		return false
	}
	for _, r := range reply.Data.Result {
		text, _ := r.Value[1].(string)
		if n, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(n) {
			return true
		}
	}
	return false
}

// evaluated reports whether all rules have been, without an error.
func (p *running) evaluated(t *testing.T) bool {
	t.Helper()
	var reply struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	p.get(t, "/api/v1/rules", &reply)
	n := 0
	for _, g := range reply.Data.Groups {
		for _, r := range g.Rules {
			if r.LastError != "" {
				t.Fatalf("%s: %s", r.Name, r.LastError)
			}
			if r.Health == "ok" {
				n++
			}
		}
	}
	return n == len(alerts(t))
}
