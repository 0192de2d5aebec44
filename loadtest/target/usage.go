package target

import (
	"bufio"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"hostlocal/loadtest"
)

// How often is looked. What /proc says costs the contender nothing; an answer of
// /metrics does, and a look over its folder has the disk busy.
const (
	fastSample = 200 * time.Millisecond
	slowSample = time.Second
)

// metricsLimit bounds the wait for /metrics: one that takes longer is under a load
// that the sample must not wait for.
const metricsLimit = 150 * time.Millisecond

// A Watch is the samples of a fleet while it works.
type Watch struct {
	stop context.CancelFunc
	done sync.WaitGroup
	all  []loadtest.Usage // of the watching goroutine until done
}

// Watch samples the fleet until Stop, with times since began.
func (f *Fleet) Watch(began time.Time) *Watch {
	ctx, stop := context.WithCancel(context.Background())
	w := &Watch{stop: stop}
	if len(f.daemons) == 0 {
		return w
	}
	w.all = append(w.all, f.sample(began))
	w.done.Go(func() {
		tick := time.NewTicker(fastSample)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				w.all = append(w.all, f.sample(began))
				return
			case <-tick.C:
			}
			if n%int(slowSample/fastSample) == 1 {
				f.askRoutines(ctx)
			}
			w.all = append(w.all, f.sample(began))
		}
	})
	return w
}

// Stop takes a last sample and returns all of them, in order of time; none where
// nothing was started.
func (w *Watch) Stop() []loadtest.Usage {
	w.stop()
	w.done.Wait()
	return w.all
}

// sample sums up what all daemons cost now. One that has ended counts as nothing:
// Err says that it has.
func (f *Fleet) sample(began time.Time) loadtest.Usage {
	u := loadtest.Usage{At: time.Since(began)}
	for _, d := range f.daemons {
		c, err := costOf(d.PID())
		if err != nil {
			continue
		}
		u.CPU += c.cpu
		u.RSS += c.rss
		u.Threads += c.threads
		u.Descriptors += c.descriptors
		u.Goroutines += d.routines
		u.Disk += d.disk.under(d.cache)
	}
	return u
}

// CPU returns what all daemons have used since they began.
func (f *Fleet) CPU() (sum time.Duration) {
	for _, d := range f.daemons {
		if c, err := costOf(d.PID()); err == nil {
			sum += c.cpu
		}
	}
	return sum
}

// askRoutines asks each daemon that can say it how many goroutines it has.
func (f *Fleet) askRoutines(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, metricsLimit)
	defer cancel()
	var all sync.WaitGroup
	for _, d := range f.daemons {
		if d.admin == "" {
			continue
		}
		all.Go(func() {
			if n, ok := gauge(ctx, d.admin+"/metrics", "go_goroutines"); ok {
				d.routines = n
			}
		})
	}
	all.Wait()
}

// gauge reads one metric without labels from a Prometheus text.
func gauge(ctx context.Context, url, name string) (int, bool) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return 0, false
	}
	resp, err := admins.RoundTrip(req)
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			return int(v), err == nil
		}
	}
	return 0, false
}

// admins asks admin listeners, which are all ours and on loopback.
var admins = &http.Transport{DisableKeepAlives: true}
