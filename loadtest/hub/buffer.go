package hub

import (
	"sync"
	"sync/atomic"
)

// Contents are generated into buffers that are lent for as long as a body is being
// sent, a slow client's too. 128 KiB make a write to a socket cheap beside what it
// carries; thousands of bodies at once get 16 KiB each, which costs an eighth of the
// speed and keeps 5,000 of them below 120 MB.
const (
	largeBuffer = 128 << 10
	smallBuffer = 16 << 10
	maxLarge    = 256 // large buffers that are lent at once: 32 MiB
)

var (
	large = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	small = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	lent  atomic.Int64 // large ones
)

// borrow returns a buffer, and what gives it back.
func borrow() (buf []byte, give func()) {
	if lent.Add(1) > maxLarge {
		lent.Add(-1)
		b := small.Get().(*[smallBuffer]byte)
		return b[:], func() { small.Put(b) }
	}
	b := large.Get().(*[largeBuffer]byte)
	return b[:], func() { large.Put(b); lent.Add(-1) }
}
