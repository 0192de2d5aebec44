package registryd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"

	"hostlocal/manifest"
)

const (
	// changeLimit bounds what the bucket takes for one push or delete of a manifest,
	// beside its own bounds: some ten calls, the most of them of a delete that looks
	// for tags.
	changeLimit = time.Minute

	// maxChanges bounds the pushes of manifests, and the deletes of tags and blobs, that
	// the bucket is at once; more wait for a moment, as questions do. Some 200 a second
	// with a tenth of a second a call.
	maxChanges = 64

	// maxRemovals bounds the deletes of manifests, apart: each takes half a second in
	// which it only waits, and 19 s while the bucket is in trouble (Remover). More of them
	// wait for up to removalWait, so that some 250 at once are done.
	maxRemovals = 32
	removalWait = 5 * time.Second
)

// A Put is a manifest that somebody pushes.
type Put struct {
	Ref  Ref
	Tags []string // more tags that are to stand for it; with a Ref.Digest only
	// Digest is what a manifest that is pushed by tag has to have; zero: its sha256.
	Digest    manifest.Digest
	MediaType string // as its sender says; empty: not said
	Body      io.Reader
	Size      int64 // of Body in bytes, -1 if it is not known
}

// PutManifest takes a manifest into one of the bucket's own repositories:
//
//	read, parse ──> what it names is there? ──> data, revision link ──> referrer ──> history, tag
//	history, tag, also if that fails ──> it took long, and another host may have deleted it? ──> the link is still there?
//
// When it returns without an error the bucket has all of it and this host knows it.
// A failure may leave the manifest there, but no tag that stands for less, unless another
// host deletes it at the same moment; to push it again is always right. What it does not
// take is an errcode.Error.
func (g *Registry) PutManifest(ctx context.Context, repo Repository, p Put) (*manifest.Manifest, error) {
	body, done, err := g.readPush(ctx, p.Body, p.Size)
	if err != nil {
		return nil, err
	}
	defer done()
	m, err := p.parse(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	if err := g.referencesThere(ctx, repo, m); err != nil {
		return nil, err
	}
	name := repo.String()
	ended, err := g.changing.take(ctx, content{name, m.Digest}, false)
	if err != nil {
		return nil, err
	}
	defer ended()
	asked := time.Now()
	if err := g.storeManifest(ctx, name, m); err != nil {
		return nil, err
	}
	g.keepPushed(repo, m, asked)
	tags := p.Tags
	if p.Ref.Tag != "" {
		tags = []string{p.Ref.Tag}
	}
	for _, tag := range tags {
		if err = g.putTag(ctx, repo, tag, m); err != nil {
			break
		}
	}
	if len(tags) > 0 && time.Since(asked) >= g.bucket.store.RemovalGrace() {
		if unseen := g.stillThere(ctx, repo, m); err == nil {
			err = unseen
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// storeManifest gives the bucket a manifest, and what it says about its subject.
func (g *Registry) storeManifest(ctx context.Context, repo string, m *manifest.Manifest) error {
	err := g.bucket.change(ctx, func(ctx context.Context) error {
		if err := g.bucket.store.PutManifest(ctx, repo, m.Digest, m.Body); err != nil || m.Subject == nil {
			return err
		}
		return g.bucket.store.PutReferrer(ctx, repo, m.Subject.Digest, m.AsReferrer())
	})
	if err != nil {
		return fmt.Errorf("storing manifest %s of %s: %w", m.Digest, repo, err)
	}
	return nil
}

// stillThere puts a manifest back that another host has deleted before a tag stood for
// it, and that it does not put back itself any more (Remover). Once is enough: whoever
// deletes it from now on finds the tag. It is looked for behind a tag that failed, too: one
// before it may stand for nothing, and so may that one; and when the client has left.
func (g *Registry) stillThere(ctx context.Context, repo Repository, m *manifest.Manifest) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeLimit)
	defer cancel()
	name, asked := repo.String(), time.Now()
	ok, err := g.bucket.hasManifest(ctx, name, m.Digest)
	switch {
	case err != nil:
		return fmt.Errorf("whether manifest %s of %s is still there: %w", m.Digest, name, err)
	case ok:
		return nil
	}
	if err := g.storeManifest(ctx, name, m); err != nil {
		return err
	}
	g.named.saw(name, m.Digest, int64(len(m.Body)), asked)
	return nil
}

// errLargeManifest answers a body that no manifest has.
var errLargeManifest error = statusError{413, errcode.ErrorCodeSizeInvalid.WithMessage(fmt.Sprintf("a manifest has at most %d bytes here; what is larger belongs into a blob", manifest.MaxSize))}

const (
	// smallPush is what a manifest counts for that has less, in bytes: a request costs
	// as much by itself.
	smallPush = 4 << 10

	// smallPushes bounds what is held of manifests that are arriving, in bytes, but for
	// what large ones have beyond manifest.Small: a thousand ordinary ones at once.
	smallPushes = 4 << 20
)

// readPush reads the body of a manifest, in room that done gives back. Ordinary ones do
// not wait for large ones, of which two fill their room, at the pace of their clients.
func (g *Registry) readPush(ctx context.Context, r io.Reader, size int64) (body []byte, done func(), err error) {
	if size > manifest.MaxSize {
		return nil, nil, errLargeManifest
	}
	small, large := &reservation{room: g.smallPushRoom}, &reservation{room: g.pushRoom}
	done = func() { small.free(); large.free() }
	first := size
	if size < 0 {
		first = manifest.Small
	}
	if err = small.must(ctx, max(min(first, manifest.Small), smallPush)); err == nil {
		need := func(n int64) error { return large.must(ctx, n-manifest.Small) }
		body, err = manifest.Read(manifest.WithNeed(ctx, need), r, size)
	}
	if err == nil {
		return body, done, nil
	}
	done()
	switch {
	case errors.Is(err, manifest.ErrTooLarge):
		return nil, nil, errLargeManifest
	case busy(err), ctx.Err() != nil:
		return nil, nil, fmt.Errorf("reading the manifest: %w", err)
	}
	return nil, nil, errcode.ErrorCodeManifestInvalid.WithMessage("the manifest did not arrive whole: " + plain(err))
}

// parse checks all about a manifest that it says itself.
func (p *Put) parse(body []byte) (m *manifest.Manifest, err error) {
	want := p.Ref.Digest
	if want.IsZero() {
		want = p.Digest
	}
	if want.IsZero() {
		m, err = manifest.Parse(body)
	} else {
		m, err = manifest.ParseAs(want, body)
	}
	switch {
	case errors.Is(err, manifest.ErrMismatch):
		return nil, errcode.ErrorCodeDigestInvalid.WithMessage(plain(err))
	case err != nil:
		return nil, errcode.ErrorCodeManifestInvalid.WithMessage(plain(err))
	case p.MediaType != "" && p.MediaType != m.MediaType:
		return nil, errcode.ErrorCodeManifestInvalid.WithMessage(fmt.Sprintf(
			"Content-Type is %.100q, but the manifest is %s: send it as what it is", p.MediaType, m.MediaType))
	}
	return m, nil
}

// keepPushed has this host know a manifest that the bucket has taken: trouble with
// the disk is this host's alone.
func (g *Registry) keepPushed(repo Repository, m *manifest.Manifest, asked time.Time) {
	name := repo.String()
	g.becomesOwn(repo)
	g.parsed.Add(m)
	g.named.addManifest(repo, m)
	g.named.saw(name, m.Digest, int64(len(m.Body)), asked)
	if err := g.disk.Put(m.Digest, bytes.NewReader(m.Body), int64(len(m.Body))); err != nil {
		g.log.Debug("pushed manifest not kept on disk", "digest", m.Digest, "err", err)
		return
	}
	g.linkManifest(name, m.Digest)
}

// putTag makes a tag stand for m, in the bucket and then here.
func (g *Registry) putTag(ctx context.Context, repo Repository, tag string, m *manifest.Manifest) error {
	key := tagKey{repo.String(), tag}
	done, err := g.tagging.take(ctx, key, true)
	if err != nil {
		return err
	}
	defer done()
	ended := g.tags.writes(key)
	err = g.bucket.change(ctx, func(ctx context.Context) error {
		return g.bucket.store.PutTag(ctx, key.repo, tag, m.Digest)
	})
	alone := ended()
	if err != nil {
		g.tags.doubt(key) // the bucket may have done it
		return fmt.Errorf("tagging %s:%s: %w", repo, tag, err)
	}
	g.tags.pushed(key, describe(m))
	if !alone {
		g.tags.doubt(key)
		return nil
	}
	if g.disk.Has(m.Digest) {
		g.awaited.add(key.repo, m.Digest, tag)
		g.arrived(repo, m.Digest)
	}
	return nil
}

// DeleteTag removes a tag. The error wraps fs.ErrNotExist if there was none.
func (g *Registry) DeleteTag(ctx context.Context, repo Repository, tag string) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	key := tagKey{repo.String(), tag}
	done, err := g.tagging.take(ctx, key, true)
	if err != nil {
		return err
	}
	defer done()
	ended := g.tags.writes(key)
	err = g.bucket.change(ctx, func(ctx context.Context) error { return g.bucket.store.RemoveTag(ctx, key.repo, tag) })
	switch alone := ended(); {
	case err != nil && !errors.Is(err, fs.ErrNotExist), !alone:
		g.tags.doubt(key)
	default:
		g.tags.deleted(key, errDeleted)
	}
	if err != nil {
		return fmt.Errorf("deleting %s:%s: %w", repo, tag, err)
	}
	return nil
}

// errDeleted is why a tag is not served that this host deleted.
var errDeleted = fmt.Errorf("deleted: %w", fs.ErrNotExist)

// DeleteManifest makes a manifest invisible in a repository, with the tags that
// stand for it, and returns those that are gone, also if the rest fails. The error wraps
// fs.ErrNotExist if it was not there.
func (g *Registry) DeleteManifest(ctx context.Context, repo Repository, d manifest.Digest) (tags []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	name := repo.String()
	ended, err := g.changing.take(ctx, content{name, d}, true)
	if err != nil {
		return nil, err
	}
	defer ended()
	err = g.bucket.remove(ctx, func(ctx context.Context) error {
		tags, err = g.bucket.store.RemoveManifest(ctx, name, d)
		return err
	})
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		g.disown(name, d, false, time.Now())
		g.awaited.take(name, d)
	}
	g.forgetTags(name, d, err)
	if err != nil {
		return tags, fmt.Errorf("deleting manifest %s of %s: %w", d, repo, err)
	}
	return tags, nil
}

// forgetTags forgets the tags that stand for d, here and on this disk. After a
// delete that failed with err nobody knows which of them are left.
func (g *Registry) forgetTags(repo string, d manifest.Digest, err error) {
	tags := g.tags.standing(repo, d)
	onDisk, _ := g.links.Tags(repo) // fails where there are none
	for _, tag := range onDisk {
		if l, err := g.links.Tag(repo, tag); err == nil && l.Digest == d && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	for _, tag := range tags {
		key := tagKey{repo, tag}
		switch {
		case g.tags.get(key).digest != d: // it moved on
		case err == nil:
			g.tags.deleted(key, errDeleted)
		default:
			g.tags.doubt(key)
		}
	}
}

// DeleteBlob makes a blob invisible in a repository. The error wraps fs.ErrNotExist
// if it was not there.
func (g *Registry) DeleteBlob(ctx context.Context, repo Repository, d manifest.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, changeLimit)
	defer cancel()
	name := repo.String()
	err := g.bucket.change(ctx, func(ctx context.Context) error { return g.bucket.store.RemoveLayer(ctx, name, d) })
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		g.disown(name, d, true, time.Now())
	}
	if err != nil {
		return fmt.Errorf("deleting blob %s of %s: %w", d, repo, err)
	}
	return nil
}
