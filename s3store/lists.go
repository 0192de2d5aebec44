package s3store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

const (
	listPage = 1000 // entries a page: S3's bound
	// maxPages bounds the exchanges of one list of tags: a million of them.
	maxPages = 1000
	// maxFolders bounds those of one list of repositories, each of which costs at
	// least one, in a bucket where somebody put a million folders between two.
	maxFolders = 20_000
	// maxNames bounds the names in one folder, which are held and sorted: 10 MB.
	maxNames = 100_000
)

var errTooMuch = errors.New("the list takes too many pages of the bucket")

// Exists reports whether the bucket has anything of the repository. Without an
// error it is an answer of the bucket, both ways.
//
// It needs the right to list. Where that is refused the error wraps
// fs.ErrPermission, never a false: a tag or a manifest that is found there is then
// the only proof that can be had.
func (s *Store) Exists(ctx context.Context, repo string) (bool, error) {
	prefix, err := repoKey(repo, "_manifests/")
	if err != nil {
		return false, nil
	}
	page, err := s.list(ctx, prefix, "", "", 1)
	if err != nil {
		return false, fmt.Errorf("looking for repository %s: %w", repo, err)
	}
	return len(page.Objects)+len(page.Prefixes) > 0, nil
}

// Tags returns the tags of a repository in lexical order: those after the one
// given, at most max. A repository that is not there has none.
func (s *Store) Tags(ctx context.Context, repo, after string, max int) ([]string, error) {
	root, err := repoKey(repo, "_manifests/tags/")
	if err != nil || max <= 0 {
		return nil, nil
	}
	// Keys sort by "tag/", tags by "tag", and "-" and "." sort before "/": "1.2-x"
	// is listed before "1.2" and belongs behind it. So a page that begins right
	// behind the name (and not its slash) misses nothing, and what may still come
	// before the last one of an answer are the beginnings of the last one listed.
	var tags []string
	next := ""
	if after != "" {
		next = root + after
	}
	for range maxPages {
		page, err := s.list(ctx, root, "/", next, listPage)
		if err != nil {
			return nil, fmt.Errorf("listing the tags of %s: %w", repo, err)
		}
		last := ""
		for _, p := range page.Prefixes {
			last = strings.TrimSuffix(strings.TrimPrefix(p, root), "/")
			if validTag(last) && last > after {
				tags = append(tags, last)
			}
		}
		slices.Sort(tags)
		if page.Next == "" || len(tags) >= max && !precededBy(tags[max-1], last, after) {
			return tags[:min(max, len(tags))], nil
		}
		next = page.Next
	}
	return nil, fmt.Errorf("listing the tags of %s: %w", repo, errTooMuch)
}

// precededBy reports whether a tag that is not listed yet could belong before nth:
// it would be a beginning of the last tag listed.
func precededBy(nth, last, after string) bool {
	for i := range len(last) {
		if c := last[i]; (c == '-' || c == '.') && last[:i] > after && last[:i] < nth {
			return true
		}
	}
	return false
}

// Repositories returns the names of the bucket's own repositories, those after the
// one given, at most max. Mirrored ones, whose first component is a host, are left
// out; where Options.Own says that a host may be the beginning of an own name, all
// below it is listed. They are ordered component by component, so that what lies below a
// repository follows it. A list that failed is returned as far as it is whole,
// beside the error.
func (s *Store) Repositories(ctx context.Context, after string, max int) ([]string, error) {
	if max <= 0 {
		return nil, nil
	}
	w := &repoWalk{s: s, ctx: ctx, max: max}
	if after != "" {
		w.after = strings.Split(after, "/")
	}
	if err := w.folder(nil); err != nil && !errors.Is(err, errPageFull) {
		return w.found, fmt.Errorf("listing the repositories: %w", err)
	}
	return w.found, nil
}

// repoWalk goes through the folders of repositories/ in their order. It costs a
// page a folder: S3 has no other way to skip what lies below one.
type repoWalk struct {
	s     *Store
	ctx   context.Context
	after []string
	max   int
	pages int
	found []string
}

// folder visits what lies below the path given, in components.
func (w *repoWalk) folder(path []string) error {
	var names []string
	prefix := reposRoot
	if len(path) > 0 {
		prefix += strings.Join(path, "/") + "/"
	}
	for next := ""; ; {
		if w.pages++; w.pages > maxFolders {
			return errTooMuch
		}
		page, err := w.s.list(w.ctx, prefix, "/", next, listPage)
		if err != nil {
			return err
		}
		for _, p := range page.Prefixes {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(p, prefix), "/"))
		}
		if len(names) > maxNames {
			return errTooMuch
		}
		if next = page.Next; next == "" {
			break
		}
	}
	slices.Sort(names)
	if slices.Contains(names, "_manifests") && slices.Compare(path, w.after) > 0 {
		if w.found = append(w.found, strings.Join(path, "/")); len(w.found) == w.max {
			return errPageFull
		}
	}
	for _, name := range names {
		below := append(slices.Clone(path), name)
		if !validRepo(strings.Join(below, "/")) || len(path) == 0 && w.s.mirrored(name+"/") || w.passed(below) {
			continue
		}
		if err := w.folder(below); err != nil {
			return err
		}
	}
	return nil
}

// passed reports whether everything at and below path comes before the page.
func (w *repoWalk) passed(path []string) bool {
	n := min(len(path), len(w.after))
	return slices.Compare(path[:n], w.after[:n]) < 0
}

func (s *Store) list(ctx context.Context, prefix, delimiter, after string, max int) (page Page, err error) {
	err = s.read(ctx, func(ctx context.Context) (err error) {
		page, err = s.bucket.List(ctx, prefix, delimiter, after, max)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		// The bucket itself is not there: that is no empty list.
		err = fmt.Errorf("the bucket does not answer for its contents: %v", err)
	}
	return page, err
}

// eachObject calls f with all objects below a prefix, in their order. An error of f
// ends it.
func (s *Store) eachObject(ctx context.Context, prefix string, f func(Object) error) error {
	after := ""
	for range maxPages {
		page, err := s.list(ctx, prefix, "", after, listPage)
		if err != nil {
			return err
		}
		for _, o := range page.Objects {
			if err := f(o); err != nil {
				return err
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
	return errTooMuch
}
