package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// These tests kill the daemon while the bucket is still owed something. The bucket
// is a fake S3 of this process, which counts and does not die with it.

var writeBackKills = flag.Int("writeback.kills", 0, "how often TestKilledAtAnyMomentAllGetsToTheBucket kills the daemon; 0 means 24, or 8 with -short")

const partSize, partsAtOnce = 16 << 20, 8

// A partLog sees the parts that are sent to a fake S3, and may hold some.
type partLog struct {
	mu   sync.Mutex // guards the rest
	sent []int      // numbers, as they came
	hold func(number int) bool
}

// logParts has the server tell of the parts that it is sent from now on. Those of
// which hold says so are never answered.
func logParts(s *s3test.Server, hold func(number int) bool) *partLog {
	l := &partLog{hold: hold}
	s.Fault(func(r *http.Request) *s3test.Fault {
		if s3test.Op(r) != "upload_part" {
			return nil
		}
		number, _ := strconv.Atoi(r.URL.Query().Get("partNumber"))
		l.mu.Lock()
		defer l.mu.Unlock()
		l.sent = append(l.sent, number)
		if l.hold(number) {
			return &s3test.Fault{StallBefore: true}
		}
		return nil
	})
	return l
}

func (l *partLog) count(which func(number int) bool) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, number := range l.sent {
		if which(number) {
			n++
		}
	}
	return n
}

// came reports whether these parts were all sent, each as often as it may be: one that is
// held is sent again after a while.
func (l *partLog) came(from, to int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for number := from; number <= to; number++ {
		if !slices.Contains(l.sent, number) {
			return false
		}
	}
	return true
}

func (l *partLog) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = func(int) bool { return false }
}

func allParts(int) bool { return true }

// onFakeS3 is a daemon that can be killed, on a fake S3.
func onFakeS3(t *testing.T) (*host, *s3test.Server) {
	h, _ := newProgram(t, onS3("minio"))
	return h, h.bucket.(s3Bucket).Server
}

// wantNoUploads waits until nothing in the bucket waits for parts.
func (h *host) wantNoUploads(s *s3test.Server) {
	h.Helper()
	h.await("the last upload to go", func() bool { return s.Uploads() == 0 })
}

// The bucket answers no write before the daemon is killed, so that all that the
// client was given is owed at that moment; and the upstream is gone when the daemon
// is back. 0.5 s.
func TestKilledAfterTheLastByteOfAPullOwesAllOfIt(t *testing.T) {
	h, s := onFakeS3(t)
	s.Fault(func(r *http.Request) *s3test.Fault {
		if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasPrefix(s3test.Key(r), "registryd/probe/") {
			return nil
		}
		return &s3test.Fault{StallBefore: true}
	})
	index := h.index()
	h.pull(index.Name())
	h.stop() // by SIGKILL
	for _, key := range s.Keys() {
		if strings.HasPrefix(key, "docker/") {
			t.Fatalf("the bucket has %s: nothing is shown", key)
		}
	}
	h.up.Down()
	s.Up()
	h.launch()
	h.awaitIndexStored(index)
	h.wantNoUploads(s)
}

// killedInMidUpload pulls an image with a layer of so many parts, and kills the
// daemon when all but the last two are there. It returns what can be sent twice at
// the most: what was in flight.
func killedInMidUpload(h *host, s *s3test.Server, parts int) (hubtest.Image, *partLog) {
	h.Helper()
	last := func(number int) bool { return number > parts-2 }
	log := logParts(s, last)
	image := h.image(int64(parts)*partSize-7, 300)
	h.pull(image.Name())
	h.await("the last two parts to be sent", func() bool { return log.came(parts-1, parts) })
	h.stop() // by SIGKILL
	h.up.Down()
	log.release()
	return image, log
}

func TestUploadGoesOnAfterAKill(t *testing.T) {
	const parts = 8 // 1.5 s
	h, s := onFakeS3(t)
	image, log := killedInMidUpload(h, s, parts)
	h.launch()
	h.awaitImageStored(image)
	h.wantNoUploads(s)
	if n := log.count(allParts); n > parts+partsAtOnce {
		t.Errorf("%d parts were sent for a blob of %d, of which at most %d were in flight", n, parts, partsAtOnce)
	}
}

func TestUploadGoesOnAfterAStop(t *testing.T) {
	const parts = 8 // 1.5 s
	h := newHost(t, onS3("minio"))
	s := h.bucket.(s3Bucket).Server
	image, log := killedInMidUpload(h, s, parts) // not killed: this one is told to stop
	h.start()
	h.awaitImageStored(image)
	h.wantNoUploads(s)
	if n := log.count(allParts); n > parts+partsAtOnce {
		t.Errorf("%d parts were sent for a blob of %d, of which at most %d were in flight", n, parts, partsAtOnce)
	}
}

func TestUploadThatTheBucketForgotBeginsAnewAfterAKill(t *testing.T) {
	h, s := onFakeS3(t) // 1 s
	image, _ := killedInMidUpload(h, s, 4)
	s.ForgetUploads()
	h.launch()
	h.awaitImageStored(image)
	h.wantNoUploads(s)
}

// The fill is in its middle, too.
func TestFillAndUploadGoOnAfterAKill(t *testing.T) {
	const parts, landed, span = 8, 5, 1 << 20 // 2 s
	h, s := onFakeS3(t)
	log := logParts(s, func(int) bool { return false })
	image := h.image(parts*partSize-7, 300)
	layer := image.Layers[0]
	resume := h.up.holdAt(layer.Digest, landed*partSize+span)
	h.resolve(image.Name())
	client := h.open(image.Repo, layer.Digest)
	check(t, client.want(layer.Slice(0, landed*partSize)))
	h.await("what has landed to be sent", func() bool { return log.count(allParts) >= landed })
	h.stop() // by SIGKILL
	client.Close()
	resume()
	h.launch()
	h.awaitStored(layer) // nobody has asked for it
	h.wantNoUploads(s)
	h.wantCost(layer, 1+2*float64(span)/(parts*partSize))
	if n := log.count(allParts); n > parts+partsAtOnce {
		t.Errorf("%d parts were sent for a blob of %d, of which at most %d were in flight", n, parts, partsAtOnce)
	}
}

// Pulls, and kills at any moment of them and of what follows. In the end the bucket
// has all that a client has the last byte of, though the upstream is gone when the
// daemon starts for the last time. 24 kills take 8 s.
func TestKilledAtAnyMomentAllGetsToTheBucket(t *testing.T) {
	kills := *writeBackKills
	if kills == 0 {
		if kills = 24; testing.Short() {
			kills = 8
		}
	}
	h, s := onFakeS3(t)
	log := logParts(s, func(int) bool { return false })
	platforms := []manifest.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
	sent, killed, parts := 0, 0, 0
	for killed < kills {
		name := fmt.Sprintf("library/app%d", killed)
		index := h.up.AddIndex(name, "v1", platforms, h.up.Layers(2*partSize+9, 1<<20, 5000)...)
		for whole := false; !whole; killed++ {
			ctx, cancel := context.WithCancel(t.Context())
			pulled := make(chan error, 1)
			go func() {
				_, err := docker(h.url).pull(ctx, index.Name())
				pulled <- err
			}()
			// A pull takes some 150 ms here, and the bucket as long again.
			select {
			case err := <-pulled:
				check(t, err)
				whole = true
				time.Sleep(time.Duration(rand.Int64N(int64(200 * time.Millisecond))))
			case <-time.After(time.Duration(rand.Int64N(int64(400 * time.Millisecond)))):
			}
			h.stop() // by SIGKILL
			cancel()
			if !whole && <-pulled == nil {
				whole = true // its last byte was on the way
			}
			if whole {
				h.up.Down()
			}
			h.launch()
		}
		h.awaitIndexStored(index)
		h.up.Up()
		parts += 3
		sent = log.count(allParts)
	}
	h.wantNoParts(s)
	t.Logf("%d kills, %d parts, %d sent", killed, parts, sent)
	if sent > parts+partsAtOnce*killed {
		t.Errorf("%d parts were sent for %d, with %d kills", sent, parts, killed)
	}
}

// wantNoParts waits until no part in the bucket belongs to nothing. An upload that
// was begun and that a kill kept the daemon from hearing of has none, and costs
// nobody anything; the few bytes of the probe, at the daemon's start, are not asked
// for here.
func (h *host) wantNoParts(s *s3test.Server) {
	h.Helper()
	h.await("the last part to go", func() bool { return s.LooseParts("docker/") == 0 })
}

// A bucket that this host may only read costs no write of a pull once that is known,
// and has everything when the right is there. 1 s.
func TestWhatABucketRefusedIsWrittenWhenItMayBe(t *testing.T) {
	h, _ := newProgram(t, func(h *host) {
		onS3("minio")(h)
		h.bucket.(s3Bucket).SetQuirks(s3test.Quirks{ReadOnly: true})
	})
	s := h.bucket.(s3Bucket).Server
	h.await("the daemon to know", func() bool { return strings.Contains(h.adminText("/readyz"), "read only for this host") })
	calls := logCalls(s)
	var images []hubtest.Image
	for i := range 5 {
		image := h.up.AddImage(fmt.Sprintf("library/app%d", i), "v1", h.up.Layers(9<<20, 300)...)
		images = append(images, image)
		h.pull(image.Name())
	}
	h.await("what waits to be counted", func() bool { return strings.Contains(h.adminText("/api/v1/status"), `"refused": 20`) })
	for _, c := range calls.about("") {
		if op, _, _ := strings.Cut(c, " "); op != "get" && op != "stat" && op != "list" {
			t.Errorf("a pull from a read-only bucket cost %q", c)
		}
	}
	h.stop()
	h.up.Down()
	s.Up()
	s.SetQuirks(s3test.Quirks{})
	h.launch()
	for _, image := range images {
		h.awaitImageStored(image)
	}
}
