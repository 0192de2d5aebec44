package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
)

const (
	// looksAtOnce is how many small exchanges run at once: asking for what is there,
	// and links. A bucket answers each in some 20 ms.
	looksAtOnce = 16
	// blobsAtOnce is how many blobs are sent at once; large ones go in parts, four at
	// a time. More of them would not fill a link better, and memory grows with parts.
	blobsAtOnce = 3
	// checksAtOnce is how many blobs are hashed at once. A disk is not faster for more.
	checksAtOnce = 2
)

// A Target is a tag that an image is to have. Without a Tag it is in the repository
// by its digest only.
type Target struct{ Repository, Tag string }

func (t Target) String() string {
	if t.Tag == "" {
		return t.Repository
	}
	return t.Repository + ":" + t.Tag
}

// Result is what an import did.
type Result struct {
	Sent  int   `json:"sent"`  // blobs that the store did not have
	Bytes int64 `json:"bytes"` // of them
	There int   `json:"there"` // blobs that it had
}

// An Importer puts images into a Store, one at a time: what a blob cost for one image
// it costs for none after it.
type Importer struct {
	Store    Store
	Notes    *Notes    // of uploads that break off; nil keeps none
	Progress *Progress // nil tells nobody
	// Patience is for how long a store that is not there is waited for, a call; 0 is
	// not at all.
	Patience time.Duration

	mu   sync.Mutex // guards have
	have map[manifest.Digest]bool
}

// Import puts an image under all of its targets. When it fails nothing has been
// tagged; when it fails because of the archive nothing has been written. What an
// import that broke off has sent stays, and costs the next one a look.
func (im *Importer) Import(ctx context.Context, img *Image, to []Target) (Result, error) {
	if img.Err != nil {
		return Result{}, img.Err
	}
	missing, err := im.missing(ctx, img)
	if err != nil {
		return Result{}, fmt.Errorf("asking what the bucket has: %w", err)
	}
	r := Result{There: len(img.Blobs) - len(missing)}
	im.Progress.found(img, missing)
	if err := im.check(ctx, missing); err != nil {
		return r, err
	}
	if err := im.send(ctx, missing, &r); err != nil {
		return r, err
	}
	repos := map[string]bool{}
	for _, t := range to {
		if !repos[t.Repository] {
			repos[t.Repository] = true
			if err := im.link(ctx, img, missing, t.Repository); err != nil {
				return r, err
			}
		}
	}
	for _, t := range to {
		if err := im.tag(ctx, t, img.Root.Digest); err != nil {
			return r, err
		}
	}
	return r, nil
}

// missing returns the blobs that the store does not have.
func (im *Importer) missing(ctx context.Context, img *Image) (missing []*Blob, err error) {
	var mu sync.Mutex // guards missing
	err = each(ctx, looksAtOnce, img.Blobs, func(ctx context.Context, b *Blob) error {
		there, err := im.there(ctx, b.Digest, b.Size)
		if err == nil && !there {
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, b)
		}
		return err
	})
	return missing, err
}

// there reports whether the store has size bytes under d. What has another length is
// wrong, and is replaced.
func (im *Importer) there(ctx context.Context, d manifest.Digest, size int64) (ok bool, err error) {
	im.mu.Lock()
	ok = im.have[d]
	im.mu.Unlock()
	if ok {
		return true, nil
	}
	err = im.persist(ctx, func() error {
		n, err := im.Store.StatBlob(ctx, d)
		ok = n == size
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if ok && err == nil {
		im.has(d)
	}
	return ok && err == nil, err
}

func (im *Importer) has(d manifest.Digest) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.have == nil {
		im.have = map[manifest.Digest]bool{}
	}
	im.have[d] = true
}

// check reads all that is to be sent before any of it is: of an image that is damaged
// nothing gets in. It costs a second read of the archive, beside which the store is
// slow.
func (im *Importer) check(ctx context.Context, blobs []*Blob) error {
	return each(ctx, checksAtOnce, blobs, func(ctx context.Context, b *Blob) error {
		return b.check(ctx, im.Progress.checked)
	})
}

// send stores the blobs.
func (im *Importer) send(ctx context.Context, blobs []*Blob, r *Result) error {
	var mu sync.Mutex // guards r
	return each(ctx, blobsAtOnce, blobs, func(ctx context.Context, b *Blob) error {
		sent := im.Progress.sending(b)
		err := im.persist(ctx, func() error {
			content, err := b.open(sent.read)
			if err != nil {
				return err
			}
			defer content.close()
			return im.Store.ResumeBlob(ctx, b.Digest, b.Size, content, im.Notes.of(b.Digest), im.Notes.keeper(b.Digest))
		})
		sent.end(err == nil)
		if err != nil {
			return fmt.Errorf("sending a blob of %d bytes: %w", b.Size, err)
		}
		im.has(b.Digest)
		mu.Lock()
		defer mu.Unlock()
		r.Sent++
		r.Bytes += b.Size
		return nil
	})
}

// link makes the image visible in a repository: first the blobs, then manifests, what
// is listed before what lists it. Links of blobs that the store did not have are not
// looked for.
func (im *Importer) link(ctx context.Context, img *Image, sent []*Blob, repo string) error {
	err := each(ctx, looksAtOnce, img.Blobs, func(ctx context.Context, b *Blob) error {
		return im.persist(ctx, func() error {
			if !slices.Contains(sent, b) {
				if ok, err := im.Store.HasLayer(ctx, repo, b.Digest); ok || err != nil {
					return err
				}
			}
			return im.Store.LinkLayer(ctx, repo, b.Digest)
		})
	})
	if err != nil {
		return fmt.Errorf("linking the blobs in %s: %w", repo, err)
	}
	for _, m := range img.Manifests {
		if err := im.manifest(ctx, repo, m); err != nil {
			return err
		}
	}
	return nil
}

func (im *Importer) manifest(ctx context.Context, repo string, m *manifest.Manifest) error {
	there, err := im.there(ctx, m.Digest, int64(len(m.Body)))
	if err != nil {
		return err
	}
	return im.persist(ctx, func() error {
		visible := false
		if there {
			if visible, err = im.Store.HasManifest(ctx, repo, m.Digest); err != nil {
				return err
			}
		}
		if !visible {
			if err := im.Store.PutManifest(ctx, repo, m.Digest, m.Body); err != nil {
				return err
			}
		}
		return im.refer(ctx, repo, m)
	})
}

// refer has what m refers to know of it.
func (im *Importer) refer(ctx context.Context, repo string, m *manifest.Manifest) error {
	s, ok := im.Store.(ReferrerStore)
	if !ok || m.Subject == nil {
		return nil
	}
	return s.PutReferrer(ctx, repo, m.Subject.Digest, m.AsReferrer())
}

// tag is the last step: nobody finds the image by its name before.
func (im *Importer) tag(ctx context.Context, t Target, d manifest.Digest) error {
	if t.Tag == "" {
		return nil
	}
	return im.persist(ctx, func() error {
		now, err := im.Store.Tag(ctx, t.Repository, t.Tag)
		if err == nil && now == d {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return im.Store.PutTag(ctx, t.Repository, t.Tag, d)
	})
}

const (
	// firstWait is before the second attempt, and doubles up to longestWait: a bucket
	// that was given up is asked again after 5 s.
	firstWait   = time.Second
	longestWait = 15 * time.Second
)

// persist repeats what may be a success later, for as long as there is patience. An
// import has nobody waiting for it within seconds, as a pull has.
func (im *Importer) persist(ctx context.Context, do func() error) error {
	begun, wait := time.Now(), firstWait
	for {
		err := do()
		var later interface{ Temporary() bool }
		if err == nil || !errors.As(err, &later) || !later.Temporary() || ctx.Err() != nil || time.Since(begun)+wait > im.Patience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
			wait = min(2*wait, longestWait)
		}
	}
}

// each does f for all of list, n at once, and ends with the first error.
func each[T any](ctx context.Context, n int, list []T, f func(context.Context, T) error) error {
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(n)
	for _, x := range list {
		if inner.Err() != nil {
			break
		}
		g.Go(func() error { return f(inner, x) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}
