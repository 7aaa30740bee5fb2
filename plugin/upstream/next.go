package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fetch"
)

// below asks the next plugin. It need not heed ctx: a question that is given up leaves its goroutine to it.
type below struct {
	handler plugin.Handler
}

func (b *below) ask(ctx context.Context, q query) (fetch.Reply, error) {
	reply, err := b.once(ctx, q)
	if err == nil && reply.Msg.Truncated && !q.tcp {
		q.tcp = true
		return b.once(ctx, q)
	}
	return reply, err
}

// once asks with a message of its own, as plugins change it (forward its ID).
func (b *below) once(ctx context.Context, q query) (fetch.Reply, error) {
	type result struct {
		msg *dns.Msg
		err error
	}
	done := make(chan result, 1)
	go func() {
		w := &capture{tcp: q.tcp}
		err := b.serve(ctx, w, q.message(randomID()))
		done <- result{w.reply, err}
	}()
	select {
	case r := <-done:
		if err := interrupted(ctx, r.err); r.msg == nil {
			return fetch.Reply{}, err
		}
		return b.accept(q, r.msg)
	case <-ctx.Done():
		return fetch.Reply{}, ctx.Err()
	}
}

// serve has the plugin answer. The error is for the case that it wrote nothing.
func (b *below) serve(ctx context.Context, w *capture, m *dns.Msg) (err error) {
	defer func() {
		if p := recover(); p != nil { // S-27: this goroutine is not under CoreDNS's recover
			err = faultf(Network, "panicked: %v", p)
		}
	}()
	rcode, err := b.handler.ServeDNS(ctx, w, m)
	switch {
	case err != nil:
		return &fault{Network, "failed: " + concise(err), err}
	case !plugin.ClientWrite(rcode):
		return faultf(Refusal, "answered %s", rcodeName(rcode))
	}
	return faultf(Invalid, "wrote no reply")
}

// accept checks and copies what was written: it may be shared with the plugin's cache. What octets the plugin lost when
// it read its own upstream's reply are not to be had here (V-29).
func (b *below) accept(q query, m *dns.Msg) (fetch.Reply, error) {
	if !m.Response || len(m.Question) != 1 || m.Question[0].Qtype != q.Qtype || m.Question[0].Qclass != q.Qclass ||
		!strings.EqualFold(m.Question[0].Name, q.Name) {
		return fetch.Reply{}, faultf(Invalid, "replied to another question")
	}
	return fetch.Reply{Msg: m.Copy(), Size: m.Len()}, nil
}

func (b *below) close() {}

// name is how sentences and [fetch.Try] call the next plugin.
func (b *below) name() string { return fmt.Sprintf("next plugin (%s)", b.handler.Name()) }

// capture is a dns.ResponseWriter that keeps the first message written. It looks like a client on loopback, over TCP if
// the question wants that: forward follows the client's transport.
type capture struct {
	tcp   bool
	reply *dns.Msg
}

var loopback = net.IPv4(127, 0, 0, 1)

var errNoSocket = errors.New("there is no socket here")

func (w *capture) RemoteAddr() net.Addr {
	if w.tcp {
		return &net.TCPAddr{IP: loopback}
	}
	return &net.UDPAddr{IP: loopback}
}

func (w *capture) LocalAddr() net.Addr { return w.RemoteAddr() }

func (w *capture) WriteMsg(m *dns.Msg) error {
	if w.reply == nil {
		w.reply = m
	}
	return nil
}

func (w *capture) Write(wire []byte) (int, error) {
	m, err := Unpack(wire)
	if err != nil {
		return 0, err
	}
	return len(wire), w.WriteMsg(m)
}

func (w *capture) Close() error        { return nil }
func (w *capture) TsigStatus() error   { return errNoSocket }
func (w *capture) TsigTimersOnly(bool) {}
func (w *capture) Hijack()             {}
