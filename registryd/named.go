package registryd

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"hostlocal/manifest"
)

// maxNamed bounds what is remembered of which repository names which digest, in
// entries: about 300 bytes each, so 10 MiB. An entry that falls out costs a stat
// on this disk at the next request.
const maxNamed = 32 << 10

// content is a digest within a repository: what a client may ask for.
type content struct {
	repo string
	d    manifest.Digest
}

// named is the proof, in memory, that a digest may be served under a repository,
// and the size that the repository's manifests give it. It is per repository
// because manifests are strangers' words: one that lies about a size must not
// disturb the others.
type named struct {
	mu    sync.Mutex // orders changes, each of which depends on what is there
	known *lru.Cache[content, naming]
	// sparse says that in the bucket's own repositories a manifest proves nothing of what
	// it is made of: it may have been pushed without it.
	sparse bool
}

// A naming is what is known of a digest in a repository. In one of the bucket's own
// a proof grows old: what is deleted through another host goes with its link.
type naming struct {
	size int64 // bytes, -1 if nobody said

	seen   time.Time // when the link was last seen in the bucket, or else when a manifest first proved it; zero: never
	linked bool      // seen is of the link
	// stored is when the bytes were last seen in the bucket, or written there, by this host
	// or by who made the link of one of its own.
	stored time.Time
	// gone says that at seen there was no link. Only a link that was looked for
	// later brings it back; that a manifest names it does not.
	gone bool
}

// young reports whether the link was seen within ttl, or ever: ttl < 0.
func (n naming) young(ttl time.Duration) bool {
	return !n.seen.IsZero() && (ttl < 0 || time.Since(n.seen) < ttl)
}

func newNamed(sparse bool) *named {
	return &named{known: newLRU[content, naming](maxNamed), sparse: sparse}
}

// get returns what is known of d, and whether repo is known to name it at all.
func (n *named) get(repo string, d manifest.Digest) (naming, bool) {
	v, ok := n.known.Get(content{repo, d})
	if !ok || v.gone {
		return naming{size: -1}, false
	}
	return v, true
}

// size returns the size of d in bytes, -1 if it is not known, and whether repo is
// known to name d at all.
func (n *named) size(repo string, d manifest.Digest) (size int64, ok bool) {
	v, ok := n.get(repo, d)
	return v.size, ok
}

// proven reports whether repo is known to have d, or has been: more than that a manifest
// names it.
func (n *named) proven(repo string, d manifest.Digest) bool {
	v, ok := n.get(repo, d)
	return ok && v.young(-1)
}

// add notes that repo has d; size -1 keeps one that is known.
func (n *named) add(repo string, d manifest.Digest, size int64) { n.note(repo, d, size, time.Now()) }

// note is add of what was seen at the time given, zero if it was only named.
func (n *named) note(repo string, d manifest.Digest, size int64, seen time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := content{repo, d}
	v, ok := n.known.Get(k)
	switch {
	case !ok:
		v = naming{size: size, seen: seen}
	case v.seen.IsZero() && !seen.IsZero():
		v.seen = seen
	case size < 0 || v.size == size:
		return
	}
	if size >= 0 {
		v.size = size
	}
	n.known.Add(k, v)
}

// saw notes that the bucket, asked at the time given, has d's link in its own repo.
func (n *named) saw(repo string, d manifest.Digest, size int64, asked time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := content{repo, d}
	v, ok := n.known.Peek(k)
	switch {
	case !ok:
		v.size = -1
	case asked.Before(v.seen) && (v.gone || v.linked):
		return // it was looked at again meanwhile
	}
	if size >= 0 {
		v.size = size
	}
	v.seen, v.linked, v.gone = asked, true, false
	n.known.Add(k, v)
}

// stored notes that the bucket had the bytes of d at the time given, zero if that is not
// known. The link was seen in its own repo.
func (n *named) stored(repo string, d manifest.Digest, asked time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := content{repo, d}
	if v, ok := n.known.Peek(k); ok && !v.gone && v.stored.Before(asked) {
		v.stored = asked
		n.known.Add(k, v)
	}
}

// missed notes that the bucket, asked at the time given, has no link of d in its
// own repo. It reports whether that is still so as far as is known: a push may have
// made one since.
func (n *named) missed(repo string, d manifest.Digest, asked time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := content{repo, d}
	v, ok := n.known.Peek(k)
	if ok && v.linked && v.seen.After(asked) {
		return false
	}
	n.known.Add(k, naming{size: -1, seen: time.Now(), gone: true})
	return true
}

// excuse has a proof that could not be looked at again count as if it had been.
func (n *named) excuse(repo string, d manifest.Digest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := content{repo, d}
	if v, ok := n.known.Peek(k); ok && !v.gone {
		v.seen, v.linked = time.Now(), false
		n.known.Add(k, v)
	}
}

// addManifest notes a manifest that is visible in repo, and what it proves to be
// there too. In one of the bucket's own that is what had to be visible when it was
// pushed: the entries of an index and foreign layers may be missing, and whoever
// only names a digest has no right to it.
func (n *named) addManifest(repo Repository, m *manifest.Manifest) {
	name := repo.String()
	if repo.Name.IsOwn() {
		var seen time.Time
		if !n.sparse {
			seen = time.Now()
		}
		for _, d := range required(m) {
			n.note(name, d.Digest, d.Size, seen)
		}
	} else {
		for _, d := range children(m) {
			n.add(name, d.Digest, d.Size)
		}
	}
	n.add(name, m.Digest, int64(len(m.Body)))
}

// forget drops the proof.
func (n *named) forget(repo string, d manifest.Digest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known.Remove(content{repo, d})
}

// children returns the descriptors of all that m is made of.
func children(m *manifest.Manifest) []manifest.Descriptor {
	all := make([]manifest.Descriptor, 0, 1+len(m.Layers)+len(m.Manifests))
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return append(append(all, m.Layers...), m.Manifests...)
}

// required returns the descriptors of what has to be in a repository before m is
// pushed there: an image's config and its layers, unless they are foreign.
func required(m *manifest.Manifest) []manifest.Descriptor {
	all := make([]manifest.Descriptor, 0, 1+len(m.Layers))
	for _, d := range m.Blobs() {
		if !d.IsForeign() {
			all = append(all, d)
		}
	}
	return all
}
