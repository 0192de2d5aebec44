package blobcache

import (
	"context"
	"io"
	"time"
)

// A Source has the bytes of one blob, or says that it does not. It is bound to
// its blob, and the cache calls it from several goroutines at once.
type Source interface {
	// Name is "store" or "upstream": the word under which metrics, logs and the
	// X-Registryd-Source header know the source.
	Name() string

	// Open asks for n bytes of the blob from byte off on; n < 0 asks for all
	// that follow. The body begins at byte from of the blob: at off, or at 0 if
	// the source does not serve ranges and sends everything. size is the length
	// of the whole blob in bytes, -1 if the source did not say. A size that is
	// known is what was said on the wire, never what the caller hoped for.
	//
	// The body need not be right, complete or bounded: the cache counts and
	// hashes. It may end early with any error; the cache then opens the source
	// again for what is missing. A read from it that makes no progress fails
	// within seconds (the source bounds its own stalls), and closing it, which
	// the caller must do, ends the exchange at once.
	//
	// An error that wraps fs.ErrNotExist says that the source does not have the
	// blob, one that wraps fs.ErrPermission that it will not give it, one that
	// wraps fs.ErrInvalid that the blob has no byte at off; any other that it could
	// not be asked, after whatever retries the source found right.
	// Open is bounded in time by the source itself.
	Open(ctx context.Context, off, n int64) (body io.ReadCloser, from, size int64, err error)
}

// A Planner is a Source that says how it likes to be asked. One that is not a
// Planner gets one request for the whole blob, and more only where a reader waits
// far from it.
type Planner interface {
	// Plan returns how many bytes to ask for at a time and how many requests
	// may be in flight for one blob of size bytes.
	Plan(size int64) (part int64, parallel int)
	// Patience is how long the first Open may be silent before the next source
	// is asked as well; whichever answers first is used.
	Patience() time.Duration
}
