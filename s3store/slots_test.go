package s3store

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/manifest"
)

func digestNo(i int) manifest.Digest { return manifest.DigestOf(fmt.Append(nil, i)) }

func TestNewBlobWaitsForOneRangeNotForAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(4, 1)
		var order []int
		ask := func(blob int, n int64) {
			go func() {
				if s.acquire(t.Context(), digestNo(blob), n) == nil {
					order = append(order, blob)
				}
			}()
			synctest.Wait()
		}
		for range 10 {
			ask(1, 16<<20)
		}
		ask(2, 16<<20)
		if len(order) != 3 {
			t.Fatalf("%d large ranges run", len(order))
		}
		ask(3, 1000) // a small one has the slot that is kept
		if len(order) != 4 || order[3] != 3 {
			t.Fatalf("order %v", order)
		}
		for range 11 {
			s.release()
			synctest.Wait()
		}
		if order[4] != 1 || order[5] != 2 || len(order) != 12 {
			t.Errorf("order %v", order)
		}
		s.release()
		if s.used != 0 || len(s.queues) != 0 {
			t.Errorf("%d used, %d queues", s.used, len(s.queues))
		}
	})
}

func TestWhoGivesUpLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, 0)
		if err := s.acquire(t.Context(), digestNo(1), -1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.acquire(ctx, digestNo(1), -1); err != context.Canceled {
			t.Error(err)
		}
		start := time.Now()
		if err := s.acquire(t.Context(), digestNo(2), -1); err != errCrowded || time.Since(start) != queueLimit {
			t.Error(err, time.Since(start))
		}
		s.release()
		if err := s.acquire(t.Context(), digestNo(3), -1); err != nil {
			t.Error(err)
		}
	})
}

func TestBodyThatNobodyReadsLendsItsSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1, 0)
		slow, err := s.take(t.Context(), digestNo(1), -1)
		if err != nil {
			t.Fatal(err)
		}
		slow.pause()
		start := time.Now()
		other, err := s.take(t.Context(), digestNo(2), -1)
		if err != nil || time.Since(start) != lent {
			t.Fatal(err, time.Since(start))
		}
		again := make(chan error)
		go func() { again <- slow.use(t.Context()) }()
		synctest.Wait()
		other.giveBack()
		if err := <-again; err != nil {
			t.Error(err)
		}
		if s.used != 1 {
			t.Errorf("%d used", s.used)
		}
		time.Sleep(10 * lent) // in use, it is not lent
		if s.used != 1 {
			t.Errorf("%d used", s.used)
		}
		slow.giveBack()
		slow.giveBack()
		if s.used != 0 {
			t.Errorf("%d used", s.used)
		}
	})
}
