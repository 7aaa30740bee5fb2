package main

import (
	"context"
	"errors"
	"log"
	"strings"
	"time"

	"github.com/coredns/caddy/caddyfile"

	"github.com/danelaw-dns/danelaw/plugin/printable"
)

// followEvery is how often the configuration of the system is looked at. Reading beats being told (inotify): it sees
// what is edited, put in the place of another, behind a symbolic link, or mounted, all in one way.
var followEvery = time.Second // less in tests

// followSystem tells, until ctx ends, when the nameservers of the system are others, as long as the Corefile depends on
// them.
func followSystem(ctx context.Context, src *source, changes chan<- string) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for f := (*follower)(nil); ; {
		var changed bool
		if f, changed = f.look(src); changed {
			log.Printf("[INFO] %s names other nameservers now", resolvConf)
			select {
			case changes <- resolvConf + " has changed":
			case <-ctx.Done():
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look takes what the system says now; it begins with what is in force.
func (f *follower) look(src *source) (*follower, bool) {
	if !src.system.Load() {
		return nil, false
	}
	now, err := src.nameservers()
	if f == nil {
		return &follower{inForce: now, found: now}, false
	}
	return f, f.changed(now, err)
}

// nameservers tells the nameservers of the system that the Corefile depends on.
func (s *source) nameservers() (string, error) {
	if s.made != nil {
		corefile, err := s.made()
		return string(corefile), err
	}
	servers, err := nameservers(resolvConf)
	var all []string
	for _, server := range servers {
		all = append(all, server.String())
	}
	if err == nil && len(all) == 0 {
		err = errors.New(resolvConf + " names no nameserver")
	}
	return strings.Join(all, " "), err
}

// mentions reports whether a word stands in a Corefile, as in `forward . /etc/resolv.conf`, or in a part of one.
func mentions(d caddyfile.Dispenser, word string) bool {
	for d.Next() {
		if d.Val() == word {
			return true
		}
	}
	return false
}

// follower knows which nameservers are in force, and what was found last.
type follower struct {
	inForce string
	found   string // and settled
	fresh   string // found once: somebody may still be writing
}

// changed takes what was found, and reports whether it is to be in force now. What names no nameserver is told once,
// and changes nothing.
func (f *follower) changed(now string, err error) bool {
	found := now
	if err != nil {
		found = err.Error()
	}
	if found == f.found {
		f.fresh = ""
		return false
	}
	if found != f.fresh {
		f.fresh = found
		return false
	}
	f.found, f.fresh = found, ""
	switch {
	case err != nil:
		log.Printf("[WARNING] the upstreams are kept as they are: %s", printable.Text(err.Error()))
		return false
	case now == f.inForce:
		log.Printf("[INFO] %s is again as it was", resolvConf)
		return false
	}
	f.inForce = now
	return true
}
