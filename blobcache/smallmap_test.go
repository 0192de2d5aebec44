package blobcache

import (
	"os"
	"testing"

	"hostlocal/manifest"
)

// The client has the last byte of a small blob, and the process is killed before the
// blob has its name: the next one finishes it without asking anybody. 30 ms.
func TestKillBeforeTheNameOfASmallBlobLosesNothing(t *testing.T) {
	for _, n := range []int64{1, 5000, mapStep} {
		h, o := newTester(t, Options{}), newOrigin(n, 5000)
		begun, name := make(chan struct{}), make(chan struct{})
		o.pace = func(int64) {
			select {
			case begun <- struct{}{}:
				<-name
			case <-name:
			}
		}
		pulled := make(chan error, 1)
		go func() {
			got, err := h.pull(o)
			h.wantRight(o, got, err)
			pulled <- err
		}()
		<-begun
		unlock := h.places.lock(o.digest) // no name is given while it is held
		close(name)
		if err := <-pulled; err != nil {
			t.Fatal(err)
		}
		// What a process that is killed now leaves.
		left := newTester(t, Options{})
		left.Close()
		if err := os.CopyFS(left.dir+"/"+partialDir, os.DirFS(h.dir+"/"+partialDir)); err != nil {
			t.Fatal(err)
		}
		unlock()
		left.start()
		nobody := newOrigin(n, 5000)
		nobody.err = os.ErrPermission
		left.Resume(func(manifest.Digest, string, int64) []Source { return []Source{nobody} })
		left.wantResult("upstream ok")
		left.wantPresent(o)
		if nobody.sent.Load() != 0 {
			t.Error("the source was asked")
		}
	}
}
