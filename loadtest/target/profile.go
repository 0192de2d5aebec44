package target

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// profilePiece is how long one CPU profile is. A server sends a profile only when
// its time is over, and a run has no length known before; pieces add up
// (go tool pprof BINARY cpu-*.pprof), and one has to be waited for at the end.
const profilePiece = 3 * time.Second

// Profiles are being written while a contender works.
type Profiles struct {
	fleet *Fleet
	stem  string // of file names
	stop  context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex // guards files and err
	files []string
	err   error
}

// Profile writes the CPU time of each daemon that can say it, in pieces, to files
// in dir whose names begin with stem. A fleet that serves no profiles writes none.
func (f *Fleet) Profile(dir, stem string) *Profiles {
	ctx, stop := context.WithCancel(context.Background())
	p := &Profiles{fleet: f, stem: filepath.Join(dir, stem), stop: stop}
	p.each(func(i int, d *daemon) {
		for piece := 0; ctx.Err() == nil; piece++ {
			name := fmt.Sprintf("%s-%d-cpu-%03d.pprof", p.stem, i, piece)
			// Not ctx: the piece that has begun is the end of the run.
			if !p.write(name, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", d.admin, profilePiece/time.Second)) {
				return
			}
		}
	})
	return p
}

// Stop ends the CPU profiles, which takes up to profilePiece, writes each daemon's
// heap, and returns the files.
func (p *Profiles) Stop() ([]string, error) {
	p.stop()
	p.done.Wait()
	p.each(func(i int, d *daemon) {
		p.write(fmt.Sprintf("%s-%d-heap.pprof", p.stem, i), d.admin+"/debug/pprof/heap")
	})
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.files, p.err
}

func (p *Profiles) each(do func(i int, d *daemon)) {
	for i, d := range p.fleet.daemons {
		if d.profiles {
			p.done.Go(func() { do(i, d) })
		}
	}
}

// write gets a profile into a file, and reports whether that went well.
func (p *Profiles) write(name, url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 4*profilePiece)
	defer cancel()
	err := fetch(ctx, name, url)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		os.Remove(name) // half a profile is none
		if p.err == nil {
			p.err = fmt.Errorf("profile %s: %w", filepath.Base(name), err)
		}
		return false
	}
	p.files = append(p.files, name)
	return true
}

func fetch(ctx context.Context, name, url string) error {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := admins.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, resp.Body); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
