package upstream

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
	"hostlocal/registryd/upstream/hubtest"
)

// stock starts a stock registry, with htpasswd if that is not empty, and returns
// its URL.
func stock(t *testing.T, htpasswd string) string {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: '127.0.0.1:0'}\n", dir)
	if htpasswd != "" {
		file := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(file, []byte(htpasswd), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: stock, path: %s}}\n", file)
	}
	return need.Registry(t, config)
}

// push puts an image into a registry by plain requests.
func push(t *testing.T, base, user, pass string, img hubtest.Image) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	send := func(method, url, contentType string, body []byte) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		if user != "" {
			req.SetBasicAuth(user, pass)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			b, _ := io.ReadAll(resp.Body)
			t.Fatalf("%s %s: %d %s", method, url, resp.StatusCode, b)
		}
		return resp
	}
	for _, l := range append(img.Layers, img.Config) {
		at := send("POST", base+"/v2/"+img.Repo+"/blobs/uploads/", "", nil).Header.Get("Location")
		sep := "?"
		if strings.Contains(at, "?") {
			sep = "&"
		}
		send("PUT", at+sep+"digest="+l.Digest.String(), "application/octet-stream", l.Bytes())
	}
	send("PUT", base+"/v2/"+img.Repo+"/manifests/"+img.Tag, img.MediaType, img.Body)
}

func TestStockRegistry(t *testing.T) {
	// The password is "secret", hashed with bcrypt at its least cost.
	const htpasswd = "robot:$2a$04$86e8SpHy.qoFk.xstn1wFOMY80CW5YSYgaX9oq/EZjgeOVwTjs2te\n"
	for name, file := range map[string]string{"plain": "", "htpasswd": htpasswd} {
		t.Run(name, func(t *testing.T) {
			base := stock(t, file)
			hub := hubtest.New(t) // only to make images
			oci := hub.AddImage("library/app", "oci", hub.Layer(2<<20), hub.Layer(0))
			docker := hub.AddDocker("library/app", "docker", hub.Layer(100))
			user, pass := "", ""
			if file != "" {
				user, pass = "robot", "secret"
			}
			push(t, base, user, pass, oci)
			push(t, base, user, pass, docker)
			x := testerOf(t, hub, func(c *Config) {
				c.URL, c.Username, c.Password = base, user, pass
			})
			for _, img := range []hubtest.Image{oci, docker} {
				x.wantTag(img)
				for _, ref := range []string{img.Tag, img.Digest.String()} {
					if body, typ, err := x.c.Manifest(t.Context(), img.Repo, ref); err != nil || !bytes.Equal(body, img.Body) || typ != img.MediaType {
						t.Errorf("Manifest(%s) = %d bytes, %s, %v", ref, len(body), typ, err)
					}
				}
				for _, l := range append(img.Layers, img.Config) {
					x.wantBlob(l)
				}
			}
			l := oci.Layers[0]
			if b, from, size, err := x.read(l.Digest, 1<<20, 1000); err != nil || from != 1<<20 || size != l.Size || !bytes.Equal(b, l.Slice(1<<20, 1000)) {
				t.Errorf("a range: %d bytes from %d of %d, %v", len(b), from, size, err)
			}
			// Its pages end with an empty one if the last is full.
			var all []string
			for last, more := "", true; more && len(all) < 10; more = last != "" {
				tags, next, err := x.c.Tags(t.Context(), "library/app", 1, last)
				if err != nil || len(tags) > 1 {
					t.Fatalf("tags behind %q: %v, %v", last, tags, err)
				}
				all, last = append(all, tags...), next
			}
			if strings.Join(all, " ") != "docker oci" {
				t.Errorf("tags %v", all)
			}
			_, err := x.c.Head(t.Context(), "library/app", "none")
			x.wantMissing(err)
			if file != "" {
				nobody := testerOf(t, hub, func(c *Config) { c.URL = base })
				_, err := nobody.c.Head(t.Context(), "library/app", "oci")
				nobody.wantDenied(err)
			}
		})
	}
}
