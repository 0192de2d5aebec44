package upstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestOfManySilentOpeningsAFewStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s silences
		type one struct {
			*opening
			ctx context.Context
		}
		begin := func() (one, bool) {
			ctx, cancel := context.WithCancelCause(t.Context())
			o, ok := s.begin(cancel)
			return one{o, ctx}, ok
		}
		var all []one
		for range 64 {
			o, ok := begin()
			if !ok {
				t.Fatal("refused before anybody was silent")
			}
			all = append(all, o)
		}
		all[0].end() // the origin answers this one at once
		time.Sleep(openingPatience)
		synctest.Wait()
		stay := 0
		for _, o := range all[1:] {
			if o.ctx.Err() == nil {
				stay++
			} else if context.Cause(o.ctx) != errBusy {
				t.Errorf("cancelled for %v", context.Cause(o.ctx))
			}
		}
		if stay != maxSilent || all[0].ctx.Err() != nil {
			t.Errorf("%d stay", stay)
		}
		if _, ok := begin(); ok {
			t.Error("one more was let in")
		}
		for _, o := range all[1:] {
			o.end()
		}
		o, ok := begin()
		if !ok {
			t.Fatal("refused after they had ended")
		}
		o.end()
		time.Sleep(time.Hour)
		if o.ctx.Err() != nil || s.n != 0 {
			t.Errorf("after its end it counts: %d, %v", s.n, context.Cause(o.ctx))
		}
	})
}
