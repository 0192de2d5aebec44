package registryd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"hostlocal/manifest"
)

// Tags lists at most n tags of repo after last, in lexical order where the list
// is the bucket's, and whether there are more. Errors are as those of Manifest.
func (g *Registry) Tags(ctx context.Context, repo Repository, n int, last string) (tags []string, more bool, err error) {
	tags, more, err = g.tagsOf(ctx, repo, n, last)
	if own, ok := g.becameOwn(ctx, repo, err); ok {
		return g.tagsOf(ctx, own, n, last)
	}
	return tags, more, err
}

// tagsOf is Tags of what repo is known to be.
func (g *Registry) tagsOf(ctx context.Context, repo Repository, n int, last string) (tags []string, more bool, err error) {
	ctx, done, err := g.list(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("tags of %s: %w", repo, err)
	}
	defer done()
	if o := g.origins[repo.Name.Host]; o != nil {
		tags, next, err := o.tags(ctx, repo.Name.Path, n, last)
		if err != nil {
			return nil, false, fmt.Errorf("tags of %s: %w", repo, err)
		}
		tags, more = pageOf(tags, last)
		return tags, more && next != "", nil
	}
	if g.bucket == nil || !repo.Name.IsOwn() {
		return nil, false, fmt.Errorf("tags of %s: %w", repo, fs.ErrNotExist)
	}
	tags, err = askBucket(ctx, g.bucket, func(ctx context.Context) ([]string, error) {
		return g.bucket.store.Tags(ctx, repo.String(), last, n+1)
	})
	if err != nil {
		return nil, false, fmt.Errorf("tags of %s: %w", repo, err)
	}
	if len(tags) > n {
		return tags[:n], true, nil
	}
	return tags, false, nil
}

// pageOf returns what of an upstream's list is a page of tags after last: one that
// knows no pages sends all of them each time, and its client would never come to an
// end. What could not be asked for is left out. It also says whether anything is
// left to begin the next page after.
func pageOf(list []string, last string) (tags []string, some bool) {
	if i := slices.Index(list, last); last != "" && i >= 0 {
		list = list[i+1:]
	}
	tags = slices.DeleteFunc(list, func(tag string) bool { return !manifest.ValidTag(tag) })
	return tags, len(tags) > 0
}

// maxLists bounds the lists that are made at once. Each may take 8 MiB of an
// upstream's answer, or a thousand calls of the bucket, and no pull waits for one.
const maxLists = 8

// list waits for the turn of a list, and bounds the time for it all. done gives the
// turn back.
func (g *Registry) list(ctx context.Context) (_ context.Context, done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	if err := g.lists.Acquire(ctx, 1); err != nil {
		cancel()
		return nil, nil, fmt.Errorf("too many lists are being made: %w", err)
	}
	return ctx, func() { g.lists.Release(1); cancel() }, nil
}

// catalogPage bounds how many repositories the bucket is asked for at once.
const catalogPage = 1000

// Catalog lists at most n of the bucket's own repositories after last, and
// whether there are more. The bucket of which not so many can be found in time
// gives what was found until then.
func (g *Registry) Catalog(ctx context.Context, n int, last string) (names []string, more bool, err error) {
	if g.bucket == nil {
		return nil, false, nil
	}
	ctx, done, err := g.list(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("the catalog: %w", err)
	}
	defer done()
	for len(names) <= n {
		want := min(n+1-len(names), catalogPage) // one more tells whether there are more
		page, err := g.bucket.repositories(ctx, last, want)
		for _, name := range page {
			if !g.mirrored(name) {
				names = append(names, name)
			}
		}
		switch {
		case err != nil && len(names) > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return names[:min(len(names), n)], true, nil
		case err != nil:
			return nil, false, fmt.Errorf("the catalog: %w", err)
		case len(page) < want:
			return names, false, nil
		}
		last = page[len(page)-1]
	}
	return names[:n], true, nil
}

// mirrored reports whether a repository of the bucket is an upstream's: clients
// who ask for it by the name that it has there would be sent to one.
func (g *Registry) mirrored(name string) bool {
	m, err := g.options.Names.Resolve(name, "")
	return err != nil || !m.Undecided && !m.Name.IsOwn() && m.Name.String() == name
}
