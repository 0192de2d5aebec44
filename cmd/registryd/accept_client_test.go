package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// An engine pulls from one registry in the manner of one of the runtimes, and
// believes nothing: it hashes every byte.
type engine struct {
	base  string
	query string // of each request
	http  *http.Client
	head  bool // ask for a tag by HEAD first, then for the manifest by digest

	// known are the bytes of blobs. Where a thousand clients check the same blobs
	// comparing is cheaper than hashing, and no weaker.
	known map[manifest.Digest][]byte
}

// parallelLayers is how many layers docker fetches at once, and containerd's CRI.
const parallelLayers = 3

// docker is docker's classic store: a connection for each request.
func docker(base string) *engine {
	return &engine{base: base, head: true, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}}
}

// containerd keeps its connections, and says which registry it means.
func containerd(base string) *engine {
	return &engine{base: base, head: true, query: "?ns=docker.io",
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallelLayers + 1, DisableCompression: true}}}
}

// podman gets the manifest by its tag, with no HEAD before.
func podman(base string) *engine {
	c := docker(base)
	c.head = false
	return c
}

// manifestTypes is what the runtimes accept.
const manifestTypes = manifest.DockerManifest + ", " + manifest.DockerList + ", " + manifest.OCIManifest + ", " + manifest.OCIIndex

// pulled is what came of a pull.
type pulled struct {
	digest manifest.Digest            // of what the tag stands for
	bytes  map[manifest.Digest]int64  // of each object
	source map[manifest.Digest]string // that the registry named
	mu     sync.Mutex                 // guards the maps while layers come
}

func (p *pulled) add(d manifest.Digest, n int64, source string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes[d], p.source[d] = n, source
}

// pull fetches the image NAME:TAG for linux/amd64 whole. The error says which
// object was not right.
func (c *engine) pull(ctx context.Context, image string) (*pulled, error) {
	defer c.http.CloseIdleConnections()
	repo, tag, _ := strings.Cut(image, ":")
	p := &pulled{bytes: map[manifest.Digest]int64{}, source: map[manifest.Digest]string{}}
	ref := tag
	if c.head {
		d, err := c.resolve(ctx, repo, tag)
		if err != nil {
			return nil, err
		}
		ref = d.String()
	}
	m, err := c.manifest(ctx, p, repo, ref)
	if err != nil {
		return nil, err
	}
	p.digest = m.Digest
	if len(m.Manifests) > 0 {
		if m, err = c.manifest(ctx, p, repo, m.Manifests[0].Digest.String()); err != nil {
			return nil, err
		}
	}
	var config, layers errgroup.Group
	layers.SetLimit(parallelLayers)
	fetch := func(d manifest.Descriptor) func() error {
		return func() error {
			s, err := c.open(ctx, repo, d.Digest, "")
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.verify(d.Digest); err != nil {
				return err
			}
			if s.n != d.Size {
				return fmt.Errorf("blob %s has %d bytes, its descriptor says %d", d.Digest, s.n, d.Size)
			}
			p.add(d.Digest, s.n, s.Header.Get("X-Registryd-Source"))
			return nil
		}
	}
	config.Go(fetch(*m.Config))
	for _, l := range m.Layers {
		layers.Go(fetch(l))
	}
	return p, cmp.Or(config.Wait(), layers.Wait())
}

// resolve asks what a tag stands for.
func (c *engine) resolve(ctx context.Context, repo, tag string) (manifest.Digest, error) {
	resp, err := c.do(ctx, http.MethodHead, "/v2/"+repo+"/manifests/"+tag, "")
	if err != nil {
		return manifest.Digest{}, err
	}
	resp.Body.Close()
	return manifest.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
}

// manifest fetches a manifest or an index, and checks it against what it was asked
// for and what it says it is.
func (c *engine) manifest(ctx context.Context, p *pulled, repo, ref string) (*manifest.Manifest, error) {
	resp, err := c.do(ctx, http.MethodGet, "/v2/"+repo+"/manifests/"+ref, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", ref, err)
	}
	said := resp.Header.Get("Docker-Content-Digest")
	d, err := manifest.ParseDigest(said)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", ref, err)
	}
	if strings.Contains(ref, ":") && ref != said {
		return nil, fmt.Errorf("asked for manifest %s, got %s", ref, said)
	}
	m, err := manifest.ParseAs(d, body)
	if err != nil {
		return nil, err
	}
	if got := resp.Header.Get("Content-Type"); got != m.MediaType {
		return nil, fmt.Errorf("manifest %s came as %q and is %q", ref, got, m.MediaType)
	}
	p.add(d, int64(len(body)), resp.Header.Get("X-Registryd-Source"))
	return m, nil
}

// blob fetches a blob whole and checks it, and returns how many bytes came.
func (c *engine) blob(ctx context.Context, repo string, d manifest.Digest) (int64, error) {
	s, err := c.open(ctx, repo, d, "")
	if err != nil {
		return 0, err
	}
	defer s.Close()
	err = s.verify(d)
	return s.n, err
}

// A stream is a blob's answer as it comes.
type stream struct {
	*http.Response
	c       *engine
	n       int64         // bytes read
	waited  time.Duration // from the request to the header
	started time.Time
}

// open asks for a blob, for a range of it unless span is empty.
func (c *engine) open(ctx context.Context, repo string, d manifest.Digest, span string) (*stream, error) {
	start := time.Now()
	resp, err := c.do(ctx, http.MethodGet, "/v2/"+repo+"/blobs/"+d.String(), span)
	if err != nil {
		return nil, err
	}
	return &stream{Response: resp, c: c, waited: time.Since(start), started: start}, nil
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Body.Read(p)
	s.n += int64(n)
	return n, err
}

// Close drops the connection if the body was not read to its end.
func (s *stream) Close() error { return s.Body.Close() }

// want reads the next bytes, which must be these.
func (s *stream) want(want []byte) error {
	got := make([]byte, len(want))
	at := s.n
	if n, err := io.ReadFull(s, got); err != nil {
		return fmt.Errorf("behind byte %d: %w", at+int64(n), err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("wrong bytes from byte %d of the answer on", at)
	}
	return nil
}

// A wholeError says that a body came to a good end and is not the blob.
type wholeError struct{ error }

// verify reads what is left and checks that all of it is the blob d.
func (s *stream) verify(d manifest.Digest) error {
	if known := s.c.known[d]; known != nil && s.n == 0 {
		w := &comparer{want: known}
		if _, err := io.Copy(w, s); err != nil {
			return fmt.Errorf("blob %s at byte %d: %w", d, s.n, err)
		}
		if len(w.want) > 0 {
			return wholeError{fmt.Errorf("blob %s lacks its last %d bytes", d, len(w.want))}
		}
		return nil
	}
	h := d.Algorithm().New()
	if _, err := io.Copy(h, s); err != nil {
		return fmt.Errorf("blob %s at byte %d: %w", d, s.n, err)
	}
	if got := d.Algorithm().Sum(h); got != d {
		return wholeError{fmt.Errorf("blob %s came whole and is %s, %d bytes", d, got, s.n)}
	}
	return nil
}

// A comparer takes exactly the bytes that it wants.
type comparer struct{ want []byte }

func (w *comparer) Write(p []byte) (int, error) {
	if !bytes.HasPrefix(w.want, p) {
		return 0, wholeError{fmt.Errorf("wrong bytes, %d before the end", len(w.want))}
	}
	w.want = w.want[len(p):]
	return len(p), nil
}

// A statusError is an answer that is no success.
type statusError struct {
	status int
	body   string
}

func (e statusError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.body) }

// do sends one request; an answer that is no success is an error.
func (c *engine) do(ctx context.Context, method, path, span string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path+c.query, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", manifestTypes+", */*")
	if span != "" {
		req.Header.Set("Range", "bytes="+span)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %w", method, path, statusError{resp.StatusCode, strings.TrimSpace(string(body))})
	}
	return resp, nil
}

// smallWindow has the client's kernel take little ahead of the client, as that of a
// host on a thin line: without it loopback takes megabytes for a reader who sleeps.
func (c *engine) smallWindow() *engine {
	c.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return conn, conn.(*net.TCPConn).SetReadBuffer(32 << 10)
	}
	return c
}

// sumSamples adds up the samples of a metric that have the labels.
func sumSamples(r io.Reader, metric string, labels []string) (sum float64, err error) {
	lines := bufio.NewScanner(r)
next:
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name != metric && !strings.HasPrefix(name, metric+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(name, l) {
				continue next
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, lines.Err()
}

// rest reads to the end, which must be the rest of the content.
func (s *stream) rest(c hubtest.Content) error {
	at := s.n
	wrong, n, err := c.FirstWrong(at, s)
	switch {
	case err != nil:
		return fmt.Errorf("blob %s at byte %d: %w", c.Digest, at+n, err)
	case wrong >= 0:
		return fmt.Errorf("blob %s is wrong at byte %d", c.Digest, wrong)
	case at+n != c.Size:
		return fmt.Errorf("blob %s ended after %d of %d bytes", c.Digest, at+n, c.Size)
	}
	return nil
}
