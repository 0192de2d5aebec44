package registryd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"time"

	"hostlocal/blobcache"
	"hostlocal/manifest"
)

// sample is how many bytes of a blob an upstream has to show, from a place that it
// does not know before. What is smaller it has to show whole. Layers are compressed:
// 4 KiB of them are not to be guessed.
const sample = 4 << 10

// guardedBlob is Blob for what another upstream brought with credentials: the
// upstream of repo has to show that it has it. The bucket, which has everybody's, is
// not asked.
func (g *Registry) guardedBlob(ctx context.Context, repo Repository, d manifest.Digest, want blobcache.Want) (*blobcache.Blob, error) {
	want.Sources = g.sources(repo, d, false)
	h, err := g.disk.Get(ctx, d, want)
	if err != nil {
		return nil, err
	}
	f := g.proofs.join(content{repo.String(), d}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, g.possesses(ctx, repo, d)
	})
	until, _ := ctx.Deadline()
	if _, err = f.wait(ctx, until); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// possesses has the upstream of repo send a part of d, and compares it with what is
// here. Other bytes are a miss.
func (g *Registry) possesses(ctx context.Context, repo Repository, d manifest.Digest) error {
	o := g.origins[repo.Name.Host]
	if o == nil {
		return fmt.Errorf("no upstream %s: %w", repo.Name.Host, fs.ErrNotExist)
	}
	h, err := g.disk.Join(ctx, d)
	if err != nil {
		return err
	}
	defer h.Close()
	size := h.Size()
	if size < 0 {
		size = sample // of a fill that does not know: the beginning
	}
	off := g.guard.place(o.name, d, size, sample)
	theirs, err := o.part(ctx, repo.Name.Path, d, off, min(size, sample))
	if err != nil {
		return err
	}
	ours := make([]byte, len(theirs))
	if n, err := h.ReadAtContext(ctx, ours, off); n < len(ours) {
		return err
	}
	if !bytes.Equal(ours, theirs) || len(ours) == 0 && size > 0 {
		return fmt.Errorf("%s does not have it, though a manifest of %s names it: %w", o.name, repo, fs.ErrNotExist)
	}
	g.guard.show(o.name, d)
	return nil
}

// maxSkipped bounds what is read of an upstream without ranges to come to a sample,
// in bytes. With more to skip it cannot show what it has, in time.
const maxSkipped = 8 << 20

// partLimit bounds the time for a part, beside what the upstream's own bounds say.
const partLimit = 5 * time.Second

// part returns n bytes of a blob from off on.
func (o *origin) part(ctx context.Context, repo string, d manifest.Digest, off, n int64) (b []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, partLimit)
	defer cancel()
	err = o.question(ctx, func() error {
		body, from, _, err := o.up.OpenBlob(ctx, repo, d, off, n)
		o.note(ctx, err)
		if err != nil {
			return err
		}
		defer body.Close()
		if skip := off - from; skip > 0 {
			if skip > maxSkipped {
				return fmt.Errorf("%s serves no ranges, and cannot show that it has %s", o.name, d)
			}
			if _, err := io.CopyN(io.Discard, body, skip); err != nil {
				return err
			}
		}
		b = make([]byte, n)
		_, err = io.ReadFull(body, b)
		return err
	})
	return b, err
}
