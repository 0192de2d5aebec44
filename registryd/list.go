package registryd

import (
	"context"
	"fmt"
	"io/fs"
)

// Tags lists at most n tags of repo after last, in lexical order where the list
// is the bucket's, and whether there are more. Errors are as those of Manifest.
func (g *Registry) Tags(ctx context.Context, repo Repository, n int, last string) (tags []string, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	if o := g.origins[repo.Name.Host]; o != nil {
		tags, next, err := o.tags(ctx, repo.Name.Path, n, last)
		if err != nil {
			return nil, false, fmt.Errorf("tags of %s: %w", repo, err)
		}
		return tags, next != "", nil
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

// catalogPage is how many repositories are listed at a time while those of
// upstreams are left out; a page is a call to the bucket.
const catalogPage = 1000

// Catalog lists at most n of the bucket's own repositories after last, and
// whether there are more.
func (g *Registry) Catalog(ctx context.Context, n int, last string) (names []string, more bool, err error) {
	if g.bucket == nil {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	for {
		page, err := askBucket(ctx, g.bucket, func(ctx context.Context) ([]string, error) {
			return g.bucket.store.Repositories(ctx, last, catalogPage)
		})
		if err != nil {
			return nil, false, fmt.Errorf("the catalog: %w", err)
		}
		for _, name := range page {
			if !g.mirrored(name) {
				names = append(names, name)
			}
			if len(names) > n {
				return names[:n], true, nil
			}
		}
		if len(page) < catalogPage {
			return names, false, nil
		}
		last = page[len(page)-1]
	}
}

// mirrored reports whether a repository of the bucket is an upstream's: clients
// who ask for it by the name that it has there would be sent to one.
func (g *Registry) mirrored(name string) bool {
	m, err := g.options.Names.Resolve(name, "")
	return err != nil || !m.Undecided && !m.Name.IsOwn() && m.Name.String() == name
}
