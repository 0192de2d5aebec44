package s3store

import (
	"errors"
	"io/fs"
	"sync"
	"time"
)

const (
	// stagingRefused is for how long a bucket is spared stages that said that it does not
	// know copies, or that this host may not write there, or that took too long for them:
	// somebody has to change that.
	stagingRefused = time.Hour
	// stagingFailed is the same after any other failure.
	stagingFailed = time.Minute
)

// staging is whether the bucket takes stages.
type staging struct {
	mu     sync.Mutex // guards the rest
	until  time.Time  // before it there are none
	unable bool       // there are none: the probe was told that there are no copies, or no deletes

	least int64     // bytes of a blob for which the copies are worth it, as long as
	known time.Time // this is not over
}

// tried notes what the probe was answered to a copy, or to a delete.
func (g *staging) tried(err error) {
	if notImplemented(err) || errors.Is(err, fs.ErrPermission) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.unable = true
	}
}

// from returns how many bytes a blob should have, and whether any should be staged.
func (g *staging) from(now time.Time) (bytes int64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bytes = stageFrom
	if now.Before(g.known) {
		bytes = max(bytes, g.least)
	}
	return bytes, !g.unable && !now.Before(g.until)
}

// took learns from a blob of size bytes. What a stage saves is at most the time in which
// it was sent before its digest was known; what it costs is the store's copying. The one
// grows with the blob, the other less so where copies run beside each other: as they do
// at S3, and not at a store of two cores.
func (g *staging) took(size int64, saved, copies time.Duration, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	least := float64(size) * copies.Seconds() / max(saved.Seconds(), 1e-3)
	g.least, g.known = int64(min(least, maxParts*minPart)), now.Add(stagingRefused)
}

// failed remembers why a stage failed. That its bytes did not come says nothing.
func (g *staging) failed(err error, now time.Time) {
	var ofSource sourceError
	if errors.As(err, &ofSource) || errors.Is(err, errTooLong) {
		return
	}
	rest := stagingFailed
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errSilent) || notImplemented(err) {
		rest = stagingRefused
	}
	g.spare(rest, now)
}

// spare has there be no stages for a while.
func (g *staging) spare(rest time.Duration, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := now.Add(rest); until.After(g.until) {
		g.until = until
	}
}
