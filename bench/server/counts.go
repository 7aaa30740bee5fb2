package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Counts are a server's own, since it started.
type Counts struct {
	Questions float64 // of clients
	Misses    float64 // of these, such as could not be answered from memory
}

// Counts are the server's own; ok is false where it has none that can be read.
func (p *Process) Counts() (c Counts, ok bool, err error) {
	if p.server.counts == nil {
		return c, false, nil
	}
	if c, err = p.server.counts(p); err != nil {
		return c, false, fmt.Errorf("the statistics of %s: %w", p.server.Name, err)
	}
	return c, true, nil
}

// countsTime is how long a server may take to tell them.
const countsTime = 10 * time.Second

// fetch is what a server says over HTTP, read into a value.
func (p *Process) fetch(network, address, path string, into any) error {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: countsTime}
	reply, err := client.Get("http://server" + path)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, reply.Status)
	}
	return json.NewDecoder(reply.Body).Decode(into)
}

func countsOfDanelaw(p *Process) (c Counts, err error) {
	var reply struct {
		Blocks map[string]struct{ Hits, Misses float64 }
	}
	err = p.fetch("unix", p.control, "/v1/cache", &reply)
	for _, block := range reply.Blocks {
		c.Questions += block.Hits + block.Misses
		c.Misses += block.Misses
	}
	return c, err
}

func countsOfBind(p *Process) (Counts, error) {
	var reply struct {
		NSStats struct{ Requestv4, QryRecursion float64 }
	}
	err := p.fetch("tcp", p.statistics.String(), "/json/v1/server", &reply)
	return Counts{reply.NSStats.Requestv4, reply.NSStats.QryRecursion}, err
}

// said sends a command to a socket of a server and returns what the server says to it. Some do not close it then.
func said(path, command string) (string, error) {
	conn, err := net.DialTimeout("unix", path, countsTime)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(countsTime)) //nolint:errcheck // then it waits longer
	if _, err := io.WriteString(conn, command); err != nil {
		return "", err
	}
	var text strings.Builder
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "}") {
			break // of a table of Lua's
		}
	}
	return text.String(), nil
}

// number is what stands behind a name in a text; 0 if it does not.
func number(text, name string) float64 {
	found := regexp.MustCompile(regexp.QuoteMeta(name) + `\W*([0-9.]+)`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(found[1], 64) // the digits of a number
	return n
}

func countsOfUnbound(p *Process) (Counts, error) {
	text, err := said(p.control, "UBCT1 stats_noreset\n")
	return Counts{number(text, "total.num.queries"), number(text, "total.num.cachemiss")}, err
}

func countsOfKnot(p *Process) (Counts, error) {
	text, err := said(filepath.Join(p.dir, "control", strconv.Itoa(p.command.Process.Pid)), "stats.list()\n")
	all := number(text, "answer.total")
	return Counts{all, all - number(text, "answer.cached")}, err
}

func countsOfPDNS(p *Process) (Counts, error) {
	ctx, cancel := context.WithTimeout(context.Background(), countsTime)
	defer cancel()
	command := exec.CommandContext(ctx, "rec_control", "--socket-dir="+p.dir, "get", "questions", "cache-misses")
	text, err := command.Output()
	if err != nil {
		return Counts{}, err
	}
	var c Counts
	_, err = fmt.Sscan(string(text), &c.Questions, &c.Misses)
	return c, err
}
