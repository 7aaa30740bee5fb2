// Package packets reads and writes datagrams by the batch, with one system call for many and no memory allocated for
// any: what costs most of a datagram is the way through the kernel. [Batch] is for who waits in Go's poller, [Socket]
// for who waits in system calls.
package packets

const (
	// Size is how many datagrams one system call reads or writes.
	Size = 64
	// Most is the most octets of a datagram: longer ones are cut.
	Most = 4 << 10
)
