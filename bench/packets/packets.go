// Package packets reads and writes datagrams of IPv4 by the batch, with one system call for many and no memory
// allocated for any, so that what asks and answers costs little beside what is measured.
package packets

const (
	// Batch is how many datagrams one system call reads or writes.
	Batch = 64

	maxSize = 4096 // octets; longer ones are cut
)
