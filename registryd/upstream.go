package registryd

import (
	"context"
	"io"

	"hostlocal/manifest"
)

// An Upstream is one origin registry, which knows its repositories by their path
// alone ("library/debian").
//
// An error that wraps fs.ErrNotExist says that the upstream answered and has no
// such thing, one that wraps fs.ErrPermission that it answered and refuses; any
// other is an outage, a rate limit or a failing token endpoint among them. An
// outage that names its own end says so in an *upstream.Error. One that has a method
// Credentialed, and says true there, has been asked with credentials: what it gives
// is not for everybody.
type Upstream interface {
	// Head says what ref, a tag or a digest, stands for. A field that the
	// upstream did not say is zero, Size -1.
	Head(ctx context.Context, repo, ref string) (manifest.Descriptor, error)
	// Manifest returns the bytes, at most manifest.MaxSize of them, and the
	// Content-Type that came with them.
	Manifest(ctx context.Context, repo, ref string) (body []byte, mediaType string, err error)
	// OpenBlob is blobcache.Source's Open.
	OpenBlob(ctx context.Context, repo string, d manifest.Digest, off, n int64) (body io.ReadCloser, from, size int64, err error)
	// Tags lists at most n tags after last, and the last that a further page
	// begins after: empty if there is none.
	Tags(ctx context.Context, repo string, n int, last string) (tags []string, next string, err error)
}

// A ReferrerUpstream is an Upstream that may know what refers to a manifest.
type ReferrerUpstream interface {
	// Referrers returns the descriptors of all that refers to subject in repo; none
	// is no error. One that wraps fs.ErrNotExist says that this registry does not
	// list them.
	Referrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error)
}
