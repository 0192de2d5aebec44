package blobcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoRoom is wrapped by every error that says that the budget, or the disk, has
// no room for a blob.
var ErrNoRoom = errors.New("no room in the cache")

const (
	// markStep is how far ahead of what is used the durable high-water mark is
	// raised, and the mark may be that much above the truth while the scan at start
	// runs. It is raised when half of it is used up, behind whoever used it: raising
	// it costs two fsyncs, some ms, and half a step takes a disk longer than that.
	markStep = 64 << 20

	// freeInterval is how old a look at the file system's free bytes may be. Other
	// programs fill disks at most at some GB/s, and keep_free is there to absorb that.
	freeInterval = time.Second

	// block is what a file system allocates at a time, near enough: reservations
	// are rounded up to it.
	block = 4096

	// growth is kept free of the budget for what is only seen when it has happened:
	// a folder that takes another block because of one more name.
	growth = 16 * block

	// scanWait is how long the need for room waits for the scan at start. 200,000
	// blobs take it about a second; a cache with more passes through meanwhile.
	scanWait = time.Second
)

// ledger keeps the folder within its budget. Everything under the folder counts,
// in allocated blocks: blobs, partial files and their maps, links, quarantine,
// directories, and removed files until their last reader closes them.
//
// Bytes are promised, taken and freed. A fill promises its size when it starts:
// that is refused if what cannot be evicted leaves no room for it, and it evicts
// nothing, so a source that only claims to have a large blob pushes nothing out.
// As bytes are about to be written they are taken, and now files go. Freed is
// what was unlinked. used never exceeds the budget, so the folder does not.
type ledger struct {
	dir      string
	budget   int64
	keepFree int64 // bytes that are to stay free on the file system
	evict    func() (freed int64, ok bool)

	scanEnded chan struct{} // closed when the sum has replaced the mark
	low       chan struct{} // says that the mark should be raised

	// evicting is held by the one who makes room, over the unlinking: were two to
	// look at once, both would evict for the same shortage. It is taken before
	// raising and mu.
	evicting sync.Mutex
	waited   bool // somebody has waited for the scan: nobody does again; evicting guards it

	raising sync.Mutex // held over the writing of the mark; taken before mu

	mu       sync.Mutex // guards the fields below; no I/O under it
	used     int64
	fixed    int64 // of used: what cannot be evicted (links, directories, files of running fills)
	promised int64
	mark     int64 // what the file named by markFile says
	free     int64 // file system's free bytes, as of freeAt
	freeAt   time.Time
}

const markFile = "highwater"

// openLedger reads the mark, which stands in for the sum until the scan is done:
// it was durable before any byte was written that it does not cover.
func openLedger(dir string, budget, keepFree int64) *ledger {
	l := &ledger{dir: dir, budget: budget, keepFree: keepFree, scanEnded: make(chan struct{}), low: make(chan struct{}, 1)}
	b, err := os.ReadFile(filepath.Join(dir, markFile))
	if err == nil {
		l.mark, err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	}
	inUse := l.statfs()
	if err != nil || l.mark < 0 {
		l.mark = 0
		if _, err := os.Stat(filepath.Join(dir, blobsDir)); err == nil {
			// Files of which nobody knows how many: of a folder that was copied here,
			// say. They are all that its file system has at the most.
			l.mark = min(budget, inUse)
		}
	}
	l.used = l.mark
	return l
}

// promise sets n bytes aside, given that held bytes of blobs cannot be evicted.
func (l *ledger) promise(n, held int64) error {
	l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	if stuck := l.fixed + held + l.promised; stuck+n > l.limit() {
		return fmt.Errorf("%w: %d bytes wanted, %d of %d cannot be evicted now", ErrNoRoom, n, stuck, l.limit())
	}
	l.promised += n
	return nil
}

// unpromise gives back what was promised and not taken.
func (l *ledger) unpromise(n int64) {
	l.mu.Lock()
	l.promised -= n
	l.mu.Unlock()
}

// take makes room for n bytes that are written next, and cannot be evicted until
// settle says so. Of what was promised, promised bytes are used up by it.
func (l *ledger) take(n, promised int64) error {
	l.look()
	if l.tryTake(n, promised) {
		return nil
	}
	l.evicting.Lock()
	defer l.evicting.Unlock()
	for {
		if err := l.raise(n); err != nil {
			return fmt.Errorf("raising the high-water mark: %w", err)
		}
		if l.tryTake(n, promised) {
			return nil
		}
		freed, ok := l.evict()
		if !ok && l.awaitScan() {
			continue
		}
		if !ok {
			return fmt.Errorf("%w: nothing is left to evict for %d bytes", ErrNoRoom, n)
		}
		l.add(-freed)
	}
}

func (l *ledger) tryTake(n, promised int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used+n > l.limit() || l.used+n > l.mark {
		return false
	}
	l.used += n
	l.fixed += n
	l.free -= n
	l.promised -= promised
	if l.ahead() < markStep/2 {
		select {
		case l.low <- struct{}{}:
		default:
		}
	}
	return true
}

// ahead is by how much the mark covers what is used, and more than any use if it can
// not be raised further. The caller holds mu.
func (l *ledger) ahead() int64 {
	if l.mark >= l.limit() {
		return l.budget
	}
	return l.mark - l.used
}

// keepAhead raises the mark before anybody has to wait for it, until ctx ends. What
// goes wrong is for those to say who need it.
func (l *ledger) keepAhead(ctx context.Context) {
	for {
		_ = l.raise(0)
		select {
		case <-l.low:
		case <-ctx.Done():
			return
		}
	}
}

// raise makes the mark cover n more bytes than are used, durably, if there is room for
// them. n of 0 is for those who come next.
func (l *ledger) raise(n int64) error {
	l.raising.Lock()
	defer l.raising.Unlock()
	l.mu.Lock()
	mark := l.mark
	need := l.used + n
	if n == 0 && l.ahead() < markStep/2 || need > mark && need <= l.limit() {
		mark = min(l.budget, need+markStep)
	}
	raised := mark > l.mark
	l.mu.Unlock()
	if !raised {
		return nil
	}
	if err := l.write(mark); err != nil {
		return err
	}
	l.mu.Lock()
	l.mark = mark
	l.mu.Unlock()
	return nil
}

// awaitScan waits a while for the scan at start, and reports whether it ended: it
// may find room under the mark, and files to evict. All who need room stand behind
// the one who waits, so only the first does. The caller holds evicting.
func (l *ledger) awaitScan() bool {
	select {
	case <-l.scanEnded:
		return false // it had ended before: there was nothing to wait for
	default:
	}
	if l.waited {
		return false
	}
	l.waited = true
	t := time.NewTimer(scanWait)
	defer t.Stop()
	select {
	case <-l.scanEnded:
		return true
	case <-t.C:
		return false
	}
}

// settle turns taken bytes that cannot be evicted into bytes bytes of a file
// that can.
func (l *ledger) settle(taken, bytes int64) {
	l.mu.Lock()
	l.used += bytes - taken
	l.fixed -= taken
	l.mu.Unlock()
}

// add counts a change of what can be evicted.
func (l *ledger) add(n int64) {
	l.mu.Lock()
	l.used += n
	if n < 0 {
		l.free -= n
	}
	l.mu.Unlock()
}

// addFixed counts a change of what is not evicted: links and directories.
func (l *ledger) addFixed(n int64) {
	l.mu.Lock()
	l.used += n
	l.fixed += n
	l.mu.Unlock()
}

// start is the mark that stands in for what there is until the scan is done.
func (l *ledger) start() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mark
}

// scanned replaces the mark, which stood in for what was there at start, by what
// the scan found: evictable bytes of blobs and scraps, and fixed of the rest.
func (l *ledger) scanned(start, evictable, fixed int64) {
	l.mu.Lock()
	l.used += evictable + fixed - start
	l.fixed += fixed
	l.mu.Unlock()
	close(l.scanEnded)
}

// lower has the mark say exactly what is used, at the end of a process that knows:
// the next one then starts with all the room that there is.
func (l *ledger) lower() error {
	select {
	case <-l.scanEnded:
	default:
		return nil
	}
	l.mu.Lock()
	used := l.used
	l.mu.Unlock()
	return l.write(used)
}

func (l *ledger) write(mark int64) error {
	return writeFile(filepath.Join(l.dir, markFile), []byte(strconv.FormatInt(mark, 10)+"\n"))
}

// limit is the budget, or less if the file system has not that much left. The
// caller holds mu.
func (l *ledger) limit() int64 {
	return min(l.budget-growth, max(0, l.used+l.free-l.keepFree))
}

// most is limit for those who do not hold mu.
func (l *ledger) most() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit()
}

// look renews the figure of the file system's free bytes if it is old.
func (l *ledger) look() {
	now := time.Now()
	l.mu.Lock()
	fresh := now.Sub(l.freeAt) < freeInterval
	if !fresh {
		l.freeAt = now // one caller looks, the others go on with the old figure
	}
	l.mu.Unlock()
	if fresh {
		return
	}
	l.statfs()
}

// statfs notes the file system's free bytes, and returns those in use.
func (l *ledger) statfs() (inUse int64) {
	var st unix.Statfs_t
	if unix.Statfs(l.dir, &st) != nil {
		return l.budget // the folder is gone: whoever writes next finds out
	}
	l.mu.Lock()
	l.free, l.freeAt = int64(st.Bavail)*st.Bsize, time.Now()
	l.mu.Unlock()
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

func (l *ledger) sums() (used, fixed, promised int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used, l.fixed, l.promised
}

func roundUp(n int64) int64 { return (n + block - 1) &^ (block - 1) }
