package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"hostlocal/systemd"
)

// The bounds of a stop, which together stay below the 5 s after which a
// supervisor may use force. Breaking off is safe: a client resumes or retries,
// and a fill is picked up at the next start. The last two are longer for daemons
// in the process of the tests, where the work that one leaves behind meets what
// comes next, and its forced end would be that of all.
var (
	answersLimit = 3 * time.Second         // for answers under way
	workLimit    = time.Second             // for write-backs and fills to note where they are
	stopLimit    = 4500 * time.Millisecond // for all of it, on a disk that hangs too
)

// memoryLimit is what the Go runtime tries to stay below, in bytes, unless
// GOMEMLIMIT says otherwise. The bytes of images pass from file to socket without
// being here; what is, grows with the connections, and the promise is 128 MiB of
// resident memory with a thousand clients of three each, of which some 20 MiB are
// the binary itself. The storm of the tests has 104 MiB resident and takes 0.53 s
// with 88, 110 and 0.41 with 96, 117 and 0.40 with 100; a thousand clients of four
// connections each, which is more than is promised, have 126 with 96.
const memoryLimit = 96 << 20

// garbagePercent is by how much the heap may grow over what is alive before the
// runtime collects, unless GOGC says otherwise. What is alive on an idle host are
// some MiB, so the default of 100 collects after each few thousand requests: a fifth
// of the CPU time of a warm manifest. memoryLimit bounds what this costs.
const garbagePercent = 400

// A daemon is what serve runs: the servers, and what stands behind them.
type daemon struct {
	registry, admin server
	close           func(context.Context) error // the work in the background
}

// A server answers on listeners until it is shut down.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

func serveCommand(load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the registry",
		Long: "Serve runs the registry until SIGTERM or SIGINT. Without a configuration it listens on 127.0.0.1:5000,\n" +
			"caches in the user's cache folder and mirrors the public registries. It starts, and serves\n" +
			"what it has, with the bucket and all upstreams down.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, warnings, err := load()
			if err != nil {
				return err
			}
			log := newLogger(cmd.ErrOrStderr(), c.log)
			for _, w := range warnings {
				log.Warn(w)
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(memoryLimit)
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(garbagePercent)
			}
			return serve(cmd.Context(), c, log)
		},
	}
}

// serve opens everything, says that it is ready, and serves until ctx ends.
func serve(ctx context.Context, c *config, log *slog.Logger) error {
	doors, err := openSockets(ctx, c)
	if err != nil {
		return err
	}
	defer doors.Close()
	if err := c.checkDoors(doors.http); err != nil {
		return err
	}
	d, err := wire(c, log)
	if err != nil {
		return err
	}

	var running errgroup.Group
	failed := make(chan error, len(doors.all()))
	start := func(s server, ls []net.Listener) {
		for _, l := range ls {
			running.Go(func() error {
				err := s.Serve(l)
				if err != nil {
					failed <- fmt.Errorf("serving on %s: %w", addressOf(l), err)
				}
				return err
			})
		}
	}
	start(d.registry, doors.http)
	start(d.admin, doors.admin)

	beating, stopBeating := context.WithCancel(context.Background())
	defer stopBeating()
	running.Go(func() error { return systemd.Watchdog(beating, alive(doors.http[0])) })

	log.Info("serving", "version", versionString(), "listen", addresses(doors.http), "admin", addresses(doors.admin),
		"cache", c.cache.dir, "store", c.store.url)
	if err := systemd.Notify(systemd.Ready, systemd.Status("serving on "+addresses(doors.http))); err != nil {
		log.Warn("not reported ready", "error", err)
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stopBeating()
	return errors.Join(err, d.stop(doors, &running, log))
}

// stop closes the doors at once, lets the answers under way end, and then the
// work behind them.
func (d *daemon) stop(doors *sockets, running *errgroup.Group, log *slog.Logger) error {
	forced := time.AfterFunc(stopLimit, func() {
		log.Error("did not stop in time; leaving", "limit", stopLimit)
		os.Exit(1)
	})
	defer forced.Stop()
	doors.Close()
	systemd.Notify(systemd.Stopping) // whoever is not told sees the process end
	log.Info("stopping")

	answers, cancel := context.WithTimeout(context.Background(), answersLimit)
	defer cancel()
	var servers errgroup.Group
	servers.Go(func() error { return d.registry.Shutdown(answers) })
	servers.Go(func() error { return d.admin.Shutdown(answers) })
	if err := servers.Wait(); err != nil {
		log.Info("broke off answers that took too long", "limit", answersLimit)
	}
	running.Wait() // returned, because the servers are shut down
	work, cancel := context.WithTimeout(context.Background(), workLimit)
	defer cancel()
	return d.close(work)
}
