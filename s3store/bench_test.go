package s3store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// BenchmarkColdBlob reads 512 MiB from a store that is as fast as S3 was measured
// to be, by one plain GET and by the ranges that Plan asks for, and shows the
// sha256 rate of the same run: the floor for whoever has to hash the blob in one
// sequence. With -short it reads 64 MiB.
func BenchmarkColdBlob(b *testing.B) {
	size := int64(512 << 20)
	if testing.Short() {
		size = 64 << 20
	}
	for _, client := range []string{"aws", "minio"} {
		f, s, d := modelled(b, client, size)
		b.Run(client+"/plain", func(b *testing.B) {
			f.ResetCounts()
			b.SetBytes(size)
			for b.Loop() {
				if err := copyRange(b.Context(), s, d, 0, -1); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(f.Count("get"))/float64(b.N), "GETs/op")
		})
		b.Run(client+"/planned", func(b *testing.B) {
			f.ResetCounts()
			b.SetBytes(size)
			for b.Loop() {
				if err := readParallel(b.Context(), s, d, size); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(f.Count("get"))/float64(b.N), "GETs/op")
		})
	}
	b.Run("sha256", func(b *testing.B) {
		p := make([]byte, 64<<20)
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			sha256.Sum256(p)
		}
	})
}

// TestRangesAreWorthIt holds Plan to its reason on a blob of six ranges, which can
// be read six times as fast as by one GET; twice is what a busy machine must show.
func TestRangesAreWorthIt(t *testing.T) {
	if testing.Short() {
		t.Skip("reads for a second")
	}
	const size = 48 << 20
	f, s, d := modelled(t, "minio", size)
	f.SetModel(s3test.Model{FirstByte: 30 * time.Millisecond, Rate: 12 << 20}) // slow enough for a busy machine
	start := time.Now()
	if err := copyRange(t.Context(), s, d, 0, -1); err != nil {
		t.Fatal(err)
	}
	plain := time.Since(start)
	f.ResetCounts()
	start = time.Now()
	if err := readParallel(t.Context(), s, d, size); err != nil {
		t.Fatal(err)
	}
	ranged := time.Since(start)
	if n := f.Count(""); n != 6 {
		t.Errorf("%d requests for 48 MiB, want one for each 8 MiB", n)
	}
	if ranged*2 > plain {
		t.Errorf("ranges took %v, one GET %v", ranged, plain)
	}
}

// modelled is a Store with one blob over a fake that is as fast as S3.
func modelled(t testing.TB, client string, size int64) (*s3test.Server, *s3store.Store, manifest.Digest) {
	f := s3test.New(t)
	bucket, err := s3store.OpenBucket(t.Context(), f.Config(client))
	if err != nil {
		t.Fatal(err)
	}
	d := manifest.DigestOf(fmt.Append(nil, size)) // the Store does not hash, and the fake's bytes are zeros
	f.PutRepeated("docker/registry/v2/blobs/sha256/"+d.Hex()[:2]+"/"+d.Hex()+"/data", make([]byte, 1<<20), size)
	f.SetModel(s3test.S3Model)
	return f, storeOver(t, bucket), d
}

// readParallel asks as Plan says: it stands for the cache.
func readParallel(ctx context.Context, s *s3store.Store, d manifest.Digest, size int64) error {
	part, parallel := s.Plan(size)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	offs := make(chan int64)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for off := range offs {
				if err := copyRange(ctx, s, d, off, part); err != nil {
					cancel(err)
				}
			}
		})
	}
	for off := int64(0); off < size; off += part {
		offs <- off
	}
	close(offs)
	wg.Wait()
	return context.Cause(ctx)
}

func copyRange(ctx context.Context, s *s3store.Store, d manifest.Digest, off, n int64) error {
	r, _, size, err := s.OpenBlob(ctx, d, off, n)
	if err != nil {
		return err
	}
	defer r.Close()
	want := size - off
	if n >= 0 {
		want = min(want, n)
	}
	buf := make([]byte, 1<<20)
	var got int64
	for {
		m, err := r.Read(buf)
		got += int64(m)
		if err == io.EOF && got == want {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%d of %d bytes: %w", got, want, err)
		}
	}
}
