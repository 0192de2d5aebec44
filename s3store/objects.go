package s3store

import (
	"context"
	"fmt"
	"io"

	"hostlocal/manifest"
)

// Distrust says that the object which was last read under d has wrong bytes. The
// next PutBlob or PutManifest of d then replaces it instead of being content that
// there is one. Reading goes on as before: what was wrong may have been the way,
// or may have been mended by another host.
func (s *Store) Distrust(d manifest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tag, _ := s.seen.Get(d)
	s.distrust.Add(d, tag)
}

// distrusted reports whether an object, by its ETag, is one that must be replaced.
func (s *Store) distrusted(d manifest.Digest, etag string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	tag, ok := s.distrust.Get(d)
	return ok && (tag == "" || tag == etag)
}

// suspected reports whether anything is held against what lies under d.
func (s *Store) suspected(d manifest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.distrust.Contains(d)
}

// trust forgets what was held against d: it has been replaced.
func (s *Store) trust(d manifest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.distrust.Remove(d)
}

func (s *Store) sawETag(d manifest.Digest, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Add(d, etag)
}

// blobKey is where the bytes of d lie. registry:3 keeps those of a sha512 digest
// under their sha256, and says so in the content of its link only: once a link of
// d was read, that is remembered here. What lies there is verified against d like
// everything, so a wrong link is no danger.
func (s *Store) blobKey(d manifest.Digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.aliases.Get(d); ok {
		return blobKey(a)
	}
	return blobKey(d)
}

func (s *Store) setAlias(d, at manifest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d == at {
		s.aliases.Remove(d)
	} else {
		s.aliases.Add(d, at)
	}
}

// load reads a small object, whole. More than most bytes are an error.
func (s *Store) load(ctx context.Context, key string, most int64) (body []byte, obj Object, err error) {
	return s.loadBy(ctx, key, func(r io.Reader, _ int64) ([]byte, error) {
		body, err := io.ReadAll(io.LimitReader(r, most+1))
		if err == nil && int64(len(body)) > most {
			err = fmt.Errorf("%q: %w", key, errTooLarge)
		}
		return body, err
	})
}

// loadBy reads an object with read, which is given its size in bytes. What is wrong
// with the object, or with us, is no reason to ask for it again, nor the bucket's
// failure.
func (s *Store) loadBy(ctx context.Context, key string, read func(r io.Reader, size int64) ([]byte, error)) (body []byte, obj Object, err error) {
	var unfit error
	err = s.read(ctx, func(ctx context.Context) error {
		r, o, err := s.bucket.Get(ctx, key, 0, -1, "")
		if err != nil {
			return err
		}
		defer r.Close()
		obj = o
		watched := &failing{Reader: r}
		body, unfit = read(watched, o.Size)
		if watched.err != nil {
			return &Error{Op: "get", Key: key, Retry: true, Err: watched.err}
		}
		return nil
	})
	if err != nil {
		return nil, Object{}, s.asMiss(err)
	}
	if unfit != nil {
		return nil, obj, unfit
	}
	return body, obj, nil
}

// failing notes that its reader failed.
type failing struct {
	io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
