package registryd

import (
	"context"
	"io"
	"time"

	"hostlocal/manifest"
)

// A Store is the bucket that all hosts share. It knows repositories by the names
// under which they lie there: "team/app" for one of its own, "ghcr.io/owner/app"
// for a mirrored one.
//
// Everywhere in it: an error that wraps fs.ErrNotExist says that the bucket
// answered and does not have it, one that wraps fs.ErrPermission that it refuses
// this host; any other error that it could not be asked, or
// would not answer. One that has a method Temporary and says true there is an
// outage that the store puts into the log itself if it lasts. Bytes are not verified: whoever reads hashes. Every call is
// bounded in time by the store itself; a body that makes no progress fails. A Store
// that keeps failing, or being left for somebody else after its Patience, answers at
// once for a while.
type Store interface {
	BlobReader
	BlobWriter
	ManifestStore
	TagStore
	Remover
	ReferrerStore
	Lister
}

// A BlobReader reads blobs, whatever repository they belong to: whether the
// caller may have them is for the caller to know.
type BlobReader interface {
	// OpenBlob asks for n bytes from off on, n < 0 for all that follow, on the
	// terms of blobcache.Source. The caller closes the body.
	OpenBlob(ctx context.Context, d manifest.Digest, off, n int64) (body io.ReadCloser, from, size int64, err error)
	// StatBlob returns the blob's length in bytes.
	StatBlob(ctx context.Context, d manifest.Digest) (int64, error)
	// Plan and Patience are blobcache.Planner's.
	Plan(size int64) (part int64, parallel int)
	Patience() time.Duration
}

// A BlobWriter takes in blobs and the links that make them visible.
type BlobWriter interface {
	// PutBlob stores the size bytes of r under d, create-only: a blob that is
	// there already is success and costs no body. r may block until its bytes
	// have landed; an error of r leaves nothing in the bucket.
	PutBlob(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt) error
	// LayerLink returns how long ago somebody last made the blob visible in repo, by the
	// bucket's own clock, negative if that is not known.
	LayerLink(ctx context.Context, repo string, d manifest.Digest) (age time.Duration, err error)
	// LinkLayer makes a blob that is stored visible in repo, again if it is.
	LinkLayer(ctx context.Context, repo string, d manifest.Digest) error
}

// A ManifestStore keeps manifests, by digest within a repository.
type ManifestStore interface {
	// HasManifest reports whether the manifest is visible in repo.
	HasManifest(ctx context.Context, repo string, d manifest.Digest) (bool, error)
	// Manifest returns the bytes, at most manifest.MaxSize of them, whether or
	// not they are visible in repo.
	Manifest(ctx context.Context, repo string, d manifest.Digest) ([]byte, error)
	// PutManifest stores the bytes and then makes them visible in repo.
	PutManifest(ctx context.Context, repo string, d manifest.Digest, body []byte) error
}

// A TagStore keeps the only thing in a bucket that changes.
type TagStore interface {
	Tag(ctx context.Context, repo, tag string) (manifest.Digest, error)
	PutTag(ctx context.Context, repo, tag string, d manifest.Digest) error
}

// A Remover takes links away. The bytes stay where they are: other repositories may
// show them, and to collect what nobody shows is the affair of whoever keeps the
// bucket. What was not there is an error that wraps fs.ErrNotExist; to call again
// after a failure goes on where it ended.
type Remover interface {
	// RemoveTag removes a tag with its history.
	RemoveTag(ctx context.Context, repo, tag string) error
	// RemoveManifest makes a manifest invisible in repo: first the tags that mean
	// it, then the manifest, then what it says about its subject. A push by another
	// host that comes meanwhile wins if it has its tag within RemovalGrace of its
	// manifest. One that takes longer looks itself, behind its tag. The tags that are gone
	// are returned, also with an error.
	RemoveManifest(ctx context.Context, repo string, d manifest.Digest) (tags []string, err error)
	RemovalGrace() time.Duration
	// RemoveLayer makes a blob invisible in repo.
	RemoveLayer(ctx context.Context, repo string, d manifest.Digest) error
}

// A ReferrerStore knows which manifests of a repository are about another one of
// it: signatures, provenance, bills of materials. The subject itself need not be
// there.
type ReferrerStore interface {
	// PutReferrer notes that the manifest of desc, which is visible in repo, names
	// subject. desc is manifest.AsReferrer's. Once is as good as twice.
	PutReferrer(ctx context.Context, repo string, subject manifest.Digest, desc manifest.Descriptor) error
	// Referrers returns the descriptors of all manifests visible in repo that name
	// subject, sorted by digest; those too that a stock registry took. None is no error.
	Referrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error)
}

// A Lister says what there is, in lexical order, at most max at a time and only
// what comes after the name given.
type Lister interface {
	// Exists reports whether the bucket has the repository. Without an error
	// it is an answer of the bucket, both ways.
	Exists(ctx context.Context, repo string) (bool, error)
	Tags(ctx context.Context, repo, after string, max int) ([]string, error)
	// Repositories may take many calls of the bucket: what was found when ctx
	// ended is returned beside the error.
	Repositories(ctx context.Context, after string, max int) ([]string, error)
}
