package s3store

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
)

const (
	// minPart is the size of a part unless there would be more than maxParts.
	// 16 MiB send a 600 MiB layer in 38 parts, and a lost one is sent again in 0.2 s.
	minPart  = 16 << 20
	maxParts = 10_000 // S3's bound
	// partsAtOnce is how many parts of one blob are in flight. Four connections keep
	// pace with any upstream that is not the bucket itself, but whoever pushes waits:
	// between two parts each of them idles for as long as the store takes to answer, and
	// four that bring 85 MB/s are 290 MB/s.
	partsAtOnce = 8
	// earnest is how many bytes of a blob must have come before an upload is begun in the
	// bucket: a client that announces much and sends nothing makes none there.
	earnest = 1 << 20
	// abortLimit bounds the removal of parts. The store's own rule for unfinished
	// uploads takes what is left.
	abortLimit = 5 * time.Second
)

// partSize is a whole number of MiB: parts must be equal, and some stores want them
// aligned.
func partSize(size int64) int64 {
	const mib = 1 << 20
	need := (size + maxParts - 1) / maxParts
	return max(minPart, (need+mib-1)/mib*mib)
}

// partWrite sends a blob in parts.
type partWrite struct {
	*blobWrite
	note func(string)

	mu sync.Mutex // guards up, and is held while note is called: it tells states in their order
	up upload
}

// run looks, sends what is missing and completes. An upload that the store has
// forgotten is begun anew, once.
func (p *partWrite) run(ctx context.Context) error {
	err := p.once(ctx)
	if errors.Is(err, errForgotten) {
		p.forget()
		err = p.once(ctx)
	}
	if err == nil || p.up.id == "" {
		return err
	}
	var ofSource sourceError
	keep := p.note != nil && (ctx.Err() != nil || outage(err) || errors.Is(err, ErrUnavailable) || errors.Is(err, fs.ErrPermission) || errors.As(err, &ofSource))
	if errors.Is(err, manifest.ErrMismatch) {
		keep = false // the parts are made of wrong bytes
	}
	if !keep {
		p.discard()
	}
	return err
}

var errForgotten = errors.New("the store has forgotten the upload")

func (p *partWrite) once(ctx context.Context) error {
	ok, _, err := p.there(ctx)
	if err != nil {
		return err
	}
	if ok {
		p.discard()
		return nil
	}
	if err := landed(p.r, 0, min(earnest, p.size)); err != nil {
		return err
	}
	if err := p.begin(ctx); err != nil {
		return err
	}
	if err := p.sendParts(ctx); err != nil {
		return err
	}
	return p.complete(ctx)
}

// begin makes an upload, unless one that fits was handed in.
func (p *partWrite) begin(ctx context.Context) error {
	if p.up.id != "" && p.fits() {
		return nil
	}
	p.discard()
	p.forget() // also one that could not be removed: there is a note for one only
	var id string
	err := p.s.write(ctx, 0, func(ctx context.Context) (err error) {
		id, err = p.s.bucket.CreateMultipart(ctx, p.key)
		return err
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = upload{id: id, partSize: partSize(p.size), parts: map[int]string{}}
	p.tell(p.up.begun())
	return nil
}

// parts is how many the blob has.
func (p *partWrite) parts() int {
	return int((p.size + p.up.partSize - 1) / p.up.partSize)
}

// sendParts sends the parts that are missing, as they land. The first failure ends
// it.
func (p *partWrite) sendParts(outer context.Context) error {
	sent := maps.Clone(p.up.parts)
	g, ctx := errgroup.WithContext(outer)
	g.SetLimit(partsAtOnce)
	for number, off := 1, int64(0); off < p.size && ctx.Err() == nil; number, off = number+1, off+p.up.partSize {
		n := min(p.up.partSize, p.size-off)
		g.Go(func() error {
			// Also a part that is there already: the source's last word on its
			// bytes must be heard before the object is completed.
			same, err := arrived(p.r, off, n, sent[number])
			if err != nil || same {
				return err
			}
			return p.sendPart(ctx, number, off, n)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return outer.Err() // it may have ended between two parts
}

func (p *partWrite) sendPart(ctx context.Context, number int, off, n int64) error {
	var tag string
	err := p.send(ctx, n, func(ctx context.Context) (err error) {
		body := newSection(p.r, off, n)
		tag, err = p.s.bucket.UploadPart(ctx, p.key, p.up.id, number, body, n)
		return body.judge(err)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return errForgotten
	}
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.up.parts[number] = tag
		p.tell(sentNote(number, tag))
	}
	return err
}

// complete makes the object, unless somebody else did meanwhile. What stands there
// and is wrong is overwritten without a condition: the bytes are verified, so that
// nothing right can be lost.
func (p *partWrite) complete(ctx context.Context) error {
	var parts []Part
	for _, number := range slices.Sorted(maps.Keys(p.up.parts)) {
		parts = append(parts, Part{Number: number, ETag: p.up.parts[number]})
	}
	if len(parts) != p.parts() {
		return errors.New("not all parts were sent")
	}
	var err error
	for range maxContests {
		ok, wrong, lookErr := p.look(ctx)
		if lookErr != nil {
			return lookErr
		}
		if ok {
			p.discard()
			return nil
		}
		// The size bounds it less than a body's: the bytes are there, but a store
		// (a folder is one) may have to copy them.
		err = p.s.write(ctx, p.size/64, func(ctx context.Context) error {
			_, err := p.s.bucket.CompleteMultipart(ctx, p.key, p.up.id, parts, CompleteOptions{IfNoneMatch: wrong == "" && p.s.rights.creates()})
			return err
		})
		switch {
		case err == nil:
			p.forget()
			return nil
		case errors.Is(err, fs.ErrNotExist):
			// Completed after all, and the answer was lost? Then it is there.
			if ok, _, _ := p.there(ctx); ok {
				p.forget()
				return nil
			}
			return errForgotten
		case notImplemented(err) && p.s.rights.creates():
			p.s.rights.mu.Lock()
			p.s.rights.put = No
			p.s.rights.mu.Unlock()
		case !errors.Is(err, ErrPrecondition):
			return err
		}
	}
	return err
}

// tell hands a note to whoever keeps them. The caller holds mu.
func (p *partWrite) tell(note string) {
	if p.note != nil && len(note) <= maxNote {
		p.note(note)
	}
}

// forget says that there is nothing to resume, and nothing to remove.
func (p *partWrite) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.up.id != "" {
		p.up = upload{}
		p.tell("")
	}
}

// discard removes the parts, if there are any. Where the bucket does not say that
// they are gone the notes stay, for AbandonBlob.
func (p *partWrite) discard() {
	if p.up.id != "" && p.s.abort(p.key, p.up.id) == nil {
		p.forget()
	}
}

// abort drops an upload, whatever happened to the caller.
func (s *Store) abort(key, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	return s.drop(ctx, key, id)
}

// drop removes an upload. One that is not there is success.
func (s *Store) drop(ctx context.Context, key, id string) error {
	err := s.exchange(ctx, answerLimit, func(ctx context.Context) error { return s.bucket.AbortMultipart(ctx, key, id) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		s.log.Debug("an unfinished upload stays in the bucket for now", "key", key, "err", err)
	}
	return err
}
