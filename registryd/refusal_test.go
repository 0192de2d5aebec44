package registryd

import (
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"
	"time"
)

// refuse has the bucket answer reads and refuse writes.
func (s *memStore) refuse() {
	for _, op := range []string{"PUTBLOB", "PUTMANIFEST", "PUTTAG", "LINKLAYER"} {
		s.fail(op, fmt.Errorf("bucket: %w", fs.ErrPermission))
	}
}

// attempts is how often the bucket was to be written.
func (s *memStore) attempts() int {
	return s.count("PUTBLOB") + s.count("PUTMANIFEST") + s.count("PUTTAG") + s.count("LINKLAYER")
}

// pulls pulls n images, and returns them by their names.
func (w *world) pulls(from, n int) map[string]image {
	w.t.Helper()
	images := map[string]image{}
	for i := range n {
		name := fmt.Sprintf("library/app%d:v1", from+i)
		images[name] = w.hub.push(w.t, name, fmt.Sprint(from+i))
		w.pull(name, images[name])
	}
	return images
}

func TestWhatABucketRefusedIsWrittenWhenItMayBe(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			within(t, func(w *world) {
				w.bucket.refuse()
				images := w.pulls(0, 20)
				time.Sleep(time.Hour)
				if s := w.g.Status().WriteBack; s.Refused != 60 || s.Pending != 0 || s.Trouble != "" || s.Failed != 0 {
					w.t.Fatalf("%+v", s)
				}
				if restart {
					w.restart()
				}
				up := w.hub.count("")
				w.bucket.heal()
				time.Sleep(2 * scoutEvery)
				for name, im := range images {
					w.wantInBucket(name, im)
				}
				if s := w.g.Status().WriteBack; s.Refused != 0 || s.Pending != 0 {
					w.t.Fatalf("%+v", s)
				}
				w.wantCalls(&w.hub.calls, "", up)
			})
		})
	}
}

// A pull that the bucket will not be given costs it nothing: one scout a minute goes
// ahead, whatever waits.
func TestABucketThatIsReadOnlyForEverIsAskedRarely(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.refuse()
		w.pulls(0, 1)
		time.Sleep(scoutEvery / 2)
		before := w.bucket.attempts()
		w.pulls(1, 50)
		if n := w.bucket.attempts() - before; n != 0 {
			w.t.Errorf("50 pulls cost %d attempts", n)
		}
		time.Sleep(time.Hour)
		if n := w.bucket.attempts() - before; n > int(time.Hour/scoutEvery)+1 {
			w.t.Errorf("%d attempts in an hour", n)
		}
	})
}

// knowing is a Store that knows that it would be refused.
type knowing struct {
	*memStore
	readOnly atomic.Bool
}

func (k *knowing) ReadOnly() bool { return k.readOnly.Load() }

func TestAStoreThatKnowsThatItIsReadOnlyIsNotTried(t *testing.T) {
	within(t, func(w *world) {
		k := &knowing{memStore: w.bucket}
		k.readOnly.Store(true)
		w.g.writer.store = k
		images := w.pulls(0, 5)
		time.Sleep(24 * time.Hour)
		if n := w.bucket.attempts(); n != 0 {
			w.t.Errorf("%d attempts", n)
		}
		k.readOnly.Store(false)
		time.Sleep(2 * scoutEvery)
		for name, im := range images {
			w.wantInBucket(name, im)
		}
	})
}

// What waits is bounded in memory and in the file, and the oldest goes.
func TestARefusalThatLastsKeepsTheLatest(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.refuse()
		w.pulls(0, 1)
		time.Sleep(time.Second)
		for i := range 3 * maxRefused {
			w.g.writer.blob("docker.io/library/app", newImage(w.t, fmt.Sprint(i)).layerDigest(), 1)
		}
		images := w.pulls(1, 1)
		if s := w.g.Status().WriteBack; s.Refused != maxRefused {
			w.t.Fatalf("%+v", s)
		}
		w.g.writer.file.mu.Lock()
		size := w.g.writer.file.size
		w.g.writer.file.mu.Unlock()
		if most := int64(2*maxRefused*400 + pendingSlack); size > most {
			w.t.Errorf("the file has %d bytes, more than %d", size, most)
		}
		w.bucket.heal()
		time.Sleep(2 * scoutEvery) // what is not here is left out on the way
		for name, im := range images {
			w.wantInBucket(name, im)
		}
	})
}
