//go:build !race

package hostile

import "github.com/danelaw-dns/danelaw/plugin/danelaw"

// usualTimeout is danelaw's for a misdeed that names none: its default.
var usualTimeout = danelaw.Defaults().Timeout
