package registryd

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"hostlocal/manifest"
)

// maxNamed bounds what is remembered of which repository names which digest, in
// entries: about 250 bytes each, so 8 MiB. An entry that falls out costs a stat
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
	sizes *lru.Cache[content, int64] // bytes, -1 if nobody said
}

func newNamed() *named {
	return &named{newLRU[content, int64](maxNamed)}
}

// size returns the size of d in bytes, -1 if it is not known, and whether repo is
// known to name d at all.
func (n *named) size(repo string, d manifest.Digest) (size int64, ok bool) {
	size, ok = n.sizes.Get(content{repo, d})
	if !ok {
		size = -1
	}
	return size, ok
}

// add notes that repo names d; size -1 keeps one that is known.
func (n *named) add(repo string, d manifest.Digest, size int64) {
	k := content{repo, d}
	if size < 0 {
		if _, ok := n.sizes.Get(k); ok {
			return
		}
	}
	n.sizes.Add(k, size)
}

// addManifest notes a manifest that is visible in repo, and all that it names.
func (n *named) addManifest(repo string, m *manifest.Manifest) {
	for _, d := range children(m) {
		n.add(repo, d.Digest, d.Size)
	}
	n.add(repo, m.Digest, int64(len(m.Body)))
}

// forget drops the proof.
func (n *named) forget(repo string, d manifest.Digest) { n.sizes.Remove(content{repo, d}) }

// children returns the descriptors of all that m is made of.
func children(m *manifest.Manifest) []manifest.Descriptor {
	all := make([]manifest.Descriptor, 0, 1+len(m.Layers)+len(m.Manifests))
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return append(append(all, m.Layers...), m.Manifests...)
}
