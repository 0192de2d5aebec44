package blobcache

import (
	"bytes"
	"crypto/sha256"
	"io"
	"io/fs"
	"testing"
)

// BenchmarkHash is the floor of every fill: sha256 is sequential.
func BenchmarkHash(b *testing.B) {
	o := newOrigin(64*mib, 1)
	b.SetBytes(64 * mib)
	for b.Loop() {
		sha256.Sum256(o.bytes)
	}
}

// BenchmarkFill is a cold blob from a source in memory: what the cache itself
// costs, verifying and writing.
func BenchmarkFill(b *testing.B) {
	for _, c := range []struct {
		name     string
		size     int64
		parallel int
	}{{"1KiB", 1 << 10, 1}, {"64KiB", 64 << 10, 1}, {"16MiB", 16 * mib, 1}, {"256MiB", 256 * mib, 1}, {"256MiB-16-ranges", 256 * mib, 16}} {
		b.Run(c.name, func(b *testing.B) {
			h, o := newTester(b, Options{Budget: 1 << 30}), newOrigin(c.size, 2)
			o.part, o.parallel = 1<<40, c.parallel
			if c.parallel > 1 {
				o.part = 16 * mib
			}
			b.SetBytes(c.size)
			for b.Loop() {
				blob, err := h.Get(b.Context(), o.digest, h.want(o, 0))
				if err != nil {
					b.Fatal(err)
				}
				if err := blob.CopyRange(b.Context(), io.Discard, 0, -1); err != nil {
					b.Fatal(err)
				}
				blob.Close()
				<-h.results
				h.Remove(o.digest)
			}
		})
	}
}

// BenchmarkFirstByte is what the cache adds before the first byte of a cold blob
// reaches its reader, when the first source has not got it and the second answers
// at once, with 64 KiB and then the rest a little later.
func BenchmarkFirstByte(b *testing.B) {
	h, o := newTester(b, Options{Budget: 1 << 30}), newOrigin(16*mib, 4)
	miss := o.twin("store")
	miss.err = fs.ErrNotExist
	var got chan struct{}
	o.pace = func(off int64) {
		if off > 0 {
			<-got
		}
	}
	for b.Loop() {
		got = make(chan struct{})
		blob, err := h.Get(b.Context(), o.digest, Want{Size: 16 * mib, Sources: []Source{miss, o}})
		if err != nil {
			b.Fatal(err)
		}
		if err := blob.CopyRange(b.Context(), io.Discard, 0, 1); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		close(got)
		blob.Close()
		<-h.results
		h.Remove(o.digest)
		b.StartTimer()
	}
}

// BenchmarkHit is opening and closing what is complete.
func BenchmarkHit(b *testing.B) {
	for name, size := range map[string]int64{"memory": 32 << 10, "file": mib} {
		b.Run(name, func(b *testing.B) {
			h, o := newTester(b, Options{}), newOrigin(size, 3)
			if _, err := h.pull(o); err != nil {
				b.Fatal(err)
			}
			h.await("the blob", func() bool { return h.Has(o.digest) })
			b.ReportAllocs()
			for b.Loop() {
				blob, err := h.Open(o.digest)
				if err != nil {
					b.Fatal(err)
				}
				blob.Close()
			}
		})
	}
}

// BenchmarkUpload is sending a blob, to the page cache, and hashing it as it comes;
// sha256 is that hash alone. MB/s of both are of the same run.
func BenchmarkUpload(b *testing.B) {
	const size = 256 * mib
	o := newOrigin(size, 5)
	b.Run("sha256", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			sha256.Sum256(o.bytes)
		}
	})
	b.Run("ReadFrom", func(b *testing.B) {
		h := newTester(b, Options{Budget: 1 << 30})
		b.SetBytes(size)
		for b.Loop() {
			u, err := h.NewUpload(uploadOf(1))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := u.ReadFrom(plain{bytes.NewReader(o.bytes)}); err != nil {
				b.Fatal(err)
			}
			u.Abort()
		}
	})
}
