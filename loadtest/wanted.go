package loadtest

import (
	"sync"

	"hostlocal/manifest"
)

// wanted is what content the clients asked for, each byte of a digest once: what
// the upstream would have to send if everything were perfect.
type wanted struct {
	mu sync.Mutex // guards of
	of map[manifest.Digest]*content
}

type content struct {
	size  int64
	all   bool
	pages []bool // of lazyPage bytes, where not all was asked for
}

// lazyPage is how fine parts are counted, in bytes.
const lazyPage = 64 << 10

func (w *wanted) get(d manifest.Digest, size int64) *content {
	k := w.of[d]
	if k == nil {
		k = &content{size: size}
		w.of[d] = k
	}
	return k
}

// whole notes that all of d was asked for.
func (w *wanted) whole(d manifest.Digest, size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.get(d, size)
	k.all, k.pages = true, nil
}

// part notes that n bytes at an offset were asked for.
func (w *wanted) part(d manifest.Digest, size, at, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.get(d, size)
	if k.all {
		return
	}
	if k.pages == nil {
		k.pages = make([]bool, (size+lazyPage-1)/lazyPage)
	}
	for i := at / lazyPage; i <= (at+n-1)/lazyPage; i++ {
		k.pages[i] = true
	}
}

// sum returns the bytes.
func (w *wanted) sum() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := int64(0)
	for _, k := range w.of {
		if k.all {
			sum += k.size
			continue
		}
		for i, asked := range k.pages {
			if asked {
				sum += min(lazyPage, k.size-int64(i)*lazyPage)
			}
		}
	}
	return sum
}
