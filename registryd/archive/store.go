package archive

import (
	"context"
	"io"

	"hostlocal/manifest"
)

// A Store is where images go. A miss is an error that wraps fs.ErrNotExist, a refusal
// one that wraps fs.ErrPermission; one that has a method Temporary and says true may
// be a success a little later.
type Store interface {
	BlobStore
	ManifestStore
	TagStore
}

// A BlobStore keeps blobs, and the links that make them visible in a repository.
type BlobStore interface {
	// StatBlob returns the length of what lies under d.
	StatBlob(ctx context.Context, d manifest.Digest) (int64, error)
	// ResumeBlob stores the size bytes of r, which the caller has verified. It calls
	// note, one call at a time, with what is to be kept for another attempt, and with
	// "" when that is void; earlier are those that were kept. An error of r leaves
	// nothing.
	ResumeBlob(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt, earlier []string, note func(string)) error
	// AbandonBlob removes what attempts with these notes left.
	AbandonBlob(ctx context.Context, d manifest.Digest, notes []string) error
	// HasLayer reports whether the blob is visible in repo, LinkLayer makes it so.
	HasLayer(ctx context.Context, repo string, d manifest.Digest) (bool, error)
	LinkLayer(ctx context.Context, repo string, d manifest.Digest) error
}

// A ManifestStore keeps manifests.
type ManifestStore interface {
	HasManifest(ctx context.Context, repo string, d manifest.Digest) (bool, error)
	// PutManifest stores a manifest and then makes it visible in repo.
	PutManifest(ctx context.Context, repo string, d manifest.Digest, body []byte) error
}

// A TagStore keeps what tags mean.
type TagStore interface {
	Tag(ctx context.Context, repo, tag string) (manifest.Digest, error)
	PutTag(ctx context.Context, repo, tag string, d manifest.Digest) error
}

// A ReferrerStore is a Store that knows what refers to a manifest.
type ReferrerStore interface {
	PutReferrer(ctx context.Context, repo string, subject manifest.Digest, d manifest.Descriptor) error
}
