package cachedb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/danelaw-dns/danelaw/plugin/cache"
)

// What a shared cache may cost.
const (
	findPatience     = 20 * time.Millisecond // a question waits for one look; in one network it takes 0.3 ms
	keepPatience     = time.Second           // nobody waits for what is kept
	mostFinds        = 64                    // looks under way at once: more are not begun
	mostQueued       = 1024                  // records that wait to be kept: more are dropped
	mostTogetherKept = 64                    // records sent at once
	tolerated        = 5                     // failures one after the other, before it counts as away
	firstAway        = time.Second           // it is left alone then, and twice as long each time
	lastAway         = 30 * time.Second
)

// The library writes to stderr what a Meter is told, and once for each connection that cannot be made.
func init() { logging.Disable() }

// prefix begins all keys. Its number is that of the form of the records: what another danelaw writes in another form
// has another one.
const prefix = "danelaw:1:"

// Meter is told what became of a look or a record. Its methods are quick, and safe for concurrent use.
type Meter interface {
	Looked(op, result string) // op: find or keep; result: found, absent, kept, failed or skipped
	Away(why error)           // the cache has not answered for a while; nil: it answers again
}

// SharedConfig is what a Shared is made of.
type SharedConfig struct {
	Options *redis.Options // of ParseURL
	// Password, if not nil, returns the password, which is asked for with each connection.
	Password func() (string, error)
	Meter    Meter
}

// ParseURL reads where a shared cache is: redis://[USER@]HOST[:PORT][/DB], rediss:// the same over TLS, or
// unix://[USER@]/PATH[?db=DB]. A password in it is an error.
func ParseURL(url string) (*redis.Options, error) {
	scheme, _, ok := strings.Cut(url, "://")
	if !ok || scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return nil, errors.New("it is none of redis://, rediss:// and unix://")
	}
	o, err := redis.ParseURL(url)
	switch {
	case err != nil:
		return nil, errors.New("it is no address of a redis") // the library's error may hold a password
	case o.Password != "":
		return nil, errors.New("there is a password in it, which whoever reads the Corefile would know: put it into " +
			"a file, and name that after the URL")
	}
	return o, nil
}

// Shared is the Source that a redis is, or what speaks its protocol. Nothing of it is believed, its replies included:
// what is longer than a record can be ends the connection.
type Shared struct {
	forgotten forgotten
	client    *redis.Client
	meter     Meter
	breaker   breaker
	unreached atomic.Pointer[error] // why no connection could be made the last time; nil: one could
	finds     chan struct{}
	keeps     chan Record
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// NewShared returns one. It must be closed. Nothing is asked yet.
func NewShared(c SharedConfig) *Shared {
	o := *c.Options
	o.Protocol, o.MaxRetries, o.DisableIdentity, o.ContextTimeoutEnabled = 2, -1, true, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = keepPatience, keepPatience, keepPatience
	o.PoolSize, o.MinIdleConns = mostFinds, 2
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.DialerRetries = 1 // whoever comes next tries again
	if user := o.Username; c.Password != nil {
		o.CredentialsProviderContext = func(context.Context) (string, string, error) {
			password, err := c.Password()
			return user, password, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Shared{meter: c.Meter, finds: make(chan struct{}, mostFinds), keeps: make(chan Record, mostQueued),
		stop: stop}
	o.Dialer = s.dialer(o.TLSConfig)
	s.client = redis.NewClient(&o)
	s.running.Go(func() { s.keepAll(ctx) })
	return s
}

// dialer makes connections that are guarded, and remembers why it cannot: who asks waits too short to hear of it.
func (s *Shared) dialer(over *tls.Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr, over)
		switch {
		case err == nil:
			s.unreached.Store(nil)
		case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
			s.unreached.Store(&err)
		}
		return conn, err
	}
}

func dial(ctx context.Context, network, addr string, over *tls.Config) (net.Conn, error) {
	d := net.Dialer{Timeout: keepPatience}
	conn, err := d.DialContext(ctx, network, addr)
	if err == nil && over != nil {
		secured := tls.Client(conn, over)
		if err = secured.HandshakeContext(ctx); err != nil {
			conn.Close()
		}
		conn = secured
	}
	if err != nil {
		return nil, err
	}
	return &guarded{Conn: conn}, nil
}

// Close ends it. What waits to be kept is not.
func (s *Shared) Close() error {
	s.stop()
	s.running.Wait()
	return s.client.Close()
}

// Name implements [Source].
func (*Shared) Name() string { return "shared_cache" }

// Forget implements [Source]. The others that share the cache go on with what they have.
func (s *Shared) Forget(name string, now time.Time) { s.forgotten.add(name, now) }

// keyOf is where the record of a key lies.
func keyOf(k cache.Key) string { return prefix + k.Name + "/" + strconv.Itoa(int(k.Type)) }

// Find implements [Source].
func (s *Shared) Find(ctx context.Context, now time.Time, keys ...cache.Key) (Record, bool) {
	select {
	case s.finds <- struct{}{}:
		defer func() { <-s.finds }()
	default:
		s.meter.Looked("find", "skipped")
		return Record{}, false
	}
	if !s.breaker.lets(time.Now()) {
		s.meter.Looked("find", "skipped")
		return Record{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, findPatience)
	defer cancel()
	var got []*redis.StringCmd
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, k := range keys {
			got = append(got, p.GetRange(ctx, keyOf(k), 0, int64(maxRecord)))
		}
		return nil
	})
	if s.done(err); err != nil {
		s.meter.Looked("find", "failed")
		return Record{}, false
	}
	for i, k := range keys {
		r, err := unpack([]byte(got[i].Val()))
		if err == nil && r.Key == k && r.alive(now) && !s.forgotten.has(r) {
			s.meter.Looked("find", "found")
			return r, true
		}
	}
	s.meter.Looked("find", "absent")
	return Record{}, false
}

// done tells the breaker how it went.
func (s *Shared) done(err error) {
	if !s.breaker.done(err == nil, time.Now()) {
		return
	}
	if why := s.unreached.Load(); err != nil && why != nil {
		err = *why
	}
	s.meter.Away(err)
}

// Keep implements [Source]: it waits for nothing.
func (s *Shared) Keep(r Record) {
	r.Wire = append([]byte(nil), r.Wire...)
	select {
	case s.keeps <- r:
	default:
		s.meter.Looked("keep", "skipped")
	}
}

// keepAll sends what is to be kept, many records at once.
func (s *Shared) keepAll(ctx context.Context) {
	for {
		var batch []Record
		select {
		case <-ctx.Done():
			return
		case r := <-s.keeps:
			batch = append(batch, r)
		}
		for len(batch) < mostTogetherKept && len(s.keeps) > 0 {
			batch = append(batch, <-s.keeps)
		}
		result := "skipped"
		if s.breaker.lets(time.Now()) {
			if result = "kept"; s.send(ctx, batch) != nil {
				result = "failed"
			}
		}
		for range batch {
			s.meter.Looked("keep", result)
		}
	}
}

// send survives a panic of the library (S-27): it reads what anybody may have written.
func (s *Shared) send(ctx context.Context, batch []Record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		s.done(err)
	}()
	ctx, cancel := context.WithTimeout(ctx, keepPatience)
	defer cancel()
	_, err = s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, r := range batch {
			p.Set(ctx, keyOf(r.Key), r.pack(nil), max(time.Second, r.Ends.Sub(r.Stored)))
		}
		return nil
	})
	return err
}

// breaker leaves alone what fails again and again.
type breaker struct {
	mu     sync.Mutex
	failed int
	away   time.Duration // how long it is left alone the next time; 0: it is not away
	until  time.Time
}

// lets reports whether it may be asked. Of those who come when it was left alone for long enough one may.
func (b *breaker) lets(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away == 0 {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.until = now.Add(b.away)
	return true
}

// done notes how it went, and reports whether it is away now and was not, or the other way round.
func (b *breaker) done(well bool, now time.Time) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if well {
		changed = b.away > 0
		b.failed, b.away = 0, 0
		return changed
	}
	if b.failed++; b.failed < tolerated {
		return false
	}
	changed = b.away == 0
	b.away = min(max(2*b.away, firstAway), lastAway)
	b.until = now.Add(b.away)
	return changed
}
