package fastpath

import "context"

// reader is the source of what a Listener replies.
type reader struct {
	server Server
	Options
}

// answerer implements source.
func (r reader) answerer() answerer {
	a := &atOnce{reader: r}
	if r.Answerer != nil {
		a.answers = r.Answerer()
	}
	return a
}

// atOnce answers what a reader can answer at once.
type atOnce struct {
	reader
	answers  Answerer // nil: none
	question Question // its memory is used again for the next one
}

// now implements answerer.
func (a *atOnce) now(message []byte, from client, dst []byte) (reply []byte, done bool) {
	q := scan(message)
	switch q.sort {
	case ignored:
		return dst, true
	case sound:
		if a.answers == nil || !a.question.read(message, q, from) {
			return dst, false
		}
		return a.answers.Serve(&a.question, dst)
	}
	a.Refused()
	return q.refusal(dst, message, a.Size()), true
}

// flush implements answerer.
func (a *atOnce) flush() {
	if a.answers != nil {
		a.answers.Flush()
	}
}

// wait implements source.
func (r reader) wait(ctx context.Context, message []byte, from client, w replier, over func()) bool {
	q := new(Question)
	if r.Later == nil || !q.read(message, scan(message), from) {
		return false
	}
	gone := ctx
	if from.udp { // nobody tells that such a client has gone
		gone = context.Background()
	}
	return r.Later(gone, q, func(reply []byte, otherwise Server) {
		if otherwise == nil {
			w.post(reply, over)
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
