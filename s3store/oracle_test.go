package s3store_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/manifest"
	"hostlocal/s3store"
)

// stockConfig makes distribution's registry work on the folder, without a cache, so
// that it sees what others write. Deletes are taken.
func stockConfig(t testing.TB, dir, addr string) string {
	config := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %q}\n  delete: {enabled: true}\nhttp: {addr: %q}\n", dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// stockRegistry runs distribution's registry over the folder.
func stockRegistry(t testing.TB, dir string) string {
	bin := need.Binary(t, "registry")
	addr := serve(t, func(addr string) *exec.Cmd {
		cmd := exec.Command(bin, "serve", stockConfig(t, dir, addr))
		cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
		return cmd
	}, func(addr string) error {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	return "http://" + addr + "/v2/"
}

func ask(t testing.TB, method, url, contentType string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", manifest.OCIManifest)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

func pushBlob(t testing.TB, base, repo string, d manifest.Digest, body []byte) {
	t.Helper()
	resp, _ := ask(t, "POST", base+repo+"/blobs/uploads/", "", nil)
	at := resp.Header.Get("Location")
	if strings.HasPrefix(at, "/") {
		at = strings.TrimSuffix(base, "/v2/") + at
	}
	if resp, got := ask(t, "PUT", at+"&digest="+d.String(), "application/octet-stream", body); resp.StatusCode != 201 {
		t.Fatalf("pushing %s: %s %s", d, resp.Status, got)
	}
}

// image is a manifest with its config and layers.
func image(t testing.TB, config []byte, layers ...[]byte) []byte {
	describe := func(mediaType string, b []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": manifest.DigestOf(b), "size": len(b)}
	}
	ls := []any{}
	for _, l := range layers {
		ls = append(ls, describe("application/vnd.oci.image.layer.v1.tar+gzip", l))
	}
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifest.OCIManifest,
		"config": describe("application/vnd.oci.image.config.v1+json", config), "layers": ls})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sha512Of(b []byte) manifest.Digest {
	return manifest.MustDigest(fmt.Sprintf("sha512:%x", sha512.Sum512(b)))
}

func folderStore(t testing.TB) (*s3store.Store, string) {
	dir := filepath.Join(t.TempDir(), "store")
	b, err := s3store.OpenBucket(t.Context(), s3store.Config{URL: "file://" + dir})
	if err != nil {
		t.Fatal(err)
	}
	return storeOver(t, b), dir
}

func storeOver(t testing.TB, b s3store.Bucket) *s3store.Store {
	s := s3store.New(b, s3store.Options{Mirror: true})
	t.Cleanup(func() { s.Close() })
	return s
}

func readBlob(t testing.TB, s *s3store.Store, d manifest.Digest) []byte {
	t.Helper()
	r, _, _, err := s.OpenBlob(t.Context(), d, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatAStockRegistryWroteIsRead(t *testing.T) {
	s, dir := folderStore(t)
	base := stockRegistry(t, dir)
	config, layer, odd := []byte("{}"), bytes.Repeat([]byte("layer"), 1<<20), []byte("by sha512")
	m := image(t, config, layer)
	d := manifest.DigestOf(m)
	for _, b := range [][]byte{config, layer} {
		pushBlob(t, base, "team/app", manifest.DigestOf(b), b)
	}
	pushBlob(t, base, "team/app", sha512Of(odd), odd)
	for _, tag := range []string{"v1", "v1.1", "latest"} {
		if resp, got := ask(t, "PUT", base+"team/app/manifests/"+tag, manifest.OCIManifest, m); resp.StatusCode != 201 {
			t.Fatalf("%s %s", resp.Status, got)
		}
	}

	ctx := t.Context()
	if ok, err := s.Exists(ctx, "team/app"); !ok || err != nil {
		t.Error(ok, err)
	}
	if got, err := s.Tag(ctx, "team/app", "v1"); got != d || err != nil {
		t.Error(got, err)
	}
	if ok, err := s.HasManifest(ctx, "team/app", d); !ok || err != nil {
		t.Error(ok, err)
	}
	if got, err := s.Manifest(ctx, "team/app", d); !bytes.Equal(got, m) || err != nil {
		t.Error(err)
	}
	for _, b := range [][]byte{config, layer} {
		if ok, err := s.HasLayer(ctx, "team/app", manifest.DigestOf(b)); !ok || err != nil {
			t.Error(ok, err)
		}
		if !bytes.Equal(readBlob(t, s, manifest.DigestOf(b)), b) {
			t.Error("other bytes")
		}
	}
	if ok, err := s.HasLayer(ctx, "team/app", sha512Of(odd)); !ok || err != nil {
		t.Error(ok, err)
	}
	if !bytes.Equal(readBlob(t, s, sha512Of(odd)), odd) {
		t.Error("other bytes under sha512")
	}
	if got, err := s.Tags(ctx, "team/app", "", 10); !slices.Equal(got, []string{"latest", "v1", "v1.1"}) {
		t.Error(got, err)
	}
	if got, err := s.Repositories(ctx, "", 10); !slices.Equal(got, []string{"team/app"}) {
		t.Error(got, err)
	}
}

func TestWhatWeWroteAStockRegistryServes(t *testing.T) {
	s, dir := folderStore(t)
	base := stockRegistry(t, dir)
	config, layer := []byte("{}"), bytes.Repeat([]byte("layer"), 4<<20) // in parts
	m := image(t, config, layer)
	d := manifest.DigestOf(m)
	ctx := t.Context()
	for _, repo := range []string{"team/app", "ghcr.io/owner/app"} {
		for _, b := range [][]byte{config, layer} {
			for _, bd := range []manifest.Digest{manifest.DigestOf(b), sha512Of(b)} {
				if err := s.PutBlob(ctx, bd, int64(len(b)), bytes.NewReader(b)); err != nil {
					t.Fatal(err)
				}
				if err := s.LinkLayer(ctx, repo, bd); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.PutManifest(ctx, repo, d, m); err != nil {
			t.Fatal(err)
		}
		if err := s.PutTag(ctx, repo, "v1", d); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string][]byte{
			"manifests/v1": m, "manifests/" + d.String(): m,
			"blobs/" + manifest.DigestOf(layer).String(): layer, "blobs/" + sha512Of(layer).String(): layer,
			"tags/list": fmt.Appendf(nil, `{"name":%q,"tags":["v1"]}`+"\n", repo),
		} {
			if resp, got := ask(t, "GET", base+repo+"/"+path, "", nil); resp.StatusCode != 200 || !bytes.Equal(got, want) {
				t.Errorf("%s/%s: %s, %d bytes: %.200q", repo, path, resp.Status, len(got), got)
			}
		}
	}
	if resp, got := ask(t, "GET", base+"_catalog", "", nil); resp.StatusCode != 200 || !strings.Contains(string(got), "team/app") {
		t.Errorf("%s %s", resp.Status, got)
	}
	if resp, got := ask(t, "PUT", base+"team/app/manifests/again", manifest.OCIManifest, m); resp.StatusCode != 201 {
		t.Errorf("it does not take a manifest over our blobs: %s %s", resp.Status, got)
	}
	if got, err := s.Tag(ctx, "team/app", "again"); got != d || err != nil {
		t.Error(got, err)
	}
}

// collect runs the stock registry's garbage collection over the folder.
func collect(t testing.TB, dir string, flags ...string) {
	t.Helper()
	cmd := exec.Command(need.Binary(t, "registry"), append(append([]string{"garbage-collect"}, flags...), stockConfig(t, dir, freePort(t)))...)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("collecting: %v: %s", err, out)
	}
}

// status is what the registry answers to a GET.
func status(t testing.TB, url string) int {
	t.Helper()
	resp, _ := ask(t, "GET", url, "", nil)
	return resp.StatusCode
}

// storeImage stores an image of one config and one layer, another for each seed, with
// its tags.
func storeImage(t testing.TB, s *s3store.Store, repo, seed string, tags ...string) (d, layer manifest.Digest) {
	t.Helper()
	config, body := []byte("{}"), []byte("layer of "+seed)
	for _, b := range [][]byte{config, body} {
		bd := manifest.DigestOf(b)
		if err := s.PutBlob(t.Context(), bd, int64(len(b)), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		if err := s.LinkLayer(t.Context(), repo, bd); err != nil {
			t.Fatal(err)
		}
	}
	m := image(t, config, body)
	d = manifest.DigestOf(m)
	if err := s.PutManifest(t.Context(), repo, d, m); err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		if err := s.PutTag(t.Context(), repo, tag, d); err != nil {
			t.Fatal(err)
		}
	}
	return d, manifest.DigestOf(body)
}

func TestWhatWeRemoveAStockRegistryDoesNotServe(t *testing.T) {
	s, dir := folderStore(t)
	base := stockRegistry(t, dir) + "team/app/"
	ctx := t.Context()
	one, oneLayer := storeImage(t, s, "team/app", "one", "v1", "v1-x", "moved")
	two, twoLayer := storeImage(t, s, "team/app", "two", "v2", "moved", "v2-y")
	serves := func(want map[string]int) {
		t.Helper()
		for path, code := range want {
			if got := status(t, base+path); got != code {
				t.Errorf("%s: %d, want %d", path, got, code)
			}
		}
	}
	lists := func(want ...string) {
		t.Helper()
		_, got := ask(t, "GET", base+"tags/list", "", nil)
		var list struct{ Tags []string }
		if err := json.Unmarshal(got, &list); err != nil || !slices.Equal(list.Tags, want) {
			t.Errorf("it lists %s, want %q", got, want)
		}
	}
	serves(map[string]int{"manifests/v1": 200, "manifests/" + one.String(): 200, "blobs/" + oneLayer.String(): 200})

	if err := s.RemoveTag(ctx, "team/app", "v2-y"); err != nil {
		t.Fatal(err)
	}
	serves(map[string]int{"manifests/v2-y": 404, "manifests/v2": 200})
	lists("moved", "v1", "v1-x", "v2")
	if _, err := s.RemoveManifest(ctx, "team/app", one); err != nil {
		t.Fatal(err)
	}
	serves(map[string]int{"manifests/v1": 404, "manifests/v1-x": 404, "manifests/" + one.String(): 404, "manifests/moved": 200, "manifests/" + two.String(): 200})
	lists("moved", "v2")
	if err := s.RemoveLayer(ctx, "team/app", oneLayer); err != nil {
		t.Fatal(err)
	}
	serves(map[string]int{"blobs/" + oneLayer.String(): 404, "blobs/" + twoLayer.String(): 200})
	// What is removed for good is collected, what is not is not.
	collect(t, dir)
	if _, err := s.StatBlob(ctx, oneLayer); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the layer is still there: %v", err)
	}
	serves(map[string]int{"manifests/moved": 200, "blobs/" + twoLayer.String(): 200})
	// And it comes back with a push.
	storeImage(t, s, "team/app", "one", "v1")
	serves(map[string]int{"manifests/v1": 200, "blobs/" + oneLayer.String(): 200})
}

func TestWhatAStockRegistryRemovesWeDoNotServe(t *testing.T) {
	s, dir := folderStore(t)
	base := stockRegistry(t, dir) + "team/app/"
	ctx := t.Context()
	one, layer := storeImage(t, s, "team/app", "one", "v1", "v1-x", "moved")
	storeImage(t, s, "team/app", "two", "moved", "v2", "v3")
	for _, path := range []string{"manifests/v3", "manifests/" + one.String(), "blobs/" + layer.String()} {
		if resp, body := ask(t, "DELETE", base+path, "", nil); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("%s: %s %s", path, resp.Status, body)
		}
	}
	for _, tag := range []string{"v1", "v1-x", "v3"} {
		if _, err := s.Tag(ctx, "team/app", tag); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", tag, err)
		}
	}
	if got, err := s.Tags(ctx, "team/app", "", 10); err != nil || !slices.Equal(got, []string{"moved", "v2"}) {
		t.Error(got, err)
	}
	if ok, err := s.HasManifest(ctx, "team/app", one); ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := s.HasLayer(ctx, "team/app", layer); ok || err != nil {
		t.Error(ok, err)
	}
	_, again := s.RemoveManifest(ctx, "team/app", one)
	for _, err := range []error{s.RemoveTag(ctx, "team/app", "v1"), again, s.RemoveLayer(ctx, "team/app", layer)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

func TestStockRegistryWalksPastReferrersAndItsOwnAreFound(t *testing.T) {
	s, dir := folderStore(t)
	root := stockRegistry(t, dir)
	base, ctx := root+"team/app/", t.Context()
	subject, _ := storeImage(t, s, "team/app", "one", "v1")
	push := func(n int) manifest.Digest {
		t.Helper()
		m := about(subject, n)
		d := manifest.DigestOf(m)
		if resp, body := ask(t, "PUT", base+"manifests/"+d.String(), manifest.OCIManifest, m); resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s", resp.Status, body)
		}
		return d
	}
	ours := pushAbout(t, s, "team/app", subject, 1, false)
	theirs := push(2)
	wantAbout(t, s, "team/app", subject, ours, theirs)
	late := push(3) // after the marker
	wantAbout(t, s, "team/app", subject, ours, theirs, late)

	if _, got := ask(t, "GET", root+"_catalog", "", nil); string(got) != `{"repositories":["team/app"]}`+"\n" {
		t.Errorf("the catalog: %s", got)
	}
	collect(t, dir)
	for _, d := range []manifest.Digest{subject, ours, theirs, late} {
		if got := status(t, base+"manifests/"+d.String()); got != 200 {
			t.Errorf("%s after a collection: %d", d, got)
		}
	}
	wantAbout(t, s, "team/app", subject, ours, theirs, late)
	for _, d := range []manifest.Digest{ours, theirs} {
		if resp, body := ask(t, "DELETE", base+"manifests/"+d.String(), "", nil); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("%s %s", resp.Status, body)
		}
	}
	wantAbout(t, s, "team/app", subject, late)
	push(2)
	wantAbout(t, s, "team/app", subject, late, theirs)
	// A collection of what has no tag takes all of them: it knows no referrers.
	collect(t, dir, "--delete-untagged")
	wantAbout(t, s, "team/app", subject)
	if got, err := s.Tag(ctx, "team/app", "v1"); err != nil || got != subject {
		t.Error(got, err)
	}
	if got := status(t, base+"manifests/v1"); got != 200 {
		t.Errorf("the subject: %d", got)
	}
}
