package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"hostlocal/manifest"
)

// A puller is a client of one registry.
type puller struct {
	http *http.Client
	out  io.Writer
	name string
}

// pull fetches an image for linux/amd64 from the registry at a unix socket, checks
// every digest, and writes a line for each object to out.
func pull(socket, image string, out io.Writer) error {
	name, tag, ok := strings.Cut(image, ":")
	if !ok {
		tag = "latest"
	}
	p := &puller{out: out, name: name, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
	body, err := p.get("manifest", "manifests", tag, manifest.Digest{})
	if err != nil {
		return err
	}
	var m struct{ Config, Layers, Manifests json.RawMessage }
	var layers []manifest.Descriptor
	var config manifest.Descriptor
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	if err := json.Unmarshal(m.Config, &config); err != nil {
		return err
	}
	if err := json.Unmarshal(m.Layers, &layers); err != nil {
		return err
	}
	for _, d := range append([]manifest.Descriptor{config}, layers...) {
		if _, err := p.get("blob", "blobs", d.Digest.String(), d.Digest); err != nil {
			return err
		}
	}
	return nil
}

// get fetches one object and checks it against want, or against what the registry
// says it is.
func (p *puller) get(what, kind, ref string, want manifest.Digest) ([]byte, error) {
	resp, err := p.http.Get("http://registry/v2/" + p.name + "/" + kind + "/" + ref)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s: %s", what, ref, resp.Status, strings.TrimSpace(string(body)))
	}
	if want.IsZero() {
		if want, err = manifest.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err != nil {
			return nil, err
		}
	}
	if err := want.Verify(body); err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%s of %d bytes from %s", what, len(body), resp.Header.Get("X-Registryd-Source"))
	if w := resp.Header.Get("Warning"); w != "" {
		line += ", warning: " + w
	}
	_, err = fmt.Fprintln(p.out, line)
	return body, err
}
