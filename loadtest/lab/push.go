package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"hostlocal/loadtest/hub"
	"hostlocal/manifest"
)

// pushAll puts images into a registry that has none, blobs before the manifests that
// name them.
func pushAll(ctx context.Context, base string, all []hub.Image) error {
	p := pusher{ctx, base, map[string]bool{}}
	for _, img := range all {
		if err := p.image(img); err != nil {
			return fmt.Errorf("%s: %w", img.Name(), err)
		}
	}
	return nil
}

// A pusher pushes to one registry. It knows which blob it has put into which
// repository.
type pusher struct {
	ctx  context.Context
	base string
	done map[string]bool // repo@digest
}

// image pushes an image or, of an index, all it names.
func (p pusher) image(img hub.Image) error {
	for _, part := range append(img.Images[:len(img.Images):len(img.Images)], img.Attests...) {
		if err := p.image(part); err != nil {
			return err
		}
	}
	if len(img.Images) == 0 {
		for _, c := range append(img.Layers[:len(img.Layers):len(img.Layers)], img.Config) {
			if err := p.blob(img.Repo, c); err != nil {
				return err
			}
		}
	}
	name := img.Tag
	if name == "" {
		name = img.Digest.String()
	}
	_, err := p.send("PUT", p.base+"/v2/"+img.Repo+"/manifests/"+name, img.MediaType, hub.Literal(img.Body), http.StatusCreated)
	return err
}

// blob uploads one in two requests.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md#post-then-put
func (p pusher) blob(repo string, c hub.Content) error {
	if key := repo + "@" + c.Digest.String(); p.done[key] {
		return nil
	} else {
		p.done[key] = true
	}
	to, err := p.send("POST", p.base+"/v2/"+repo+"/blobs/uploads/", "", hub.Content{}, http.StatusAccepted)
	if err != nil {
		return err
	}
	q := to.Query() // the upload's own state is in it
	q.Set("digest", c.Digest.String())
	to.RawQuery = q.Encode()
	_, err = p.send("PUT", to.String(), "application/octet-stream", c, http.StatusCreated)
	return err
}

// send makes one request and returns where its answer points.
func (p pusher) send(method, to, mediaType string, c hub.Content, want int) (*url.URL, error) {
	var body io.Reader = bytes.NewReader(nil)
	if c.Digest != (manifest.Digest{}) {
		body = c.Reader()
	}
	req, err := http.NewRequestWithContext(p.ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = c.Size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := pushes.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // the status is what matters
		return nil, fmt.Errorf("%s %s: %s, want %d: %s", method, to, resp.Status, want, said)
	}
	return req.URL.Parse(resp.Header.Get("Location"))
}

// pushes goes to contenders of ours on loopback.
var pushes = &http.Transport{}
