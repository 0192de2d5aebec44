package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"hostlocal/cmd/testdeps/need"
)

// stockRegistry runs a stock registry at addr over a storage of its own
// configuration's terms, as inFolder gives it.
func stockRegistry(t *testing.T, storage, addr string) *process {
	t.Helper()
	config := filepath.Join(scratch(t), "registry.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {%s}
http: {addr: %q, secret: of-the-tests}
`, storage, addr)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"OTEL_TRACES_EXPORTER=none"}, need.Binary(t, "registry"), "serve", config)
	p.ready(answers("http://" + addr + "/v2/"))
	return p
}

// inFolder is a stock registry's storage in a plain folder.
func inFolder(dir string) string {
	return fmt.Sprintf("filesystem: {rootdirectory: %q}", dir)
}

// The hub's content, pushed once a run; the registries over it only read.
var hubRoot struct {
	once sync.Once
	dir  string
}

// hubContent returns a stock registry's folder with library/debian:12 and
// owner/app:v1 in it.
func hubContent(t *testing.T) string {
	t.Helper()
	// Each test is to skip by itself; what is skipped within the once is done.
	need.Binary(t, "registry")
	need.Layers(t)
	hubRoot.once.Do(func() {
		dir := scratch(t)
		const addr = "127.0.0.1:5599"
		p := stockRegistry(t, inFolder(dir), addr)
		pushImages(t, addr)
		p.stop()
		hubRoot.dir = dir
	})
	if hubRoot.dir == "" {
		t.Fatal("the hub's content could not be made; an earlier test says why")
	}
	return hubRoot.dir
}

// pushImages puts the test's images into the registry at addr.
func pushImages(t *testing.T, addr string) {
	t.Helper()
	debian, app := makeImages(t)
	if err := remote.WriteIndex(ref(t, addr+"/library/debian:12"), debian, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref(t, addr+"/owner/app:v1"), app, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func ref(t *testing.T, s string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(s, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
