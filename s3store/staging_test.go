package s3store

import (
	"testing"
	"time"
)

func TestASlowCopierIsGivenLargerBlobsOnly(t *testing.T) {
	var g staging
	now := time.Now()
	want := func(at time.Time, bytes int64) {
		t.Helper()
		if got, ok := g.from(at); got != bytes || !ok {
			t.Errorf("from %d MiB on, %v, want %d", got>>20, ok, bytes>>20)
		}
	}
	want(now, stageFrom)
	g.took(1<<30, 2*time.Second, 100*time.Millisecond, now) // 51 MiB save as much
	if got, _ := g.from(now); got < 50<<20 || got > 52<<20 {
		t.Errorf("from %d MiB on", got>>20)
	}
	g.took(1<<30, time.Second, time.Second, now)
	want(now, 1<<30)
	want(now.Add(stagingRefused), stageFrom)      // it is tried again
	g.took(64<<20, time.Minute, time.Second, now) // from a slow client
	want(now, stageFrom)
	g.took(64<<20, 0, time.Second, now)
	if got, _ := g.from(now); got < 1<<30 {
		t.Errorf("from %d MiB on, where nothing was saved", got>>20)
	}
}
