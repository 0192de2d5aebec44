package loadtest

import (
	"fmt"

	"hostlocal/manifest"
)

// What a lazy snapshotter reads of a layer before and while a container starts. It
// cannot check these bytes against the layer's digest, so here they count as
// received and not as verified.
const (
	lazyLeast  = 256 << 10 // bytes; smaller layers are fetched whole
	lazyFooter = 51        // bytes of eStargz's footer (stargz-snapshotter, docs/estargz.md)
	lazyPiece  = 128 << 10 // bytes that one read of a file asks for
	lazyShare  = 0.064     // of an image's bytes are read while it starts (Slacker, FAST 2016)
)

// pieces reads a layer as a lazy snapshotter does: its footer, the table of
// contents before that, and pieces here and there.
func (c *client) pieces(d manifest.Descriptor, first bool) error {
	toc := min(max(d.Size/100, 16<<10), 1<<20)
	if err := c.bit(d, d.Size-lazyFooter, lazyFooter, first); err != nil {
		return err
	}
	if err := c.bit(d, d.Size-lazyFooter-toc, toc, false); err != nil {
		return err
	}
	random := c.rand()
	for range max(int(float64(d.Size)*lazyShare/lazyPiece), 1) {
		at := random.Int64N(d.Size - lazyPiece)
		if err := c.bit(d, at, lazyPiece, false); err != nil {
			return err
		}
	}
	return nil
}

// bit reads n bytes at an offset.
func (c *client) bit(d manifest.Descriptor, at, n int64, first bool) error {
	c.wanted.part(d.Digest, d.Size, at, n)
	x, err := c.section(d, fmt.Sprintf("bytes=%d-%d", at, at+n-1), at, at+n-1, d.Size)
	if err != nil {
		return err
	}
	if x.StatusCode == 200 {
		return x.end(failed("wrong range", "GET %s: the whole layer for a range", x.result.url))
	}
	sink := func([]byte) {}
	if first {
		sink = c.firstByte(x.result.began, nil)
	}
	return x.end(x.read(n, sink, true))
}
