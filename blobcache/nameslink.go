package blobcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hostlocal/manifest"
)

// A linkKey names one link file of Names.
type linkKey struct {
	kind linkKind
	repo string
	name string // a tag or a digest
}

type linkKind uint8

const (
	linkTag linkKind = iota
	linkRevision
	linkLayer
	linkOwn
)

// clone keeps a key in memory from keeping the request that it was cut out of.
func (k linkKey) clone() linkKey {
	return linkKey{k.kind, strings.Clone(k.repo), strings.Clone(k.name)}
}

// A linkValue is what a link file says.
type linkValue struct {
	digest    manifest.Digest // of all but linkOwn
	own       bool            // of linkOwn
	confirmed time.Time       // of linkTag
	stored    bool            // the file says so too
	written   time.Time       // the confirmation that it bears
}

// maxLink bounds what is read of a link file, in bytes: the longest digest and a
// line end that some tool may have added.
const maxLink = len("sha512:") + 128 + len("\r\n")

func tagKey(repo, tag string) (linkKey, error) {
	if err := checkRepository(repo); err != nil {
		return linkKey{}, err
	}
	return linkKey{linkTag, repo, tag}, manifest.ParseTag(tag)
}

func digestKey(kind linkKind, repo string, d manifest.Digest) (linkKey, error) {
	if d.IsZero() {
		return linkKey{}, manifest.ErrDigest
	}
	return linkKey{kind, repo, d.String()}, checkRepository(repo)
}

func ownKey(repo string) (linkKey, error) {
	return linkKey{linkOwn, repo, ""}, checkRepository(repo)
}

// checkRepository keeps what is not a repository's name in the bucket, with or
// without a host before it, away from the disk. Components never begin with '_',
// which sets those apart that Names adds.
func checkRepository(repo string) error {
	host, path, ok := strings.Cut(repo, "/")
	if manifest.ValidRepository(repo) || ok && len(repo) <= manifest.MaxName && isHostComponent(host) && manifest.ValidRepository(path) {
		return nil
	}
	return fmt.Errorf("%w: %.80q", manifest.ErrName, repo)
}

// isHostComponent reports whether s may be a folder for a host: "ghcr.io",
// "hub.test:5443", "[::1]:5000".
func isHostComponent(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '['
		if !letter && (i == 0 || !strings.ContainsRune(".-:]", rune(c))) {
			return false
		}
	}
	return s != ""
}

// path is the link's file.
func (n *Names) path(k linkKey) string {
	repo := filepath.Join(n.root, filepath.FromSlash(k.repo))
	alg, hex, _ := strings.Cut(k.name, ":")
	switch k.kind {
	case linkTag:
		return filepath.Join(repo, "_manifests", "tags", k.name, "current", "link")
	case linkRevision:
		return filepath.Join(repo, "_manifests", "revisions", alg, hex, "link")
	case linkLayer:
		return filepath.Join(repo, "_layers", alg, hex, "link")
	}
	return filepath.Join(repo, "_own")
}

// get answers from memory or from the disk.
func (n *Names) get(k linkKey) (linkValue, error) {
	n.mem.Lock()
	v, ok := n.recent.Get(k)
	writes := n.writes
	n.mem.Unlock()
	if ok {
		return v, nil
	}
	v, err := readLink(n.path(k), k)
	if err != nil {
		return linkValue{}, miss(k.repo+" "+k.name, err)
	}
	n.mem.Lock()
	if n.writes == writes {
		n.recent.Add(k.clone(), v)
	}
	n.mem.Unlock()
	return v, nil
}

// remember replaces what memory says of k, after the disk was changed.
func (n *Names) remember(k linkKey, v linkValue) {
	n.mem.Lock()
	n.writes++
	n.recent.Add(k.clone(), v)
	n.mem.Unlock()
}

// confirm notes a newer confirmation in memory alone, and reports whether that is
// enough.
func (n *Names) confirm(k linkKey, d manifest.Digest, confirmed time.Time) bool {
	n.mem.Lock()
	defer n.mem.Unlock()
	v, ok := n.recent.Get(k)
	if !ok || !v.stored || v.digest != d || confirmed.Sub(v.written).Abs() >= confirmStep {
		return false
	}
	v.confirmed = confirmed
	n.recent.Add(k, v)
	return true
}

// forget removes what memory says of the links that match.
func (n *Names) forget(match func(linkKey) bool) {
	n.mem.Lock()
	defer n.mem.Unlock()
	n.writes++
	for _, k := range n.recent.Keys() {
		if match(k) {
			n.recent.Remove(k)
		}
	}
}

// put writes the link and remembers it, on disk or not. The caller holds write.
func (n *Names) put(k linkKey, v linkValue) error {
	p := n.path(k)
	before := n.allocatedUpTo(p)
	err := n.replace(p, k, v)
	n.account(n.allocatedUpTo(p) - before)
	if err == nil {
		v.stored, v.written = true, v.confirmed
	}
	n.remember(k, v)
	if err != nil {
		return fmt.Errorf("writing down %s %s: %w", k.repo, k.name, err)
	}
	return nil
}

// putLink is put of a link that makes its repository known here: what SetOwn
// said of the name, with or without the upstream's host, is worth writing now.
func (n *Names) putLink(k linkKey, v linkValue) error {
	err := n.put(k, v)
	_, bare, _ := strings.Cut(k.repo, "/")
	for _, repo := range []string{k.repo, bare} {
		own := linkKey{linkOwn, repo, ""}
		n.mem.Lock()
		v, ok := n.recent.Peek(own)
		n.mem.Unlock()
		if ok && !v.stored && err == nil {
			err = n.put(own, linkValue{own: v.own})
		}
	}
	return err
}

// replace makes p say v, at once or not at all. There is one temporary file, since
// there is one writer: a crash leaves no more than that.
func (n *Names) replace(p string, k linkKey, v linkValue) error {
	content := v.digest.String()
	if k.kind == linkOwn {
		content = strconv.FormatBool(v.own)
	}
	temp := filepath.Join(n.root, "_new")
	err := os.WriteFile(temp, []byte(content), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		// Only the root is made again, not the cache folder above it: where
		// that is gone, a disk may be unmounted.
		if err = os.Mkdir(n.root, 0o755); err == nil {
			err = os.WriteFile(temp, []byte(content), 0o644)
		}
	}
	if err == nil && k.kind == linkTag {
		err = os.Chtimes(temp, time.Time{}, toMtime(v.confirmed))
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(p), 0o755)
	}
	if err == nil {
		err = os.Rename(temp, p)
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// remove deletes the link, and its folders if they are empty then.
func (n *Names) remove(k linkKey) error {
	n.write.Lock()
	defer n.write.Unlock()
	p := n.path(k)
	before := n.allocatedUpTo(p)
	err := os.Remove(p)
	n.prune(filepath.Dir(p))
	n.account(n.allocatedUpTo(p) - before)
	n.mem.Lock()
	n.writes++
	n.recent.Remove(k)
	n.mem.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting %s %s: %w", k.repo, k.name, err)
	}
	return nil
}

// prune removes dir and the folders above it, below root, as long as they are
// empty.
func (n *Names) prune(dir string) {
	for dir != n.root && os.Remove(dir) == nil {
		dir = filepath.Dir(dir)
	}
}

// readLink reads a link file. What is not whole is an error.
func readLink(p string, k linkKey) (linkValue, error) {
	f, err := os.Open(p)
	if err != nil {
		return linkValue{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(maxLink)+1))
	if err != nil {
		return linkValue{}, err
	}
	content := string(bytes.TrimRight(b, "\r\n"))
	if k.kind == linkOwn {
		own, err := strconv.ParseBool(content)
		return linkValue{own: own, stored: true}, err
	}
	d, err := manifest.ParseDigest(content)
	if err != nil {
		return linkValue{}, err
	}
	if k.kind != linkTag {
		if content != k.name {
			return linkValue{}, fmt.Errorf("the link says %s", d)
		}
		return linkValue{digest: d, stored: true}, nil
	}
	fi, err := f.Stat()
	if err != nil {
		return linkValue{}, err
	}
	at := fromMtime(fi.ModTime())
	return linkValue{digest: d, stored: true, confirmed: at, written: at}, nil
}

// toMtime and fromMtime write the time of a confirmation on a file, "never" as
// the epoch. A time that has not come yet says that the clock was wrong, then or
// now, and counts as never.
func toMtime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}

func fromMtime(t time.Time) time.Time {
	if t.Unix() <= 0 || time.Until(t) > time.Second {
		return time.Time{}
	}
	return t
}

// allocatedUpTo returns what p and the folders above it, up to root, take.
func (n *Names) allocatedUpTo(p string) int64 {
	total := allocated(n.root)
	for ; len(p) > len(n.root); p = filepath.Dir(p) {
		total += allocated(p)
	}
	return total
}

// allocated returns the bytes of the blocks that p takes, 0 if it is not there.
func allocated(p string) int64 {
	fi, err := os.Lstat(p)
	if err != nil {
		return 0
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fi.Size()
	}
	return st.Blocks * 512
}
