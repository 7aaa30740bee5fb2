//go:build race

package hostile

import "time"

// usualTimeout is danelaw's for a misdeed that names none. With the race detector, on a busy machine, the handshakes
// of one alone take longer than its default.
const usualTimeout = 15 * time.Second
