package fastpath

import "context"

// reader is the source of what a Listener replies.
type reader struct {
	server Server
	Options
}

// now implements source.
func (r reader) now(message []byte, from client, dst []byte) (reply []byte, done bool) {
	q := scan(message)
	switch q.sort {
	case ignored:
		return dst, true
	case sound:
		return dst, false
	}
	r.Refused()
	return q.refusal(dst, message, r.Size()), true
}

// later implements source.
func (r reader) later(ctx context.Context, message []byte, w replier) {
	q := scan(message)
	m, err := q.unpack(message)
	if err != nil {
		q.sort = malformed
		r.Refused()
		w.Write(q.refusal(nil, message, r.Size())) //nolint:errcheck // the client has gone
		return
	}
	r.server(ctx, writer{w}, m)
}
