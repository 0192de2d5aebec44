// Package target starts the contenders of a load test: this daemon, the stock
// registry, zot, nginx, each as a child process with the settings that its own
// documentation advises for a cache, in a temporary folder of its own on free
// ports of loopback. It samples what they cost, and stops them.
//
// What is started here ends here: Close stops the processes and removes the
// folder, and the kernel stops them if this process ends without Close. What is
// only pointed at (a URL, the upstream itself) is never started, stopped or
// sampled.
//
//	name ──> kind ──> plan ──> process ──> answers ──> Fleet ──> Usage, Profile
package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"hostlocal/loadtest"
	"hostlocal/loadtest/child"
)

// Options say what a contender stands on. All but Upstream may be zero.
type Options struct {
	Upstream string            // URL of the registry that is to be cached
	Daemons  int               // how many hosts; 0 means 1
	Cache    int64             // budget in bytes of each host's cache; 0 means that the contender's own bound is off
	Bucket   Bucket            // what the hosts share
	Files    *Files            // the content in place, for a static file server
	Blobs    int               // tiny blobs that lie in the cache before the start, where the contender has one that is registryd's
	Binaries map[string]string // by kind: a path instead of what is found
	TagTTL   time.Duration     // after which a tag is confirmed anew, where the contender can be told; 0 means its default
	Push     bool              // images are pushed to it: a registry of its own instead of a cache
	Dir      string            // where temporary folders are made; "" is the system's
	Remote   bool              // a URL may lead off this host
}

// A Bucket is an S3 server, or a folder, that the daemons share.
type Bucket struct {
	URL       string // s3://name/prefix or file:///folder; "" is none
	Endpoint  string // of S3
	AccessKey string
	SecretKey string
}

// A Fleet is one contender, running: as many daemons as there are hosts.
type Fleet struct {
	Name     string
	Version  string            // as its binary says
	Settings []string          // in words, for the report
	Targets  []loadtest.Target // one for each daemon
	daemons  []*daemon         // none where nothing was started
	dir      string            // "" where nothing was started
}

// A daemon is one process of a fleet and where it can be asked what it costs.
type daemon struct {
	*child.Process
	url      string
	admin    string // URL before /metrics; "" if it has none
	profiles bool   // the admin has /debug/pprof
	cache    string // folder whose bytes are counted; "" is none
	disk     disk
	routines int // of the last answer of /metrics
}

// Start brings a contender up and waits until each daemon answers. The name is a
// kind of Kinds or a URL. The errors are ErrUnknown, ErrRemote, ErrUnreachable,
// ErrUnable and those of package child; nothing is left behind then. Close ends it.
func Start(ctx context.Context, name string, o Options) (*Fleet, error) {
	if IsURL(name) {
		return reach(ctx, name, o.Remote)
	}
	k, err := kindOf(name)
	if err != nil {
		return nil, err
	}
	if name == direct {
		f, err := reach(ctx, o.Upstream, o.Remote)
		if err != nil {
			return nil, err
		}
		f.Name, f.Version, f.Settings = direct, "", []string{"the upstream itself: nothing is between it and the clients"}
		return f, nil
	}
	binary, err := binaryOf(name, k, o.Binaries)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "loadtest-"+name+"-")
	if err != nil {
		return nil, err
	}
	f := &Fleet{Name: name, dir: dir, Settings: k.settings(o), Version: child.Version(ctx, binary, k.version)}
	if err := f.start(ctx, k, binary, o); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fleet) start(ctx context.Context, k kind, binary string, o Options) error {
	for i := range max(1, o.Daemons) {
		dir := filepath.Join(f.dir, fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o755); err != nil {
			return err
		}
		d, err := startDaemon(ctx, f.Name, k, binary, dir, o)
		if err != nil {
			return err
		}
		f.daemons = append(f.daemons, d)
		f.Targets = append(f.Targets, loadtest.Target{URL: d.url})
	}
	return nil
}

// attempts bounds how often a daemon is started anew on other ports: between the
// moment that a port was found free and its use somebody else may take it.
const attempts = 3

func startDaemon(ctx context.Context, name string, k kind, binary, dir string, o Options) (*daemon, error) {
	for try := 1; ; try++ {
		plan, err := k.prepare(dir, o)
		if err != nil {
			return nil, err
		}
		p, err := child.Start(child.Spec{Name: name, Binary: binary, Args: plan.args, Env: plan.env, Dir: dir, Gentle: plan.gentle})
		if err != nil {
			return nil, err
		}
		if err = p.Answers(ctx, plan.url+"/v2/"); err == nil {
			return &daemon{Process: p, url: plan.url, admin: plan.admin, profiles: plan.profiles, cache: plan.cache}, nil
		}
		taken := p.Said(child.Taken)
		p.Stop()
		if !taken || try == attempts {
			return nil, err
		}
	}
}

// binaryOf returns what is started: for registryd this executable, unless another
// was given.
func binaryOf(name string, k kind, binaries map[string]string) (string, error) {
	if name == ourselves && binaries[name] == "" {
		return os.Executable()
	}
	return child.Find(name, k.program, binaries[name])
}

// Err says which daemon has ended though nobody stopped it, with the last lines of
// its log; nil while all run.
func (f *Fleet) Err() error {
	for i, d := range f.daemons {
		select {
		case <-d.Ended():
			return fmt.Errorf("%w: %s (daemon %d of %d) %s", ErrDied, f.Name, i+1, len(f.daemons), d.Obituary())
		default:
		}
	}
	return nil
}

// Died is closed when the first daemon has ended; it is never closed where nothing
// was started. Close closes it too.
func (f *Fleet) Died() <-chan struct{} {
	died := make(chan struct{})
	if len(f.daemons) == 0 {
		return died
	}
	one := make(chan struct{}, len(f.daemons))
	for _, d := range f.daemons {
		go func() { // ends with the daemon, for which Close waits
			<-d.Ended()
			one <- struct{}{}
		}()
	}
	go func() {
		<-one
		close(died)
	}()
	return died
}

// Sampled reports whether it is known what the fleet costs: its processes are ours.
func (f *Fleet) Sampled() bool { return len(f.daemons) > 0 }

// Close stops the daemons and removes what they wrote.
func (f *Fleet) Close() error {
	var all sync.WaitGroup
	for _, d := range f.daemons {
		all.Go(d.Stop)
	}
	all.Wait()
	if f.dir == "" {
		return nil
	}
	return os.RemoveAll(f.dir)
}
