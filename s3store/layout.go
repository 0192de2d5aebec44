package s3store

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"hostlocal/manifest"
)

// The keys are distribution's (registry/storage/paths.go describes them), below
// the bucket's prefix:
//
//	docker/registry/v2/
//	  blobs/<alg>/<hex[:2]>/<hex>/data                            bytes
//	  repositories/<name>/
//	    _layers/<alg>/<hex>/link                                  a blob is visible here
//	    _manifests/revisions/<alg>/<hex>/link                     a manifest is visible here
//	    _manifests/tags/<tag>/current/link                        what the tag means
//	    _manifests/tags/<tag>/index/<alg>/<hex>/link              what it ever meant
//	    _referrers/<alg>/<hex>/<alg>/<hex>/descriptor             ours: the second is about the first
//	    _referrers/examined                                       ours: how far that is complete
//	    _uploads/<id>/data                                        a push on its way, and for as long as that takes
//
// A link's content is a digest, without a newline. The only mutable object is
// current/link. A stock registry has no referrers, and walks past ours. All else that
// is our own lies below registryd/.
const (
	blobsRoot = "docker/registry/v2/blobs/"
	reposRoot = "docker/registry/v2/repositories/"
	probeRoot = "registryd/probe/"
)

// maxName is the distribution specification's bound for a name, in bytes.
const maxName = 255

func blobKey(d manifest.Digest) string {
	hex := d.Hex()
	return blobsRoot + string(d.Algorithm()) + "/" + hex[:2] + "/" + hex + "/data"
}

func layerKey(repo string, d manifest.Digest) (string, error) {
	return repoKey(repo, "_layers/"+digestPath(d)+"/link")
}

func revisionKey(repo string, d manifest.Digest) (string, error) {
	return repoKey(repo, "_manifests/revisions/"+digestPath(d)+"/link")
}

func tagKey(repo, tag string) (string, error) {
	if !validTag(tag) {
		return "", fmt.Errorf("%.140q cannot be a tag: %w", tag, fs.ErrNotExist)
	}
	return repoKey(repo, "_manifests/tags/"+tag+"/current/link")
}

func tagIndexKey(repo, tag string, d manifest.Digest) (string, error) {
	if !validTag(tag) {
		return "", fmt.Errorf("%.140q cannot be a tag: %w", tag, fs.ErrNotExist)
	}
	return repoKey(repo, "_manifests/tags/"+tag+"/"+historyEntry(d))
}

// historyEntry is where a tag's history has d, below the tag.
func historyEntry(d manifest.Digest) string { return "index/" + digestPath(d) + "/link" }

// tagRoot is what the keys of a tag begin with: that of what it means sorts first.
func tagRoot(repo, tag string) (string, error) {
	if !validTag(tag) {
		return "", fmt.Errorf("%.140q cannot be a tag: %w", tag, fs.ErrNotExist)
	}
	return repoKey(repo, "_manifests/tags/"+tag+"/")
}

// referrersRoot is what the keys of a subject's referrers begin with.
func referrersRoot(repo string, subject manifest.Digest) (string, error) {
	return repoKey(repo, "_referrers/"+digestPath(subject)+"/")
}

func referrerKey(repo string, subject, referrer manifest.Digest) (string, error) {
	return repoKey(repo, "_referrers/"+digestPath(subject)+"/"+digestPath(referrer)+"/descriptor")
}

// stageKey is where an upload lies until its digest is known: where a stock registry has
// its own, so that nobody takes it for content.
func stageKey(repo, id string) (string, error) {
	if !uploadID.MatchString(id) {
		return "", fmt.Errorf("%.80q cannot be an upload: %w", id, fs.ErrInvalid)
	}
	return repoKey(repo, "_uploads/"+id+"/data")
}

var uploadID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func isStageKey(key string) bool {
	repo, rest, _ := strings.Cut(strings.TrimPrefix(key, reposRoot), "/_uploads/")
	want, err := stageKey(repo, strings.TrimSuffix(rest, "/data"))
	return err == nil && key == want
}

func examinedKey(repo string) (string, error) { return repoKey(repo, "_referrers/examined") }

func digestPath(d manifest.Digest) string { return string(d.Algorithm()) + "/" + d.Hex() }

// digestAt is the inverse of digestPath for a path that ends as given.
func digestAt(path, end string) (manifest.Digest, bool) {
	path, ok := strings.CutSuffix(path, end)
	if !ok {
		return manifest.Digest{}, false
	}
	d, err := manifest.ParseDigest(strings.Replace(path, "/", ":", 1))
	return d, err == nil
}

// repoKey joins a path below a repository. A name that cannot be one is a miss:
// nothing can lie there.
func repoKey(repo, rest string) (string, error) {
	if !validRepo(repo) {
		return "", fmt.Errorf("%.260q cannot be a repository: %w", repo, fs.ErrNotExist)
	}
	return reposRoot + repo + "/" + rest, nil
}

// validRepo is a last line of defence, looser than the grammar of references: the
// name stays below repositories/ and does not reach into a repository's own
// folders, which begin with an underscore.
func validRepo(repo string) bool {
	if repo == "" || len(repo) > maxName {
		return false
	}
	for part := range strings.SplitSeq(repo, "/") {
		if part == "" || part[0] == '_' || part[0] == '.' || strings.ContainsFunc(part, notInName) {
			return false
		}
	}
	return true
}

func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-:[]", r))
}

func validTag(tag string) bool {
	if tag == "" || len(tag) > 128 || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(tag, func(r rune) bool { return notInName(r) || strings.ContainsRune(":[]", r) })
}

// mirrored reports whether a repository belongs to an upstream: its first
// component is a host, with a dot or a port, that is nobody's own.
func (s *Store) mirrored(repo string) bool {
	host, _, deeper := strings.Cut(repo, "/")
	return deeper && strings.ContainsAny(host, ".:") && (s.opt.Own == nil || !s.opt.Own(host))
}
