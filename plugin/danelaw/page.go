package danelaw

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/netutil"

	"github.com/danelaw-dns/danelaw/plugin/drawing"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// page is the status page (S-31): what danelaw status says, for a browser on this host. It only reads: nothing can be
// changed there, and nothing is asked but what has just failed.
type page struct {
	address string
	server  *http.Server
}

// Bounds on who looks at it. A chain is drawn while a client would wait for its answer.
const (
	pageClients  = 16 // at once
	pageChains   = 2  // drawn at once
	pagePatience = 5 * time.Second
	chainWait    = 40 * time.Second
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

var pageTemplate = template.Must(template.New("status").Funcs(template.FuncMap{
	"printable": printable.Text, "stamp": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") },
	"style": func() template.CSS { return template.CSS(drawing.Style) },
	"own":   func() template.CSS { return template.CSS(pageStyle) },
}).Parse(pageText))

// holdPage returns the page at an address.
func holdPage(address string) (*page, error) {
	return hold(&process, address, func() (*page, error) { return openPage(address) })
}

func openPage(address string) (*page, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &page{address: address, server: &http.Server{
		Handler: Guard(address, pageMux()), MaxHeaderBytes: controlRequest,
		ReadTimeout: pagePatience, IdleTimeout: pagePatience, WriteTimeout: chainWait + pagePatience,
	}}
	go p.server.Serve(netutil.LimitListener(l, pageClients)) //nolint:errcheck // it ends with p
	return p, nil
}

func (p *page) name() string { return p.address }

// close ends it; who has asked may have the reply, but for a chain that takes long.
func (p *page) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.server.Shutdown(ctx) //nolint:errcheck // who is still there is cut off
	p.server.Close()
}

// setStatus reads where the status page is. It shows which names mail goes to, without a password: to this host alone
// (S-31).
func setStatus(s *setting, args []string) error {
	arg, err := one(args)
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(arg)
	switch {
	case err != nil || at.Port() == 0:
		return fmt.Errorf("%q is no IP address with a port", arg)
	case !at.Addr().Unmap().IsLoopback():
		return fmt.Errorf("%s is no loopback address, and the page has no password", at.Addr())
	}
	s.status = at.String()
	return nil
}

// contentPolicy lets a page have its style sheets, and nothing else: no script, no form, no request, no frame around it
// (S-31).
var contentPolicy = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"style-src " + hashOf(drawing.Style) + " " + hashOf(pageStyle)

func hashOf(style string) string {
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// pageMux answers GET and HEAD at two paths.
func pageMux() http.Handler {
	mux := http.NewServeMux()
	chains := make(chan struct{}, pageChains)
	for path, show := range map[string]func(*http.Request) ([]byte, error){
		"/{$}": showStatus,
		"/chain": func(r *http.Request) ([]byte, error) {
			select {
			case chains <- struct{}{}:
				defer func() { <-chains }()
				return showChain(r)
			default:
				return nil, refusal{http.StatusServiceUnavailable, errors.New("other chains are drawn: try again")}
			}
		},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			text, err := show(r)
			if err != nil {
				status := http.StatusInternalServerError
				if no, ok := errors.AsType[refusal](err); ok {
					status = no.status
				}
				http.Error(w, printable.Text(err.Error()), status)
				return
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Write(text) //nolint:errcheck // the client has gone
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			w.Header().Set(name, value)
		}
		from, mode := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode")
		if from == "cross-site" && mode != "navigate" {
			http.Error(w, "no page of another site gets anything here", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// showStatus is the page itself.
func showStatus(*http.Request) ([]byte, error) {
	t, ok := find[*table](&process, "")
	if !ok {
		return nil, refusal{http.StatusServiceUnavailable, errors.New("danelaw is starting or ending")}
	}
	out := new(bytes.Buffer)
	err := pageTemplate.Execute(out, newStatusPage(t))
	return out.Bytes(), err
}

// showChain draws the chain of trust of a question that has failed, as it is judged now. Other questions are not asked:
// whoever gets somebody's browser to open this page could have danelaw ask for names of theirs (S-31).
func showChain(r *http.Request) ([]byte, error) {
	values := r.URL.Query()
	h := process.of(values.Get("block"))
	if h == nil || h.origin.load == 0 {
		return nil, refusal{http.StatusNotFound, errors.New("there is no such server block")}
	}
	q, ok := h.memory.history.question(values.Get("name"), values.Get("type"))
	if !ok {
		return nil, refusal{http.StatusNotFound,
			errors.New("this is none of the latest failures: danelaw check NAME TYPE draws the chain of any name")}
	}
	ctx, cancel := context.WithTimeout(r.Context(), chainWait)
	defer cancel()
	found, err := h.Explain(ctx, q)
	if err != nil {
		return nil, err
	}
	drawn := drawing.NewChain(q, found, h.JudgedAt()).Page()
	drawn.Heading, drawn.Back = "danelaw, as judged now", "/"
	out := new(bytes.Buffer)
	err = drawn.Write(out)
	return out.Bytes(), err
}
