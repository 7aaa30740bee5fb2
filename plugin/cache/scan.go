package cache

// Keys returns the keys of all entries, dead ones among them, that match says yes to, in no order. It is given the key
// and the user's notes, which it must not keep. One shard at a time is locked, and open to readers.
func (c *Cache) Keys(match func(k Key, notes []byte) bool) (keys []Key) {
	var notes []byte
	for _, s := range c.shards {
		s.mu.RLock()
		for _, hash := range s.index.Keys() {
			var k Key
			if k, notes = s.keyAt(hash, notes); match(k, notes) {
				keys = append(keys, k)
			}
		}
		s.mu.RUnlock()
	}
	return keys
}

// keyAt returns the key and the notes of the record that is indexed under a hash; the notes lie in the memory of buf.
func (s *shard) keyAt(hash uint32, buf []byte) (Key, []byte) {
	first, _ := s.index.Peek(hash)
	body := s.pool.cursor(first)
	h := readHeader(&body)
	name := make([]byte, h.name)
	body.read(name)
	body.skip(int(h.wire))
	notes := resized(buf, h.notes)
	body.read(notes)
	return Key{Name: string(name), Type: h.typ}, notes
}

// skip moves past n octets.
func (c *cursor) skip(n int) {
	for n > 0 {
		step := min(n, len(c.ahead()))
		n, c.rest = n-step, c.rest[step:]
	}
}

// Keys returns all keys that match says yes to, in no order.
func (t *Table[V]) Keys(match func(key string, v V) bool) (keys []string) {
	for _, s := range t.shards {
		s.mu.RLock()
		for _, key := range s.index.Keys() {
			if p, _ := s.index.Peek(key); match(key, p.value) {
				keys = append(keys, key)
			}
		}
		s.mu.RUnlock()
	}
	return keys
}
