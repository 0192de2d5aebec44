package manifest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestReadAsksForRoomBeforeItReadsALargeBody(t *testing.T) {
	refuse := errors.New("no room")
	for _, c := range []struct {
		name      string
		size      int   // of the body
		said      int64 // of its size
		asked     int64 // what Need is asked for, 0: nothing
		err       error // with a Need that agrees
		sentFirst int   // bytes that are read before the Need is asked
	}{
		{"ordinary", 2000, 2000, 0, nil, 0},
		{"ordinary, of unknown size", 2000, -1, 0, nil, 0},
		{"empty", 0, 0, 0, nil, 0},
		{"at the bound", Small, Small, 0, nil, 0},
		{"at the bound, of unknown size", Small, -1, 0, nil, 0},
		{"large", Small + 1, Small + 1, Small + 1, nil, 0},
		{"large, of unknown size", Small + 1, -1, MaxSize, nil, Small + 1},
		{"largest", MaxSize, MaxSize, MaxSize, nil, 0},
		{"largest, of unknown size", MaxSize, -1, MaxSize, nil, Small + 1},
		{"too large", MaxSize + 1, MaxSize + 1, 0, ErrTooLarge, 0},
		{"too large, of unknown size", MaxSize + 1, -1, MaxSize, ErrTooLarge, Small + 1},
		{"shorter than said", 2000, 2001, 0, io.ErrUnexpectedEOF, 0},
		{"nothing of what was said", 0, 2001, 0, io.ErrUnexpectedEOF, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := []byte(strings.Repeat("x", c.size))
			var asked int64
			agree := WithNeed(t.Context(), func(n int64) error { asked = n; return nil })
			got, err := Read(agree, bytes.NewReader(body), c.said)
			if !errors.Is(err, c.err) || c.err == nil && !bytes.Equal(got, body) || asked != c.asked {
				t.Errorf("%d bytes, %v; asked for %d", len(got), err, asked)
			}
			if got, err = Read(context.Background(), bytes.NewReader(body), c.said); !errors.Is(err, c.err) || c.err == nil && !bytes.Equal(got, body) {
				t.Errorf("without a Need: %d bytes, %v", len(got), err)
			}
			if c.asked == 0 {
				return
			}
			r := bytes.NewReader(body)
			_, err = Read(WithNeed(t.Context(), func(int64) error { return refuse }), r, c.said)
			if read := c.size - r.Len(); err != refuse || read != c.sentFirst {
				t.Errorf("%v after %d bytes", err, read)
			}
		})
	}
}
