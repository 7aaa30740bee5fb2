package main

import (
	"encoding/pem"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// TestAuthorities: all CAs that Mozilla trusts are there, but none that it trusts under conditions alone.
func TestAuthorities(t *testing.T) {
	there := map[string]bool{}
	for block, rest := pem.Decode(authorities()); block != nil; block, rest = pem.Decode(rest) {
		there[string(block.Bytes)] = true
	}
	conditional := 0
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			conditional++
		}
		if there[string(root.Certificate)] != (root.Constraint == nil) {
			t.Errorf("a certificate is there: %v; it has conditions: %v", there[string(root.Certificate)],
				root.Constraint != nil)
		}
	}
	t.Logf("%d certificates, %d left out", len(there), conditional)
	if len(there) < 100 {
		t.Errorf("there are %d", len(there))
	}
}
