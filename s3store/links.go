package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"hostlocal/manifest"
)

var errTooLarge = errors.New("the object is larger than anything that belongs there")

// maxLink bounds a link's content, in bytes: a sha512 digest has 135.
const maxLink = 256

// clockTick is how far behind its own stamps a store's clock may be in an answer: both
// are in whole seconds, and some servers make the latter once a second.
const clockTick = 2 * time.Second

// Tag returns what a tag means.
func (s *Store) Tag(ctx context.Context, repo, tag string) (manifest.Digest, error) {
	key, err := tagKey(repo, tag)
	if err != nil {
		return manifest.Digest{}, err
	}
	d, _, err := s.link(ctx, key)
	if err != nil {
		return manifest.Digest{}, fmt.Errorf("tag %s:%s: %w", repo, tag, err)
	}
	return d, nil
}

// PutTag makes a tag mean d, whatever it meant before. The manifest must be there:
// a reader may ask for it at once. The history, which nobody needs to read, is
// written first, so that the tag is the last thing to happen.
func (s *Store) PutTag(ctx context.Context, repo, tag string, d manifest.Digest) error {
	index, err := tagIndexKey(repo, tag, d)
	if err != nil {
		return err
	}
	current, err := tagKey(repo, tag)
	if err != nil {
		return err
	}
	done, err := s.tagTurns.take(ctx, current)
	if err != nil {
		return fmt.Errorf("tag %s:%s: %w", repo, tag, err)
	}
	defer done()
	for _, key := range []string{index, current} {
		if err := s.putLink(ctx, repo, key, d); err != nil {
			return fmt.Errorf("tag %s:%s: %w", repo, tag, err)
		}
	}
	return nil
}

// HasManifest reports whether the manifest is visible in the repository. Its bytes
// may be gone nevertheless, after a garbage collection.
func (s *Store) HasManifest(ctx context.Context, repo string, d manifest.Digest) (bool, error) {
	key, err := revisionKey(repo, d)
	if err != nil {
		return false, nil
	}
	_, err = s.follow(ctx, key, d)
	return found(err)
}

// HasLayer reports whether the blob is visible in the repository. Its bytes may be
// gone nevertheless, after a garbage collection.
func (s *Store) HasLayer(ctx context.Context, repo string, d manifest.Digest) (bool, error) {
	_, err := s.LayerLink(ctx, repo, d)
	return found(err)
}

// LayerLink returns how long ago somebody last made the blob visible in the repository,
// by the bucket's own clock; negative if it does not say. One that is not visible is a
// miss. Its bytes may be gone nevertheless, after a garbage collection since.
func (s *Store) LayerLink(ctx context.Context, repo string, d manifest.Digest) (age time.Duration, err error) {
	key, err := layerKey(repo, d)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return s.follow(ctx, key, d)
}

// LinkLayer makes a blob visible in the repository. Its bytes must be there.
func (s *Store) LinkLayer(ctx context.Context, repo string, d manifest.Digest) error {
	key, err := layerKey(repo, d)
	if err != nil {
		return err
	}
	return s.putLink(ctx, repo, key, d)
}

// found makes a bool of a miss.
func found(err error) (bool, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// follow reads the link of d, remembers where it leads, and returns its age: negative
// without the store's clock, and where that is behind what it wrote on the link.
func (s *Store) follow(ctx context.Context, key string, d manifest.Digest) (age time.Duration, err error) {
	at, obj, err := s.link(ctx, key)
	if err != nil {
		return 0, err
	}
	s.setAlias(d, at)
	if age = obj.Date.Sub(obj.Modified); age >= -clockTick {
		age = max(age, 0)
	}
	return age, nil
}

// link reads a link. One whose content is no digest is a miss: somebody's upload
// was cut, and what it should say nobody knows.
func (s *Store) link(ctx context.Context, key string) (manifest.Digest, Object, error) {
	body, obj, err := s.load(ctx, key, maxLink)
	if errors.Is(err, errTooLarge) {
		return manifest.Digest{}, obj, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return manifest.Digest{}, obj, err
	}
	d, err := manifest.ParseDigest(strings.TrimSpace(string(body)))
	if err != nil {
		return manifest.Digest{}, obj, fmt.Errorf("%w: link %q: %w", fs.ErrNotExist, key, err)
	}
	return d, obj, nil
}

// putLink writes a link. It is not conditional: all who write a link but a tag's
// write the same, and a tag may be written.
func (s *Store) putLink(ctx context.Context, repo, key string, d manifest.Digest) error {
	if err := s.changeable(repo); err != nil {
		return err
	}
	return s.putSmall(ctx, key, []byte(d.String()))
}

// putSmall writes an object that fits into a packet or two, over whatever is there.
func (s *Store) putSmall(ctx context.Context, key string, body []byte) error {
	return s.write(ctx, int64(len(body)), func(ctx context.Context) error {
		_, err := s.bucket.Put(ctx, key, bytes.NewReader(body), int64(len(body)), PutOptions{SHA256: manifest.DigestOf(body).Hex()})
		return err
	})
}

// changeable returns the error for a repository that is not written to.
func (s *Store) changeable(repo string) error {
	if s.mirrored(repo) && !s.opt.Mirror {
		return fmt.Errorf("%s: mirrored repositories are not kept in the bucket: %w", repo, ErrReadOnly)
	}
	return nil
}
