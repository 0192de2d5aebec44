package s3store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"hostlocal/manifest"
)

// OpenBlob asks for n bytes of a blob from byte off on; n < 0 asks for all that
// follow. One range is one exchange: nothing is looked up before. from is off, and
// size is the length of the whole object in bytes, as the bucket says it.
//
// The bytes are not verified. A body that is cut goes on by itself where it ended;
// one that stalls fails within seconds, and so does one whose object was removed,
// with an error that wraps fs.ErrNotExist. If the object was replaced meanwhile
// the body goes on with the new one: under a digest only wrong bytes are ever
// replaced, and whoever hashes finds out.
//
// At most 32 bodies are open on a host; a call waits for its turn. The caller
// closes the body, which ends the exchange. ctx bounds it all.
func (s *Store) OpenBlob(ctx context.Context, d manifest.Digest, off, n int64) (body io.ReadCloser, from, size int64, err error) {
	if off < 0 || n == 0 {
		return nil, 0, 0, fmt.Errorf("a range of %d bytes at %d: %w", n, off, fs.ErrInvalid)
	}
	if err := s.health.allow(); err != nil {
		return nil, 0, 0, err // rather than wait for a turn first
	}
	slot, err := s.slots.take(ctx, d, n)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("reading %s: %w", d, err)
	}
	b := &blobBody{s: s, ctx: ctx, slot: slot, d: d, key: s.blobKey(d), off: off}
	obj, err := b.open(n)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusRequestedRangeNotSatisfiable && off == 0 {
		// S3 has no range of an empty object.
		slot.giveBack()
		return io.NopCloser(strings.NewReader("")), 0, 0, nil
	}
	if err != nil {
		slot.giveBack()
		return nil, 0, 0, fmt.Errorf("reading %s: %w", d, err)
	}
	b.size, b.end = obj.Size, obj.Size
	if n >= 0 {
		b.end = min(b.end, off+n)
	}
	s.sawETag(d, obj.ETag)
	slot.pause()
	return b, off, obj.Size, nil
}

// freeProgress is how much an exchange must bring for its continuation to cost
// nothing of the retry budget: it is then no repetition.
const freeProgress = 1 << 20

// blobBody is a range of a blob that continues itself. One goroutine reads it.
type blobBody struct {
	s    *Store
	ctx  context.Context
	slot *slot
	d    manifest.Digest
	key  string
	etag string // of the object that cur reads

	off, end, size int64 // the next byte, the first that is not wanted, the object's length
	cur            io.ReadCloser
	cancel         context.CancelFunc // of cur
	got            int64              // bytes that cur brought
	attempts       int                // continuations in a row that brought little
	err            error
}

func (b *blobBody) Read(p []byte) (int, error) {
	if b.err != nil || b.off >= b.end {
		return 0, cmp.Or(b.err, io.EOF)
	}
	if err := b.slot.use(b.ctx); err != nil {
		return 0, fmt.Errorf("reading %s at byte %d: %w", b.d, b.off, err)
	}
	defer b.slot.pause()
	for {
		switch {
		case b.err != nil:
			return 0, b.err
		case len(p) == 0:
			return 0, nil
		case b.cur == nil:
			if b.err = b.resume(); b.err != nil {
				return 0, b.err
			}
		}
		n, err := b.cur.Read(p[:min(int64(len(p)), b.end-b.off)])
		b.off += int64(n)
		b.got += int64(n)
		if b.off >= b.end {
			return n, io.EOF
		}
		if err != nil {
			b.hangUp()
			b.err = b.final(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// final returns the error that ends the body, or nil if it should go on. A stall
// is final: the reader has waited for seconds, and another source may be at hand.
func (b *blobBody) final(err error) error {
	switch {
	case b.ctx.Err() != nil:
		return b.ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.s.judge(b.ctx, err, maxPatience)
	case b.got >= freeProgress:
		b.attempts = 0
		return nil
	default:
		b.attempts++
		if b.attempts < maxAttempts && b.s.retry.take() {
			return nil
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %s at byte %d: %w", b.d, b.off, err)
}

// resume opens the object again for what is missing.
func (b *blobBody) resume() error {
	obj, err := b.open(b.end - b.off)
	if errors.Is(err, ErrPrecondition) {
		b.etag = ""
		obj, err = b.open(b.end - b.off)
	}
	if err == nil && obj.Size != b.size {
		b.hangUp()
		err = fmt.Errorf("its length changed from %d to %d bytes", b.size, obj.Size)
	}
	if err != nil {
		return fmt.Errorf("resuming %s at byte %d: %w", b.d, b.off, err)
	}
	b.s.sawETag(b.d, obj.ETag)
	return nil
}

// open begins an exchange for n bytes from b.off on.
func (b *blobBody) open(n int64) (obj Object, err error) {
	bounded, cancel := context.WithTimeoutCause(b.ctx, readLimit, errSilent)
	defer cancel()
	start := time.Now()
	err = b.s.exchange(bounded, answerLimit, func(attempt context.Context) error {
		start = time.Now()
		// The attempt's context bounds the wait for the answer, the body lives on.
		ctx, cancel := context.WithCancel(b.ctx)
		stop := context.AfterFunc(attempt, cancel)
		body, o, err := b.s.bucket.Get(ctx, b.key, b.off, n, b.etag)
		if err == nil && !stop() {
			body.Close()
			err = context.Cause(attempt)
		}
		if err != nil {
			stop()
			cancel()
			return err
		}
		b.cur, b.cancel, b.got, b.etag, obj = body, cancel, 0, o.ETag, o
		return nil
	})
	if err != nil {
		return Object{}, b.s.asMiss(err)
	}
	b.s.first.add(time.Since(start))
	return obj, nil
}

// hangUp ends the exchange, if there is one.
func (b *blobBody) hangUp() {
	if b.cur != nil {
		b.cur.Close()
		b.cancel()
		b.cur = nil
	}
}

func (b *blobBody) Close() error {
	if b.err == fs.ErrClosed {
		return nil
	}
	b.hangUp()
	b.err = fs.ErrClosed
	b.slot.giveBack()
	return nil
}

// StatBlob returns a blob's length in bytes, as the bucket says it.
func (s *Store) StatBlob(ctx context.Context, d manifest.Digest) (int64, error) {
	obj, err := s.stat(ctx, s.blobKey(d))
	if err != nil {
		return 0, fmt.Errorf("looking for %s: %w", d, err)
	}
	return obj.Size, nil
}

func (s *Store) stat(ctx context.Context, key string) (obj Object, err error) {
	err = s.read(ctx, func(ctx context.Context) (err error) {
		obj, err = s.bucket.Stat(ctx, key)
		return err
	})
	return obj, s.asMiss(err)
}
