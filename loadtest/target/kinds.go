package target

import (
	"maps"
	"slices"
)

// A kind knows how one contender is started.
type kind struct {
	program  string                                    // the binary's name where it is searched
	version  []string                                  // arguments that make it say its version
	settings func(o Options) []string                  // in words
	prepare  func(dir string, o Options) (plan, error) // writes what a daemon needs below dir, and chooses its ports
}

// A plan is how one daemon is started.
type plan struct {
	args     []string
	env      []string // beside PATH, HOME and TMPDIR
	url      string   // of the registry, without a slash at the end
	admin    string
	profiles bool
	cache    string
	gentle   bool // has processes of its own, which only it can end
}

// direct is the contender that is no cache: clients ask the upstream.
const direct = "direct"

// ourselves is the contender whose binary is this executable.
const ourselves = "registryd"

// kinds are the contenders by the name that --target gives them.
var kinds = map[string]kind{
	ourselves:      registryd,
	"distribution": distribution,
	"zot":          zot,
	"nginx":        nginx,
	"nginx-static": nginxStatic,
	"nginx-cache":  nginxCache,
	direct:         {},
}

// Kinds returns the names of all contenders that can be started, in order.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }
