package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/policy"
)

// policyMaps is the setting whose tables say how mail to a destination is secured.
const policyMaps = "smtp_tls_policy_maps"

// policyPatience is how long the doctor waits for who answers a socketmap.
const policyPatience = 2 * time.Second

// socketmap is a table that another program answers (socketmap_table(5)).
type socketmap struct {
	table            string // as it is written
	proxied          bool
	network, address string // unix and a path, or tcp
	name             string // of the map
}

// socketmapOf reads [proxy:]socketmap:unix:PATH:NAME or inet:HOST:PORT:NAME.
func socketmapOf(table string) (s socketmap, ok bool) {
	rest, proxied := strings.CutPrefix(table, "proxy:")
	rest, ok = strings.CutPrefix(rest, "socketmap:")
	kind, rest, _ := strings.Cut(rest, ":")
	network := map[string]string{"unix": "unix", "inet": "tcp"}[kind]
	end := strings.LastIndexByte(rest, ':')
	if !ok || network == "" || end < 0 {
		return s, false
	}
	return socketmap{table, proxied, network, rest[:end], rest[end+1:]}, true
}

// speaks reports whether danelaw's policy service is there, for those whose root is a directory.
func (s socketmap) speaks(ctx context.Context, m *machine, root string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, policyPatience)
	defer cancel()
	address := s.address
	if s.network == "unix" {
		address = m.path(root + address)
	}
	conn, err := new(net.Dialer).DialContext(ctx, s.network, address)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(policyPatience)) //nolint:errcheck // then asking fails
	return policy.Speaks(conn), nil
}

// policyService judges a table of smtp_tls_policy_maps that danelaw answers; known is false if it is another's.
func (p *postfix) policyService(ctx context.Context, service, table string) (found []finding, known bool) {
	s, ok := socketmapOf(table)
	if !ok || !slices.Contains(postfixWords(p.of(service, policyMaps)), table) {
		return nil, false
	}
	own, err := s.speaks(ctx, p.machine, "")
	const waits = "mail to all domains waits"
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return []finding{fault.of("Postfix", policyMaps+" has %s, where nobody answers: %s", table, waits).
			do("start who is to answer there; if that is danelaw, its Corefile needs: policy " + s.option())}, true
	case !own:
		return nil, false
	case !slices.Contains(policy.Maps, s.name):
		return []finding{fault.of("Postfix", policyMaps+" has %s, and danelaw has no map %s: %s", table,
			s.name, waits).do(p.mendTable(service, s, policy.Maps[0]))}, true
	case s.name != policy.Maps[0] && olderThan(p.settings["mail_version"], 3, 10):
		return []finding{fault.of("Postfix", policyMaps+" has %s, which is for Postfix 3.10 and newer: mail "+
			"to domains with MTA-STS waits", table).do(p.mendTable(service, s, policy.Maps[0]))}, true
	case s.network == "unix" && !s.proxied && p.master[service].chroot:
		if within, _ := s.speaks(ctx, p.machine, p.settings["queue_directory"]); within { // else it is not to be had
			return nil, true
		}
		s.proxied = true
		return []finding{fault.of("Postfix", policyMaps+" has %s, which %s/unix in its chroot cannot reach: %s",
			table, service, waits).do(p.mendTable(service, s, s.name))}, true
	}
	return nil, true
}

// option is the address as the Corefile has it.
func (s socketmap) option() string {
	if s.network == "unix" {
		return "unix:" + s.address
	}
	return s.address
}

// mendTable is the command that has a service ask another map, or by another way.
func (p *postfix) mendTable(service string, s socketmap, name string) string {
	kind := map[string]string{"unix": "unix:", "tcp": "inet:"}[s.network]
	table := map[bool]string{true: "proxy:"}[s.proxied] + "socketmap:" + kind + s.address + ":" + name
	words := postfixWords(p.of(service, policyMaps))
	words[slices.Index(words, s.table)] = table
	return p.mend(service, policyMaps, strings.Join(words, ", "))
}

// olderThan compares a version of Postfix, such as 3.7.11; what cannot be read is not older.
func olderThan(version string, major, minor int) bool {
	parts := append(strings.SplitN(version, ".", 3), "", "")
	has := func(i, want int) int {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return 0
		}
		return cmp.Compare(n, want)
	}
	return cmp.Or(has(0, major), has(1, minor)) < 0
}
