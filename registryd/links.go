package registryd

import (
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// links is what is asked of a blobcache.Names: what this host remembers of its
// repositories, on disk. A memory that cannot be read is none.
type links interface {
	// Tag returns what the tag stood for when its source last said so; the
	// error wraps fs.ErrNotExist if nothing is remembered.
	Tag(repo, tag string) (blobcache.Tag, error)
	SetTag(repo, tag string, d manifest.Digest, confirmed time.Time) error
	RemoveTag(repo, tag string) error
	// Tags lists the tags that are remembered.
	Tags(repo string) ([]string, error)

	HasManifest(repo string, d manifest.Digest) bool
	LinkManifest(repo string, d manifest.Digest) error
	UnlinkManifest(repo string, d manifest.Digest) error

	HasLayer(repo string, d manifest.Digest) bool
	LinkLayer(repo string, d manifest.Digest) error
	UnlinkLayer(repo string, d manifest.Digest) error

	// Own returns what the bucket said when it was last asked whether the bare
	// name is a repository of its own; known is false if it never was.
	Own(repo string) (own, known bool)
	SetOwn(repo string, own bool) error
}
