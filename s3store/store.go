package s3store

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"hostlocal/manifest"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// ErrUnavailable says that the bucket failed too often and is left alone for a
// few seconds: nothing was sent.
var ErrUnavailable = errors.New("the bucket failed too often and is left alone for a few seconds")

// ErrReadOnly says that this host may only read the bucket. It is a permission
// error too.
var ErrReadOnly error = readOnly{}

type readOnly struct{}

func (readOnly) Error() string        { return "the bucket is read-only for this host" }
func (readOnly) Is(target error) bool { return target == fs.ErrPermission }

// Options are what a Store may be told. The zero value keeps everything, and is
// silent.
type Options struct {
	// Mirror says that mirrored repositories, those whose names begin with an
	// upstream's host, are kept in the bucket as well. Without it writing to one
	// is refused with ErrReadOnly.
	Mirror bool
	// Own says of a first component that looks like a host, with a dot or a port,
	// that what lies below may be the bucket's own all the same. Nil is: never.
	Own func(host string) bool
	// StageFrom replaces how many bytes of a blob land before it is staged, and the size of
	// the parts that it is staged in. 0 is two parts of 16 MiB.
	StageFrom int64
	// Log gets a line when the bucket's state changes, and none a call. Nil is
	// silence.
	Log *slog.Logger
}

// A Store is a Bucket in distribution's layout: blobs, manifests and tags. What a
// stock registry wrote it reads, and the reverse.
//
// In all its methods an error that wraps fs.ErrNotExist says that the bucket
// answered and does not have it. Each call is bounded in time, also when the
// context is not: reads answer within 5 s, retries included, writes within what
// their size explains.
type Store struct {
	bucket Bucket
	opt    Options
	log    *slog.Logger

	health health // may the bucket be asked now?
	retry  retryBudget
	slots  *slots              // ranges in flight
	writes *writes             // bodies being sent
	copies *semaphore.Weighted // made by the bucket itself
	first  answerTimes         // times to the first byte
	rights rights              // what the bucket lets us do

	staging staging // whether it takes blobs before their digests

	referrers *referrers // what is known of them
	tagTurns  tagTurns
	grace     time.Duration // removeGrace, but for tests

	mu       sync.Mutex                                       // guards the three below, and the start of goroutines; no I/O under it
	seen     *simplelru.LRU[manifest.Digest, string]          // the ETag that was last read under a digest
	distrust *simplelru.LRU[manifest.Digest, string]          // the ETag of an object that is wrong; empty: any
	aliases  *simplelru.LRU[manifest.Digest, manifest.Digest] // where a link said that the bytes of a digest lie

	ctx  context.Context // of what runs behind the calls
	stop context.CancelFunc
	wg   sync.WaitGroup
}

const (
	// maxSeen bounds what is remembered of single objects. An entry is some 200
	// bytes, and matters from a blob's fill to its verdict only.
	maxSeen = 4096
)

// New returns a Store over b. It speaks to nobody.
func New(b Bucket, o Options) *Store {
	s := &Store{bucket: b, opt: o, log: o.Log, slots: newSlots(maxRanges, keptForSmall), writes: newWrites(), copies: semaphore.NewWeighted(copiesAtOnce),
		referrers: newReferrers(), grace: removeGrace}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.seen, _ = simplelru.NewLRU[manifest.Digest, string](maxSeen, nil)
	s.distrust, _ = simplelru.NewLRU[manifest.Digest, string](maxSeen, nil)
	s.aliases, _ = simplelru.NewLRU[manifest.Digest, manifest.Digest](maxSeen, nil)
	s.retry.tokens = maxRetryTokens
	s.rights.changed = make(chan struct{}, 1)
	s.rights.wanted = make(chan struct{}, 1)
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Start begins to find out, behind the caller, what the bucket lets this host do.
// Calls need not wait for it. It ends with ctx or with Close.
func (s *Store) Start(ctx context.Context) {
	context.AfterFunc(ctx, s.stop)
	s.behind(s.explore)
}

// behind runs f beside the calls, unless the Store is closed.
func (s *Store) behind(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.wg.Go(f)
	}
}

// Close ends what runs behind the calls, waits for it, and closes the connections
// that the bucket kept. Calls that are under way end by their own contexts.
func (s *Store) Close() error {
	s.mu.Lock()
	s.stop() // under mu: behind starts nothing any more
	s.mu.Unlock()
	s.wg.Wait()
	closeIdle(s.bucket)
	return nil
}

// Plan says how a blob of size bytes is best asked for. A single connection to S3
// brings some 85 MB/s after some 30 ms: below 8 MiB a second request costs more
// than it brings, and parts above 16 MiB leave too few of them to run in
// parallel. 16 at once are measured at 14 times one plain GET, 8 at 7 times.
func (s *Store) Plan(size int64) (part int64, parallel int) {
	const small, large, most = 8 << 20, 16 << 20, 16
	if size >= 0 && size <= small {
		return small, 1
	}
	return min(max(size/most, small), large), most
}

// Patience is how long the bucket may be silent before somebody else is asked as
// well: its 95th percentile of late, at least 100 ms.
func (s *Store) Patience() time.Duration { return s.first.patience() }
