package registryd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"hostlocal/manifest"
)

// errOutage is what a fake that is told to fail fails with.
var errOutage = errors.New("connection refused by the test")

// calls counts and gates the calls of a fake.
type calls struct {
	mu    sync.Mutex
	log   []string
	hooks map[string]func(context.Context) error // by operation; "" for all
}

// enter notes a call, and does what the test wants of its operation.
func (c *calls) enter(ctx context.Context, op, arg string) error {
	c.mu.Lock()
	c.log = append(c.log, op+" "+arg)
	hook := c.hooks[op]
	if hook == nil {
		hook = c.hooks[""]
	}
	c.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(ctx)
}

// on has op call hook from now on; nil ends it.
func (c *calls) on(op string, hook func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hooks == nil {
		c.hooks = map[string]func(context.Context) error{}
	}
	c.hooks[op] = hook
}

// fail has op fail with err.
func (c *calls) fail(op string, err error) { c.on(op, func(context.Context) error { return err }) }

// stall has op answer nothing until its context ends.
func (c *calls) stall(op string) {
	c.on(op, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

// heal ends all of that.
func (c *calls) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hooks = nil
}

// count returns how often op was called; "" counts all.
func (c *calls) count(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, l := range c.log {
		if op == "" || len(l) > len(op) && l[:len(op)+1] == op+" " {
			n++
		}
	}
	return n
}

// seen returns the calls so far.
func (c *calls) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

// hub is an Upstream in memory.
type hub struct {
	calls
	data      sync.Mutex
	tags      map[string]manifest.Digest // "library/app:v1"
	manifests map[string][]byte          // "library/app@sha256:..."
	blobs     map[string][]byte
	headless  bool          // HEAD does not name a digest
	private   bool          // it is asked with credentials
	reading   func()        // is called when a manifest begins to be read, once there is room for it
	pauses    chan struct{} // if not nil, blobs stop before their last byte until it is closed
}

func newHub() *hub {
	return &hub{tags: map[string]manifest.Digest{}, manifests: map[string][]byte{}, blobs: map[string][]byte{}}
}

func (h *hub) Credentialed() bool { return h.private }

func (h *hub) Head(ctx context.Context, repo, ref string) (manifest.Descriptor, error) {
	if err := h.enter(ctx, "HEAD", repo+":"+ref); err != nil {
		return manifest.Descriptor{}, err
	}
	body, err := h.find(repo, ref)
	if err != nil {
		return manifest.Descriptor{}, err
	}
	if h.headless {
		return manifest.Descriptor{Size: -1}, nil
	}
	m, err := manifest.Parse(body)
	if err != nil {
		return manifest.Descriptor{}, err
	}
	return describe(m), nil
}

func (h *hub) find(repo, ref string) ([]byte, error) {
	h.data.Lock()
	defer h.data.Unlock()
	if d, ok := h.tags[repo+":"+ref]; ok {
		ref = d.String()
	}
	body, ok := h.manifests[repo+"@"+ref]
	if !ok {
		return nil, fmt.Errorf("hub: %s:%s: %w", repo, ref, fs.ErrNotExist)
	}
	return body, nil
}

func (h *hub) Manifest(ctx context.Context, repo, ref string) ([]byte, string, error) {
	if err := h.enter(ctx, "GET", repo+":"+ref); err != nil {
		return nil, "", err
	}
	body, err := h.find(repo, ref)
	if err == nil && h.reading != nil {
		body, err = manifest.Read(ctx, &noticed{bytes.NewReader(body), h.reading}, int64(len(body)))
	}
	return body, manifest.OCIManifest, err
}

// noticed is a reader whose first Read is noticed.
type noticed struct {
	io.Reader
	first func()
}

func (n *noticed) Read(p []byte) (int, error) {
	if n.first != nil {
		n.first()
		n.first = nil
	}
	return n.Reader.Read(p)
}

func (h *hub) OpenBlob(ctx context.Context, repo string, d manifest.Digest, off, n int64) (io.ReadCloser, int64, int64, error) {
	if err := h.enter(ctx, "BLOB", fmt.Sprintf("%s@%s %d+%d", repo, d, off, n)); err != nil {
		return nil, 0, -1, err
	}
	h.data.Lock()
	b, ok := h.blobs[repo+"@"+d.String()]
	h.data.Unlock()
	if !ok {
		return nil, 0, -1, fmt.Errorf("hub: blob %s: %w", d, fs.ErrNotExist)
	}
	body := part(b, off, n)
	if h.pauses != nil {
		body = &pausing{body, ctx, h.pauses, len(b) - int(off) - 1}
	}
	return body, off, int64(len(b)), nil
}

// pausing is a body that stops after some bytes until over is closed.
type pausing struct {
	io.ReadCloser
	ctx  context.Context
	over chan struct{}
	left int
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.left == 0 {
		select {
		case <-p.over:
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		}
	} else if len(b) > p.left {
		b = b[:p.left]
	}
	n, err := p.ReadCloser.Read(b)
	p.left -= min(n, p.left)
	return n, err
}

func (h *hub) Tags(ctx context.Context, repo string, n int, last string) ([]string, string, error) {
	if err := h.enter(ctx, "TAGS", repo); err != nil {
		return nil, "", err
	}
	return []string{"v1", "v2"}, "v2", nil
}

// part is n bytes of b from off on.
func part(b []byte, off, n int64) io.ReadCloser {
	b = b[min(off, int64(len(b))):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b))
}

// memStore is a Store in memory.
type memStore struct {
	calls
	patience  time.Duration
	data      sync.Mutex
	blobs     map[manifest.Digest][]byte
	layers    map[content]bool
	linked    map[content]time.Time // when a layer was, as far as the bucket says
	revisions map[content]bool
	tags      map[tagKey]manifest.Digest
	referrers map[content]map[manifest.Digest]manifest.Descriptor // by subject
	writes    []string                                            // in the order in which they became visible
	asked     int                                                 // how many repositories were last asked for
	listPace  time.Duration
}

func newMemStore() *memStore {
	return &memStore{
		patience: 100 * time.Millisecond,
		blobs:    map[manifest.Digest][]byte{}, layers: map[content]bool{}, linked: map[content]time.Time{},
		revisions: map[content]bool{}, tags: map[tagKey]manifest.Digest{},
		referrers: map[content]map[manifest.Digest]manifest.Descriptor{},
	}
}

func (s *memStore) wrote(f string, args ...any) { s.writes = append(s.writes, fmt.Sprintf(f, args...)) }

func (s *memStore) written() []string {
	s.data.Lock()
	defer s.data.Unlock()
	return slices.Clone(s.writes)
}

func (s *memStore) blob(d manifest.Digest) ([]byte, error) {
	s.data.Lock()
	defer s.data.Unlock()
	b, ok := s.blobs[d]
	if !ok {
		return nil, fmt.Errorf("bucket: %s: %w", d, fs.ErrNotExist)
	}
	return b, nil
}

func (s *memStore) OpenBlob(ctx context.Context, d manifest.Digest, off, n int64) (io.ReadCloser, int64, int64, error) {
	if err := s.enter(ctx, "OPEN", d.String()); err != nil {
		return nil, 0, -1, err
	}
	b, err := s.blob(d)
	if err != nil {
		return nil, 0, -1, err
	}
	return part(b, off, n), off, int64(len(b)), nil
}

func (s *memStore) Plan(int64) (int64, int) { return 1 << 20, 2 }
func (s *memStore) Patience() time.Duration { return s.patience }
func (s *memStore) StatBlob(ctx context.Context, d manifest.Digest) (int64, error) {
	if err := s.enter(ctx, "STAT", d.String()); err != nil {
		return 0, err
	}
	b, err := s.blob(d)
	return int64(len(b)), err
}

func (s *memStore) PutBlob(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt) error {
	if err := s.enter(ctx, "PUTBLOB", d.String()); err != nil {
		return err
	}
	b := make([]byte, size)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return err
	}
	if err := d.Verify(b); err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	s.blobs[d] = b
	s.wrote("blob %s", d)
	return nil
}

func (s *memStore) LayerLink(ctx context.Context, repo string, d manifest.Digest) (time.Duration, error) {
	if err := s.enter(ctx, "LAYERLINK", repo+"@"+d.String()); err != nil {
		return 0, err
	}
	s.data.Lock()
	defer s.data.Unlock()
	k := content{repo, d}
	if !s.layers[k] {
		return 0, fmt.Errorf("bucket: no layer %s@%s: %w", repo, d, fs.ErrNotExist)
	}
	if at, ok := s.linked[k]; ok {
		return time.Since(at), nil
	}
	return -1, nil
}

func (s *memStore) LinkLayer(ctx context.Context, repo string, d manifest.Digest) error {
	if err := s.enter(ctx, "LINKLAYER", repo+"@"+d.String()); err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	s.layers[content{repo, d}], s.linked[content{repo, d}] = true, time.Now()
	s.wrote("layer %s@%s", repo, d)
	return nil
}

func (s *memStore) HasManifest(ctx context.Context, repo string, d manifest.Digest) (bool, error) {
	if err := s.enter(ctx, "HASMANIFEST", repo+"@"+d.String()); err != nil {
		return false, err
	}
	s.data.Lock()
	defer s.data.Unlock()
	return s.revisions[content{repo, d}], nil
}

func (s *memStore) Manifest(ctx context.Context, repo string, d manifest.Digest) ([]byte, error) {
	if err := s.enter(ctx, "MANIFEST", repo+"@"+d.String()); err != nil {
		return nil, err
	}
	return s.blob(d)
}

func (s *memStore) PutManifest(ctx context.Context, repo string, d manifest.Digest, body []byte) error {
	if err := s.enter(ctx, "PUTMANIFEST", repo+"@"+d.String()); err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	s.blobs[d], s.revisions[content{repo, d}] = body, true
	s.wrote("manifest %s@%s", repo, d)
	return nil
}

func (s *memStore) Tag(ctx context.Context, repo, tag string) (manifest.Digest, error) {
	if err := s.enter(ctx, "TAG", repo+":"+tag); err != nil {
		return manifest.Digest{}, err
	}
	s.data.Lock()
	defer s.data.Unlock()
	d, ok := s.tags[tagKey{repo, tag}]
	if !ok {
		return d, fmt.Errorf("bucket: %s:%s: %w", repo, tag, fs.ErrNotExist)
	}
	return d, nil
}

func (s *memStore) PutTag(ctx context.Context, repo, tag string, d manifest.Digest) error {
	if err := s.enter(ctx, "PUTTAG", repo+":"+tag); err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	s.tags[tagKey{repo, tag}] = d
	s.wrote("tag %s:%s", repo, tag)
	return nil
}

func (s *memStore) RemoveTag(ctx context.Context, repo, tag string) error {
	if err := s.enter(ctx, "REMOVETAG", repo+":"+tag); err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	return s.untag(tagKey{repo, tag})
}

// untag needs data.
func (s *memStore) untag(k tagKey) error {
	if _, ok := s.tags[k]; !ok {
		return fmt.Errorf("bucket: %s:%s: %w", k.repo, k.tag, fs.ErrNotExist)
	}
	delete(s.tags, k)
	s.wrote("no tag %s:%s", k.repo, k.tag)
	return nil
}

func (s *memStore) RemoveManifest(ctx context.Context, repo string, d manifest.Digest) (tags []string, err error) {
	if err := s.enter(ctx, "REMOVEMANIFEST", repo+"@"+d.String()); err != nil {
		return nil, err
	}
	s.data.Lock()
	defer s.data.Unlock()
	if !s.revisions[content{repo, d}] {
		return nil, fmt.Errorf("bucket: %s@%s: %w", repo, d, fs.ErrNotExist)
	}
	for k, at := range s.tags {
		if k.repo == repo && at == d {
			s.untag(k)
			tags = append(tags, k.tag)
		}
	}
	for subject, referrers := range s.referrers {
		if _, ok := referrers[d]; ok && subject.repo == repo {
			delete(referrers, d)
			s.wrote("no referrer %s@%s %s", repo, subject.d, d)
		}
	}
	delete(s.revisions, content{repo, d})
	s.wrote("no manifest %s@%s", repo, d)
	return tags, nil
}

func (s *memStore) RemovalGrace() time.Duration { return 400 * time.Millisecond }

func (s *memStore) RemoveLayer(ctx context.Context, repo string, d manifest.Digest) error {
	if err := s.enter(ctx, "REMOVELAYER", repo+"@"+d.String()); err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	if !s.layers[content{repo, d}] {
		return fmt.Errorf("bucket: %s@%s: %w", repo, d, fs.ErrNotExist)
	}
	delete(s.layers, content{repo, d})
	s.wrote("no layer %s@%s", repo, d)
	return nil
}

func (s *memStore) PutReferrer(ctx context.Context, repo string, subject manifest.Digest, desc manifest.Descriptor) error {
	if err := s.enter(ctx, "PUTREFERRER", repo+"@"+subject.String()); err != nil {
		return err
	}
	s.data.Lock()
	defer s.data.Unlock()
	k := content{repo, subject}
	if s.referrers[k] == nil {
		s.referrers[k] = map[manifest.Digest]manifest.Descriptor{}
	}
	s.referrers[k][desc.Digest] = desc
	s.wrote("referrer %s@%s %s", repo, subject, desc.Digest)
	return nil
}

func (s *memStore) Referrers(ctx context.Context, repo string, subject manifest.Digest) ([]manifest.Descriptor, error) {
	if err := s.enter(ctx, "REFERRERS", repo+"@"+subject.String()); err != nil {
		return nil, err
	}
	s.data.Lock()
	defer s.data.Unlock()
	var list []manifest.Descriptor
	for d, desc := range s.referrers[content{repo, subject}] {
		if s.revisions[content{repo, d}] {
			list = append(list, desc)
		}
	}
	slices.SortFunc(list, func(a, b manifest.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return list, nil
}

func (s *memStore) Exists(ctx context.Context, repo string) (bool, error) {
	if err := s.enter(ctx, "EXISTS", repo); err != nil {
		return false, err
	}
	s.data.Lock()
	defer s.data.Unlock()
	for k := range s.tags {
		if k.repo == repo {
			return true, nil
		}
	}
	for k := range s.revisions {
		if k.repo == repo {
			return true, nil
		}
	}
	return false, nil
}

func (s *memStore) Tags(ctx context.Context, repo, after string, max int) ([]string, error) {
	if err := s.enter(ctx, "TAGS", repo); err != nil {
		return nil, err
	}
	s.data.Lock()
	defer s.data.Unlock()
	var list []string
	for k := range s.tags {
		if k.repo == repo && k.tag > after {
			list = append(list, k.tag)
		}
	}
	slices.Sort(list)
	return list[:min(len(list), max)], nil
}

func (s *memStore) Repositories(ctx context.Context, after string, max int) ([]string, error) {
	if err := s.enter(ctx, "REPOSITORIES", after); err != nil {
		return nil, err
	}
	s.data.Lock()
	s.asked = max
	var list []string
	for k := range s.tags {
		if k.repo > after && !slices.Contains(list, k.repo) {
			list = append(list, k.repo)
		}
	}
	s.data.Unlock()
	slices.Sort(list)
	list = list[:min(len(list), max)]
	for i := range list {
		select {
		case <-ctx.Done():
			return list[:i], ctx.Err()
		case <-time.After(s.listPace):
		}
	}
	return list, nil
}
