package systemd

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// beatsPerTimeout is how many times alive is asked within WatchdogSec. The
// manager advises half of the time-out; with a third, one answer that comes late
// on a busy host does not cost a restart.
const beatsPerTimeout = 3

// Watchdog keeps the unit's WatchdogSec from expiring for as long as alive
// returns nil, and returns when ctx ends, or at once if no watchdog is set. A
// process that holds its socket and answers nobody is the worst failure that a
// registry behind socket activation can have: clients connect, and hang. So
// alive should do what a client does. Its context ends before the next beat.
func Watchdog(ctx context.Context, alive func(context.Context) error) error {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil || timeout == 0 {
		return err
	}
	beat := timeout / beatsPerTimeout
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ask, cancel := context.WithTimeout(ctx, beat)
		err := alive(ask)
		cancel()
		if err != nil {
			continue // silence is the message: the manager restarts who stays silent
		}
		if err := Notify(daemon.SdNotifyWatchdog); err != nil {
			return err
		}
	}
}
