package blobcache

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Trim forgets whole repositories, the least recently confirmed or linked first,
// until all names together take at most limit bytes; it then makes room down to
// three quarters of it, so as not to have to come back at once. It returns what
// they take now, folders included. It goes over every file, so it belongs behind
// the requests, and now and then: what it forgets the bucket and the upstream
// still know, while they are there to be asked.
func (n *Names) Trim(limit int64) (int64, error) {
	repos, total, err := n.survey()
	if err != nil || total <= limit {
		return total, err
	}
	slices.SortFunc(repos, func(a, b repository) int { return a.newest.Compare(b.newest) })
	for _, r := range repos {
		if total <= limit/4*3 {
			break
		}
		freed, err := n.drop(r.name)
		total -= freed
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// A repository is one as Trim sees it.
type repository struct {
	name   string
	newest time.Time // mtime of its newest file
}

// survey lists the repositories and returns what all the names take, in bytes.
func (n *Names) survey() ([]repository, int64, error) {
	newest := map[string]time.Time{}
	var total int64
	err := filepath.WalkDir(n.root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			if p == n.root {
				return err
			}
			return nil // gone in between, or unreadable: others may be removed instead
		}
		total += allocated(p)
		if e.IsDir() {
			return nil
		}
		fi, err := e.Info()
		if name := n.repositoryOf(p); err == nil && name != "" && !fi.ModTime().Before(newest[name]) {
			newest[name] = fi.ModTime()
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("going over the names: %w", err)
	}
	list := make([]repository, 0, len(newest))
	for name, t := range newest {
		list = append(list, repository{name, t})
	}
	return list, total, nil
}

// repositoryOf returns the repository that a file belongs to: the path up to the
// first component that begins with '_'.
func (n *Names) repositoryOf(p string) string {
	rel := strings.TrimPrefix(p, n.root+string(filepath.Separator))
	name, _, ok := strings.Cut(rel, string(filepath.Separator)+"_")
	if !ok {
		return ""
	}
	return filepath.ToSlash(name)
}

// drop removes all that is known of a repository, but not of those below it, and
// returns the bytes freed.
func (n *Names) drop(repo string) (int64, error) {
	n.write.Lock()
	defer n.write.Unlock()
	dir := filepath.Join(n.root, filepath.FromSlash(repo))
	var before, after int64
	measure := func(total *int64) {
		*total = n.allocatedUpTo(dir)
		for _, part := range repositoryParts {
			filepath.WalkDir(filepath.Join(dir, part), func(p string, _ fs.DirEntry, err error) error {
				if err == nil {
					*total += allocated(p)
				}
				return nil
			})
		}
	}
	measure(&before)
	var failed error
	for _, part := range repositoryParts {
		if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
			failed = fmt.Errorf("forgetting %s: %w", repo, err)
		}
	}
	n.prune(dir)
	measure(&after)
	n.account(after - before)
	n.forget(func(k linkKey) bool { return k.repo == repo })
	return before - after, failed
}

// repositoryParts are what Names keeps in a repository's folder.
var repositoryParts = []string{"_manifests", "_layers", "_own"}
