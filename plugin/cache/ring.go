package cache

// ring is memory that is taken at its head and given back at its tail, so that what lies in it lies in one piece and
// leaves no holes. Memory past the furthest place ever taken was never touched, and takes none.
type ring struct {
	memory     []byte
	head, tail int
	end        int // of the lap that the tail is in, while the head is in the next one; else 0
	touched    int
}

// take returns a place for n octets; false: more must be given back.
func (r *ring) take(n int) (place int, ok bool) {
	if r.end == 0 && r.head+n > len(r.memory) {
		r.end, r.head = r.head, 0
	}
	if r.end > 0 && r.head+n > r.tail {
		return 0, false
	}
	place = r.head
	r.head += n
	r.touched = max(r.touched, r.head)
	return place, true
}

// give gives back n octets at the tail.
func (r *ring) give(n int) {
	r.tail += n
	switch {
	case r.tail == r.end:
		r.tail, r.end = 0, 0
	case r.end == 0 && r.tail == r.head:
		r.head, r.tail = 0, 0
	}
}
