package blobcache

import (
	"bytes"
	"errors"
	"testing"

	"hostlocal/manifest"
)

// A source that says that a blob is longer than it is, and breaks off, leaves a
// partial file that no source can complete. It must not stand in the way of the
// blob for good, whether a descriptor knows the length or nobody does.
func TestLengthThatWasALieHeals(t *testing.T) {
	for name, known := range map[string]bool{"descriptor": true, "nobody knows": false} {
		t.Run(name, func(t *testing.T) {
			h, o := newTester(t, Options{}), newOrigin(3000, 2090)
			want := func() Want {
				w := h.want(o, 0)
				if !known {
					w.Size = -1
				}
				return w
			}
			get := func() ([]byte, error) {
				b, err := h.Get(t.Context(), o.digest, want())
				if err != nil {
					return nil, err
				}
				defer b.Close()
				var out bytes.Buffer
				err = b.CopyRange(t.Context(), &out, 0, -1)
				return out.Bytes(), err
			}
			o.with(func(o *origin) { o.size = 4 * mib })
			if got, err := get(); err == nil {
				t.Fatalf("%d bytes of a blob that ended too early", len(got))
			}
			o.with(func(o *origin) { o.size = 0 })
			got, err := get()
			if err != nil { // the one that learns of it may fail; nobody after it
				h.await("the end of that fill", func() bool { return h.idle() })
				got, err = get()
			}
			h.wantRight(o, got, err)
			h.wantPresent(o)
		})
	}
}

// A descriptor says which byte is the last; a source that says it is a later one
// gets no reader of it, and of a range that ends there.
func TestLastByteOfTheDescriptorIsHeldBackFromALongerSource(t *testing.T) {
	h, o := newTester(t, Options{}), newOrigin(2*mib, 2091)
	wrong := bytes.Clone(o.bytes)
	wrong[len(wrong)-1] ^= 1
	longer := &origin{name: "upstream", bytes: append(wrong, make([]byte, mib)...), digest: o.digest, wrong: -1, stall: -1, part: 8 * mib, parallel: 1, patience: patience}
	b, err := h.Get(t.Context(), o.digest, Want{Size: 2 * mib, Offset: 2*mib - 10, Origin: "test", Sources: []Source{longer}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	if err := b.CopyRange(t.Context(), &out, 2*mib-10, 10); !errors.Is(err, manifest.ErrMismatch) || out.Len() > 9 {
		t.Fatalf("%d bytes up to the end that the descriptor says, %v", out.Len(), err)
	}
}

// idle reports whether no fill runs.
func (h *tester) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.fills) == 0
}
