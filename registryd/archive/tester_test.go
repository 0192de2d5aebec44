package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hostlocal/manifest"
	"hostlocal/registryd/archive/archivetest"
)

// A memory is a Store that checks what every reader relies on: right bytes under each
// digest, and nothing that names what is not there.
type memory struct {
	testing.TB

	mu     sync.Mutex
	blobs  map[manifest.Digest][]byte
	links  map[string]bool // "layer repo digest", "manifest repo digest"
	tags   map[string]manifest.Digest
	refs   []string // "repo subject digest artifactType"
	looks  int      // StatBlob
	sends  int      // bodies
	writes int      // of any kind
	fail   func(what string) error
}

func newMemory(t testing.TB) *memory {
	return &memory{TB: t, blobs: map[manifest.Digest][]byte{}, links: map[string]bool{}, tags: map[string]manifest.Digest{}}
}

func (m *memory) begin(what string) error {
	m.mu.Lock()
	fail := m.fail
	m.mu.Unlock()
	if fail != nil {
		return fail(what)
	}
	return nil
}

func (m *memory) StatBlob(_ context.Context, d manifest.Digest) (int64, error) {
	if err := m.begin("stat"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looks++
	b, ok := m.blobs[d]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(b)), nil
}

func (m *memory) ResumeBlob(ctx context.Context, d manifest.Digest, size int64, r io.ReaderAt, earlier []string, note func(string)) error {
	if note != nil {
		note("begun")
	}
	if err := m.begin("blob"); err != nil {
		return err
	}
	b := make([]byte, size)
	if n, err := r.ReadAt(b, 0); int64(n) < size {
		return fmt.Errorf("source: %w", err)
	}
	if err := d.Verify(b); err != nil {
		m.Errorf("wrong bytes were about to be stored: %v", err)
	}
	if note != nil {
		note("")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d] = b
	m.sends++
	m.writes++
	return ctx.Err()
}

func (m *memory) AbandonBlob(context.Context, manifest.Digest, []string) error { return nil }

func (m *memory) has(what, repo string, d manifest.Digest) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[what+" "+repo+" "+d.String()], nil
}

func (m *memory) HasLayer(_ context.Context, repo string, d manifest.Digest) (bool, error) {
	return m.has("layer", repo, d)
}

func (m *memory) HasManifest(_ context.Context, repo string, d manifest.Digest) (bool, error) {
	return m.has("manifest", repo, d)
}

func (m *memory) LinkLayer(_ context.Context, repo string, d manifest.Digest) error {
	if err := m.begin("link"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs[d] == nil {
		m.Errorf("a link to %s, which is not there", d)
	}
	m.links["layer "+repo+" "+d.String()] = true
	m.writes++
	return nil
}

func (m *memory) PutManifest(_ context.Context, repo string, d manifest.Digest, body []byte) error {
	if err := m.begin("manifest"); err != nil {
		return err
	}
	parsed, err := manifest.ParseAs(d, body)
	if err != nil {
		m.Error(err)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range parsed.Blobs() {
		if !b.IsForeign() && !m.links["layer "+repo+" "+b.Digest.String()] {
			m.Errorf("manifest %s came before its blob %s", d, b.Digest)
		}
	}
	m.blobs[d] = body
	m.links["manifest "+repo+" "+d.String()] = true
	m.writes++
	return nil
}

func (m *memory) PutReferrer(_ context.Context, repo string, subject manifest.Digest, d manifest.Descriptor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refs = append(m.refs, fmt.Sprint(repo, " ", subject, " ", d.Digest, " ", d.ArtifactType))
	return nil
}

func (m *memory) Tag(_ context.Context, repo, tag string) (manifest.Digest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.tags[repo+":"+tag]
	if !ok {
		return d, fs.ErrNotExist
	}
	return d, nil
}

func (m *memory) PutTag(_ context.Context, repo, tag string, d manifest.Digest) error {
	if err := m.begin("tag"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.links["manifest "+repo+" "+d.String()] {
		m.Errorf("tag %s:%s came before its manifest", repo, tag)
	}
	m.tags[repo+":"+tag] = d
	m.writes++
	return nil
}

// opened opens a tar of files.
func opened(t testing.TB, files []archivetest.File) *Archive {
	t.Helper()
	a, err := tryOpen(t, files, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryOpen(t testing.TB, files []archivetest.File, o Options) (*Archive, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := archivetest.WriteTar(path, files); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), path, o)
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

// put imports an archive's only image.
func put(t testing.TB, s Store, a *Archive, tags ...string) (Result, error) {
	t.Helper()
	if len(a.Images) != 1 {
		t.Fatalf("there are %d images, want 1", len(a.Images))
	}
	var to []Target
	for _, tag := range tags {
		repo, tag, _ := strings.Cut(tag, ":")
		to = append(to, Target{repo, tag})
	}
	return (&Importer{Store: s}).Import(t.Context(), a.Images[0], to)
}

// wantIn checks that the store has the image whole, by its tag.
func (m *memory) wantIn(tag string, img archivetest.Image) {
	m.Helper()
	d, ok := m.tags[tag]
	if !ok {
		m.Fatalf("there is no tag %s", tag)
	}
	parsed, err := manifest.ParseAs(d, m.blobs[d])
	if err != nil {
		m.Fatal(err)
	}
	if !bytes.Equal(m.blobs[parsed.Config.Digest], img.Config) {
		m.Error("the config is another")
	}
	var got [][]byte
	for _, l := range parsed.Layers {
		got = append(got, m.blobs[l.Digest])
	}
	if !slices.EqualFunc(got, img.Layers, bytes.Equal) {
		m.Error("the layers are others")
	}
}

func wantError(t testing.TB, err, is error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || is != nil && !errors.Is(err, is) {
		t.Errorf("error %v, want one of %v with %q", err, is, text)
	}
}

func wantNames(t testing.TB, img *Image, want ...string) {
	t.Helper()
	if !slices.Equal(img.Names, want) {
		t.Errorf("names %q, want %q", img.Names, want)
	}
}
