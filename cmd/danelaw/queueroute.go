package main

import (
	"cmp"
	"context"
	"strings"
)

// destinationOf is where Postfix delivers a message to, as trivial-rewrite(8) decides.
func (p *postfix) destinationOf(ctx context.Context, d deferred) (kind, to string) {
	domain := domainOf(d.recipient)
	setting, relays := p.class(ctx, domain)
	transport := p.of("rewrite", setting)
	nexthop := domain
	if relays {
		if other := p.lookup(ctx, "sender_dependent_default_transport_maps", senderKeys(d.sender)); other != "" &&
			setting == "default_transport" {
			transport = other
		}
		nexthop = cmp.Or(p.lookup(ctx, "sender_dependent_relayhost_maps", senderKeys(d.sender)),
			p.of("rewrite", "relayhost"), domain)
	}
	service, own, _ := strings.Cut(transport, ":")
	nexthop = cmp.Or(own, nexthop)
	if other := p.lookup(ctx, "transport_maps", transportKeys(d.recipient)); strings.Trim(other, ":") != "" {
		transport, own, _ := strings.Cut(other, ":")
		service, nexthop = cmp.Or(transport, service), cmp.Or(own, domain)
	}
	if known, there := p.master[service]; there && known.command != "smtp" {
		return toLocal, service
	}
	first := append(postfixWords(nexthop), "")[0] // the others are for when it fails
	return kindOf(first, false)
}

// class is the setting for the transport of a domain, and whether a relayhost gets its mail.
func (p *postfix) class(ctx context.Context, domain string) (setting string, relays bool) {
	switch {
	case p.listed(ctx, "mydestination", domain):
		return "local_transport", false
	case p.listed(ctx, "virtual_mailbox_domains", domain):
		return "virtual_transport", false
	case p.listed(ctx, "relay_domains", domain):
		return "relay_transport", true
	}
	return "default_transport", true
}

// listed reports whether a domain is in a list, as a word or a key of a table.
func (p *postfix) listed(ctx context.Context, setting, domain string) bool {
	for _, word := range postfixWords(p.of("rewrite", setting)) {
		if strings.EqualFold(word, domain) || strings.Contains(word, ":") && p.query(ctx, word, domain) != "" {
			return true
		}
	}
	return false
}

// lookup returns what the tables of a setting have for the first key that is there; "" if there is none, or it is
// DUNNO.
func (p *postfix) lookup(ctx context.Context, setting string, keys []string) string {
	tables := postfixWords(p.of("rewrite", setting))
	for _, key := range keys {
		for _, table := range tables {
			if value := p.query(ctx, table, key); value != "" {
				if strings.EqualFold(value, "DUNNO") {
					return ""
				}
				return value
			}
		}
	}
	return ""
}

// query asks a table; "" if it has nothing, or cannot be asked. One that lists what it holds is read once.
func (p *postfix) query(ctx context.Context, table, key string) string {
	key = strings.ToLower(key)
	kind, _, _ := strings.Cut(strings.TrimPrefix(table, "proxy:"), ":")
	byPattern := kind == "regexp" || kind == "pcre" || kind == "static" || kind == "cidr"
	answers, known := p.answers[table]
	if !known {
		answers = map[string]string{}
		p.answers[table] = answers
		if entries, err := p.entries(ctx, table); err == nil && !byPattern {
			for _, e := range entries {
				answers[strings.ToLower(e.key)] = e.value
			}
			answers[listedWhole] = "yes"
		}
	}
	if value, asked := answers[key]; asked || answers[listedWhole] != "" {
		return value
	}
	out, err := p.run(ctx, "postmap", "-q", key, table)
	if err != nil { // also where there is nothing
		out = ""
	}
	answers[key] = strings.TrimSpace(out)
	return answers[key]
}

// listedWhole marks the answers of a table that are all there are. It is no key.
const listedWhole = "\x00"

// transportKeys are what transport_maps is asked for (transport(5)).
func transportKeys(recipient string) []string {
	domain := domainOf(recipient)
	keys := []string{recipient, domain}
	for rest := domain; ; {
		_, parent, more := strings.Cut(rest, ".")
		if !more {
			return append(keys, "*")
		}
		keys = append(keys, "."+parent)
		rest = parent
	}
}

// senderKeys are what tables of senders are asked for.
func senderKeys(sender string) []string {
	if sender == "" {
		return []string{"<>"}
	}
	return []string{sender, "@" + domainOf(sender)}
}
