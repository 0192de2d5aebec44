package manifest

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// numbered returns a manifest of at least size bytes that no other number has.
func numbered(t testing.TB, i, size int) *Manifest {
	t.Helper()
	m, err := Parse(js(`{'schemaVersion':2,'manifests':[],'n':%d,'pad':'%s'}`, i, bytes.Repeat([]byte("x"), size)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCacheKeepsTheMostRecentWithinItsBytes(t *testing.T) {
	const size, limit = 1000, 100_000
	c := NewCache(limit)
	first := numbered(t, 0, size)
	c.Add(first)
	for i := 1; i < 1000; i++ {
		c.Add(numbered(t, i, size))
		if used := c.Used(); used > limit {
			t.Fatalf("%d bytes after %d, more than %d", used, i, limit)
		}
		if got, ok := c.Get(first.Digest); !ok || got != first {
			t.Fatalf("the one that is used all the time is gone after %d", i)
		}
	}
	if c.Used() < limit-4*size {
		t.Errorf("only %d of %d bytes used", c.Used(), limit)
	}
	if _, ok := c.Get(numbered(t, 1, size).Digest); ok {
		t.Error("the oldest is still there")
	}
	if _, ok := c.Get(numbered(t, 999, size).Digest); !ok {
		t.Error("the newest is not there")
	}
}

func TestCacheCountsEachOnce(t *testing.T) {
	c := NewCache(1 << 20)
	m := numbered(t, 1, 10)
	c.Add(m)
	used := c.Used()
	c.Add(m)
	c.Add(numbered(t, 1, 10))
	if c.Used() != used || used != m.cost() {
		t.Errorf("%d bytes, then %d; it costs %d", used, c.Used(), m.cost())
	}
	c.Remove(m.Digest)
	c.Remove(m.Digest)
	if _, ok := c.Get(m.Digest); ok || c.Used() != 0 {
		t.Errorf("%d bytes after all is removed", c.Used())
	}
}

func TestOneLargeManifestPushesNothingOut(t *testing.T) {
	c := NewCache(1 << 20)
	small := numbered(t, 1, 10)
	c.Add(small)
	large := numbered(t, 2, 1<<20/largestShare)
	c.Add(large)
	if _, ok := c.Get(large.Digest); ok {
		t.Error("it was kept")
	}
	if _, ok := c.Get(small.Digest); !ok {
		t.Error("the small one is gone")
	}
	none := NewCache(0)
	none.Add(small)
	if _, ok := none.Get(small.Digest); ok {
		t.Error("a cache of 0 bytes keeps something")
	}
}

// The bound is worth something only if what an entry is said to cost is no less
// than what it takes.
func TestCostCoversTheHeap(t *testing.T) {
	for name, body := range map[string][]byte{
		"1 layer": imageOf(1), "10 layers": imageOf(10), "500 layers": imageOf(500),
		"an index of maps": js(`{'schemaVersion':2,'manifests':[%s{'digest':'DIGEST'}]}`,
			strings.Repeat(`{'digest':'DIGEST','annotations':{'k':''},'platform':{'os':'a'},'urls':['']},`, 100)),
		"a map": js(`{'schemaVersion':2,'manifests':[],'annotations':{%s'x':''}}`, keys(900)),
	} {
		const n = 40
		c := NewCache(1 << 40)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range n {
			m, err := Parse(append(bytes.Clone(body), bytes.Repeat([]byte(" "), i)...))
			if err != nil {
				t.Fatal(err)
			}
			c.Add(m)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if took := int64(after.HeapAlloc) - int64(before.HeapAlloc); took > c.Used() {
			t.Errorf("%s: an entry takes %d bytes, said are %d", name, took/n, c.Used()/n)
		}
	}
}

// keys is a JSON object's inside with n short keys.
func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "'%d':'',", i)
	}
	return b.String()
}

func TestCacheIsForManyAtOnce(t *testing.T) {
	c := NewCache(20_000)
	var all []*Manifest
	for i := range 50 {
		all = append(all, numbered(t, i, 100))
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				m := all[(i*7+j)%len(all)]
				switch j % 5 {
				case 0:
					c.Remove(m.Digest)
				case 1, 2:
					c.Add(m)
				default:
					if got, ok := c.Get(m.Digest); ok && got.Digest != m.Digest {
						t.Errorf("got %s for %s", got.Digest, m.Digest)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, m := range all {
		c.Remove(m.Digest)
	}
	if c.Used() != 0 {
		t.Errorf("%d bytes used by nothing", c.Used())
	}
}

func BenchmarkCacheGet(b *testing.B) {
	c := NewCache(1 << 20)
	m := numbered(b, 1, 100)
	c.Add(m)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Get(m.Digest)
		}
	})
}
