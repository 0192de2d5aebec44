package registryd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"golang.org/x/sync/errgroup"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// References says what of that which a pushed manifest names has to be in its
// repository already. A subject may always be missing, and so may foreign layers.
type References uint8

const (
	// ReferencesImages has an image come after its config and its layers. The entries
	// of an index may be missing: the specification has it so, for images of which only
	// some platforms are copied.
	ReferencesImages References = iota
	// ReferencesAll has an index come after its entries, too.
	ReferencesAll
	// ReferencesNone takes a manifest whatever it names. Then none of the bucket's own
	// proves that its layers may be had: each is looked for by its link.
	ReferencesNone
)

const (
	// referenceTTL is for how long a layer's link, and its bytes, that were seen in the
	// bucket or written there count when a manifest that names the layer is pushed: the
	// time that a push takes between its first blob and its manifest, and the next push
	// of the same base.
	referenceTTL = 5 * time.Minute

	// referenceLooks bounds the links that one push looks for at once.
	referenceLooks = 8

	// maxMissing bounds the digests that an answer says are missing.
	maxMissing = 16
)

// needed returns the descriptors of what has to be there before m.
func (r References) needed(m *manifest.Manifest) []manifest.Descriptor {
	switch r {
	case ReferencesNone:
		return nil
	case ReferencesAll:
		return append(required(m), m.Manifests...)
	}
	return required(m)
}

// referencesThere returns nil if all is visible in repo, and in the bucket, that has to
// be there before m.
func (g *Registry) referencesThere(ctx context.Context, repo Repository, m *manifest.Manifest) error {
	var mu sync.Mutex // guards lost
	var lost []manifest.Descriptor
	looks, ctx := errgroup.WithContext(ctx)
	looks.SetLimit(referenceLooks)
	seen := map[manifest.Digest]bool{}
	for _, d := range g.options.References.needed(m) {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		there := g.blobThere
		if d.IsManifest() || d.MediaType == "" && len(m.Manifests) > 0 {
			there = g.manifestThere
		}
		looks.Go(func() error {
			err := there(ctx, repo, d.Digest)
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if lost = append(lost, d); len(lost) >= maxMissing {
				return errManyMissing
			}
			return nil
		})
	}
	switch err := looks.Wait(); {
	case err != nil && !errors.Is(err, errManyMissing):
		return fmt.Errorf("whether %s has what the manifest names: %w", repo, err)
	case len(lost) > 0:
		return referencesMissing(repo, lost)
	}
	return nil
}

// manifestThere looks for a manifest's link, unless that was seen lately.
func (g *Registry) manifestThere(ctx context.Context, repo Repository, d manifest.Digest) error {
	if g.linkedLately(repo, d) {
		return nil
	}
	return g.lookAt(ctx, repo, d, g.ofManifest())
}

// blobThere looks for a blob's link and for its bytes, unless they were seen lately, or
// the link was written lately, by whomever. A stock registry's collection takes the bytes
// and may leave the link; a client that asks this host first, which has them on its disk,
// does not send them. So this host does.
func (g *Registry) blobThere(ctx context.Context, repo Repository, d manifest.Digest) error {
	if g.storedLately(repo, d) {
		return nil
	}
	if !g.linkedLately(repo, d) {
		if err := g.lookAt(ctx, repo, d, g.ofBlob()); err != nil || g.storedLately(repo, d) {
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

// Await implements s3store.Awaiter.
func (h *here) Await(off, n int64) error { return h.blob.AwaitContext(h.ctx, off, n) }

// SyscallConn implements syscall.Conn.
func (h *here) SyscallConn() (syscall.RawConn, error) { return h.blob.SyscallConn() }

var errManyMissing = errors.New("too many are missing to go on")

// referencesMissing is the error for a manifest that names what is not there.
func referencesMissing(repo Repository, lost []manifest.Descriptor) error {
	type unknown struct {
		Digest manifest.Digest `json:"digest"`
	}
	slices.SortFunc(lost, func(a, b manifest.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	var detail []unknown
	for _, d := range lost {
		detail = append(detail, unknown{d.Digest})
	}
	what := "push its blobs first"
	if lost[0].IsManifest() {
		what = "push the manifests of an index first, or set push_references: images in the configuration to have it without some"
	}
	return errcode.ErrorCodeManifestBlobUnknown.WithMessage(fmt.Sprintf(
		"the manifest names %s, which %s does not have: %s", lost[0].Digest, repo, what)).WithDetail(detail)
}

// linkedLately reports whether the link of a layer or a manifest was seen in the bucket, or
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
