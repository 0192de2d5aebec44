package registryd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"golang.org/x/sync/errgroup"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

const (
	// referenceTTL is for how long a layer's link, and its bytes, that were seen in the
	// bucket or written there count when a manifest that names the layer is pushed: the
	// time that a push takes between its first blob and its manifest, and the next push
	// of the same base.
	referenceTTL = 5 * time.Minute

	// referenceLooks bounds the links that one push looks for at once.
	referenceLooks = 8

	// maxMissing bounds the blobs that an answer says are missing.
	maxMissing = 16
)

// referencesThere returns nil if all that m is made of is visible in repo, and in the
// bucket. The entries of an index may be missing, as may a subject: the specification
// has it so, for images of which only some platforms are copied.
func (g *Registry) referencesThere(ctx context.Context, repo Repository, m *manifest.Manifest) error {
	var mu sync.Mutex // guards lost
	var lost []manifest.Digest
	looks, ctx := errgroup.WithContext(ctx)
	looks.SetLimit(referenceLooks)
	seen := map[manifest.Digest]bool{}
	for _, d := range required(m) {
		if seen[d.Digest] || g.storedLately(repo, d.Digest) {
			continue
		}
		seen[d.Digest] = true
		looks.Go(func() error {
			err := g.referenceThere(ctx, repo, d.Digest)
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if lost = append(lost, d.Digest); len(lost) >= maxMissing {
				return errManyMissing
			}
			return nil
		})
	}
	switch err := looks.Wait(); {
	case err != nil && !errors.Is(err, errManyMissing):
		return fmt.Errorf("whether %s has the blobs of the manifest: %w", repo, err)
	case len(lost) > 0:
		return blobsMissing(repo, lost)
	}
	return nil
}

// referenceThere looks for a blob's link, unless that was seen lately, and for its
// bytes. A stock registry's collection takes those and may leave the link; a client that
// asks this host first, which has them on its disk, does not send them. So this host
// does.
func (g *Registry) referenceThere(ctx context.Context, repo Repository, d manifest.Digest) error {
	if !g.linkedLately(repo, d) {
		if err := g.lookAt(ctx, repo, d, g.ofBlob()); err != nil {
			return err
		}
	}
	asked := time.Now()
	_, err := g.bucket.statBlob(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		err = g.storeAgain(ctx, d)
	}
	if err == nil {
		g.named.stored(repo.String(), d, asked)
	}
	return err
}

// storeAgain gives the bucket a blob that it has lost from this disk. The error wraps
// fs.ErrNotExist if it is not here.
func (g *Registry) storeAgain(ctx context.Context, d manifest.Digest) error {
	b, err := g.disk.Open(d)
	if err != nil {
		return fmt.Errorf("neither the bucket nor this disk has %s: %w", d, fs.ErrNotExist)
	}
	defer b.Close()
	g.log.Info("the bucket has lost a blob that this host has; it gets it again", "digest", d)
	return g.writer.push(ctx, d, b.Size(), func(ctx context.Context) io.ReaderAt { return &here{b, ctx} }, false)
}

// here is a blob on this disk, all of which can be read.
type here struct {
	blob *blobcache.Blob
	ctx  context.Context
}

// ReadAt implements io.ReaderAt.
func (h *here) ReadAt(p []byte, off int64) (int, error) { return h.blob.ReadAtContext(h.ctx, p, off) }

// InOrder implements s3store.InOrder.
func (*here) InOrder() {}

var errManyMissing = errors.New("too many are missing to go on")

// blobsMissing is the error for a manifest whose blobs are not there.
func blobsMissing(repo Repository, lost []manifest.Digest) error {
	type unknown struct {
		Digest manifest.Digest `json:"digest"`
	}
	slices.SortFunc(lost, func(a, b manifest.Digest) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) })
	var detail []unknown
	for _, d := range lost {
		detail = append(detail, unknown{d})
	}
	return errcode.ErrorCodeManifestBlobUnknown.WithMessage(fmt.Sprintf(
		"the manifest names %s, which %s does not have: push its blobs first", lost[0], repo)).WithDetail(detail)
}

// linkedLately reports whether the link of a layer was seen in the bucket, or
// written there, not long ago.
func (g *Registry) linkedLately(repo Repository, d manifest.Digest) bool {
	v, ok := g.named.get(repo.String(), d)
	return ok && v.linked && v.young(referenceTTL)
}

// storedLately is linkedLately for a blob whose bytes were seen there as well.
func (g *Registry) storedLately(repo Repository, d manifest.Digest) bool {
	v, ok := g.named.get(repo.String(), d)
	return ok && v.linked && v.young(referenceTTL) && time.Since(v.stored) < referenceTTL
}
