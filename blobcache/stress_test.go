package blobcache

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
)

var (
	stressFor  = flag.Duration("stress", 0, "how long TestStress runs; 0 means 20 s, or 4 s with -short")
	stressSeed = flag.Uint64("stress.seed", 0, "the seed of TestStress; 0 means one by the clock")
)

const (
	stressBudget  = 24 * mib
	stressClients = 12
)

// moody is a source whose every answer may have any fault: one drawn per request,
// from the client's seed.
type moody struct {
	*origin
	rnd *lockedRand
	bad float64 // the share of answers with a fault
}

type lockedRand struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

func (l *lockedRand) draw(n int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Int64N(max(n, 1))
}

// Patience is short: a busy machine has it raced now and then.
func (m *moody) Patience() time.Duration { return 100 * time.Millisecond }

func (m *moody) Open(ctx context.Context, off, n int64) (io.ReadCloser, int64, int64, error) {
	o := m.twin(m.name)
	if size := int64(len(m.bytes)); float64(m.rnd.draw(1000)) < m.bad*1000 {
		switch m.rnd.draw(10) {
		case 0:
			o.wrong = m.rnd.draw(size)
		case 1:
			o.cut = 1 + m.rnd.draw(size)
		case 2:
			o.cut, o.short = 1+m.rnd.draw(size), true
		case 3:
			o.stall = m.rnd.draw(size)
		case 4:
			o.noSize = true
		case 5:
			o.noRange = true
		case 6:
			o.noRange, o.noSize, o.cut = true, true, 1+m.rnd.draw(size)
		case 7:
			o.size = 1 + m.rnd.draw(2*size)
		case 8:
			o.err = os.ErrNotExist
		default:
			o.err = errors.New("503")
		}
	}
	return o.Open(ctx, off, n)
}

// TestStress has many clients do everything at once, beside sources with every
// fault, a budget that all blobs together exceed several times, removals, damage
// and restarts. Whatever ends well has the right bytes; nothing else is asked of a
// pull, but that with right sources it succeeds in the end. Between the lives of
// the cache the folder and the ledger agree, and in none does it exceed the budget.
func TestStress(t *testing.T) {
	length, seed := *stressFor, *stressSeed
	if length == 0 {
		length = 20 * time.Second
		if testing.Short() {
			length = 4 * time.Second
		}
	}
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-stress.seed=%d", seed)
	h := newTester(t, Options{Budget: stressBudget, ScrubRate: 8 << 20})
	h.opt.OnFill = func(string, string) {}
	h.restart()
	var blobs []*origin
	for i, n := range []int64{0, 1, 700, 64 << 10, 64<<10 + 1, 300_000, mib, mib + 1, 2*mib + 7, 3 * mib, 3 * mib, 4 * mib, 5*mib + 3, 6 * mib, 9 * mib, 30 * mib} {
		blobs = append(blobs, newOrigin(n, seed+uint64(i)))
	}
	s := &stress{tester: h, blobs: blobs}
	ends := time.Now().Add(length)
	for life := uint64(0); time.Now().Before(ends); life++ {
		var clients sync.WaitGroup
		lifeEnds := time.Now().Add(min(2*time.Second, time.Until(ends)))
		for i := range uint64(stressClients) {
			clients.Go(func() { s.client(rand.New(rand.NewPCG(seed+life, i)), lifeEnds) })
		}
		clients.Wait()
		h.await("the fills' end", func() bool { return len(h.Stats().Fills) == 0 })
		h.awaitScan()
		// du counts twice what the scrub puts in quarantine under it.
		h.await("a folder within the budget", func() bool { return h.du() <= stressBudget })
		h.wantLedgerRight()
		if st := h.Stats(); st.Promised != 0 || st.Pinned != 0 {
			t.Errorf("life %d: idle, and %d bytes are promised, %d held", life, st.Promised, st.Pinned)
		}
		h.await("the windows of all passes", func() bool { return h.windowsFree() == defaultWindow })
		if len(h.bodies) != 0 || t.Failed() {
			t.Fatalf("life %d: %d bodies are still open", life, len(h.bodies))
		}
		if o := blobs[life%uint64(len(blobs))]; len(o.bytes) > 0 {
			os.Truncate(h.blobPath(o.digest), int64(len(o.bytes))-1)
		}
		h.restart()
	}
	for _, o := range blobs {
		h.await(fmt.Sprintf("%s, %d bytes, of a right source", o.digest, len(o.bytes)), func() bool {
			n, err := h.follow(o)
			return err == nil && n == int64(len(o.bytes))
		})
	}
	t.Logf("%d pulls ended well, %d did not", s.well.Load(), s.failed.Load())
	if s.well.Load() == 0 || s.failed.Load() == 0 {
		t.Errorf("%d pulls ended well, %d did not: this tested nothing", s.well.Load(), s.failed.Load())
	}
}

// stress is what the clients share.
type stress struct {
	*tester
	blobs        []*origin
	well, failed atomic.Int64
}

func (s *stress) client(r *rand.Rand, ends time.Time) {
	for time.Now().Before(ends) && !s.Failed() {
		o := s.blobs[r.IntN(len(s.blobs))]
		switch k := r.IntN(40); {
		case k < 2:
			s.Remove(o.digest)
		case k < 4:
			s.Put(o.digest, bytes.NewReader(o.bytes), int64(len(o.bytes)))
		case k == 5:
			if unpin, ok := s.Pin(o.digest); ok {
				unpin()
			}
		case k == 6:
			s.restartOne(r)
		default:
			s.pullOne(r, o)
		}
	}
}

// sink is a client that keeps nothing, and remembers whether all was right.
type sink struct {
	want  []byte
	n     int64
	wrong bool
}

func (s *sink) Write(p []byte) (int, error) {
	s.wrong = s.wrong || !bytes.HasPrefix(s.want[min(s.n, int64(len(s.want))):], p)
	s.n += int64(len(p))
	return len(p), nil
}

// restartOne resumes what failed fills left, as a start does.
func (s *stress) restartOne(r *rand.Rand) {
	seed := r.Uint64()
	s.Resume(func(d manifest.Digest, _ string, _ int64) []Source {
		for _, o := range s.blobs {
			if o.digest == d {
				return []Source{&moody{o, &lockedRand{r: rand.New(rand.NewPCG(seed, 1))}, 0.2}}
			}
		}
		return nil
	})
}

// pullOne pulls all of o or a range, over one source or two.
func (s *stress) pullOne(r *rand.Rand, o *origin) {
	size := int64(len(o.bytes))
	rnd := &lockedRand{r: rand.New(rand.NewPCG(r.Uint64(), 2))}
	w := Want{Size: size, Origin: "test"}
	for i, name := range []string{"store", "upstream"}[r.IntN(2):] {
		twin := o.twin(name)
		twin.parallel, twin.part = 1+r.IntN(4), int64(1+r.IntN(4))*mib
		w.Sources = append(w.Sources, &moody{twin, rnd, 0.3 - 0.2*float64(i)})
	}
	if r.IntN(3) == 0 {
		w.Sources = []Source{&moody{o.twin("upstream"), rnd, 0.5}}
	}
	off, n := int64(0), int64(-1)
	switch {
	case r.IntN(3) == 0 && size > 0:
		off = r.Int64N(size)
		n = min(1+r.Int64N(size), size-off)
		w.Offset, w.Ranged = off, r.IntN(2) == 0
	case r.IntN(4) == 0:
		w.Size = -1
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(8000))*time.Millisecond)
	defer cancel()
	b, err := s.Get(ctx, o.digest, w)
	if err != nil {
		s.failed.Add(1)
		return
	}
	defer b.Close()
	c := &sink{want: o.bytes, n: off}
	if r.IntN(2) == 0 {
		err = b.CopyRange(ctx, c, off, n)
	} else {
		err = s.readAll(ctx, b, c, off, n, r)
	}
	want := size
	if n >= 0 {
		want = off + n
	}
	switch {
	case err != nil:
		s.failed.Add(1)
	case c.n != want:
		s.Errorf("%d bytes from %d on of %d: ended well at %d, from %s", n, off, size, c.n, b.Source())
	case c.wrong && n < 0:
		s.Errorf("all of a blob of %d bytes ended well, and was wrong, from %s", size, b.Source())
	case c.wrong:
		s.failed.Add(1) // a range without the last byte is not proven
	default:
		s.well.Add(1)
	}
}

// readAll reads as a write-back does.
func (s *stress) readAll(ctx context.Context, b *Blob, c *sink, off, n int64, r *rand.Rand) error {
	end := off + n
	for buf := make([]byte, 1+r.IntN(1<<20)); n < 0 || off < end; {
		part := buf
		if n >= 0 {
			part = part[:min(int64(len(part)), end-off)]
		}
		m, err := b.ReadAtContext(ctx, part, off)
		off += int64(m)
		c.Write(part[:m])
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}
