package registryd

import (
	lru "github.com/hashicorp/golang-lru/v2"

	"hostlocal/manifest"
)

// owed is what the bucket lacks of the manifests that it was given for a mirrored
// repository: all that they name. Each is written, or only linked if another
// repository brought it there, when it is first served, also where it came from
// this disk or from the bucket itself. It is memory: what a restart forgets, the
// next host that gets the manifest from the upstream makes up for.
type owed struct {
	writer *writer // nil: nobody writes, nothing is owed
	what   *lru.Cache[content, struct{}]
}

// manifest has m written for repo, with the tag if there is one, and owes what it
// names.
func (o *owed) manifest(repo, tag string, m *manifest.Manifest) {
	if o.writer == nil {
		return
	}
	o.what.Remove(content{repo, m.Digest})
	if tag == "" {
		o.writer.manifest(repo, m.Digest)
	} else {
		o.writer.tag(tagKey{repo, tag}, m.Digest)
	}
	for _, c := range children(m) {
		o.what.Add(content{repo, c.Digest}, struct{}{})
	}
}

// blob has a blob that an upstream is giving written.
func (o *owed) blob(repo string, d manifest.Digest, size int64) {
	if o.writer != nil {
		o.what.Remove(content{repo, d})
		o.writer.blob(repo, d, size)
	}
}

// servedManifest and servedBlob have written what was served, if it is owed. A
// host that owes nothing pays for a look at a length.
func (o *owed) servedManifest(repo string, m *manifest.Manifest) {
	if o.writer != nil && o.what.Len() > 0 && o.what.Contains(content{repo, m.Digest}) {
		o.manifest(repo, "", m)
	}
}

func (o *owed) servedBlob(repo string, d manifest.Digest, size int64) {
	if o.writer != nil && o.what.Len() > 0 && o.what.Contains(content{repo, d}) {
		o.blob(repo, d, size)
	}
}
