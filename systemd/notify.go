package systemd

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The states that a service with Type=notify reports.
const (
	Ready    = daemon.SdNotifyReady    // serving; units ordered after this one may start
	Stopping = daemon.SdNotifyStopping // on the way out; do not count it as a crash
)

// Notify sends the assignments (Ready, Stopping, Status("...")) as one message.
// Without a service manager it does nothing. The error says that a manager is
// there and could not be told, which the manager will take for a failed start.
func Notify(assignments ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	return nil
}

// Status is the assignment that `systemctl status` shows as one line of text.
func Status(text string) string {
	return "STATUS=" + strings.ReplaceAll(text, "\n", " ")
}
