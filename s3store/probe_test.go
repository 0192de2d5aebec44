package s3store

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProbeFindsOutAndCleansUp(t *testing.T) {
	h := overFolder(t)
	touched := map[string]bool{}
	h.wire.fault(func(op, key string) error {
		if op != "list" && !strings.HasPrefix(key, probeRoot) {
			touched[key] = true
		}
		return nil
	})
	if err := h.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	st := h.Status()
	if st.Writable != Yes || st.Listable != Yes || st.ConditionalPut != Yes || st.ConditionalComplete != Yes || st.Refusal != "" {
		t.Errorf("%+v", st)
	}
	if len(touched) > 0 {
		t.Errorf("wrote outside of %s: %v", probeRoot, touched)
	}
	if left, _ := os.ReadDir(filepath.Join(h.dir, probeRoot)); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	h.wantNoUploads()
}

// careless ignores conditions, as some stores do.
type careless struct{ Bucket }

func (c careless) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opt PutOptions) (string, error) {
	opt.IfNoneMatch, opt.IfMatch = false, ""
	return c.Bucket.Put(ctx, key, body, size, opt)
}

func (c careless) CompleteMultipart(ctx context.Context, key, id string, parts []Part, _ CompleteOptions) (string, error) {
	return c.Bucket.CompleteMultipart(ctx, key, id, parts, CompleteOptions{})
}

func TestProbeIsNotFooledByAStoreThatIgnoresConditions(t *testing.T) {
	h := overFolder(t)
	h.wire.Bucket = careless{h.wire.Bucket}
	if err := h.probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := h.Status(); st.Writable != Yes || st.ConditionalPut != No || st.ConditionalComplete != No {
		t.Errorf("%+v", st)
	}
}

func TestStartNeedsNoBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		h.retry.tokens = 0
		h.wire.fault(func(string, string) error { return noAnswer() })
		h.Start(t.Context())
		synctest.Wait()
		if st := h.Status(); st.Reachable || st.Writable != Unknown {
			t.Errorf("%+v", st)
		}
		h.wire.fault(nil)
		sleepUntil(func() bool { return h.Status().ConditionalComplete == Yes })
		h.Store.Close()
	})
}

// A refusal may have been a quota. Whoever pushes does not wait ten minutes for somebody
// to look again; where nobody wants to write nobody looks.
func TestABucketThatRefusedIsTriedAgainSoonForWhoWantsToWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := overFolder(t)
		h.wire.fault(func(op, _ string) error {
			if op == "put" {
				return &Error{Op: op, Status: 403, Code: "QuotaExceeded"}
			}
			return nil
		})
		h.Start(t.Context())
		synctest.Wait()
		if !h.ReadOnly() {
			t.Fatal("not refused")
		}
		h.wire.fault(nil)
		time.Sleep(probeRefused / 2)
		synctest.Wait()
		if !h.ReadOnly() {
			t.Error("tried again, and nobody wanted to write")
		}
		h.WantToWrite()
		h.WantToWrite()
		sleepUntil(func() bool { return !h.ReadOnly() })
		h.Store.Close()
	})
}

// sleepUntil lets the bubble's clock run, for a minute at most.
func sleepUntil(done func() bool) {
	for range 60 {
		if done() {
			return
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	panic("not within a minute")
}
