package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"hostlocal/manifest"
)

const (
	// referrersLimit bounds one list, whatever its caller's patience. What a list
	// that ran out of time has read already the next one need not.
	referrersLimit = time.Minute
	// maxReferrers bounds those of one subject. Each that is not in memory costs an
	// exchange: ten thousand, a signature a day for 27 years, take ten seconds.
	maxReferrers = 10_000
	// maxDescriptors bounds the bytes of one list, and of the descriptors that are
	// kept in memory: thirteen thousand of the usual 600 bytes. Annotations are
	// bounded by nothing else, and their writer is a stranger.
	maxDescriptors = 8 << 20
	// smallReads and largeReads bound what all lists of a host read at once:
	// exchanges, and bytes of objects that are larger than manifests usually are.
	smallReads = 16
	largeReads = 2 * manifest.MaxSize
)

// referrers is what a Store knows of them. The bucket is the truth; this may be lost.
type referrers struct {
	small *semaphore.Weighted // exchanges
	large *semaphore.Weighted // bytes
	cache descriptorCache
	repos examinations
}

func newReferrers() *referrers {
	return &referrers{small: semaphore.NewWeighted(smallReads), large: semaphore.NewWeighted(largeReads),
		cache: newDescriptorCache(maxDescriptors), repos: newExaminations()}
}

// PutReferrer notes that a manifest of the repository is about subject. Each has an
// object of its own, so that hosts that push at once do not undo each other's. It is
// not conditional: all who write it write the same, and one that is damaged is mended.
func (s *Store) PutReferrer(ctx context.Context, repo string, subject manifest.Digest, desc manifest.Descriptor) error {
	key, err := referrerKey(repo, subject, desc.Digest)
	if err != nil {
		return err
	}
	if err := s.changeable(repo); err != nil {
		return err
	}
	body, err := encodeReferrer(desc)
	if err == nil {
		err = s.putSmall(ctx, key, body)
	}
	if err != nil {
		return fmt.Errorf("referrer %s of %s@%s: %w", desc.Digest, repo, subject, err)
	}
	return nil
}

// Referrers returns the descriptors of the manifests visible in the repository that
// are about subject, sorted by digest. It costs a page of their objects, the pages of
// the repository's revisions, a thousand a page, and an exchange for each descriptor
// that is not in memory. Manifests that nobody has looked into, since a stock
// registry took them, are read first: see examine.
//
// One that was made visible while the list was made may be missing in it. It needs
// the right to list.
func (s *Store) Referrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error) {
	if !validRepo(repo) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, referrersLimit, errSilent)
	defer cancel()
	list, err := s.listReferrers(ctx, repo, subject)
	if err != nil {
		return nil, fmt.Errorf("referrers of %s@%s: %w", repo, subject, err)
	}
	return list, nil
}

func (s *Store) listReferrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error) {
	found, err := s.examine(ctx, repo, subject)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards list and size
	var list []manifest.Descriptor
	var size int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(smallReads)
	for d, stored := range found {
		g.Go(func() error {
			desc, ok, err := s.descriptor(ctx, repo, subject, d, stored)
			if err != nil || !ok {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if size += descriptorSize(desc); size > maxDescriptors {
				return errTooMuch
			}
			list = append(list, desc)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b manifest.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return list, nil
}

// storedReferrers returns the digests that have an object as subject's referrers.
func (s *Store) storedReferrers(ctx context.Context, repo string, subject manifest.Digest) (map[manifest.Digest]bool, error) {
	root, err := referrersRoot(repo, subject)
	if err != nil {
		return nil, err
	}
	found := map[manifest.Digest]bool{}
	err = s.eachObject(ctx, root, func(o Object) error {
		if d, ok := digestAt(strings.TrimPrefix(o.Key, root), "/descriptor"); ok {
			found[d] = true
		}
		if len(found) > maxReferrers {
			return errTooMuch
		}
		return nil
	})
	return found, err
}

// descriptor returns what is to be said of the referrer d, and false if d is none
// after all. It is made of the manifest again where its object is damaged, or could
// not be written.
func (s *Store) descriptor(ctx context.Context, repo string, subject, d manifest.Digest, stored bool) (manifest.Descriptor, bool, error) {
	key, err := referrerKey(repo, subject, d)
	if err != nil {
		return manifest.Descriptor{}, false, err
	}
	if desc, ok := s.referrers.cache.get(key); ok {
		return desc, true, nil
	}
	if stored {
		desc, err := s.readReferrer(ctx, key, d)
		if err == nil {
			s.referrers.cache.add(key, desc)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return desc, false, nil // it was removed since the list was made
		}
		if err == nil || !errors.Is(err, errReferrer) {
			return desc, err == nil, err
		}
		s.log.Info("a referrer's object is damaged and is written again", "repository", repo, "key", key, "err", err)
	}
	about, desc, err := s.subjectOf(ctx, repo, d)
	if err != nil || about != subject {
		return desc, false, err
	}
	if s.noteReferrer(ctx, repo, subject, desc) {
		s.referrers.repos.get(repo).written(subject, d)
	}
	s.referrers.cache.add(key, desc)
	return desc, true, nil
}

func (s *Store) readReferrer(ctx context.Context, key string, d manifest.Digest) (desc manifest.Descriptor, err error) {
	err = s.readOne(ctx, func(ctx context.Context) error {
		body, _, err := s.loadBy(ctx, key, func(r io.Reader, size int64) ([]byte, error) { return manifest.Read(ctx, r, size) })
		if errors.Is(err, manifest.ErrTooLarge) {
			return fmt.Errorf("%w: %w", errReferrer, err)
		}
		if err == nil {
			desc, err = parseReferrer(d, body)
		}
		return err
	})
	return desc, err
}

// subjectOf reads the manifest d and returns what it is about: the zero Digest if
// nothing, or if it is not there or no manifest.
func (s *Store) subjectOf(ctx context.Context, repo string, d manifest.Digest) (about manifest.Digest, desc manifest.Descriptor, err error) {
	err = s.readOne(ctx, func(ctx context.Context) error {
		body, err := s.Manifest(ctx, repo, d)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, manifest.ErrMismatch) {
			return nil
		}
		if err != nil {
			return err
		}
		if m, err := manifest.ParseAs(d, body); err == nil && m.Subject != nil {
			about, desc = m.Subject.Digest, m.AsReferrer()
		}
		return nil
	})
	return about, desc, err
}

// readOne runs f, which reads one object as manifests are read, within what may be
// read at once. What f has read must be let go of when it returns.
func (s *Store) readOne(ctx context.Context, f func(context.Context) error) error {
	if err := s.referrers.small.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.referrers.small.Release(1)
	var held int64
	free := func() { s.referrers.large.Release(held); held = 0 }
	defer free()
	return f(manifest.WithNeed(ctx, func(n int64) error {
		free() // of an attempt that failed
		if err := s.referrers.large.Acquire(ctx, n); err != nil {
			return err
		}
		held = n
		return nil
	}))
}

// noteReferrer writes a referrer's object if that can be done, and reports whether it
// was: a list is right without it, and dearer.
func (s *Store) noteReferrer(ctx context.Context, repo string, subject manifest.Digest, desc manifest.Descriptor) bool {
	err := s.PutReferrer(ctx, repo, subject, desc)
	if err != nil && !errors.Is(err, ErrReadOnly) {
		s.log.Debug("a referrer is kept in memory only", "err", err)
	}
	return err == nil
}
