package clients

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"hostlocal/cmd/testdeps/need"
)

// standIns are images under the names that docker-compose.yml and Dockerfile
// use, because there is no hub here to have them from. Each has the same
// programs as its original, as far as we use them: MinIO is the one that the
// other tests use, Go the one that runs them. Docker's is only a frame; the
// test mounts the /usr that it runs Docker from itself.
const standIns = `
FROM scratch AS shell
ADD busybox-static.tar.gz /
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin && mkdir -m 1777 /tmp"]

FROM shell AS minio
ADD libc6.tar.gz /
COPY --from=programs minio /usr/bin/
RUN printf '#!/bin/sh\nfor url; do :; done; exec wget -q -O - "$url"\n' >/usr/bin/curl && chmod 755 /usr/bin/curl

FROM shell AS golang
COPY --from=certificates ca-certificates.crt /etc/ssl/certs/
COPY --from=go bin/go /usr/local/go/bin/
COPY --from=go go.env VERSION /usr/local/go/
COPY --from=go pkg /usr/local/go/pkg/
COPY --from=go src /usr/local/go/src/
COPY --from=compiled / /root/.cache/go-build/
ENV PATH=/usr/local/go/bin:/bin HOME=/root GOTOOLCHAIN=local GOPROXY=http://` + gateway + moduleProxy + `

FROM shell AS docker
RUN rm -r /bin && ln -s usr/bin usr/sbin usr/lib usr/lib64 /
`

const (
	gateway     = "172.17.0.1" // of Docker's own bridge, as long as nobody changes it
	moduleProxy = ":5700"
)

// makeStandIns builds the stand-ins, and serves what is in this machine's
// module cache to builds in them: modules come by GOPROXY as they would, only
// from nearer.
func makeStandIns(t *testing.T, d *docker) {
	t.Helper()
	images := map[string]string{"golang": imageOfLine(t, "Dockerfile", "FROM golang:"),
		"minio": imageOfLine(t, "docker-compose.yml", "image: minio/"), "docker": imageOfLine(t, "docker-compose.yml", "image: docker:")}
	dir := scratch(t)
	files := map[string][]byte{"Dockerfile": []byte(standIns)}
	for _, layer := range need.Layers(t) {
		files[filepath.Base(layer)] = readFile(t, layer)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	programs := bringIn(t, d.root, filepath.Dir(need.Binary(t, "minio")))
	goroot := bringIn(t, d.root, goEnv(t, "GOROOT"))
	compiled := bringIn(t, d.root, compile(t))
	for target, name := range images {
		d.do("buildx", "build", "--target="+target, "--tag="+name, "--build-context=programs="+programs,
			"--build-context=certificates=/etc/ssl/certs", "--build-context=go="+goroot, "--build-context=compiled="+compiled, dir)
	}

	l, err := net.Listen("tcp", moduleProxy)
	if err != nil {
		t.Fatal(err)
	}
	// The folder has the protocol's own layout: https://go.dev/ref/mod#module-cache
	proxy := &http.Server{Handler: http.FileServer(http.Dir(filepath.Join(goEnv(t, "GOMODCACHE"), "cache", "download")))}
	go proxy.Serve(l)
	t.Cleanup(func() { proxy.Close() })
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(value))
}

// compile builds what the Dockerfile builds and returns Go's cache of it, which
// is kept between runs: in the image the same packages, at the same versions,
// then need not be compiled anew, which would take a minute.
func compile(t *testing.T) string {
	t.Helper()
	kept, err := need.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(kept, "go-build")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(scratch(t), "registryd"), "./cmd/registryd")
	build.Dir = repository
	build.Env = append(os.Environ(), "GOCACHE="+cache, "GOFLAGS=", "GOPROXY=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return cache
}

// imageOfLine returns the image that a file of the repository names in the line
// that begins with text.
func imageOfLine(t *testing.T, file, text string) string {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, filepath.Join(repository, file)))) {
		if strings.HasPrefix(strings.TrimSpace(line), text) {
			return strings.Fields(line)[1]
		}
	}
	t.Fatalf("%s has no line that begins with %q", file, text)
	return ""
}

// repository is this repository, as seen from here.
const repository = "../../.."
