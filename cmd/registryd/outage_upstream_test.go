package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// An outage is a way in which an upstream is no more. host is the name that the
// daemon knows it by.
type outage func(h *host, name string)

var outages = map[string]outage{
	"stalled":   func(h *host, _ string) { h.up.Fault(hubtest.All(), hubtest.Stall()) },
	"refusing":  func(h *host, _ string) { h.up.Down() },
	"dropping":  func(h *host, _ string) { h.up.Fault(hubtest.All(), hubtest.Drop()) },
	"500":       func(h *host, _ string) { h.up.Fault(hubtest.All(), hubtest.Status(http.StatusInternalServerError)) },
	"503":       func(h *host, _ string) { h.up.Fault(hubtest.All(), hubtest.Status(http.StatusServiceUnavailable)) },
	"429":       func(h *host, _ string) { h.up.Fault(hubtest.All(), hubtest.TooMany(-1)) },
	"429 for":   func(h *host, _ string) { h.up.Fault(hubtest.All(), hubtest.TooMany(30)) },
	"no name":   func(h *host, name string) { h.forgetName(name, noName) },
	"no DNS":    func(h *host, name string) { h.forgetName(name, noServer) },
	"bad DNS":   func(h *host, name string) { h.forgetName(name, badServer) },
	"no tokens": func(h *host, name string) { h.up.stallTokens(name) },
}

// forgetName has the name server answer so for the upstream's name, and ends the
// connections that were made by it.
func (h *host) forgetName(name string, d domain) {
	domains.set(name, d)
	h.up.Down()
	h.up.Up()
}

// stallTokens has the upstream ask for a token, and its token server say nothing.
func (up *origin) stallTokens(name string) {
	up.Require(hubtest.Auth{Realm: strings.Replace(up.URL, "127.0.0.1", name, 1) + "/token"})
	up.Fault(hubtest.Of(hubtest.Token), hubtest.Stall())
}

// The bounds that a client meets in an outage.
const (
	firstAnswer = 2*time.Second + noise  // a tag that is known, for the first time
	nextAnswers = noise                  // and then: at once
	firstError  = 10*time.Second + noise // nothing is known
)

// The tag was confirmed by this process; its TTL is over.
func TestKnownTagOutlivesItsUpstream(t *testing.T) {
	t.Parallel()
	together(t, outages, func(t *testing.T, off outage) {
		const ttl = 2 * time.Second
		h := withTTL(t, ttl)
		name := h.byName()
		image := h.image(256<<10, 300)
		h.pull(image.Name())
		confirmed := time.Now()
		h.awaitImage(image)
		off(h, name)
		time.Sleep(time.Until(confirmed.Add(ttl)))
		h.wantLastKnown(image)
	})
}

// Another process confirmed the tag an hour ago; now nobody can be asked but the
// disk.
func TestKnownTagOutlivesItsUpstreamAndTheBucketAndTheProcess(t *testing.T) {
	t.Parallel()
	together(t, outages, func(t *testing.T, off outage) {
		h := newHost(t, onS3("aws"))
		name := h.byName()
		image := h.image(256<<10, 300)
		h.pull(image.Name())
		h.awaitImage(image)
		h.stop()
		h.age(time.Hour)
		off(h, name)
		h.bucket.(s3Bucket).Fault(s3test.Always("", s3test.Fault{StallHeader: true}))
		h.start()
		h.wantLastKnown(image)
	})
}

// The disk is new, and the bucket is the one that knows the tag.
func TestBucketKnowsTheTagOfAnUpstreamThatIsGone(t *testing.T) {
	t.Parallel()
	together(t, outages, func(t *testing.T, off outage) {
		first := newHost(t)
		image := first.image(256<<10, 300)
		first.pull(image.Name())
		first.awaitImageStored(image)
		h := first.neighbour()
		name := h.byName()
		off(h, name)
		h.wantStale(http.MethodHead, image, firstAnswer)
		h.pull(image.Name())
	})
}

// wantLastKnown pulls the image, whose tag cannot be confirmed: within two seconds
// the first time, and at once after. The rest of it is on the disk.
func (h *host) wantLastKnown(image hubtest.Image) {
	h.Helper()
	h.wantStale(http.MethodHead, image, firstAnswer)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet} {
		h.wantStale(method, image, nextAnswers)
	}
	watch := startWatch()
	p := h.pull(image.Name())
	if took := watch.took(); took > 2*nextAnswers {
		h.Errorf("a pull of what is on the disk took %v", took)
	}
	for d, source := range p.source {
		if source != "disk" {
			h.Errorf("%s came from %q, want disk", d, source)
		}
	}
}

// Docker has no deadline of its own: without an answer it would hang.
func TestUnknownTagOfAnUpstreamThatIsGoneIsAnError(t *testing.T) {
	t.Parallel()
	together(t, outages, func(t *testing.T, off outage) {
		h := newHost(t, onS3("minio"))
		name := h.byName()
		image := h.image(256 << 10)
		off(h, name)
		h.wantErrors(image)
	})
}

func TestUnknownTagWithNobodyToAskIsAnError(t *testing.T) {
	t.Parallel()
	together(t, outages, func(t *testing.T, off outage) {
		h := newHost(t, onS3("aws"))
		name := h.byName()
		image := h.image(256 << 10)
		off(h, name)
		h.bucket.(s3Bucket).Fault(s3test.Always("", s3test.Fault{StallHeader: true}))
		h.wantErrors(image)
	})
}

// wantErrors asks, all at once, for what nobody can give.
func (h *host) wantErrors(image hubtest.Image) {
	h.Helper()
	var all errgroup.Group
	for _, path := range []string{"manifests/" + image.Tag, "manifests/" + image.Digest.String(), "blobs/" + image.Layers[0].Digest.String()} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			all.Go(func() error {
				a, err := h.try(method, "/v2/"+image.Repo+"/"+path)
				if err != nil {
					return fmt.Errorf("%s %s: %w, after %v", method, path, err, a.took)
				}
				h.wantError(a, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout)
				if a.took > firstError {
					h.Errorf("%s %s: the error took %v, want at most %v", method, path, a.took, firstError)
				}
				return nil
			})
		}
	}
	check(h, all.Wait())
}

// What an upstream says is an answer, not an outage: the old image is not served
// against it.
func TestUpstreamsWordCountsWhenTheTTLIsOver(t *testing.T) {
	t.Parallel()
	const ttl = time.Second
	type step struct {
		change func(h *host, image hubtest.Image)
		status int
	}
	together(t, map[string]step{
		"deleted":        {func(h *host, i hubtest.Image) { h.up.DeleteTag(i.Repo, i.Tag) }, http.StatusNotFound},
		"forbidden":      {func(h *host, i hubtest.Image) { h.up.Forbid(i.Repo) }, http.StatusForbidden},
		"not authorized": {func(h *host, _ hubtest.Image) { h.up.Require(hubtest.Auth{Username: "somebody", Password: "else"}) }, http.StatusForbidden},
	}, func(t *testing.T, s step) {
		h := withTTL(t, ttl)
		image := h.image(256 << 10)
		h.pull(image.Name())
		h.awaitImageStored(image) // which knows the old one, too
		s.change(h, image)
		time.Sleep(ttl)
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			a := h.tag(method, image)
			h.wantError(a, s.status)
			if c := a.Header.Get("Www-Authenticate"); c != "" {
				t.Errorf("a client is asked for its password: %s", c)
			}
		}
	})
}

func TestMovedTagIsServedWhenTheTTLIsOver(t *testing.T) {
	t.Parallel()
	const ttl = time.Second
	h := withTTL(t, ttl)
	h.pull(h.image(256 << 10).Name())
	moved := h.image(300 << 10)
	time.Sleep(ttl)
	h.wantFresh(moved)
	if p := h.pull(moved.Name()); p.digest != moved.Digest {
		t.Errorf("the pull got %s, want %s", p.digest, moved.Digest)
	}
	// The bucket follows, for those to whom it is the last known.
	h.awaitImageStored(moved)
	n := h.neighbour()
	h.up.Down()
	n.wantStale(http.MethodGet, moved, firstAnswer)
}

// An upstream that comes back is believed again with the first answer after the
// back-off.
func TestUpstreamThatComesBackIsAsked(t *testing.T) {
	t.Parallel()
	const ttl = time.Second
	h := withTTL(t, ttl)
	image := h.image(256 << 10)
	h.pull(image.Name())
	h.up.Fault(hubtest.All(), hubtest.Stall())
	time.Sleep(ttl)
	h.wantStale(http.MethodGet, image, firstAnswer)
	h.up.Heal()
	moved := h.image(300 << 10)
	h.await("the tag's new meaning", func() bool {
		return h.tag(http.MethodHead, moved).Header.Get("Docker-Content-Digest") == moved.Digest.String()
	})
	h.wantFresh(moved)
}
