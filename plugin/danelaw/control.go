package danelaw

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/miekg/dns"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/net/netutil"

	"github.com/danelaw-dns/danelaw/plugin/owned"
	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// DefaultControl is where the control socket is if nothing else is said and its directory exists.
const DefaultControl = "/run/danelaw/control.sock"

// defaultControl is another in tests, which leave the host's own alone.
var defaultControl = DefaultControl

// The control protocol is HTTP with JSON over a Unix socket. Its version is the beginning of every path.
const (
	controlMode     = 0o660
	controlClients  = 16      // at once
	controlRequest  = 8 << 10 // octets
	controlPatience = 30 * time.Second
	controlDump     = 10000 // entries in one reply
)

// control is a socket by which operators reach the daemon.
type control struct {
	path   string
	inode  fs.FileInfo
	server *http.Server
}

// holdControl returns the socket at path.
func holdControl(path string) (*control, error) {
	return hold(&process, path, func() (*control, error) { return openControl(path) })
}

func openControl(path string) (*control, error) {
	l, err := listenAt(path, controlMode)
	if err != nil {
		return nil, err
	}
	c := &control{path: path, server: &http.Server{
		Handler: controlMux(), MaxHeaderBytes: controlRequest,
		ReadTimeout: controlPatience, WriteTimeout: controlPatience, IdleTimeout: controlPatience,
	}}
	if c.inode, err = os.Stat(path); err != nil {
		l.Close()
		return nil, err
	}
	go c.server.Serve(netutil.LimitListener(l, controlClients)) //nolint:errcheck // it ends with c
	return c, nil
}

func (c *control) name() string { return c.path }

// close removes the socket.
func (c *control) close() {
	c.server.Close()
	removeSocket(c.path, c.inode)
}

// removeSocket removes a socket, unless another's is there by now.
func removeSocket(path string, inode fs.FileInfo) {
	if now, err := os.Stat(path); err == nil && os.SameFile(now, inode) {
		os.Remove(path)
	}
}

// listenAt listens at path, where a stale socket may be. It gets its mode before it gets its name, so that nobody comes
// between.
func listenAt(path string, mode fs.FileMode) (net.Listener, error) {
	if err := owned.Daemon().Keep(filepath.Dir(path)); err != nil { // else others could listen in its place
		return nil, err
	}
	if err := vacant(path); err != nil {
		return nil, err
	}
	unnamed := fmt.Sprintf("%s.%d", path, os.Getpid())
	os.Remove(unnamed)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: unnamed, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(unnamed, mode); err == nil {
		err = os.Rename(unnamed, path)
	}
	if err != nil {
		l.Close()
		return nil, errors.Join(err, os.Remove(unnamed))
	}
	return l, nil
}

// vacant says what is in the way of a socket at path: everything but a socket on which nobody listens.
func vacant(path string) error {
	at, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case at.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: name another path", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another danelaw listens on %s: end it, or name another path", path)
	}
	if errors.Is(err, os.ErrPermission) {
		return err
	}
	return nil
}

// refusal is an error with the HTTP status to tell it with.
type refusal struct {
	status int
	error
}

func controlMux() http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /v1/nta": controlled(listNTAs), "POST /v1/nta": controlled(addNTA),
		"DELETE /v1/nta": controlled(removeNTA), "GET /v1/status": controlled(status),
		"GET /v1/anchors": anchored(listAnchors), "POST /v1/anchors": anchored(importAnchors),
		"POST /v1/flush": flush, "GET /v1/cache": cacheStats, "GET /v1/cache/dump": cacheDump,
		"GET /v1/policy": queryPolicy,
		"/": func(r *http.Request) (any, error) {
			return nil, refusal{http.StatusNotFound,
				fmt.Errorf("this danelaw does not know %s %.100s: it speaks version 1", r.Method, r.URL.Path)}
		},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, controlRequest)
			out, err := answer(r)
			status := http.StatusOK
			if err != nil {
				status = http.StatusBadRequest
				if no, ok := errors.AsType[refusal](err); ok {
					status = no.status
				}
				out = ErrorReply{printable.Text(err.Error())}
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			json.NewEncoder(w).Encode(out) //nolint:errcheck // the client has gone
		})
	}
	return mux
}

// controlled has answer look at the daemon's negative trust anchors, or change them.
func controlled(answer func(*table, *http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if t, ok := find[*table](&process, ""); ok {
			return answer(t, r)
		}
		return nil, refusal{http.StatusServiceUnavailable, errors.New("danelaw is starting or ending")}
	}
}

// persistent reports whether what is set now will be there after a restart.
func persistent(t *table) bool {
	place, failed := t.saved()
	return place && !failed
}

func listNTAs(t *table, _ *http.Request) (any, error) {
	return NTAReply{NTAs: t.list(), Kept: persistent(t)}, nil
}

// NTALife reads how long a negative trust anchor is to last (T-18).
func NTALife(text string) (time.Duration, error) {
	life, err := duration(time.Second, maxNTALife)(text)
	if err != nil {
		return 0, fmt.Errorf("%w: a negative trust anchor lasts from 1s to 168h", err)
	}
	return life, nil
}

func addNTA(t *table, r *http.Request) (any, error) {
	var in NTARequest
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return nil, fmt.Errorf("the request cannot be understood: %w", err)
	}
	life, err := NTALife(in.Life)
	if err != nil {
		return nil, err
	}
	n, tester, err := t.add(NegativeAnchor{dns.CanonicalName(in.Zone), life, in.Keep, in.Reason})
	if err != nil {
		return nil, err
	}
	well := t.test(r.Context(), tester, n)
	return NTAReply{NTAs: []NTA{*n}, Kept: persistent(t), Well: well}, nil
}

func removeNTA(t *table, r *http.Request) (any, error) {
	zone, err := nameIn(r, "zone")
	if err != nil {
		return nil, err
	}
	if err := t.remove(zone); err != nil {
		return nil, refusal{http.StatusNotFound, err}
	}
	return listNTAs(t, r)
}

// nameIn returns a domain name of the request.
func nameIn(r *http.Request, key string) (string, error) {
	name := r.URL.Query().Get(key)
	if _, ok := dns.IsDomainName(name); !ok || name == "" || !ascii(name) {
		return "", fmt.Errorf("%q is not a domain name", name)
	}
	return dns.CanonicalName(name), nil
}

// ofServed is what there is of the Handlers of a Corefile, the newest of each block, by block.
func ofServed[T any](of func(*Handler) T) map[string]T {
	all := map[string]T{}
	for block, h := range process.newest() {
		if h.origin.load != 0 {
			all[block] = of(h)
		}
	}
	return all
}

func flush(r *http.Request) (any, error) {
	name, err := nameIn(r, "name")
	if err != nil {
		return nil, err
	}
	blocks := ofServed(func(h *Handler) Flushed { return Flushed(h.resolving.Flush(name)) })
	log.Infof("flushed %s and all below", name)
	return FlushReply{blocks}, nil
}

func cacheStats(*http.Request) (any, error) { return CacheReply{ofServed(cacheTold)}, nil }

// count64 reads a counter.
func count64(c interface{ Write(*dto.Metric) error }) float64 {
	var m dto.Metric
	if c.Write(&m) != nil {
		return 0
	}
	return m.GetCounter().GetValue()
}

func cacheDump(r *http.Request) (any, error) {
	name, err := nameIn(r, "name")
	if err != nil {
		return nil, err
	}
	most := controlDump
	if limit := r.URL.Query().Get("limit"); limit != "" {
		if most, err = strconv.Atoi(limit); err != nil || most < 1 || most > controlDump {
			return nil, fmt.Errorf("limit %.20q is not a number from 1 to %d", limit, controlDump)
		}
	}
	return DumpReply{ofServed(func(h *Handler) DumpBlock { return dumpTold(h, name, most) })}, nil
}
