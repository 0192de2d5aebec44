package blobcache

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestUnreadableFileIsTriedAgainAfterAWhile, and only that one is let be until then.
func TestUnreadableFileIsTriedAgainAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unreadables
		bad, later, good := newOrigin(1, 1).digest, newOrigin(1, 2).digest, newOrigin(1, 3).digest
		u.add(bad)
		time.Sleep(unreadableFor - time.Second)
		if u.check(bad) == nil || u.check(good) != nil {
			t.Errorf("the unreadable one: %v; another: %v", u.check(bad), u.check(good))
		}
		time.Sleep(time.Second)
		u.add(later)
		if err := u.check(bad); err != nil || len(u.until) != 2 {
			t.Errorf("a minute later: %v; %d remembered", err, len(u.until))
		}
		time.Sleep(time.Second)
		u.add(later)
		if len(u.until) != 1 {
			t.Errorf("%d are remembered, of which one counts", len(u.until))
		}
	})
}
