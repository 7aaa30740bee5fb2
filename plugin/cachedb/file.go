package cachedb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"iter"
	"math"
	"os"
	"runtime"
	"slices"
	"sort"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/cache"
)

// A cache file has a header, records, and an index that is sorted by the hashes of their keys, so that one of them is
// found by a few small reads: nothing has to be read at the start, and nothing of the file is held in memory. Numbers
// are big-endian.
//
//	header  magic (14) version (2) offset of the index (8) records (4) CRC-32C of that (4)
//	record  octets of what follows the CRC (4) CRC-32C of it (4) stored (8) ends (8) type (2) length (1) name, message
//	index   hash (8) offset (8), for each record
const (
	magic      = "danelaw cache\n"
	version    = 1
	headerSize = len(magic) + 2 + 8 + 4 + 4
	sumsAt     = headerSize - 4
	frameSize  = 8
	slotSize   = 16
	maxRecord  = fixed + 255 + math.MaxUint16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The errors of a file that is none that may be read.
var (
	ErrForeign = errors.New("it is no cache file of danelaw")
	ErrVersion = errors.New("another danelaw has written it, in a newer form")
	ErrDamaged = errors.New("its header is damaged")
)

// File is a cache file that is open for reading. It is safe for concurrent use.
type File struct {
	file    Readable
	index   int64
	records int
}

// Readable is what a File is read from, as an *os.File.
type Readable interface {
	io.ReaderAt
	io.Closer
}

// Open reads the header of a file, and no more. The File owns f then; else it is closed. An empty file has no records.
func Open(f Readable) (*File, error) {
	d := &File{file: f}
	if err := d.readHeader(); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func (d *File) readHeader() error {
	b := make([]byte, headerSize)
	n, err := d.file.ReadAt(b, 0)
	at := len(magic)
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case string(b[:min(n, at)]) != magic[:min(n, at)]:
		return ErrForeign
	case n >= at+2 && binary.BigEndian.Uint16(b[at:]) > version:
		return fmt.Errorf("%w (%d; this one knows %d)", ErrVersion, binary.BigEndian.Uint16(b[at:]), version)
	case n < headerSize || crc32.Checksum(b[:sumsAt], castagnoli) != binary.BigEndian.Uint32(b[sumsAt:]):
		return ErrDamaged
	}
	index, records := binary.BigEndian.Uint64(b[at+2:]), binary.BigEndian.Uint32(b[at+10:])
	if index > math.MaxInt64/2 {
		return ErrDamaged
	}
	d.index, d.records = int64(index), int(records)
	return nil
}

// Close closes it.
func (d *File) Close() error { return d.file.Close() }

// Records is how many the file has, by its header.
func (d *File) Records() int { return d.records }

// hash is that of a key in any cache file. Keys that fall together on purpose cost a read each.
func hash(k cache.Key) uint64 {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint16(nil, k.Type))
	io.WriteString(h, k.Name) //nolint:errcheck // it cannot fail
	return h.Sum64()
}

// mostTogether is how many records of one hash are looked at.
const mostTogether = 4

// find returns the record of a key. What is damaged is not there.
func (d *File) find(k cache.Key) (Record, bool) {
	of := hash(k)
	at := sort.Search(d.records, func(i int) bool {
		h, _, err := d.slot(i)
		return err != nil || h >= of
	})
	for i := at; i < min(at+mostTogether, d.records); i++ {
		h, offset, err := d.slot(i)
		if err != nil || h != of {
			break
		}
		if b, _, err := d.read(offset); err == nil {
			if r, err := unpack(b); err == nil && r.Key == k {
				return r, true
			}
		}
	}
	return Record{}, false
}

// slot reads a slot of the index.
func (d *File) slot(i int) (hash uint64, offset int64, err error) {
	var b [slotSize]byte
	if _, err := d.file.ReadAt(b[:], d.index+int64(i)*slotSize); err != nil {
		return 0, 0, err
	}
	return binary.BigEndian.Uint64(b[:]), int64(binary.BigEndian.Uint64(b[8:]) & math.MaxInt64), nil
}

// read returns the packed record at an offset, and where the next one begins, if that can be told.
func (d *File) read(offset int64) (b []byte, next int64, err error) {
	var frame [frameSize]byte
	if offset < int64(headerSize) || offset >= d.index {
		return nil, 0, io.EOF
	}
	if _, err := d.file.ReadAt(frame[:], offset); err != nil {
		return nil, 0, err
	}
	octets := binary.BigEndian.Uint32(frame[:])
	if octets > uint32(maxRecord) {
		return nil, 0, errRecord
	}
	b, next = make([]byte, octets), offset+frameSize+int64(octets)
	if _, err := d.file.ReadAt(b, offset+frameSize); err != nil {
		return nil, 0, err
	}
	if crc32.Checksum(b, castagnoli) != binary.BigEndian.Uint32(frame[4:]) {
		err = errRecord
	}
	return b, next, err
}

// all are the records of the file, as they lie there. What is damaged is left out.
func (d *File) all() iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for at := int64(headerSize); ; {
			b, next, err := d.read(at)
			if next == 0 {
				return
			}
			at = next
			if r, damaged := unpack(b); err == nil && damaged == nil && !yield(r) {
				return
			}
		}
	}
}

// writer writes a cache file.
type writer struct {
	to    *bufio.Writer
	at    int64
	most  int64 // octets of the file
	index []byte
	seen  map[uint64]struct{}
	b     []byte // memory for the next record
	err   error
}

// Written tells of a file that was written.
type Written struct {
	Records int
	Octets  int64
	At      time.Time // by the clock of the host
}

// Write writes a cache file of at most so many octets: what is fresh, and what of old, which may be nil, is alive and
// not forgotten, whether it was looked at or not. It is not in a hurry.
func Write(to *os.File, most int64, now time.Time, fresh iter.Seq2[cache.Key, *cache.Entry],
	old iter.Seq[Record]) (Written, error) {
	w := &writer{
		to: bufio.NewWriterSize(to, 1<<16), at: int64(headerSize), most: most, seen: map[uint64]struct{}{},
	}
	w.to.Write(make([]byte, headerSize)) //nolint:errcheck // Flush tells
	for k, e := range fresh {
		if !w.add(recordOf(k, e, now)) {
			break
		}
	}
	for r := range old {
		if r.alive(now) && !w.add(r) {
			break
		}
	}
	return w.finish(to)
}

// add writes a record, unless there is one of its key already. It reports whether there is room for more.
func (w *writer) add(r Record) bool {
	of := hash(r.Key)
	if _, there := w.seen[of]; there || len(r.Key.Name) > 255 {
		return true
	}
	w.b = r.pack(w.b[:0])
	octets := int64(frameSize + len(w.b))
	if w.at+octets+int64(len(w.index)+slotSize) > w.most || w.err != nil {
		return false
	}
	var frame [frameSize]byte
	binary.BigEndian.PutUint32(frame[:], uint32(len(w.b)))
	binary.BigEndian.PutUint32(frame[4:], crc32.Checksum(w.b, castagnoli))
	w.to.Write(frame[:]) //nolint:errcheck // the next tells too
	_, w.err = w.to.Write(w.b)
	w.seen[of] = struct{}{}
	w.index = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(w.index, of), uint64(w.at))
	w.at += octets
	if len(w.seen)%64 == 0 {
		runtime.Gosched() // questions go first
	}
	return w.err == nil
}

// finish writes the index and the header.
func (w *writer) finish(to *os.File) (Written, error) {
	slots := make([][slotSize]byte, len(w.index)/slotSize)
	for i := range slots {
		copy(slots[i][:], w.index[i*slotSize:])
	}
	slices.SortFunc(slots, func(a, b [slotSize]byte) int { return slices.Compare(a[:], b[:]) })
	for _, slot := range slots {
		w.to.Write(slot[:]) //nolint:errcheck // Flush tells
	}
	header := binary.BigEndian.AppendUint16([]byte(magic), version)
	header = binary.BigEndian.AppendUint64(header, uint64(w.at))
	header = binary.BigEndian.AppendUint32(header, uint32(len(slots)))
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	err := w.to.Flush()
	if err == nil {
		_, err = to.WriteAt(header, 0)
	}
	return Written{len(slots), w.at + int64(len(w.index)), time.Now()}, errors.Join(w.err, err)
}
