package hub

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"

	"hostlocal/manifest"
)

// A Content is the bytes of one blob: given, or generated on the fly from a seed
// so that a blob of gigabytes takes no memory. Each generated 8-byte word follows
// from the seed and its own offset alone, so a hole, a shift or a doubled span
// shows at the first wrong byte and any range is made without what precedes it.
type Content struct {
	Digest manifest.Digest
	Size   int64 // bytes
	seed   uint64
	bytes  []byte // of a literal; nil if generated
}

// Literal returns a blob of exactly these bytes.
func Literal(b []byte) Content {
	if b == nil {
		b = []byte{}
	}
	return Content{Digest: manifest.DigestOf(b), Size: int64(len(b)), bytes: b}
}

// Generated returns the blob of size bytes that seed makes: the same bytes in
// every process.
func Generated(seed uint64, size int64) Content {
	c := Content{Size: size, seed: seed}
	c.Digest = digestOf(c)
	return c
}

// digests remembers what was hashed: benchmarks and storms build the same large
// images again and again in one process.
var digests sync.Map // of digestKey to manifest.Digest

type digestKey struct {
	seed uint64
	size int64
}

func digestOf(c Content) manifest.Digest {
	key := digestKey{c.seed, c.Size}
	if d, ok := digests.Load(key); ok {
		return d.(manifest.Digest)
	}
	h := manifest.SHA256.New()
	io.Copy(h, io.NewSectionReader(c, 0, c.Size))
	d := manifest.SHA256.Sum(h)
	digests.Store(key, d)
	return d
}

// word is splitmix64 at position i of the stream that seed starts.
func word(seed uint64, i int64) uint64 {
	return mix(seed + (uint64(i)+1)*gamma)
}

// gamma is splitmix64's step.
const gamma uint64 = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// ReadAt implements io.ReaderAt.
func (c Content) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.Size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), c.Size-off))
	if c.bytes != nil {
		copy(p, c.bytes[off:off+int64(n)])
	} else {
		generate(p[:n], c.seed, off)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// generate fills p with the bytes from off on of the stream that seed starts. Each
// byte is told to the race detector when p is read, by whoever sends or hashes it:
// here it would take several times as long as the bytes do.
//
//go:norace
func generate(p []byte, seed uint64, off int64) {
	i := off / 8
	if skip := int(off % 8); skip != 0 {
		var first [8]byte
		binary.LittleEndian.PutUint64(first[:], word(seed, i))
		p = p[copy(p, first[skip:]):]
		i++
	}
	step := uint64(gamma) // a variable: its multiples wrap around
	z := seed + uint64(i)*step
	for ; len(p) >= 32; p = p[32:] { // four independent chains keep the multipliers busy
		b := p[:32:32]
		z1, z2, z3, z4 := z+step, z+2*step, z+3*step, z+4*step
		binary.LittleEndian.PutUint64(b[0:8], mix(z1))
		binary.LittleEndian.PutUint64(b[8:16], mix(z2))
		binary.LittleEndian.PutUint64(b[16:24], mix(z3))
		binary.LittleEndian.PutUint64(b[24:32], mix(z4))
		z = z4
		i += 4
	}
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, word(seed, i))
		i++
	}
	if len(p) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], word(seed, i))
		copy(p, last[:])
	}
}

// Reader returns a reader of all of it.
func (c Content) Reader() io.Reader { return io.NewSectionReader(c, 0, c.Size) }

// Bytes returns all of it. It is for small blobs.
func (c Content) Bytes() []byte { return c.Slice(0, c.Size) }

// Slice returns n bytes from off on; fewer at the end.
func (c Content) Slice(off, n int64) []byte {
	p := make([]byte, max(0, min(n, c.Size-off)))
	c.ReadAt(p, off)
	return p
}

// FirstWrong reads r, which should be the blob's bytes from off on, to its end and
// returns the offset in the blob of the first byte that is not, or -1 if all were
// right, and how many bytes r had.
func (c Content) FirstWrong(off int64, r io.Reader) (wrong, n int64, err error) {
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	wrong = -1
	for {
		k, err := r.Read(got)
		if k > 0 && wrong < 0 {
			m, _ := c.ReadAt(want[:k], off+n)
			if m < k || !bytes.Equal(got[:k], want[:k]) {
				i := 0
				for i < m && got[i] == want[i] {
					i++
				}
				wrong = off + n + int64(i)
			}
		}
		n += int64(k)
		if err == io.EOF {
			return wrong, n, nil
		}
		if err != nil {
			return wrong, n, err
		}
	}
}
