package blobcache

import (
	"fmt"
	"hash"

	"hostlocal/manifest"
)

// Digest returns the digest of all bytes so far. By sha256 it costs nothing, for
// they are hashed as they come, unless an earlier process wrote them; then, and by
// any other algorithm, the file is read. An error wraps ErrDisk.
func (u *Upload) Digest(alg manifest.Algorithm) (manifest.Digest, error) {
	if !u.c.enter() {
		return manifest.Digest{}, uploadTrouble(errClosed)
	}
	defer u.c.work.Done()
	return u.digest(alg)
}

func (u *Upload) digest(alg manifest.Algorithm) (manifest.Digest, error) {
	if alg == manifest.SHA256 {
		err := u.hashOn()
		if err != nil {
			return manifest.Digest{}, err
		}
		return alg.Sum(u.sum), nil
	}
	if u.other.IsZero() || u.other.Algorithm() != alg {
		h := alg.New()
		if err := u.hashFrom(h, 0); err != nil {
			return manifest.Digest{}, err
		}
		u.other = alg.Sum(h)
	}
	return u.other, nil
}

// hashOn has the running hash reach the end: it is behind only where an earlier
// process wrote what there is.
func (u *Upload) hashOn() error {
	size := u.Size()
	if u.hashed == size {
		return nil
	}
	u.sum, u.hashed = manifest.SHA256.New(), 0
	if err := u.hashFrom(u.sum, 0); err != nil {
		return err
	}
	u.hashed = size
	return nil
}

// hashFrom hashes what the file has from off on.
func (u *Upload) hashFrom(h hash.Hash, off int64) error {
	buf := getBuffer()
	defer putBuffer(buf)
	for size := u.Size(); off < size; {
		if err := u.c.ctx.Err(); err != nil {
			return uploadTrouble(errClosed)
		}
		b := (*buf)[:min(int64(len(*buf)), size-off)]
		n, err := u.f.ReadAt(b, off)
		if n < len(b) {
			return uploadTrouble(fmt.Errorf("reading upload %s back at byte %d: %w", u.name, off+int64(n), err))
		}
		h.Write(b)
		off += int64(n)
	}
	return nil
}

// hash takes what was written behind the hashed bytes.
func (u *Upload) hash(p []byte) {
	u.sum.Write(p)
	u.hashed += int64(len(p))
}
