package registryd

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// receiveStep is how much of a body comes under one read deadline, in bytes. With
// StallLimit, a minute, a client must send 1 KiB/s: the slowest honest ones send 16,
// and may pause while they compress. One that sends a byte a minute is ended.
const receiveStep = 64 << 10

// A received is the body of a request as it comes in: as many bytes as were announced,
// and a client that stops sending is ended. It remembers what was wrong with it, to be
// told from what is wrong with this disk.
type received struct {
	body     io.Reader
	deadline interface{ SetReadDeadline(time.Time) error } // nil: none to be set
	stall    time.Duration
	length   int64 // announced, in bytes; -1: not
	left     int64 // that may come
	err      error // what Read returned last, if not nil

	step int64     // bytes until the deadline is renewed
	back time.Time // when Read last returned
	one  [1]byte
}

// What is wrong with a body that does not have the announced length.
var (
	errTooMuch  error = errcode.ErrorCodeSizeInvalid.WithMessage("more bytes came than Content-Range announced; those that it announced were kept: ask with a GET how far the upload has come")
	errTooLarge error = errcode.ErrorCodeSizeInvalid.WithMessage(fmt.Sprintf("the blob would be larger than %d bytes, which none may be here", int64(maxUpload)))
)

// newReceived is the body of r, whose first byte belongs at have of an upload.
func newReceived(w *response, r *http.Request, have int64, stall time.Duration) (*received, error) {
	b := &received{body: r.Body, stall: stall, length: r.ContentLength, left: maxUpload - have}
	b.deadline, _ = w.ResponseWriter.(interface{ SetReadDeadline(time.Time) error })
	if r.Body == nil {
		b.body = http.NoBody
	}
	if s := r.Header.Get("Content-Range"); s != "" {
		n, err := chunk(s, have)
		switch {
		case err != nil:
			return nil, err
		case b.length >= 0 && b.length != n:
			return nil, errcode.ErrorCodeSizeInvalid.WithMessage(fmt.Sprintf("Content-Range announces %d bytes and Content-Length %d; nothing was kept", n, b.length))
		}
		b.length = n
	}
	switch {
	case b.length > b.left:
		return nil, errTooLarge
	case b.length >= 0:
		b.left = b.length
	}
	return b, nil
}

// chunk reads a Content-Range, which must begin at have, and returns its length. The
// specification's form is "0-99"; "bytes 0-99/*", as HTTP has it, means the same.
func chunk(s string, have int64) (int64, error) {
	s, _, _ = strings.Cut(strings.TrimSpace(strings.TrimPrefix(s, "bytes")), "/")
	from, to, ok := strings.Cut(s, "-")
	start, err := strconv.ParseUint(from, 10, 62)
	end, err2 := strconv.ParseUint(to, 10, 62)
	switch {
	case !ok || err != nil || err2 != nil || end < start:
		return 0, errcode.ErrorCodeRangeInvalid.WithMessage("Content-Range is not <first byte>-<last byte>")
	case int64(start) != have:
		return 0, errcode.ErrorCodeRangeInvalid.WithMessage(fmt.Sprintf("the chunk begins at byte %d, but byte %d comes next", start, have))
	}
	return int64(end-start) + 1, nil
}

// Read implements io.Reader.
func (b *received) Read(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left > 0:
		n, err = b.next(p[:min(int64(len(p)), b.left)])
		if b.left -= int64(n); err == io.EOF && b.left > 0 && b.length >= 0 {
			err = io.ErrUnexpectedEOF
		}
	default:
		err = b.end()
	}
	b.err = err
	return n, err
}

// end demands that nothing follows.
func (b *received) end() error {
	for {
		n, err := b.next(b.one[:])
		switch {
		case n > 0 && b.length >= 0:
			return errTooMuch
		case n > 0:
			return errTooLarge
		case err != nil:
			return err
		}
	}
}

// next reads from the client. The time that others take, a disk that is busy perhaps,
// is not the client's.
func (b *received) next(p []byte) (int, error) {
	now := time.Now()
	if b.deadline != nil && (b.step <= 0 || now.Sub(b.back) > time.Second) {
		b.deadline.SetReadDeadline(now.Add(b.stall)) // fails on a dead connection; the read will say so
		b.step = receiveStep
	}
	n, err := b.body.Read(p)
	b.step -= int64(n)
	b.back = time.Now()
	return n, err
}

// done ends the receiving: what is done next has bounds of its own.
func (b *received) done() {
	if b.deadline != nil {
		b.deadline.SetReadDeadline(time.Time{}) // likewise
	}
}

// failure is what err, with which the reading of b ended, means: something is wrong
// with the body, or with who took it.
func (b *received) failure(err error) error {
	var coded errcode.Error
	switch {
	case err == nil, b.err == nil, b.err == io.EOF, errors.As(b.err, &coded):
		return err
	}
	return brokenBody{b.err}
}

// A brokenBody is a request whose body broke off.
type brokenBody struct{ err error }

func (e brokenBody) Error() string {
	if e.stalled() {
		return "nothing of the body came for too long; what came was kept: ask with a GET how far the upload has come, and go on there"
	}
	return fmt.Sprintf("the body broke off (%v); what came was kept: ask with a GET how far the upload has come, and go on there", e.err)
}

func (e brokenBody) stalled() bool { return errors.Is(e.err, os.ErrDeadlineExceeded) }
