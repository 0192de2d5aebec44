// Package registryd is the registry itself: what a name means, how fresh a tag is,
// and where the bytes of a manifest and of a blob come from.
//
//	request ──> Resolve ──> Manifest ── tag ──> digest ──> memory, disk, bucket, upstream
//	              (own or                                        │
//	              upstream)  Blob ──> proof of the repository ──> blobcache ──┬── bucket
//	                                                                 ▲        └── upstream
//	                                             write-back to the bucket
//
// It keeps two promises. What one source cannot give, the next one is asked for,
// and an answer, good or bad, comes within a bound that does not end the work
// behind it. And nothing is served under a repository that a manifest on this
// disk, a link in the bucket or the upstream does not name there.
package registryd

import (
	"context"
	"log/slog"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// Options says what a Registry is made of. Names and Cache are required.
type Options struct {
	Names     *manifest.Names
	Cache     *blobcache.Cache
	Store     Store               // the bucket; nil if there is none
	Mirror    bool                // write what upstreams gave to the bucket too
	Upstreams map[string]Upstream // by the name under which mirrored repositories lie: "docker.io"
	// Policies are asked in order, the first that matches counts; the tags of
	// which none speaks have DefaultPolicy, own ones are asked for always.
	Policies []TagRule
	// PendingFile is where write-backs that the bucket did not take yet outlive
	// a restart; empty: they do not.
	PendingFile string
	Log         *slog.Logger // nil: nothing is logged
}

// A Repository is a resolved name.
type Repository struct {
	Name manifest.Name
	Why  string // in words for a person
}

// String returns the name under which the repository lies in the bucket and on
// the disk: "team/app", "docker.io/library/debian".
func (r Repository) String() string { return r.Name.String() }

// Registry answers for all repositories. Its methods may be called from any
// number of goroutines. Close it.
type Registry struct{}

// New returns a Registry. It asks nobody anything: bucket and upstreams may be
// down.
func New(o Options) (*Registry, error) { panic("soon") }

// Shutdown ends all work in the background and waits for it, at most until ctx
// ends. What was not written back is remembered in PendingFile.
func (g *Registry) Shutdown(ctx context.Context) error { panic("soon") }

// Resolve decides what the repository path of a request means, with ns the value
// of ?ns= or empty. The error wraps fs.ErrNotExist if no configured upstream or
// own repository can be meant, manifest's own error if path is no name, and is an
// outage if the bucket must be asked and cannot be.
func (g *Registry) Resolve(ctx context.Context, path, ns string) (Repository, error) { panic("soon") }

// Manifest returns the manifest that ref stands for in repo. For a HEAD say
// headOnly: the bytes are then not fetched.
//
// An error wraps fs.ErrNotExist if every source answered that there is none,
// fs.ErrPermission if the upstream refuses it; else it is an outage, after at
// most answerLimit.
func (g *Registry) Manifest(ctx context.Context, repo Repository, ref Ref, headOnly bool) (Answer, error) {
	panic("soon")
}

// Blob returns a hold on the blob, which the caller closes; off is the first byte
// that is going to be read. Errors are as those of Manifest.
func (g *Registry) Blob(ctx context.Context, repo Repository, d manifest.Digest, off int64) (*blobcache.Blob, error) {
	panic("soon")
}

// StatBlob returns the length of the blob in bytes and the source that said so,
// without fetching it. Errors are as those of Manifest.
func (g *Registry) StatBlob(ctx context.Context, repo Repository, d manifest.Digest) (size int64, source string, err error) {
	panic("soon")
}

// Tags lists at most n tags of repo after last, in lexical order where the list
// is the bucket's, and whether there are more.
func (g *Registry) Tags(ctx context.Context, repo Repository, n int, last string) (tags []string, more bool, err error) {
	panic("soon")
}

// Catalog lists at most n of the bucket's own repositories after last, and
// whether there are more.
func (g *Registry) Catalog(ctx context.Context, n int, last string) (names []string, more bool, err error) {
	panic("soon")
}

// Sources returns where the rest of a fill that a restart interrupted can be had:
// it is for blobcache.Options.Resume, with the Want.Origin of that fill.
func (g *Registry) Sources(origin string, d manifest.Digest) []blobcache.Source { panic("soon") }
