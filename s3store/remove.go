package s3store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
)

const (
	// removeLimit bounds one removal, whatever its caller's patience: a tag that
	// meant ten thousand things takes ten thousand exchanges.
	removeLimit = time.Minute
	// removesAtOnce is how many links one removal deletes at once: at S3's 20 to
	// 50 ms each, a tag with a history of a thousand takes two seconds.
	removesAtOnce = 16
)

// errRemoveLimit is the cause of a removal that took too long.
var errRemoveLimit = errors.New("removing took more than a minute; what is gone is gone, remove again to go on")

// RemoveTag removes a tag and its history, as the stock registry does: a tag that
// kept its history would still be listed. It needs the right to list. What it means
// is forgotten first. A tag of which there is only history left, since a removal was
// cut short, is there to be removed.
//
// It is not conditional, because S3's deletes are not: a tag that is written at the
// same moment may be removed with what it meant before.
func (s *Store) RemoveTag(ctx context.Context, repo, tag string) error {
	ctx, cancel, err := s.removal(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	return s.removeTag(ctx, repo, tag, manifest.Digest{})
}

// RemoveManifest makes a manifest invisible in the repository: first the tags that
// mean it, so that no reader meets one without its manifest, then its entry among
// the referrers of its subject, then itself. Its bytes stay, and so do its entries
// in the history of tags that mean something else by now.
//
// The tags are found by listing all of the repository's with their history, a
// thousand entries an exchange, and reading those that ever meant it.
func (s *Store) RemoveManifest(ctx context.Context, repo string, d manifest.Digest) error {
	ctx, cancel, err := s.removal(ctx, repo)
	if err != nil {
		return err
	}
	defer cancel()
	if err := s.removeManifest(ctx, repo, d); err != nil {
		return fmt.Errorf("removing manifest %s of %s: %w", d, repo, err)
	}
	return nil
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
// zero: a removal of that manifest which is cut short finds the tag by it again.
func (s *Store) removeTag(ctx context.Context, repo, tag string, last manifest.Digest) error {
	root, err := tagRoot(repo, tag)
	if err != nil {
		return err
	}
	end := ""
	if !last.IsZero() {
		end = root + historyEntry(last)
	}
	if err := s.removeBelow(ctx, root, end); err != nil {
		return fmt.Errorf("removing tag %s:%s: %w", repo, tag, err)
	}
	return nil
}

// removeBelow removes all objects whose keys begin with prefix: the first of them
// before the others are touched, which of a tag's is what it means, and the one with
// the key end after them.
func (s *Store) removeBelow(ctx context.Context, prefix, end string) error {
	after, ends, removed := "", false, 0
	for range maxPages {
		page, err := s.list(ctx, prefix, "", after, listPage)
		if err != nil {
			return err
		}
		g, within := errgroup.WithContext(ctx)
		g.SetLimit(removesAtOnce)
		for _, o := range page.Objects {
			if o.Key == end {
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

func (s *Store) removeManifest(ctx context.Context, repo string, d manifest.Digest) error {
	key, err := revisionKey(repo, d)
	if err != nil {
		return err
	}
	if _, err := s.stat(ctx, key); err != nil {
		return err
	}
	if err := s.removeTagsOf(ctx, repo, d); err != nil {
		return err
	}
	s.removeReferrer(ctx, repo, d)
	return s.remove(ctx, key)
}

// removeTagsOf removes the tags that mean d.
func (s *Store) removeTagsOf(ctx context.Context, repo string, d manifest.Digest) error {
	tags, err := s.onceMeant(ctx, repo, d)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(removesAtOnce)
	for _, tag := range tags {
		g.Go(func() error {
			// A tag that means nothing is what a removal left that was cut short.
			at, err := s.Tag(ctx, repo, tag)
			if err == nil && at != d {
				return nil
			}
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				err = s.removeTag(ctx, repo, tag, d)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // somebody else was faster
			}
			return err
		})
	}
	return g.Wait()
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

// removeReferrer removes what d says about its subject. Where that cannot be known
// now it stays, to no effect: a referrer whose manifest is not visible is not listed.
func (s *Store) removeReferrer(ctx context.Context, repo string, d manifest.Digest) {
	subject, _, err := s.subjectOf(ctx, repo, d)
	if err != nil || subject.IsZero() {
		return
	}
	if key, err := referrerKey(repo, subject, d); err == nil {
		s.remove(ctx, key)
	}
}

// remove deletes one object. One that is not there is success.
func (s *Store) remove(ctx context.Context, key string) error {
	return s.write(ctx, 0, func(ctx context.Context) error { return s.bucket.Delete(ctx, key) })
}
