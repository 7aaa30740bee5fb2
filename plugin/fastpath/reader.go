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
		return r.serve(q, message, from, dst)
	}
	r.Refused()
	return q.refusal(dst, message, r.Size()), true
}

// serve answers a sound query if it can be answered at once.
func (r reader) serve(s query, message []byte, from client, dst []byte) (reply []byte, done bool) {
	if r.Serve == nil {
		return dst, false
	}
	q := questions.Get().(*Question)
	defer questions.Put(q)
	if !q.read(message, s, from) {
		return dst, false
	}
	return r.Serve(q, dst)
}

// wait implements source.
func (r reader) wait(ctx context.Context, message []byte, from client, w replier, over func()) bool {
	q := new(Question)
	if r.Later == nil || !q.read(message, scan(message), from) {
		return false
	}
	return r.Later(q, func(reply []byte, otherwise Server) {
		if otherwise == nil {
			defer over()
			w.Write(reply) //nolint:errcheck // the client has gone
			return
		}
		go func() {
			defer over()
			reader{otherwise, r.Options}.later(ctx, message, w)
		}()
	})
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
