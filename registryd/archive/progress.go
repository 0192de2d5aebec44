package archive

import (
	"slices"
	"sync"
	"time"

	"hostlocal/manifest"
)

// Progress is how an import stands, for whoever shows it. The zero value is at its
// beginning; the nil one is nobody's.
type Progress struct {
	mu sync.Mutex // guards the rest
	s  Standing

	counted map[manifest.Digest]bool // blobs that are among those done
}

// Standing is a moment of an import.
type Standing struct {
	Image  string // which one is under way
	Number int    // the how manieth it is
	Images int    // of how many

	Check, Checked int64     // bytes of this image that are to be read before any is sent, and were
	Total, Done    int64     // bytes of all images, each blob once; those that are in the store
	Sent           int64     // of those done, what was sent
	Began          time.Time // when the first byte was sent; zero before
}

// Standing returns the moment.
func (p *Progress) Standing() Standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s
}

func (p *Progress) locked(f func(s *Standing)) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.s)
}

// Expect says how much there is to do.
func (p *Progress) Expect(images int, bytes int64) {
	p.locked(func(s *Standing) { s.Images, s.Total = images, bytes })
}

// Next says that the next image begins.
func (p *Progress) Next(image string) {
	p.locked(func(s *Standing) {
		s.Image = image
		s.Number++
		s.Check, s.Checked = 0, 0
	})
}

// Failed says that the rest of the image is not going to come.
func (p *Progress) Failed(img *Image) {
	p.locked(func(s *Standing) {
		for _, b := range img.Blobs {
			if !p.counted[b.Digest] {
				s.Total -= b.Size
			}
		}
	})
}

// found counts what the store has, and says what is to be read.
func (p *Progress) found(img *Image, missing []*Blob) {
	p.locked(func(s *Standing) {
		for _, b := range missing {
			s.Check += b.Size
		}
		for _, b := range img.Blobs {
			if !p.counted[b.Digest] && !slices.Contains(missing, b) {
				p.count(b)
				s.Done += b.Size
			}
		}
	})
}

// count has a blob not be counted again. The caller holds mu.
func (p *Progress) count(b *Blob) {
	if p.counted == nil {
		p.counted = map[manifest.Digest]bool{}
	}
	p.counted[b.Digest] = true
}

func (p *Progress) checked(n int) {
	p.locked(func(s *Standing) { s.Checked += int64(n) })
}

// A sending is one blob on its way.
type sending struct {
	p     *Progress
	b     *Blob
	reads int64 // guarded by p.mu, as is shown
	shown int64
}

func (p *Progress) sending(b *Blob) *sending {
	p.locked(func(s *Standing) {
		if s.Began.IsZero() {
			s.Began = time.Now()
		}
	})
	return &sending{p: p, b: b}
}

// read is told of what the store has read. It reads everything about twice: before it
// sends a part, and as it sends it. So this is an estimate, until end.
func (x *sending) read(n int) {
	x.p.locked(func(s *Standing) {
		x.reads += int64(n)
		x.show(s, min(x.reads/2, x.b.Size))
	})
}

func (x *sending) end(ok bool) {
	x.p.locked(func(s *Standing) {
		if !ok {
			x.show(s, 0)
			return
		}
		x.show(s, x.b.Size)
		x.p.count(x.b)
	})
}

func (x *sending) show(s *Standing, n int64) {
	s.Done += n - x.shown
	s.Sent += n - x.shown
	x.shown = n
}
