package loadtest

import (
	"math"
	"sync"

	"hostlocal/manifest"
)

// stays is what client.leave is for one that does not leave.
const stays = math.MaxInt64

// pull is one client's pull of its job: the conversation that engines have.
//
//	GET  /v2/                        docker, podman
//	HEAD manifests/TAG               not podman
//	GET  manifests/INDEX             by tag: podman
//	GET  manifests/MANIFEST
//	GET  blobs/CONFIG, blobs/LAYER   three or six at a time
//
// What a real client does after an error, try again or go to the hub itself, it
// does not do: any answer that is not right is the pull's failure.
func (c *client) pull() error {
	if c.ping {
		if err := c.knock(); err != nil {
			return err
		}
	}
	ref, d := c.job.Tag, c.job.Digest
	if d.IsZero() && c.head {
		var err error
		if d, err = c.resolve(ref); err != nil {
			return err
		}
	}
	m, err := c.manifest(ref, manifest.Descriptor{Digest: d})
	if err != nil {
		return err
	}
	if m.IsIndex() {
		entry, ok := c.platform.Best(m.Children())
		if !ok {
			return failed("bad answer", "%s has nothing for %s", m.Digest, c.platform)
		}
		if m, err = c.manifest("", entry); err != nil {
			return err
		}
	}
	return c.blobs(m)
}

// knock asks whether there is a registry at all. Engines go on whatever it says.
func (c *client) knock() error {
	x, err := c.do(request{kind: "ping", method: "GET"})
	if err != nil {
		return err
	}
	x.skip()
	return nil
}

// resolve asks which digest a tag has; the zero Digest if the answer does not say.
func (c *client) resolve(tag string) (manifest.Digest, error) {
	x, err := c.do(request{kind: "tag", method: "HEAD", path: c.at("manifests", tag), manifest: true})
	if err != nil {
		return manifest.Digest{}, err
	}
	if x.StatusCode != 200 {
		return manifest.Digest{}, x.refuse()
	}
	text := x.Header.Get("Docker-Content-Digest")
	if text == "" {
		return manifest.Digest{}, x.end(nil)
	}
	d, err := manifest.ParseDigest(text)
	if err != nil {
		err = failed("bad answer", "HEAD %s: %w", x.result.url, err)
	}
	return d, x.end(err)
}

// manifest fetches d, or what tag names if d has no digest.
func (c *client) manifest(tag string, d manifest.Descriptor) (*manifest.Manifest, error) {
	q := request{kind: "manifest", method: "GET", manifest: true, mediaType: d.MediaType}
	if d.Digest.IsZero() {
		q.kind, q.path = "tag", c.at("manifests", tag)
	} else {
		q.path = c.at("manifests", d.Digest.String())
	}
	if c.from {
		q.span = "bytes=0-"
	}
	x, err := c.do(q)
	if err != nil {
		return nil, err
	}
	if x.StatusCode != 200 && !(x.StatusCode == 206 && q.span != "") {
		return nil, x.refuse()
	}
	body, err := x.all(manifest.MaxSize)
	if err != nil {
		return nil, x.end(err)
	}
	m, err := c.parse(x, d.Digest, body)
	return m, x.end(err)
}

// parse checks a manifest's bytes against the digest asked for, or of a tag against
// the one that the answer claims.
func (c *client) parse(x *exchange, d manifest.Digest, body []byte) (*manifest.Manifest, error) {
	if d.IsZero() {
		if d, _ = manifest.ParseDigest(x.Header.Get("Docker-Content-Digest")); d.IsZero() {
			d = manifest.DigestOf(body)
		}
	}
	if err := d.Verify(body); err != nil {
		return nil, failed("wrong digest", "GET %s: %w", x.result.url, err)
	}
	c.wanted.whole(d, int64(len(body)))
	c.verified.Add(int64(len(body)))
	m, ok := c.parsed.Get(d) // the same bytes: a thousand clients need not parse them
	if ok {
		return m, nil
	}
	m, err := manifest.ParseAs(d, body)
	if err != nil {
		return nil, failed("bad answer", "GET %s: %w", x.result.url, err)
	}
	c.parsed.Add(m)
	return m, nil
}

// at returns the path below /v2/ of something in the job's repository.
func (c *client) at(what, which string) string {
	return c.target.Prefix + c.job.Repo + "/" + what + "/" + which
}

// blobs fetches the config and the layers, so many at a time as the profile says,
// each digest once. After the first failure nothing further is begun.
func (c *client) blobs(m *manifest.Manifest) error {
	var queue []manifest.Descriptor
	seen := map[manifest.Digest]bool{m.Config.Digest: true}
	for _, l := range m.Layers {
		if !seen[l.Digest] && !l.IsForeign() {
			seen[l.Digest] = true
			queue = append(queue, l)
		}
	}
	if c.leaves() {
		c.leave.Store(c.half(queue))
	}
	var flight flight
	if c.profile.first {
		if err := c.blob(*m.Config, false, false); err != nil {
			return err
		}
	} else {
		flight.run(c.cancel, func() error { return c.blob(*m.Config, false, false) })
	}
	var mu sync.Mutex // guards next
	next := 0
	work := func() error {
		for {
			mu.Lock()
			i := next
			next++
			mu.Unlock()
			if i >= len(queue) || flight.failed() {
				return nil
			}
			if err := c.blob(queue[i], true, i == 0); err != nil {
				return err
			}
		}
	}
	for range min(c.profile.layers, len(queue)) - 1 {
		flight.run(c.cancel, work)
	}
	flight.note(work(), c.cancel) // this goroutine is one of the workers
	return flight.wait()
}

// half returns how many bytes of layers a leaving client takes: between a quarter
// and three quarters of all.
func (c *client) half(layers []manifest.Descriptor) int64 {
	sum := int64(0)
	for _, l := range layers {
		sum += l.Size
	}
	return max(int64(float64(sum)*(0.25+c.random.Float64()/2)), 1)
}

// A flight is goroutines of one pull. The first error ends the pull's context, with
// itself as the cause, and so the others.
type flight struct {
	wg  sync.WaitGroup
	mu  sync.Mutex // guards err
	err error
}

func (f *flight) run(end func(error), work func() error) {
	f.wg.Go(func() { f.note(work(), end) })
}

func (f *flight) note(err error, end func(error)) {
	if err == nil {
		return
	}
	f.mu.Lock()
	first := f.err == nil
	if first {
		f.err = err
	}
	f.mu.Unlock()
	if first {
		end(err)
	}
}

func (f *flight) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil
}

func (f *flight) wait() error {
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
