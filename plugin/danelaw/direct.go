package danelaw

import (
	"context"
	"reflect"
	"sync"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/danelaw-dns/danelaw/plugin/fastpath"
)

// route is the way from danelaw to a socket through writers none of which has to see the message of a reply.
type route struct {
	recorder *metrics.Recorder // of the plugin prometheus; nil if there is none
}

// routeOf finds out whether octets may be written to w. Most plugins that want to see a reply, or change it, have a
// writer of their own there, whose WriteMsg does so; to their Write it would be lost. What ScrubWriter makes fit fits.
func routeOf(w dns.ResponseWriter) (r route, ok bool) {
	for {
		switch at := w.(type) {
		case *request.ScrubWriter:
			return r, sends(at.ResponseWriter)
		case *metrics.Recorder:
			r.recorder, w = at, at.ResponseWriter
		default:
			if reflect.TypeOf(w) != betweenPlugins {
				return route{}, false
			}
			w, _ = reflect.ValueOf(w).Elem().FieldByName("ResponseWriter").Interface().(dns.ResponseWriter)
		}
	}
}

// answer answers a query that CoreDNS hands on as the fast path does, from the octets that are kept: nothing is
// unpacked to be packed again. It is false if the query is for serve.
func (r route) answer(h *Handler, q *query) bool {
	d := directs.Get().(*direct)
	defer directs.Put(d)
	if !d.reply(h, q) {
		return false
	}
	if r.recorder != nil {
		r.recorder.Rcode = int(d.octets[3] & 0xF) // RFC 1035 section 4.1.1; how many they are it counts itself
	}
	_, _ = q.w.Write(d.octets) // after an error the client has gone
	return true
}

// direct is memory for one reply at a time.
type direct struct {
	question fastpath.Question
	batch    batch
	octets   []byte
}

var directs = sync.Pool{New: func() any { return new(direct) }}

// reply makes the reply, and counts it.
func (d *direct) reply(h *Handler, q *query) (ok bool) {
	if !d.question.Take(q.Msg, fastpath.Origin{Client: q.client, UDP: q.udp, Read: q.begun}) {
		return false
	}
	defer d.batch.Flush()
	hit := hit{Question: &d.question, h: h, block: uncounted}
	d.octets, ok = hit.reply(d.octets[:0], &d.batch)
	return ok
}

// uncounted is of hits that CoreDNS counts itself.
var uncounted = new(passing)

// betweenPlugins is the type of the writer that CoreDNS has between two plugins, by which it knows whose a reply is.
var betweenPlugins = func() (t reflect.Type) {
	plugin.NextOrFailure("", plugin.HandlerFunc( //nolint:errcheck // it returns nil
		func(_ context.Context, w dns.ResponseWriter, _ *dns.Msg) (int, error) {
			t = reflect.TypeOf(w)
			return dns.RcodeSuccess, nil
		}), context.Background(), nil, nil)
	return t
}()

// sends reports whether Write sends octets as they are: over UDP, TCP and TLS. CoreDNS's writers for HTTPS and gRPC
// would unpack them, that for QUIC does not end the stream, and of a server that asks itself none sends.
func sends(w dns.ResponseWriter) bool {
	if fastpath.Sends(w) {
		return true
	}
	v := reflect.ValueOf(w)
	if v.Kind() != reflect.Pointer || v.Type().Elem().Name() != "response" || v.Type().Elem().PkgPath() != library {
		return false
	}
	// Through a decorator, such as that of the plugin shed, goes what WriteMsg writes and nothing else.
	last := v.Elem().FieldByName("writer")
	return last.IsValid() && last.Elem().Type() == v.Type()
}

// library is where CoreDNS's writers for UDP, TCP and TLS are from.
var library = reflect.TypeFor[dns.Msg]().PkgPath()
