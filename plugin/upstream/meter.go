package upstream

import "time"

// Meter is told what happens at each upstream, for metrics. Its methods are cheap and safe for concurrent use.
type Meter interface {
	Asked(upstream string)                        // a question, or a copy of one, is put to it
	Answered(upstream string, took time.Duration) // a usable reply came
	Failed(upstream string, reason Reason)        // no usable reply came, and not because another was quicker
	Mismatched(upstream string)                   // a datagram came that matched no question (S-7)
	Exhausted(upstream string)                    // a question found the table of open files full (L-16)
	// State: its state has changed: fit by S-13, alive as questions find it. If it has just died, why is the end of a
	// sentence that begins with its name.
	State(upstream string, fit, alive bool, why string)
}
