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
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// Options says what a Registry is made of. Names and Cache are required.
type Options struct {
	Names     *manifest.Names
	Cache     *blobcache.Cache
	Links     *blobcache.Names    // nil: the Cache's
	Store     Store               // the bucket; nil if there is none
	Mirror    bool                // write what upstreams gave to the bucket too
	Upstreams map[string]Upstream // by the name under which mirrored repositories lie: "docker.io"
	// Policies are asked in order, the first that matches counts; the tags of
	// which none speaks have DefaultPolicy, own ones are asked for always.
	Policies []TagRule
	// References says what has to be in one of the bucket's own repositories before a
	// manifest that names it. ReferencesNone also says that others may have pushed so.
	References References
	// PendingFile is where what the bucket is owed outlives a restart, in the
	// Cache's folder, whose budget it counts against; empty: it does not.
	PendingFile string
	// GuardFile is where what came with credentials is remembered; empty: for as
	// long as the process lives.
	GuardFile string
	// UploadExpiry is how long a push that broke off waits for somebody who goes on
	// with it: what came of it, on this disk, and what was sent of it, in the bucket.
	// 0: a day for the one, ten minutes for the other.
	UploadExpiry time.Duration
	Log          *slog.Logger // nil: nothing is logged
}

// A Repository is a resolved name.
type Repository struct {
	Name manifest.Name
	Why  string // in words for a person

	key string // String, so that it is made once a request; empty: not made yet
}

// newRepository is a Repository that was decided for the reason why.
func newRepository(n manifest.Name, why string) Repository {
	return Repository{Name: n, Why: why, key: n.String()}
}

// String returns the name under which the repository lies in the bucket and on
// the disk: "team/app", "docker.io/library/debian".
func (r Repository) String() string {
	if r.key != "" {
		return r.key
	}
	return r.Name.String()
}

// Registry answers for all repositories. Its methods may be called from any
// number of goroutines. Shut it down.
type Registry struct {
	options  Options
	policies policies
	log      *slog.Logger
	disk     *blobcache.Cache
	links    *blobcache.Names
	bucket   *bucket            // nil: none
	origins  map[string]*origin // by name
	writer   *writer            // of what is pushed, and, if Options.Mirror, of what is pulled; nil: there is no bucket
	spool    spool              // of what is pushed
	bg       *background

	// What is known, in memory. Each bounds itself.
	parsed    *manifest.Cache
	named     *named
	guard     *guard
	referrals *referrals
	tags      *tagMemory
	awaited   *awaited
	decisions *lru.Cache[string, decision]
	owed      *owed
	open      *openUploads
	staged    *stages
	changing  *pushTurns[content]
	tagging   *pushTurns[tagKey]
	owners    *lru.Cache[manifest.Digest, string] // a repository of the bucket's own that has the blob
	scanned   *lru.Cache[string, struct{}]        // repositories whose tags were scanned
	linked    *lru.Cache[content, struct{}]       // layers whose links on disk are known to be there

	// Work under way, by what it is for.
	confirmations *flights[tagKey, resolved]
	bucketTags    *flights[tagKey, manifest.Digest]
	existence     *flights[string, bool]
	loads         *flights[content, loaded]
	proofs        *flights[content, struct{}]
	cheapProofs   *flights[content, struct{}]
	stats         *flights[content, stat]
	looks         *flights[look, struct{}]
	referring     *flights[content, []manifest.Descriptor]
	scans         *flights[string, struct{}]

	lists         *semaphore.Weighted // that are made at once
	diskRoom      *room               // for large manifests that are read from this disk
	pushRoom      *room               // for large manifests that are pushed
	smallPushRoom *room               // for the first manifest.Small bytes of every one

	staleAnswers atomic.Int64
}

// parsedBytes bounds the parsed manifests in memory: some thousands, a large
// host's working set.
const parsedBytes = 16 << 20

// maxRepositories bounds the repositories that are remembered as scanned.
const maxRepositories = 4 << 10

// New returns a Registry. It asks nobody anything: bucket and upstreams may be
// down.
func New(o Options) (*Registry, error) {
	if o.Names == nil || o.Cache == nil {
		return nil, errors.New("a registry needs names and a cache")
	}
	if o.Links == nil {
		o.Links = o.Cache.Names()
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	guard, err := newGuard(o.GuardFile, log)
	if err != nil {
		return nil, fmt.Errorf("reading what is guarded in %s: %w", o.GuardFile, err)
	}
	bg := newBackground()
	g := &Registry{
		options: o, policies: o.Policies, log: log, disk: o.Cache, links: o.Links, bg: bg,
		origins:       map[string]*origin{},
		parsed:        manifest.NewCache(parsedBytes),
		named:         newNamed(o.References == ReferencesNone),
		guard:         guard,
		referrals:     newReferrals(),
		tags:          newTagMemory(o.Links),
		awaited:       newAwaited(),
		decisions:     newLRU[string, decision](maxDecisions),
		owed:          &owed{what: newLRU[content, struct{}](maxNamed)},
		open:          newOpenUploads(),
		staged:        newStages(),
		changing:      newPushTurns[content](),
		tagging:       newPushTurns[tagKey](),
		owners:        newLRU[manifest.Digest, string](maxNamed),
		spool:         cacheSpool{o.Cache},
		scanned:       newLRU[string, struct{}](maxRepositories),
		linked:        newLRU[content, struct{}](maxNamed),
		confirmations: newFlights[tagKey, resolved](bg),
		bucketTags:    newFlights[tagKey, manifest.Digest](bg),
		existence:     newFlights[string, bool](bg),
		loads:         newFlights[content, loaded](bg),
		proofs:        newFlights[content, struct{}](bg),
		cheapProofs:   newFlights[content, struct{}](bg),
		stats:         newFlights[content, stat](bg),
		looks:         newFlights[look, struct{}](bg),
		referring:     newFlights[content, []manifest.Descriptor](bg),
		scans:         newFlights[string, struct{}](bg),
		lists:         semaphore.NewWeighted(maxLists),
	}
	large := semaphore.NewWeighted(roomBytes)
	g.diskRoom = newRoom("this disk", large)
	// Whoever pushes slowly takes nothing from those who pull.
	g.pushRoom = newRoom("this registry", semaphore.NewWeighted(roomShare))
	g.smallPushRoom = newRoom("this registry", semaphore.NewWeighted(smallPushes))
	for name, up := range o.Upstreams {
		g.origins[name] = newOrigin(name, up, large)
	}
	if o.Store != nil {
		g.bucket = &bucket{store: o.Store, questions: newShare("the bucket", maxQuestions), changes: newShare("the bucket", maxChanges), removals: newShare("the bucket", maxRemovals), room: newRoom("the bucket", large)}
	}
	if o.Store != nil {
		g.writer = newWriter(g, o.PendingFile)
		if o.Mirror {
			g.owed.writer = g.writer
		}
		if err := g.writer.takeOver(); err != nil {
			g.guard.close()
			return nil, fmt.Errorf("reading the pending write-backs in %s: %w; remove the file to go on without them", o.PendingFile, err)
		}
	}
	return g, nil
}

// Resume goes on with what the last process left unfinished: the cache's fills, and
// then what the bucket is owed of them. Call it once, after New.
func (g *Registry) Resume() {
	g.disk.Resume(g.Sources)
	if g.writer != nil {
		g.writer.resume()
		g.expireUploads()
	}
}

// newLRU returns a cache of at most size entries.
func newLRU[K comparable, V any](size int) *lru.Cache[K, V] {
	c, err := lru.New[K, V](size)
	if err != nil {
		panic(err) // it refuses only a size below 1
	}
	return c
}

// Shutdown ends all work in the background and waits for it, at most until ctx
// ends. What was not written back is remembered in Options.PendingFile.
func (g *Registry) Shutdown(ctx context.Context) error {
	err := g.bg.close(ctx)
	if g.writer != nil {
		g.writer.close()
	}
	g.guard.close()
	return err
}
