package cache

import (
	"encoding/binary"
	"math"
)

const (
	// blockSize makes an answer of some 400 octets a chain of four: on average half a block is lost to its end, and
	// every further block costs a cache miss.
	blockSize = 128
	linkSize  = 4 // a block begins with the number of the next one
	none      = math.MaxUint32
)

// pool is memory in blocks of one size, which are chained to hold more. So it never breaks into pieces that fit nobody,
// and it holds no pointers for the collector to follow. Blocks past the greatest number ever held were never touched,
// and take no memory.
type pool struct {
	memory []byte
	held   int    // blocks in use or free
	free   int    // how many are free
	first  uint32 // the chain of them
}

func newPool(octets int64) pool {
	return pool{memory: reserve(octets / blockSize * blockSize), first: none}
}

// blocksFor is how many blocks it takes to hold so many octets.
func blocksFor(octets int) int {
	const room = blockSize - linkSize
	return (octets + room - 1) / room
}

// capacity is how many blocks there can be.
func (p *pool) capacity() int { return len(p.memory) / blockSize }

// heldWith is how many blocks will be held once n more are taken.
func (p *pool) heldWith(n int) int { return p.held + max(0, n-p.free) }

// take returns a chain of n blocks; heldWith(n) must be within the capacity.
func (p *pool) take(n int) (first uint32) {
	p.grow(p.heldWith(n))
	first = p.first
	last := first
	for range n - 1 {
		last = p.next(last)
	}
	p.first = p.next(last)
	p.link(last, none)
	p.free -= n
	return first
}

// grow makes the blocks held so many. The new ones come first and in order, for memory likes to be read forwards.
func (p *pool) grow(held int) {
	for b := held - 1; b >= p.held; b-- {
		p.link(uint32(b), p.first)
		p.first = uint32(b)
	}
	p.free += held - p.held
	p.held = held
}

// release frees a chain.
func (p *pool) release(first uint32) {
	last := first
	p.free++
	for next := p.next(last); next != none; next = p.next(last) {
		last = next
		p.free++
	}
	p.link(last, p.first)
	p.first = first
}

func (p *pool) block(b uint32) []byte      { return p.memory[int(b)*blockSize:][:blockSize] }
func (p *pool) next(b uint32) uint32       { return binary.NativeEndian.Uint32(p.block(b)) }
func (p *pool) link(b uint32, next uint32) { binary.NativeEndian.PutUint32(p.block(b), next) }

// cursor is a place in a chain. Moving past the chain's end is a fault of ours and panics.
type cursor struct {
	pool *pool
	rest []byte // of the block, after the place
	next uint32 // the block after it
}

func (p *pool) cursor(first uint32) cursor { return cursor{pool: p, next: first} }

// ahead returns what lies ahead in one piece, at least an octet.
func (c *cursor) ahead() []byte {
	if len(c.rest) == 0 {
		c.rest = c.pool.block(c.next)[linkSize:]
		c.next = c.pool.next(c.next)
	}
	return c.rest
}

func (c *cursor) read(dst []byte) {
	for len(dst) > 0 {
		n := copy(dst, c.ahead())
		dst, c.rest = dst[n:], c.rest[n:]
	}
}

func (c *cursor) write(src []byte) {
	for len(src) > 0 {
		n := copy(c.ahead(), src)
		src, c.rest = src[n:], c.rest[n:]
	}
}

// past moves past text if that is what lies ahead.
func (c *cursor) past(text string) bool {
	for len(text) > 0 {
		ahead := c.ahead()
		n := min(len(ahead), len(text))
		if string(ahead[:n]) != text[:n] {
			return false
		}
		text, c.rest = text[n:], c.rest[n:]
	}
	return true
}

// skip moves past n octets.
func (c *cursor) skip(n int) {
	for n > 0 {
		step := min(n, len(c.ahead()))
		n, c.rest = n-step, c.rest[step:]
	}
}
