package upstream

import (
	"io"
	"testing"

	"hostlocal/registryd/upstream/hubtest"
)

// BenchmarkOpenBlob reads a blob from a hub in the same process, which makes its
// bytes meanwhile.
func BenchmarkOpenBlob(b *testing.B) {
	hub := hubtest.New(b)
	l := hub.AddImage("library/app", "v1", hub.Layer(256<<20)).Layers[0]
	c, err := New(Config{URL: hub.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 256<<10)
	b.SetBytes(l.Size)
	b.ReportAllocs()
	for b.Loop() {
		r, _, _, err := c.OpenBlob(b.Context(), "library/app", l.Digest, 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf)
		if n != l.Size || err != nil {
			b.Fatalf("%d bytes, %v", n, err)
		}
		r.Close()
	}
}

// BenchmarkHead revalidates a tag.
func BenchmarkHead(b *testing.B) {
	hub := hubtest.New(b)
	hub.AddImage("library/app", "v1")
	c, err := New(Config{URL: hub.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Head(b.Context(), "library/app", "v1"); err != nil {
			b.Fatal(err)
		}
	}
}
