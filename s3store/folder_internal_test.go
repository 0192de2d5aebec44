package s3store

import (
	"testing"
	"time"
)

func TestClockFollowsTheFileServer(t *testing.T) {
	var c clock
	from := time.Now()
	to := from.Add(100 * time.Millisecond)
	for modified, want := range map[time.Time]time.Duration{
		from.Add(50 * time.Millisecond): 0, // between: the clocks agree
		from.Add(-5 * time.Millisecond): 0, // a tick before
		from.Add(-time.Hour):            -time.Hour,
		to.Add(time.Hour):               time.Hour,
	} {
		c.observe(from, to, modified)
		if got := time.Duration(c.offset.Load()); got != want {
			t.Errorf("modified %v after the start: offset %v, want %v", modified.Sub(from), got, want)
		}
	}
}
