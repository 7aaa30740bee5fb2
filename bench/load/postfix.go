package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Lookup is a domain of whose policy Postfix asks, and the reply that is right.
type Lookup struct{ Domain, Reply string }

// Postfix asks for policies by the socketmap protocol (socketmap_table(5)) over connections, of which each has one
// request under way, as those of Postfix's processes have.
type Postfix struct {
	Connections []net.Conn
	Next        func(connection int) *Lookup // nil: this connection's last one was; it is called by several goroutines
	Interval    time.Duration                // between two requests on a connection; 0: there is none
}

// Run asks until all connections have asked their last. It ends early, with an error, only if ctx does. A reply of TEMP
// where there should be none is Failed; a connection that ends is asked no more, and what was asked on it Lost.
func (p *Postfix) Run(ctx context.Context) (Result, error) {
	// what a connection has under way ends when it cannot be read any more
	stop := context.AfterFunc(ctx, func() {
		for _, c := range p.Connections {
			c.SetDeadline(time.Now()) //nolint:errcheck // it is closed
		}
	})
	defer stop()
	results, begun := make([]Result, len(p.Connections)), time.Now()
	var work sync.WaitGroup
	for i, c := range p.Connections {
		work.Go(func() {
			one := talk{conn: c, from: bufio.NewReader(c), begun: begun}
			// those of all connections are spread over the interval
			one.due = begun.Add(p.Interval * time.Duration(i) / time.Duration(len(p.Connections)))
			one.ask(ctx, p, i)
			results[i] = one.result
		})
	}
	work.Wait()
	return together(results), ctx.Err()
}

// together are the results of connections in one.
func together(results []Result) (all Result) {
	for _, r := range results {
		if all.Example == "" || all.Wrong == 0 && r.Wrong > 0 {
			all.Example = r.Example
		}
		all.Replies += r.Replies
		all.Octets += r.Octets
		all.Lost += r.Lost
		all.Failed += r.Failed
		all.Wrong += r.Wrong
		all.Took = append(all.Took, r.Took...)
		all.Elapsed = max(all.Elapsed, r.Elapsed)
	}
	slices.Sort(all.Took)
	return all
}

// talk is a connection that is under way.
type talk struct {
	conn   net.Conn
	from   *bufio.Reader
	begun  time.Time
	due    time.Time // when the next request is to be sent
	result Result
}

// ask asks one request after another.
func (t *talk) ask(ctx context.Context, p *Postfix, connection int) {
	came := t.begun
	for ctx.Err() == nil {
		if p.Interval > 0 {
			time.Sleep(time.Until(t.due))
		}
		lookup := p.Next(connection)
		if lookup == nil {
			return
		}
		asked := time.Now()
		if p.Interval > 0 && came.After(t.due) {
			asked = t.due // it waited for the reply before
		}
		t.due = t.due.Add(p.Interval)
		reply, err := t.exchange(lookup.Domain)
		came = time.Now()
		if err != nil {
			t.result.Lost++
			t.note(lookup, err.Error())
			return
		}
		t.take(lookup, reply, came.Sub(asked))
		t.result.Elapsed = came.Sub(t.begun)
	}
}

// take looks at a reply.
func (t *talk) take(lookup *Lookup, reply string, took time.Duration) {
	t.result.Replies++
	t.result.Octets += len(reply)
	switch {
	case reply == lookup.Reply:
		t.result.Took = append(t.result.Took, took)
		return
	case strings.HasPrefix(reply, "TEMP "):
		t.result.Failed++
	default:
		t.result.wrong()
	}
	t.note(lookup, fmt.Sprintf("%q instead of %q", reply, lookup.Reply))
}

func (t *talk) note(lookup *Lookup, fault string) {
	if t.result.Example == "" {
		t.result.Example = fmt.Sprintf("policy of %s: %s", lookup.Domain, fault)
	}
}

// longest is how many octets a reply has at most.
const longest = 100_000

// exchange asks, and reads the reply.
func (t *talk) exchange(domain string) (string, error) {
	request := "QUERY " + domain
	if err := t.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(t.conn, "%d:%s,", len(request), request); err != nil {
		return "", err
	}
	length, err := t.from.ReadString(':')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil || n < 0 || n > longest {
		return "", fmt.Errorf("%.20q is no length", length)
	}
	reply := make([]byte, n+1)
	if _, err := io.ReadFull(t.from, reply); err != nil {
		return "", err
	}
	if reply[n] != ',' {
		return "", errors.New("a reply does not end where it should")
	}
	return string(reply[:n]), nil
}
