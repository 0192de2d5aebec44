package loadtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	spec "github.com/opencontainers/image-spec/specs-go/v1"

	"hostlocal/manifest"
)

// pushLayers is what is pushed where the scenario names no sizes.
var pushLayers = []Size{4 << 20, 1 << 20}

// push uploads one image, made from the seed, to the first target as docker push
// does: POST, PATCH and PUT for each blob, then PUT of the manifest
// (distribution-spec, "Push"). It ends with the run's context or after the time
// that a pull has.
func (r *run) push(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := r.timeout(cancel)
	defer timer.Stop()
	c := &client{
		run: r, profile: profiles["containerd"], target: r.storm.Targets[0], base: r.bases[0], ctx: ctx, cancel: cancel,
		job: Job{Repo: fmt.Sprintf("loadtest/push-%d", r.seed), Tag: "v1"}, idle: make(chan *conn, 1),
	}
	c.leave.Store(stays)
	defer c.closeIdle()

	m := spec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: manifest.OCIManifest}
	sizes := r.storm.Scenario.Images.Layers
	if len(sizes) == 0 {
		sizes = pushLayers
	}
	for i, size := range sizes {
		var seed [32]byte
		copy(seed[:], fmt.Sprintf("push %d %d", r.seed, i))
		d, err := c.upload(rand.NewChaCha8(seed), int64(size))
		if err != nil {
			return err
		}
		m.Layers = append(m.Layers, spec.Descriptor{MediaType: spec.MediaTypeImageLayer, Digest: d, Size: int64(size)})
	}
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	d, err := c.upload(strings.NewReader(config), int64(len(config)))
	if err != nil {
		return err
	}
	m.Config = spec.Descriptor{MediaType: spec.MediaTypeImageConfig, Digest: d, Size: int64(len(config))}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.step(request{
		method: "PUT", path: c.at("manifests", c.job.Tag), header: []string{"Content-Type: " + manifest.OCIManifest},
		body: bytes.NewReader(body), length: int64(len(body)),
	}, 201, nil)
}

// upload sends the next size bytes of r as a blob and returns its digest.
func (c *client) upload(r io.Reader, size int64) (digest.Digest, error) {
	var at *url.URL
	if err := c.step(request{method: "POST", path: c.at("blobs", "uploads/")}, 202, &at); err != nil {
		return "", err
	}
	hash := manifest.SHA256.New()
	err := c.step(request{
		method: "PATCH", url: at, header: []string{"Content-Type: application/octet-stream"},
		body: io.TeeReader(r, hash), length: size,
	}, 202, &at)
	if err != nil {
		return "", err
	}
	sum := manifest.SHA256.Sum(hash).String()
	query := at.Query() // the upload's own state is in it
	query.Set("digest", sum)
	at.RawQuery = query.Encode()
	return digest.Digest(sum), c.step(request{method: "PUT", url: at}, 201, nil)
}

// step makes one request of a push and demands the status. Where the upload goes
// on goes to next, unless that is nil.
func (c *client) step(q request, status int, next **url.URL) error {
	q.kind = "push"
	x, err := c.do(q)
	if err != nil {
		return err
	}
	if x.StatusCode != status {
		return x.refuse()
	}
	location := x.Header.Get("Location")
	x.skip()
	if next == nil {
		return nil
	}
	u, err := x.result.url.Parse(location)
	if err != nil || location == "" || u.Host != c.base.Host {
		return failed("bad answer", "%s %s: the upload goes on at %q, which is not on this registry", q.method, x.result.url, location)
	}
	*next = u
	return nil
}
