package line

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRatesAndLatencyAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Line
		send := func(c *Conn, total int64) time.Duration {
			began := time.Now()
			for total > 0 {
				n, _, err := l.Pass(t.Context(), c, total)
				if err != nil {
					t.Fatal(err)
				}
				total -= n
			}
			return time.Since(began)
		}
		about := func(what string, got, want time.Duration) {
			t.Helper()
			if got < want-want/20 || got > want+want/20 {
				t.Errorf("%s took %v, not %v", what, got, want)
			}
		}
		c := new(Conn)
		if took := send(c, 1<<40); took != 0 {
			t.Errorf("a line without a shape took %v", took)
		}
		l.Set(Shape{ConnectionRate: 1 << 20, Latency: time.Second})
		about("10 MiB at 1 MiB/s", send(c, 10<<20), 10*time.Second)
		began := time.Now()
		if _, err := l.Arrive(t.Context()); err != nil || time.Since(began) != time.Second {
			t.Errorf("latency of a second: %v, %v", time.Since(began), err)
		}
		l.Set(Shape{TotalRate: 4 << 20})
		began = time.Now()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { send(new(Conn), 2<<20) })
		}
		wg.Wait()
		about("8 x 2 MiB at 4 MiB/s in all", time.Since(began), 4*time.Second)
	})
}

// servers records what a Play turns off and on.
type servers struct {
	said []string
	fail error
}

func (s *servers) Down() error { s.said = append(s.said, "down"); return s.fail }
func (s *servers) Up() error   { s.said = append(s.said, "up"); return s.fail }

func TestFaultsComeAndGoAtTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Line
		l.Set(Shape{ConnectionRate: 1 << 20})
		s := &servers{}
		stop, err := l.Play([]Fault{
			{At: 0, For: 2 * time.Second, Kind: Status, Value: 503},
			{At: 3 * time.Second, For: time.Second, Kind: Cut, Value: 7},
			{At: 5 * time.Second, For: 10 * time.Second, Kind: Stall},
			{At: 6 * time.Second, For: time.Second, Kind: Stall}, // within the other
			{At: 5 * time.Second, For: 3 * time.Second, Kind: Down},
			{At: 6 * time.Second, For: 4 * time.Second, Kind: Down}, // one outage of 5 s
			{At: 20 * time.Second, Kind: Slow, Value: 1000},
		}, s)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		at := func(d time.Duration) Order {
			t.Helper()
			time.Sleep(d - time.Since(began))
			o, err := l.Arrive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		if o := at(0); o.Status != 503 {
			t.Errorf("at 0: %+v", o)
		}
		if o := at(2500 * time.Millisecond); o.Status != 0 || o.Cut >= 0 {
			t.Errorf("at 2.5 s: %+v", o)
		}
		if o := at(3500 * time.Millisecond); o.Cut != 7 {
			t.Errorf("at 3.5 s: %+v", o)
		}
		at(6500 * time.Millisecond)
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("what stalled went on after %v, not 15 s", took)
		}
		if !slices.Equal(s.said, []string{"down", "up"}) {
			t.Errorf("the servers were told %q", s.said)
		}
		at(21 * time.Second)
		if n, paced, _ := l.Pass(t.Context(), new(Conn), 1<<20); n != 100 || !paced {
			t.Errorf("slow: %d bytes at a time, paced %v", n, paced)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n, _, _ := l.Pass(t.Context(), new(Conn), 1<<20); n != 1<<20/200 {
			t.Errorf("after stop: %d bytes at a time", n)
		}
	})
}

func TestStopEndsWhatIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Line
		broken := errors.New("broken")
		s := &servers{fail: broken}
		stop, err := l.Play([]Fault{{Kind: Down}, {Kind: Stall}, {At: time.Hour, Kind: Stall}}, s)
		if err != nil {
			t.Fatal(err)
		}
		passed := make(chan error)
		go func() {
			_, _, err := l.Pass(t.Context(), nil, 1)
			passed <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Arrive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a client that leaves a stall: %v", err)
		}
		if err := stop(); err != broken {
			t.Errorf("stop: %v", err)
		}
		if err := <-passed; err != nil {
			t.Error(err)
		}
		if !slices.Equal(s.said, []string{"down", "up"}) {
			t.Errorf("the servers were told %q", s.said)
		}
	})
}

func TestWrongFaultsAreRefused(t *testing.T) {
	for _, f := range []Fault{{Kind: "flood"}, {Kind: Slow}, {Kind: Cut, Value: -1}, {Kind: Status, Value: 200}, {Kind: Status, Value: 499},
		{Kind: Stall, At: -1}, {Kind: Stall, For: -1}} {
		if stop, err := new(Line).Play([]Fault{f}, nil); err == nil {
			t.Errorf("%+v was taken", f)
			stop()
		}
	}
}

func TestADownServerKeepsItsPort(t *testing.T) {
	for _, listen := range []string{"", "[::1]:0"} {
		var counts Counts
		s, err := Listen(Options{Listen: listen, Counts: &counts, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hello")
		})})
		if err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		get := func() error {
			resp, err := c.Get(s.URL)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		if err := errors.Join(get(), s.Down()); err != nil {
			t.Fatal(err)
		}
		if err := get(); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("down: %v", err)
		}
		if other, err := Listen(Options{Listen: s.Host}); err == nil {
			other.Close()
			t.Error("another server got the port of one that is down")
		}
		if err := errors.Join(s.Up(), get(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if counts.Accepted.Load() != 2 || counts.Open.Load() != 0 || counts.Wire.Load() < 10 || counts.Read.Load() < 10 {
			t.Errorf("counted %d connections, %d open, %d bytes out, %d in", counts.Accepted.Load(), counts.Open.Load(), counts.Wire.Load(), counts.Read.Load())
		}
	}
}
