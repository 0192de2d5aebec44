package report

import (
	"slices"
	"testing"
	"time"

	"hostlocal/loadtest"
)

// TestThinnedSwarmsKeepWhatMatters: the last client is what the page's first number
// is about, and a failure that is counted in the caption must be in the picture.
func TestThinnedSwarmsKeepWhatMatters(t *testing.T) {
	var pulls []loadtest.Pull
	for i := range 10000 {
		p := loadtest.Pull{Client: i, Due: time.Duration(i) * time.Millisecond, End: time.Duration(i)*time.Millisecond + time.Second}
		if i%1000 == 7 {
			p.Failure = "timeout"
		}
		pulls = append(pulls, p)
	}
	pulls[4321].End = time.Minute
	kept, every := thinPulls(pulls, 100)
	if len(kept) > 100 || len(kept) < 90 || every != 113 {
		t.Errorf("kept %d, one in %d", len(kept), every)
	}
	failed := 0
	for _, p := range kept {
		if p.Failure != "" {
			failed++
		}
	}
	if failed != 10 || !slices.ContainsFunc(kept, func(p loadtest.Pull) bool { return p.End == time.Minute }) {
		t.Errorf("%d of 10 failed pulls are drawn, or the last one is not", failed)
	}
	for i := range pulls {
		pulls[i].Failure = "timeout"
	}
	if kept, _ := thinPulls(pulls, 100); len(kept) > 100 {
		t.Errorf("kept %d of failed pulls only", len(kept))
	}
	if kept, every := thinPulls(pulls[:100], 100); len(kept) != 100 || every != 1 {
		t.Errorf("thinned %d pulls without need", len(kept))
	}
}
