package blobcache

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"hostlocal/manifest"
)

// Names is what this host knows of the repositories that it served: where their
// tags point and when that was last confirmed, which manifests and layers they
// have, and whether they are the bucket's own. It lies beside the blobs as
// distribution's links:
//
//	repositories/<name>/_manifests/tags/<tag>/current/link     its mtime: when confirmed
//	repositories/<name>/_manifests/revisions/<alg>/<hex>/link
//	repositories/<name>/_layers/<alg>/<hex>/link
//	repositories/<name>/_own                                   "true" or "false"; ours
//
// The files are the truth, and a bounded memory in front of them answers what is
// warm without touching the disk. A link is written whole and renamed into place,
// so kill -9 leaves the old one or the new one; nothing is synced, so a power loss
// may tear one or take it back. A link that is torn, empty or unreadable is a
// miss: this is knowledge that the bucket and the upstream have too. A write
// that fails is returned and still remembered until the end of the process.
//
// Links are made of what a bucket or upstream confirmed, so strangers cannot
// make up any, but there are more images in the world than room here: Trim bounds
// them.
//
// It is safe for use by many. One process at a time may have the folder.
type Names struct {
	root    string
	account func(deltaBytes int64)

	// write orders whatever changes files; it is held over that I/O, which is
	// what it is for, and no reader takes it. Before mem.
	write sync.Mutex

	mem    sync.Mutex // guards what follows; never held over I/O
	recent *simplelru.LRU[linkKey, linkValue]
	writes uint64 // counts changes, so that a reader does not remember what it read before one
}

// A Tag is where a tag points and when a bucket or upstream last said so; never
// is the zero time.
type Tag struct {
	Digest    manifest.Digest
	Confirmed time.Time
}

// maxRecent bounds the links that are remembered, in entries of up to 700 and
// usually 250 bytes: 4 MiB. A large image has some 30.
const maxRecent = 1 << 14

// confirmStep is how much newer a confirmation must be than the one on disk to be
// written down. A restart within it costs one more question to the upstream, and
// a tag that is asked for a thousand times a second costs no more than a write in
// this time.
const confirmStep = 5 * time.Second

// OpenNames opens the names in the cache folder dir. Whenever the folder comes to
// take more or less room, account is told the difference, in bytes of allocated
// blocks, folders included; what lies there already it is not told. account, which
// may be nil, must not call back.
func OpenNames(dir string, account func(deltaBytes int64)) (*Names, error) {
	if account == nil {
		account = func(int64) {}
	}
	recent, err := simplelru.NewLRU[linkKey, linkValue](maxRecent, nil)
	if err != nil {
		return nil, err
	}
	n := &Names{root: filepath.Join(dir, "repositories"), account: account, recent: recent}
	before := allocated(n.root)
	if err := os.MkdirAll(n.root, 0o755); err != nil {
		return nil, fmt.Errorf("opening the names in %s: %w", dir, err)
	}
	n.account(allocated(n.root) - before)
	return n, nil
}

// Tag returns where a tag of a repository points, or an error that wraps
// fs.ErrNotExist.
func (n *Names) Tag(repo, tag string) (Tag, error) {
	k, err := tagKey(repo, tag)
	if err != nil {
		return Tag{}, err
	}
	v, err := n.get(k)
	return Tag{v.digest, v.confirmed}, err
}

// SetTag says where a tag points, as confirmed at that time. Saying again what is
// known costs little, and the disk hears of a newer confirmation only every few
// seconds.
func (n *Names) SetTag(repo, tag string, d manifest.Digest, confirmed time.Time) error {
	k, err := tagKey(repo, tag)
	if err != nil {
		return err
	}
	if n.confirm(k, d, confirmed) {
		return nil
	}
	n.write.Lock()
	defer n.write.Unlock()
	v := linkValue{digest: d, confirmed: confirmed}
	if old, err := n.get(k); err == nil && old.stored && old.digest == d {
		if os.Chtimes(n.path(k), time.Time{}, toMtime(confirmed)) == nil {
			v.stored, v.written = true, confirmed
			n.remember(k, v)
			return nil
		}
		// The file went away under us: write it anew.
	}
	return n.putLink(k, v)
}

// RemoveTag forgets a tag; one that is not there is no error.
func (n *Names) RemoveTag(repo, tag string) error {
	k, err := tagKey(repo, tag)
	if err != nil {
		return err
	}
	return n.remove(k)
}

// Tags returns the tags of a repository that are on this disk, in order, or an
// error that wraps fs.ErrNotExist if it never had one.
func (n *Names) Tags(repo string) ([]string, error) {
	if err := checkRepository(repo); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(n.root, repo, "_manifests", "tags"))
	if err != nil {
		return nil, miss("tags of "+repo, err)
	}
	var tags []string
	for _, e := range entries {
		k, err := tagKey(repo, e.Name())
		if err == nil {
			// Past the memory, which a repository of thousands of tags
			// would fill.
			_, err = readLink(n.path(k), k)
		}
		if err == nil {
			tags = append(tags, e.Name())
		}
	}
	return tags, nil
}

// LinkManifest says that a repository has a manifest.
func (n *Names) LinkManifest(repo string, d manifest.Digest) error {
	return n.link(linkRevision, repo, d)
}

// LinkLayer says that a repository has a blob, a layer or a config.
func (n *Names) LinkLayer(repo string, d manifest.Digest) error { return n.link(linkLayer, repo, d) }

// HasManifest reports whether a repository is known to have a manifest.
func (n *Names) HasManifest(repo string, d manifest.Digest) bool {
	return n.has(linkRevision, repo, d)
}

// HasLayer reports whether a repository is known to have a blob.
func (n *Names) HasLayer(repo string, d manifest.Digest) bool { return n.has(linkLayer, repo, d) }

// UnlinkManifest forgets that a repository has a manifest; its tags stay.
func (n *Names) UnlinkManifest(repo string, d manifest.Digest) error {
	return n.unlink(linkRevision, repo, d)
}

// UnlinkLayer forgets that a repository has a blob.
func (n *Names) UnlinkLayer(repo string, d manifest.Digest) error {
	return n.unlink(linkLayer, repo, d)
}

// SetOwn remembers whether the bucket has a repository of its own by this name.
// That it has none is true of every name that a stranger makes up, so it is
// written down only when there is a link to go with it, of this repository or of
// the one by the same name at an upstream; until then it is memory.
func (n *Names) SetOwn(repo string, own bool) error {
	k, err := ownKey(repo)
	if err != nil {
		return err
	}
	if v, err := n.get(k); err == nil && v.stored && v.own == own {
		return nil
	}
	n.write.Lock()
	defer n.write.Unlock()
	if _, err := os.Lstat(filepath.Dir(n.path(k))); err != nil && !own {
		n.remember(k, linkValue{})
		return nil
	}
	return n.put(k, linkValue{own: own})
}

// Own returns what SetOwn said last, and whether it ever said anything.
func (n *Names) Own(repo string) (own, known bool) {
	k, err := ownKey(repo)
	if err != nil {
		return false, false
	}
	v, err := n.get(k)
	return v.own, err == nil
}

func (n *Names) link(kind linkKind, repo string, d manifest.Digest) error {
	k, err := digestKey(kind, repo, d)
	if err != nil {
		return err
	}
	if v, err := n.get(k); err == nil && v.stored {
		return nil
	}
	n.write.Lock()
	defer n.write.Unlock()
	return n.putLink(k, linkValue{digest: d})
}

func (n *Names) has(kind linkKind, repo string, d manifest.Digest) bool {
	k, err := digestKey(kind, repo, d)
	if err != nil {
		return false
	}
	_, err = n.get(k)
	return err == nil
}

func (n *Names) unlink(kind linkKind, repo string, d manifest.Digest) error {
	k, err := digestKey(kind, repo, d)
	if err != nil {
		return err
	}
	return n.remove(k)
}

// miss is the error for what is not known, and why.
func miss(what string, reason error) error {
	return fmt.Errorf("%s: %w (%w)", what, fs.ErrNotExist, reason)
}
