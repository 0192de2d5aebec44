package s3store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"hostlocal/manifest"
)

// Manifest returns a manifest's bytes, verified against d. Whether it is visible
// in repo is for HasManifest, or for a tag that named it, to say: this is one
// exchange. Wrong bytes are an error that wraps manifest.ErrMismatch, and the next
// PutManifest replaces them. A large manifest is read if the manifest.Need of ctx
// agrees; its error is returned as it is.
func (s *Store) Manifest(ctx context.Context, repo string, d manifest.Digest) ([]byte, error) {
	body, obj, err := s.loadBy(ctx, s.blobKey(d), func(r io.Reader, size int64) ([]byte, error) { return manifest.Read(ctx, r, size) })
	switch {
	case errors.Is(err, manifest.ErrTooLarge):
		err = fmt.Errorf("%w: %w", manifest.ErrMismatch, err)
	case err == nil:
		err = d.Verify(body)
	}
	if errors.Is(err, manifest.ErrMismatch) {
		s.sawETag(d, obj.ETag)
		s.Distrust(d)
	}
	if err != nil {
		return nil, fmt.Errorf("manifest %s of %s: %w", d, repo, err)
	}
	return body, nil
}

// PutManifest stores a manifest's bytes and then makes it visible in the
// repository. They must be d's: other bytes are an error that wraps
// manifest.ErrMismatch, and nothing is written.
//
// One that is pushed is new, and is sent without a look: two exchanges. One that is
// mirrored is looked for first, because the other hosts mirror it as well.
func (s *Store) PutManifest(ctx context.Context, repo string, d manifest.Digest, body []byte) error {
	if len(body) > manifest.MaxSize {
		return fmt.Errorf("manifest %s of %s: %d bytes: %w", d, repo, len(body), errTooLarge)
	}
	if err := d.Verify(body); err != nil {
		return fmt.Errorf("manifest of %s: %w", repo, err)
	}
	key, err := revisionKey(repo, d)
	if err != nil {
		return err
	}
	if err := s.changeable(repo); err != nil {
		return err
	}
	b := &blobWrite{s: s, d: d, key: blobKey(d), size: int64(len(body)), r: bytes.NewReader(body), unseen: !s.mirrored(repo)}
	if err := b.run(ctx, b.whole); err != nil {
		return fmt.Errorf("manifest %s of %s: %w", d, repo, err)
	}
	if err := s.putLink(ctx, repo, key, d); err != nil {
		return fmt.Errorf("manifest %s of %s: %w", d, repo, err)
	}
	return nil
}
