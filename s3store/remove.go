package s3store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
)

const (
	// removeLimit bounds one removal, whatever its caller's patience: a tag that
	// meant ten thousand things takes ten thousand exchanges.
	removeLimit = time.Minute
	// removesAtOnce is how many links one removal deletes or reads at once: at S3's 20
	// to 50 ms each, a tag with a history of a thousand takes two seconds.
	removesAtOnce = 16
	// removeGrace is how long after a manifest has gone its removal looks for tags again.
	// It is what a push may take from its manifest to its tags without a look at the end
	// (RemovalGrace), and a fifth for timers: 400 ms are ten calls of S3, two of which a
	// push of one tag makes meanwhile.
	removeGrace = 500 * time.Millisecond
	// removeLooks is how often that is tried while the bucket is in trouble: for 19 s.
	removeLooks = 7
)

// errStands ends a look for tags that stand for a manifest.
var errStands = errors.New("a tag stands for it")

// errRemoveLimit is the cause of a removal that took too long.
var errRemoveLimit = errors.New("removing took more than a minute; what is gone is gone, remove again to go on")

// RemoveTag removes a tag and its history, as the stock registry does: a tag that
// kept its history would still be listed. It needs the right to list. What it means
// is forgotten first. A tag of which there is only history left, since a removal was
// cut short, is there to be removed.
//
// It is not conditional, because S3's deletes are not: a tag that another host writes
// at the same moment may be removed with what it meant before, or keep some history
// without a meaning. Either is as if the removal had come last, but that such a tag is
// still listed; to remove it or to push it again mends that.
func (s *Store) RemoveTag(ctx context.Context, repo, tag string) error {
	ctx, cancel, err := s.removal(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	done, err := s.tagTurn(ctx, repo, tag)
	if err != nil {
		return err
	}
	defer done()
	return s.removeTag(ctx, repo, tag, manifest.Digest{})
}

// tagTurn waits until nobody else on this host changes the tag.
func (s *Store) tagTurn(ctx context.Context, repo, tag string) (done func(), err error) {
	key, err := tagKey(repo, tag)
	if err == nil {
		done, err = s.tagTurns.take(ctx, key)
	}
	if err != nil {
		return nil, fmt.Errorf("removing tag %s:%s: %w", repo, tag, err)
	}
	return done, nil
}

// RemoveManifest makes a manifest invisible in the repository: first the tags that
// mean it, so that no reader meets one without its manifest, then itself, then its
// entry among the referrers of its subject, without which it must not stay. Its bytes
// stay, and so do its entries in the history of tags that mean something else by now.
//
// The tags are found by listing all of the repository's with their history, a
// thousand entries an exchange, and reading those that ever meant it. Those that are
// gone are returned, also if the rest fails.
//
// A push by another host may have made the manifest visible before that, and make a tag
// stand for it afterwards. No delete of S3 has a condition, so both look again, and the
// push wins: whoever was told that it was pushed has it.
//
//	push:    link ──> tag ──> took longer than RemovalGrace? then look: link gone? ──> link
//	removal: tags go ──> link goes ──> removeGrace ──> look: a tag stands for it? ──> link
//
// A push whose link the removal took wrote it before the link went. It is done within
// RemovalGrace of that, and the removal, which looks later than that after the link went,
// sees its tag; or it takes longer, and looks behind its tag: then either the link has
// gone by then and it sees that, or the link goes after the tag came, and the removal
// sees the tag. So whichever comes last puts the link back. In between, for as long as
// these two take, the tag stands for nothing. What a kill of whoever is to look leaves
// that way is mended by the next push of the manifest.
func (s *Store) RemoveManifest(ctx context.Context, repo string, d manifest.Digest) (tags []string, err error) {
	ctx, cancel, err := s.removal(ctx, repo)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if tags, err = s.removeManifest(ctx, repo, d); err != nil {
		return tags, fmt.Errorf("removing manifest %s of %s: %w", d, repo, err)
	}
	return tags, nil
}

// RemoveLayer makes a blob invisible in the repository.
func (s *Store) RemoveLayer(ctx context.Context, repo string, d manifest.Digest) error {
	ctx, cancel, err := s.removal(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	key, err := layerKey(repo, d)
	if err != nil {
		return err
	}
	if _, err := s.stat(ctx, key); err != nil {
		return fmt.Errorf("removing layer %s of %s: %w", d, repo, err)
	}
	if err := s.remove(ctx, key); err != nil {
		return fmt.Errorf("removing layer %s of %s: %w", d, repo, err)
	}
	return nil
}

// removal begins one, where the repository may be changed.
func (s *Store) removal(ctx context.Context, repo string) (context.Context, context.CancelFunc, error) {
	if err := s.changeable(repo); err != nil {
		return nil, nil, err
	}
	if err := s.rights.writable(); err != nil {
		return nil, nil, fmt.Errorf("removing from %s: %w", repo, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, removeLimit, errRemoveLimit)
	return ctx, cancel, nil
}

// removeTag leaves the entry of last in the tag's history for the end, if that is not
// zero: a removal of that manifest which is cut short finds the tag by it again. What the
// tag means has gone by then, and stays if another host has written it anew.
func (s *Store) removeTag(ctx context.Context, repo, tag string, last manifest.Digest) error {
	root, err := tagRoot(repo, tag)
	if err != nil {
		return err
	}
	end, keep := "", ""
	if !last.IsZero() {
		end = root + historyEntry(last)
		if keep, err = tagKey(repo, tag); err != nil {
			return err
		}
	}
	if err := s.removeBelow(ctx, root, end, keep); err != nil {
		return fmt.Errorf("removing tag %s:%s: %w", repo, tag, err)
	}
	return nil
}

// forgetTag has a tag mean nothing, and leaves its history.
func (s *Store) forgetTag(ctx context.Context, repo, tag string) error {
	key, err := tagKey(repo, tag)
	if err != nil {
		return err
	}
	return s.remove(ctx, key)
}

// removeBelow removes all objects whose keys begin with prefix: the first of them
// before the others are touched, which of a tag's is what it means, and the one with
// the key end after them. That with the key keep stays.
func (s *Store) removeBelow(ctx context.Context, prefix, end, keep string) error {
	after, ends, removed := "", false, 0
	for range maxPages {
		page, err := s.list(ctx, prefix, "", after, listPage)
		if err != nil {
			return err
		}
		g, within := errgroup.WithContext(ctx)
		g.SetLimit(removesAtOnce)
		for _, o := range page.Objects {
			switch o.Key {
			case keep:
				continue
			case end:
				ends = true
				continue
			}
			if removed++; removed > 1 {
				g.Go(func() error { return s.remove(within, o.Key) })
			} else if err := s.remove(ctx, o.Key); err != nil {
				return err
			}
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if after = page.Next; after == "" {
			break
		}
	}
	switch {
	case after != "":
		return errTooMuch
	case ends:
		return s.remove(ctx, end)
	case removed == 0:
		return fmt.Errorf("nothing is there: %w", fs.ErrNotExist)
	}
	return nil
}

func (s *Store) removeManifest(ctx context.Context, repo string, d manifest.Digest) (tags []string, err error) {
	key, err := revisionKey(repo, d)
	if err != nil {
		return nil, err
	}
	if _, err := s.stat(ctx, key); err != nil {
		return nil, err
	}
	if tags, err = s.removeTagsOf(ctx, repo, d); err != nil {
		return tags, err
	}
	subject, desc, err := s.subjectOf(ctx, repo, d)
	known := err == nil && !subject.IsZero()
	if ctx.Err() != nil {
		return tags, context.Cause(ctx)
	}
	// From here on whoever has asked for it may leave, but nothing is left half done.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), removeLimit, errRemoveLimit)
	defer cancel()
	if err := s.remove(ctx, key); err != nil {
		return tags, err
	}
	pushed, err := s.pushedMeanwhile(ctx, repo, d)
	switch {
	case err != nil:
		return tags, fmt.Errorf("it is gone, but whether it was pushed meanwhile is not known: %w", err)
	case pushed:
		return tags, s.putLink(ctx, repo, key, d)
	case known:
		s.removeReferrer(ctx, repo, subject, desc)
	}
	return tags, nil
}

// RemovalGrace is how long a push may take from its manifest to the last of its tags
// without looking behind them whether the manifest is still visible.
func (s *Store) RemovalGrace() time.Duration { return s.grace / 5 * 4 }

// pushedMeanwhile reports, after the grace, whether a tag stands for d, which was
// removed. A bucket in trouble is asked for a while: nobody else will look.
func (s *Store) pushedMeanwhile(ctx context.Context, repo string, d manifest.Digest) (pushed bool, err error) {
	wait := s.grace
	for range removeLooks {
		time.Sleep(wait)
		if pushed, err = s.tagged(ctx, repo, d); err == nil {
			break
		}
		wait = min(2*wait, 8*s.grace)
	}
	return pushed, err
}

// tagged reports whether a tag stands for d. The first that does is enough.
func (s *Store) tagged(ctx context.Context, repo string, d manifest.Digest) (bool, error) {
	tags, err := s.onceMeant(ctx, repo, d)
	if err != nil {
		return false, err
	}
	var stands atomic.Bool
	looks, within := errgroup.WithContext(ctx)
	looks.SetLimit(removesAtOnce)
	for _, tag := range tags {
		looks.Go(func() error {
			if err := within.Err(); err != nil {
				return err
			}
			at, err := s.Tag(within, repo, tag)
			switch {
			case err == nil && at == d:
				stands.Store(true)
				return errStands
			case errors.Is(err, fs.ErrNotExist):
				return nil
			}
			return err
		})
	}
	if err := looks.Wait(); !stands.Load() {
		return false, err
	}
	return true, nil
}

// removeTagsOf removes the tags that mean d, and returns those that are gone by that.
func (s *Store) removeTagsOf(ctx context.Context, repo string, d manifest.Digest) (gone []string, err error) {
	tags, err := s.onceMeant(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards gone
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(removesAtOnce)
	for _, tag := range tags {
		g.Go(func() error {
			done, err := s.tagTurn(ctx, repo, tag)
			if err != nil {
				return err
			}
			defer done()
			// A tag that means nothing is what a removal left that was cut short.
			at, err := s.Tag(ctx, repo, tag)
			if err == nil && at != d {
				return nil
			}
			forgot := false
			if err == nil {
				// At once: another host may have it move on at any time.
				err = s.forgetTag(ctx, repo, tag)
				forgot = err == nil
			}
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				err = s.removeTag(ctx, repo, tag, d)
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = nil // it had no history, or somebody else was faster
			} else if err == nil {
				forgot = true
			}
			if forgot {
				mu.Lock()
				gone = append(gone, tag)
				mu.Unlock()
			}
			return err
		})
	}
	err = g.Wait()
	slices.Sort(gone)
	return gone, err
}

// onceMeant returns the tags whose history has d, and those that lost theirs.
func (s *Store) onceMeant(ctx context.Context, repo string, d manifest.Digest) ([]string, error) {
	root, err := repoKey(repo, "_manifests/tags/")
	if err != nil {
		return nil, err
	}
	var found []string
	entry := historyEntry(d)
	tag, has, any := "", false, true // the tag whose keys are being listed: does its history have d, has it one
	next := func(name string) {
		if name != tag {
			if has || !any {
				found = append(found, tag)
			}
			tag, has, any = name, false, false
		}
	}
	err = s.eachObject(ctx, root, func(o Object) error {
		name, rest, _ := strings.Cut(strings.TrimPrefix(o.Key, root), "/")
		if !validTag(name) {
			return nil
		}
		next(name)
		any = any || strings.HasPrefix(rest, "index/")
		has = has || rest == entry
		if len(found) > maxNames {
			return errTooMuch
		}
		return nil
	})
	next("")
	return found, err
}

// removeReferrer removes what a manifest that was removed says about its subject, and
// puts it back if somebody has pushed the manifest again meanwhile: it may have been
// his. Where that fails it stays, to no effect: a referrer whose manifest is not
// visible is not listed.
func (s *Store) removeReferrer(ctx context.Context, repo string, subject manifest.Digest, desc manifest.Descriptor) {
	key, err := referrerKey(repo, subject, desc.Digest)
	if err != nil || s.remove(ctx, key) != nil {
		return
	}
	if back, err := s.HasManifest(ctx, repo, desc.Digest); back || err != nil {
		s.noteReferrer(ctx, repo, subject, desc)
	}
}

// remove deletes one object. One that is not there is success.
func (s *Store) remove(ctx context.Context, key string) error {
	return s.write(ctx, 0, func(ctx context.Context) error { return s.bucket.Delete(ctx, key) })
}
