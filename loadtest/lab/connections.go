package lab

import (
	"syscall"

	"hostlocal/loadtest/target"
)

// connections bounds those of the clients where the upstream, which is in this
// process, may get as many again: from the clients themselves, or from a contender
// that asks it once for every client. Without room for both the upstream would be
// what fails. 0 leaves the bound to the storm.
func (t *turn) connections() int {
	switch t.name {
	case "registryd", "nginx", "nginx-cache", "nginx-static":
		return 0 // a few to the upstream, however many clients there are
	}
	if target.IsURL(t.name) && t.There {
		return 0
	}
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Max, 1<<20) / 2)
}
