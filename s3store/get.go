package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

var errAnswer = errors.New("the store's answer contradicts the request")

// rangeHeader is the Range for n bytes from off on; empty for all, because an
// empty object has no range.
func rangeHeader(off, n int64) string {
	switch {
	case n > 0:
		return fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	case off > 0:
		return fmt.Sprintf("bytes=%d-", off)
	}
	return ""
}

// expect reads from the answer's header how many bytes its body has and how large
// the object is. It refuses an answer that is not the one that was asked for, or
// does not say its length: without one a body that was cut cannot be told from a
// whole one (both SDKs return no error then).
func expect(x *exchange, off, n int64) (length, size int64, err error) {
	length, lengthErr := parseSize(x.header.Get("Content-Length"))
	if rangeHeader(off, n) == "" {
		if x.status != http.StatusOK || lengthErr != nil {
			return 0, 0, fmt.Errorf("%w: status %d, Content-Length %q", errAnswer, x.status, x.header.Get("Content-Length"))
		}
		return length, length, nil
	}
	cr := x.header.Get("Content-Range")
	first, last, size, rangeErr := parseContentRange(cr)
	switch {
	case x.status != http.StatusPartialContent:
		return 0, 0, fmt.Errorf("%w: status %d to a range", errAnswer, x.status)
	case rangeErr != nil:
		return 0, 0, rangeErr
	case first != off, last != size-1 && (n < 0 || last != off+n-1), n > 0 && last > off+n-1:
		return 0, 0, fmt.Errorf("%w: Content-Range %.80q for %s", errAnswer, cr, rangeHeader(off, n))
	case lengthErr == nil && length != last-first+1:
		return 0, 0, fmt.Errorf("%w: Content-Length %d with Content-Range %.80q", errAnswer, length, cr)
	}
	return last - first + 1, size, nil
}

// parseContentRange takes "bytes first-last/size" with first <= last < size.
func parseContentRange(s string) (first, last, size int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if ok && ok2 && ok3 {
		var e1, e2, e3 error
		first, e1 = parseSize(from)
		last, e2 = parseSize(to)
		size, e3 = parseSize(total)
		if errors.Join(e1, e2, e3) == nil && first <= last && last < size {
			return first, last, size, nil
		}
	}
	return 0, 0, 0, fmt.Errorf("%w: Content-Range %.80q", errAnswer, s)
}

// parseSize takes a count of bytes in plain digits.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// An exact body ends well after exactly left bytes, and in no other way.
type exact struct {
	x    *exchange
	body io.ReadCloser
	left int64
}

func (b *exact) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		// One byte more than is left makes an over-long body show.
		p = p[:min(int64(len(p)), b.left+1)]
	}
	n, err := b.body.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), fmt.Errorf("%w: more bytes than announced", errAnswer)
	}
	b.left -= int64(n)
	switch {
	case err == io.EOF && b.left > 0:
		return n, b.broken(io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF:
		return n, b.broken(err)
	}
	return n, err
}

// broken says why, as an Error: the exchange went wrong after its header.
func (b *exact) broken(err error) error {
	if stalled := context.Cause(b.x.ctx); errors.Is(stalled, errStalled) {
		err = stalled
	}
	return newError(b.x.caller, b.x.op, b.x.key, 0, "", false, fmt.Errorf("%d bytes before the end: %w", b.left, err))
}

func (b *exact) Close() error {
	err := b.body.Close()
	b.x.end()
	return err
}
