package danelaw

import (
	"fmt"

	"github.com/danelaw-dns/danelaw/trustanchors"
)

// sentence says where a key stands.
func sentence(k trustanchors.Key) string {
	tag, next := k.DNSKEY.KeyTag(), k.Next().UTC().Format("2006-01-02 15:04")
	switch k.State {
	case trustanchors.Start:
		return fmt.Sprintf("key %d is gone before it was trusted", tag)
	case trustanchors.AddPend:
		return fmt.Sprintf("key %d is new, and trusted from %s UTC on if it stays", tag, next)
	case trustanchors.Missing:
		return fmt.Sprintf("key %d is trusted, but the zone has it no more", tag)
	case trustanchors.Revoked:
		return fmt.Sprintf("key %d has been revoked by itself, and is trusted no more", tag)
	case trustanchors.Removed:
		return fmt.Sprintf("key %d was revoked and has been gone for 30 days", tag)
	}
	if k.Retires() {
		return fmt.Sprintf("key %d is trusted, but signs no more: it may soon be revoked", tag)
	}
	return fmt.Sprintf("key %d is trusted", tag)
}
