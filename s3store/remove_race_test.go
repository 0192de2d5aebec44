package s3store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/manifest"
)

// during runs remove, with f at its n-th exchange, before that. It reports whether there
// was one.
func (h *tester) during(n int, f func(), remove func() error) bool {
	h.Helper()
	var calls atomic.Int32
	h.wire.fault(func(string, string) error {
		if int(calls.Add(1)) == n {
			f()
		}
		return nil
	})
	if err := remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Errorf("at exchange %d: %v", n, err)
	}
	h.wire.fault(nil)
	return int(calls.Load()) >= n
}

// wantWhole demands that v1 means something that is visible, and has it in its history,
// or that nothing is left of it.
func (h *tester) wantWhole(repo string) (at manifest.Digest) {
	h.Helper()
	at, err := h.Tag(h.Context(), repo, "v1")
	if err != nil {
		h.wantErr(err, fs.ErrNotExist)
		if left := h.below(reposRoot + repo + "/_manifests/tags/v1/"); len(left) > 0 {
			h.Errorf("left of a tag that means nothing: %q", left)
		}
		return at
	}
	h.wantManifest(repo, at, true)
	return at
}

// Whoever changes a tag on this host while another one does waits for that.
func TestChangesOfOneTagTakeTurns(t *testing.T) {
	for _, what := range []string{"tag", "manifest"} {
		for n := 1; ; n++ {
			h := overFolder(t)
			one, two := h.push("team/app", "one", "v1"), h.push("team/app", "two")
			var put sync.WaitGroup
			f := func() {
				put.Go(func() {
					if err := h.PutTag(t.Context(), "team/app", "v1", two); err != nil {
						t.Error(err)
					}
				})
				time.Sleep(2 * time.Millisecond)
			}
			any := h.during(n, f, func() error {
				if what == "tag" {
					return h.RemoveTag(t.Context(), "team/app", "v1")
				}
				_, err := h.RemoveManifest(t.Context(), "team/app", one)
				return err
			})
			put.Wait()
			if !any {
				break
			}
			at := h.wantWhole("team/app")
			if what == "manifest" && at != two {
				t.Errorf("at exchange %d: the tag went with a manifest that it did not mean any more", n)
			}
		}
	}
}

// Another host's push of a manifest comes at any exchange of its removal, whole or in
// two halves.
func TestAManifestThatAnotherHostPushesDuringItsRemovalIsThere(t *testing.T) {
	for _, halves := range []bool{false, true} {
		for n := 1; ; n++ {
			h := overFolder(t)
			other := over(t, h.wire.Bucket)
			d := h.push("team/app", "one", "v0")
			var pushed atomic.Bool
			f := func() {
				if !halves {
					other.push("team/app", "one")
				}
				if err := other.PutTag(t.Context(), "team/app", "v1", d); err != nil {
					t.Error(err)
				}
				pushed.Store(true)
			}
			if !h.during(n, f, func() error {
				_, err := h.RemoveManifest(t.Context(), "team/app", d)
				return err
			}) {
				break
			}
			at := h.wantWhole("team/app")
			if visible, err := h.HasManifest(t.Context(), "team/app", d); err != nil || pushed.Load() && at == d && !visible {
				t.Errorf("in halves %v, at exchange %d: %v, %v", halves, n, visible, err)
			}
		}
	}
}

// A removal that looks again for tags reads as many at a time as it deletes, and none when
// it has found one.
func TestALookForTagsBehindARemovalIsNoQueue(t *testing.T) {
	h := overFolder(t)
	d := h.push("team/app", "one")
	const tags = 4 * removesAtOnce
	for i := range tags {
		h.push("team/app", "one", fmt.Sprintf("v%02d", i))
		h.push("team/app", "two", fmt.Sprintf("v%02d", i))
	}
	look := func(want bool, least, most int) {
		t.Helper()
		var mu sync.Mutex // guards what follows
		at, top, reads := 0, 0, 0
		full := make(chan struct{}) // closed when there are as many as there may be
		h.wire.fault(func(op, key string) error {
			if op != "get" || !strings.HasSuffix(key, "/current/link") {
				return nil
			}
			mu.Lock()
			at++
			reads++
			if at > top {
				if top = at; top == removesAtOnce {
					close(full)
				}
			}
			mu.Unlock()
			defer func() { mu.Lock(); at--; mu.Unlock() }()
			select {
			case <-full:
			case <-time.After(10 * time.Second):
				return errors.New("they are read one after another")
			}
			if !strings.Contains(key, "/v00/") {
				time.Sleep(50 * time.Millisecond) // for one too many to come
			}
			return nil
		})
		got, err := h.tagged(t.Context(), "team/app", d)
		if got != want || err != nil || reads < least || reads > most {
			t.Errorf("a tag stands for it: %v, %v, after %d reads; want %v after %d to %d", got, err, reads, want, least, most)
		}
		if top != removesAtOnce {
			t.Errorf("%d reads at once", top)
		}
		h.wire.fault(nil)
	}
	look(false, tags, tags)
	h.push("team/app", "one", "v00")
	look(true, removesAtOnce, tags-1)
	h.push("team/app", "two", "v00")
	h.wire.fault(func(op, key string) error {
		if op == "get" && strings.HasSuffix(key, "/v01/current/link") {
			return answers(400)
		}
		return nil
	})
	if stands, err := h.tagged(t.Context(), "team/app", d); stands || err == nil {
		t.Errorf("a look that failed says %v, %v", stands, err)
	}
}
