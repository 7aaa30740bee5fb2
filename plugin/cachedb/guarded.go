package cachedb

import (
	"errors"
	"net"
	"strconv"
)

// guarded is a connection to what speaks the protocol of redis (RESP 2). The library makes room for what a length in a
// reply announces before it has come: no length may be more than one of a record, and no line longer than the library's
// own buffer.
type guarded struct {
	net.Conn
	line []byte // what has come of the line being read
	skip int    // octets of a string that are still to come, with the line end after it
	err  error
}

const (
	mostLine  = 4096 // errors are a line
	mostArray = 2 * mostTogetherKept
)

var errLength = errors.New("the shared cache has sent more than it was asked for")

// Read implements net.Conn.
func (c *guarded) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(b)
	if c.err = c.look(b[:n]); c.err != nil {
		c.Conn.Close()
		return 0, c.err
	}
	return n, err
}

// look follows what has come.
func (c *guarded) look(b []byte) error {
	for len(b) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(b))
			c.skip, b = c.skip-n, b[n:]
			continue
		}
		octet := b[0]
		if b = b[1:]; octet != '\n' {
			if c.line = append(c.line, octet); len(c.line) > mostLine {
				return errLength
			}
			continue
		}
		if err := c.ended(); err != nil {
			return err
		}
		c.line = c.line[:0]
	}
	return nil
}

// ended judges a line.
func (c *guarded) ended() error {
	if len(c.line) == 0 {
		return nil
	}
	kind, rest := c.line[0], c.line[1:]
	if n := len(rest); n > 0 && rest[n-1] == '\r' {
		rest = rest[:n-1]
	}
	switch kind {
	case '+', '-', ':':
		return nil
	case '$', '*':
	default:
		return errLength // RESP 3 was not asked for
	}
	n, err := strconv.Atoi(string(rest))
	switch {
	case err != nil || n < -1 || kind == '$' && n > maxRecord+1 || kind == '*' && n > mostArray:
		return errLength
	case kind == '$' && n >= 0:
		c.skip = n + len("\r\n")
	}
	return nil
}
