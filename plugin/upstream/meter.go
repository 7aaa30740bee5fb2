package upstream

import "time"

// Meter is told what happens at each upstream, for metrics. Its methods are cheap and safe for concurrent use.
type Meter interface {
	Asked(upstream string)                        // a question, or a copy of one, is put to it
	Answered(upstream string, took time.Duration) // a usable reply came
	Failed(upstream string, reason Reason)        // no usable reply came, and not because another was quicker
	Mismatched(upstream string)                   // a datagram came that matched no question (S-7)
	Exhausted(upstream string)                    // a question found the table of open files full (L-16)
	// Alive: it has died, or come back. If it has died, why is the end of a sentence that begins with its name.
	Alive(upstream string, alive bool, why string)
}
