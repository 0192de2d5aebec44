package loadtest

import (
	"math"
	"time"

	"hostlocal/manifest"
)

// blob fetches d as the profile does. first marks the layer whose first byte is
// measured.
func (c *client) blob(d manifest.Descriptor, layer, first bool) error {
	switch {
	case layer && c.lazy && d.Size > lazyLeast:
		return c.pieces(d, first)
	case layer && c.from && d.Size > rangeChunk:
		return c.ranges(d, first)
	}
	c.wanted.whole(d.Digest, d.Size)
	q := request{kind: "blob", method: "GET", path: c.at("blobs", d.Digest.String())}
	if c.from {
		q.kind, q.span = "range", "bytes=0-"
	}
	x, err := c.do(q)
	if err != nil {
		return err
	}
	if x.StatusCode != 200 && !(x.StatusCode == 206 && c.from) {
		return x.refuse()
	}
	return x.end(c.whole(x, d, layer, first))
}

// whole reads a body that must be all of d.
func (c *client) whole(x *exchange, d manifest.Descriptor, layer, first bool) error {
	size := d.Length()
	limit := int64(math.MaxInt64)
	if size >= 0 {
		limit = size + 1 // so that a longer body shows
	}
	var sink func([]byte)
	hash := d.Digest.Algorithm().New()
	if c.verify {
		sink = func(b []byte) { hash.Write(b) }
	}
	if first {
		sink = c.firstByte(x.result.began, sink)
	}
	if err := x.read(limit, sink, layer); err != nil {
		return err
	}
	if size >= 0 && x.body != size {
		return failed("wrong length", "GET %s: %d bytes or more (Content-Length %d), and the manifest says %d", x.result.url, x.body, x.ContentLength, size)
	}
	if !c.verify {
		return nil
	}
	if got := d.Digest.Algorithm().Sum(hash); got != d.Digest {
		return failed("wrong digest", "GET %s: %d bytes of %s", x.result.url, x.body, got)
	}
	c.verified.Add(x.body)
	return nil
}

// firstByte returns sink with a note of when it was first called.
func (c *client) firstByte(asked time.Time, sink func([]byte)) func([]byte) {
	return func(b []byte) {
		c.first.CompareAndSwap(0, max(int64(time.Since(asked)), 1))
		if sink != nil {
			sink(b)
		}
	}
}
