package manifest

import (
	"context"
	"errors"
	"io"
)

// Small is the size in bytes up to which a manifest is an ordinary one. Those of
// images take 1 to 12 KiB, the indexes of the most platforms 20; what is larger is
// rare enough that whoever reads it may be made to wait.
const Small = 64 << 10

// ErrTooLarge is wrapped by the error about a body of more than MaxSize bytes.
var ErrTooLarge = errors.New("larger than a manifest may be")

// A Need is asked for memory before more than Small bytes of a manifest are read:
// n is how many there may be in all. Its error is why they are not read.
type Need func(n int64) error

type needKey struct{}

// WithNeed has need be asked by those who read a manifest under ctx. Read does, at
// the far end of a client or a store, which know the size only from the answer.
func WithNeed(ctx context.Context, need Need) context.Context {
	return context.WithValue(ctx, needKey{}, need)
}

// Read reads a manifest from r to its end, at most MaxSize bytes. size is what is
// said of its length, -1 if nothing is; a body that is shorter is an error that
// wraps io.ErrUnexpectedEOF, of one that is longer what is beyond size is not read. The
// error of a Need is returned as it is.
func Read(ctx context.Context, r io.Reader, size int64) ([]byte, error) {
	need, ok := ctx.Value(needKey{}).(Need)
	if !ok {
		need = func(int64) error { return nil }
	}
	switch {
	case size > MaxSize:
		return nil, ErrTooLarge
	case size > Small:
		if err := need(size); err != nil {
			return nil, err
		}
		fallthrough
	case size >= 0:
		b := make([]byte, size)
		_, err := io.ReadFull(r, b)
		if err == io.EOF && size > 0 {
			err = io.ErrUnexpectedEOF
		}
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(r, Small+1))
	if err != nil || len(b) <= Small {
		return b, err
	}
	if err := need(MaxSize); err != nil {
		return nil, err
	}
	all := append(make([]byte, 0, MaxSize+1), b...)
	for len(all) < cap(all) {
		n, err := r.Read(all[len(all):cap(all)])
		all = all[:len(all)+n]
		if err == io.EOF {
			return append([]byte(nil), all...), nil // of its own size: it may be kept
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, ErrTooLarge
}
