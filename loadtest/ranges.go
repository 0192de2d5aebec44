package loadtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"sync/atomic"

	"hostlocal/manifest"
)

const (
	// rangeChunk is what containerd 2.1 reads of each range before it drops the
	// connection: its concurrent_layer_fetch_buffer as its documentation sets it.
	rangeChunk = 8 << 20

	// rangesAtOnce is how many of them it has under way for one layer.
	rangesAtOnce = 8
)

// ranges fetches a layer as containerd 2.1 does: the first request asks for
// bytes=0-, and if it is answered with 206, further ones ask for bytes=8388608-,
// bytes=16777216- and so on, all open to the end. Each is read for 8 MiB and then
// hung up on.
func (c *client) ranges(d manifest.Descriptor, first bool) error {
	c.wanted.whole(d.Digest, d.Size)
	count := int((d.Size + rangeChunk - 1) / rangeChunk)
	sums := make([][sha256.Size]byte, count)
	var spool *spool
	if c.verify {
		spool = c.spools.begin(d)
		defer spool.end()
	}
	x, err := c.span(d, 0, d.Size)
	if err != nil {
		return err
	}
	if x.StatusCode == 200 {
		return x.end(c.whole(x, d, true, first))
	}
	var next atomic.Int64
	var flight flight
	rest := func() error {
		for {
			i := int(next.Add(1))
			if i >= count || flight.failed() {
				return nil
			}
			x, err := c.span(d, int64(i)*rangeChunk, d.Size)
			if err != nil {
				return err
			}
			if x.StatusCode != 206 {
				return x.refuse()
			}
			if err := c.piece(x, d, i, sums, spool, false); err != nil {
				return err
			}
		}
	}
	for range min(rangesAtOnce, count) - 1 {
		flight.run(c.cancel, rest)
	}
	if err = c.piece(x, d, 0, sums, spool, first); err == nil {
		err = rest()
	}
	flight.note(err, c.cancel)
	if err := flight.wait(); err != nil {
		return err
	}
	return c.claim(d, sums, spool)
}

// piece reads range i and ends its exchange.
func (c *client) piece(x *exchange, d manifest.Descriptor, i int, sums [][sha256.Size]byte, spool *spool, first bool) error {
	at := int64(i) * rangeChunk
	size := min(rangeChunk, d.Size-at)
	var sink func([]byte)
	hash := sha256.New()
	if c.verify {
		sink = func(b []byte) {
			hash.Write(b)
			spool.write(at, b)
			at += int64(len(b))
		}
	}
	if first {
		sink = c.firstByte(x.result.began, sink)
	}
	err := x.read(size, sink, true)
	hash.Sum(sums[i][:0])
	return x.end(err)
}

// span asks for the bytes of d from one on, open to the end. The answer is a 206
// of exactly those, or a 200.
func (c *client) span(d manifest.Descriptor, from, size int64) (*exchange, error) {
	return c.section(d, fmt.Sprintf("bytes=%d-", from), from, size-1, size)
}

// section asks for a range and checks that a 206 is of from to last. A status that
// is neither 206 nor 200 is a failure.
func (c *client) section(d manifest.Descriptor, span string, from, last, size int64) (*exchange, error) {
	x, err := c.do(request{kind: "range", method: "GET", path: c.at("blobs", d.Digest.String()), span: span})
	if err != nil {
		return nil, err
	}
	switch x.StatusCode {
	case 200:
		return x, nil
	case 206:
		got, want := x.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", from, last, size)
		if got != want || x.ContentLength >= 0 && x.ContentLength != last-from+1 {
			return nil, x.end(failed("wrong range", "GET %s, %s: %q of %d bytes, not %q", x.result.url, span, got, x.ContentLength, want))
		}
		return x, nil
	}
	return nil, x.refuse()
}

// A claim is what a client got of one layer in ranges: the hash over the hashes of
// its ranges. Which one is right is known when one client's bytes have been hashed
// in order.
type claim struct {
	digest manifest.Digest
	size   int64
	sum    [sha256.Size]byte
}

// claim notes what was got, and judges it if this client spooled it.
func (c *client) claim(d manifest.Descriptor, sums [][sha256.Size]byte, spool *spool) error {
	if !c.verify {
		return nil
	}
	all := sha256.New()
	for _, s := range sums {
		all.Write(s[:])
	}
	k := claim{digest: d.Digest, size: d.Size}
	all.Sum(k.sum[:0])
	if err := spool.judge(k); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = append(c.claims, k)
	return nil
}

// judge compares claims with what was found to be right, when all pulls are over.
// It returns how many bytes are verified by it, and the claim that is wrong, if one
// is.
func (s *spools) judge(claims []claim) (verified int64, wrong *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range claims {
		right, known := s.right[k.digest]
		switch {
		case !known:
		case bytes.Equal(right[:], k.sum[:]):
			verified += k.size
		case wrong == nil:
			wrong = &k
		}
	}
	return verified, wrong
}
