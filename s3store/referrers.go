package s3store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hostlocal/manifest"
)

// PutReferrer notes that a manifest of the repository is about subject. Each has an
// object of its own, so that hosts that push at once do not undo each other's; what
// is there already is the same.
func (s *Store) PutReferrer(ctx context.Context, repo string, subject manifest.Digest, desc manifest.Descriptor) error {
	key, err := referrerKey(repo, subject, desc.Digest)
	if err != nil {
		return err
	}
	if err := s.changeable(repo); err != nil {
		return err
	}
	body, err := json.Marshal(desc)
	if err != nil {
		return err
	}
	err = s.write(ctx, int64(len(body)), func(ctx context.Context) error {
		_, err := s.bucket.Put(ctx, key, bytes.NewReader(body), int64(len(body)), PutOptions{IfNoneMatch: s.rights.creates(), SHA256: manifest.DigestOf(body).Hex()})
		return err
	})
	if err != nil && !errors.Is(err, ErrPrecondition) {
		return fmt.Errorf("referrer %s of %s@%s: %w", desc.Digest, repo, subject, err)
	}
	return nil
}

// Referrers returns what is known to be about subject.
func (s *Store) Referrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error) {
	root, err := repoKey(repo, "_referrers/"+digestPath(subject)+"/")
	if err != nil {
		return nil, nil
	}
	var found []manifest.Descriptor
	after := ""
	for range maxPages {
		page, err := s.list(ctx, root, "", after, listPage)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Objects {
			body, _, err := s.load(ctx, o.Key, manifest.MaxSize)
			if err != nil {
				return nil, err
			}
			var desc manifest.Descriptor
			if err := json.Unmarshal(body, &desc); err != nil {
				return nil, err
			}
			if ok, err := s.HasManifest(ctx, repo, desc.Digest); err != nil {
				return nil, err
			} else if ok {
				found = append(found, desc)
			}
		}
		if after = page.Next; after == "" {
			break
		}
	}
	slices.SortFunc(found, func(a, b manifest.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return found, nil
}
