package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// A failing bucket is a way in which a bucket does not do its part.
type failing struct {
	begin func(*s3test.Server)
	code  string // that its requests are counted under; "" if it answers
	never bool   // it is written to later
}

var failures = map[string]failing{
	"down":    {begin: (*s3test.Server).Down, code: "0"},
	"stalled": {begin: func(s *s3test.Server) { s.Fault(s3test.Always("", s3test.Fault{StallHeader: true})) }, code: "0"},
	"slow":    {begin: func(s *s3test.Server) { s.SetModel(s3test.Model{FirstByte: 3 * time.Second}) }},
	"busy": {begin: func(s *s3test.Server) {
		s.Fault(s3test.Always("", s3test.Fault{Status: http.StatusServiceUnavailable}))
	}, code: "503"},
	"broken": {begin: func(s *s3test.Server) {
		s.Fault(s3test.Always("", s3test.Fault{Status: http.StatusInternalServerError}))
	}, code: "500"},
	"read-only":            {begin: func(s *s3test.Server) { s.SetQuirks(s3test.Quirks{ReadOnly: true}) }, code: "403", never: true},
	"refusing credentials": {begin: func(s *s3test.Server) { s.SetQuirks(s3test.Quirks{RefuseCredentials: true}) }, code: "403"},
}

// catchUp bounds the time from a bucket's recovery until it has what it was owed:
// the longest pause between attempts is a minute, after an outage of some.
const catchUp = 90 * time.Second

// stored reports whether the bucket has the images whole.
func (h *host) stored(images ...hubtest.Image) bool {
	for _, image := range images {
		for _, d := range digests(image) {
			if _, ok := h.bucket.get(d); !ok {
				return false
			}
		}
		if !h.bucket.hasTag("docker.io/"+image.Repo, image.Tag) {
			return false
		}
	}
	return true
}

// heal ends all failures.
func (b s3Bucket) heal() {
	b.Up()
	b.SetModel(s3test.Model{})
	b.SetQuirks(s3test.Quirks{})
}

// A bucket that fails from the start on: the daemon knows nothing of it.
func TestPullsGoOnWithABucketThatNeverWorked(t *testing.T) {
	t.Parallel()
	together(t, failures, func(t *testing.T, f failing) {
		h := newHost(t, onS3("minio"), func(h *host) { f.begin(h.bucket.(s3Bucket).Server) })
		h.pullWithoutBucket(f)
	})
}

// A bucket that fails in the middle of the day.
func TestPullsGoOnWithABucketThatBreaks(t *testing.T) {
	t.Parallel()
	together(t, failures, func(t *testing.T, f failing) {
		h := newHost(t, onS3("aws"))
		before := h.up.AddImage("library/before", "v1", h.up.Layers(1<<20, 300)...)
		h.pull(before.Name())
		h.awaitImageStored(before)
		h.awaitNothingOwed() // a write that still goes well would have the next trouble said anew
		f.begin(h.bucket.(s3Bucket).Server)
		h.pullWithoutBucket(f)
		h.pull(before.Name())
	})
}

// awaitNothingOwed waits until the bucket has been written all that it is to have.
func (h *host) awaitNothingOwed() {
	h.Helper()
	nothing := regexp.MustCompile(`"pending":\s*0\b`)
	h.await("the write-back", func() bool { return nothing.MatchString(h.adminText("/api/v1/status")) })
}

// pullWithoutBucket pulls images while the bucket fails, and looks at what the
// daemon says of it; then it heals the bucket and waits for what it was owed.
func (h *host) pullWithoutBucket(f failing) {
	h.Helper()
	const most = 5 * time.Second // a pull, cold: the bucket's patience a few times, and the bytes
	bucket := h.bucket.(s3Bucket)
	images := []hubtest.Image{
		h.image(1<<20, 300),
		h.up.AddImage("library/next", "v1", h.up.Layers(9<<20, 1<<20)...),
		h.up.AddImage("library/last", "v1", h.up.Layers(300)...),
	}
	for _, image := range images {
		watch := startWatch()
		h.pull(image.Name())
		if took := watch.took(); took > most {
			h.Errorf("a pull of %s without the bucket took %v, want at most %v", image.Name(), took, most)
		}
	}
	for _, image := range images {
		h.awaitImage(image)
		for d, source := range h.pull(image.Name()).source {
			if source != "disk" {
				h.Errorf("%s came from %q the second time, want disk", d, source)
			}
		}
		for _, l := range image.Layers {
			h.wantOneFetch(l)
		}
	}
	if f.code != "" {
		h.wantCounted("registryd_store_requests_total", `code="`+f.code+`"`)
		h.await("/readyz to name the bucket", func() bool { return h.complains("store") || h.complains("write-back") })
		h.await("a line in the log", func() bool { return len(h.log.warnings()) > 0 })
	}
	if lines := h.log.warnings(); len(lines) > 1 {
		h.Errorf("the log has %d lines of trouble, want one:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	bucket.heal()
	if f.never {
		return
	}
	h.awaitWithin(catchUp, "all that was pulled in the bucket", func() bool { return h.stored(images...) })
	h.await("/readyz to be content", func() bool { return len(h.trouble()) == 0 })
}
