package main

import (
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/s3store/s3test"
)

var pushRounds = flag.Int("push.rounds", 0, "rounds of the tests of pushes whose wires fail, 40 operations of five clients each; 0: 3, or 1 with -short")

func wireRounds() int {
	switch {
	case *pushRounds > 0:
		return *pushRounds
	case testing.Short():
		return 1
	}
	return 3
}

// A cutter stands between a client and the daemon, and cuts connections.
type cutter struct {
	target string
	url    string

	mu   sync.Mutex // guards what follows
	r    *rand.Rand
	next *cut // of the next connection
}

// A cut is where a connection ends: after so many bytes of one of its directions.
type cut struct {
	down  bool // of the answer
	after int64
	reset bool // rather than an end in good order
	half  bool // only the client's side ends
}

func newCutter(t testing.TB, target string, r *rand.Rand) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := &cutter{target: strings.TrimPrefix(target, "http://"), url: "http://" + l.Addr().String(), r: r}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			how := p.next
			p.next = nil
			p.mu.Unlock()
			conns.Go(func() { p.carry(c.(*net.TCPConn), how) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return p
}

// draw decides about the next connection: a cut within the request's head, within its
// body, or within the answer.
func (p *cutter) draw(string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.r.IntN(4) > 0 {
		return
	}
	c := &cut{reset: p.r.IntN(2) == 0}
	switch p.r.IntN(4) {
	case 0:
		c.down, c.after = true, p.r.Int64N(400)
	case 1:
		c.after = p.r.Int64N(400)
	case 2:
		c.after, c.half = p.r.Int64N(8<<10), true
	default:
		c.after = int64(float64(20<<20) * p.r.Float64() * p.r.Float64() * p.r.Float64())
	}
	p.next = c
}

// carry carries bytes both ways until the cut.
func (p *cutter) carry(client *net.TCPConn, how *cut) {
	defer client.Close()
	d, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	daemon := d.(*net.TCPConn)
	defer daemon.Close()
	var once sync.Once
	end := func() {
		once.Do(func() {
			if how != nil && how.reset {
				client.SetLinger(0)
				daemon.SetLinger(0)
			}
			client.Close()
			daemon.Close()
		})
	}
	var both sync.WaitGroup
	both.Go(func() {
		if how == nil || how.down {
			io.Copy(daemon, client)
			daemon.CloseWrite()
			return
		}
		io.CopyN(daemon, client, how.after)
		if how.half {
			daemon.CloseWrite()
			return
		}
		end()
	})
	both.Go(func() {
		if how == nil || !how.down {
			io.Copy(client, daemon)
		} else {
			io.CopyN(client, daemon, how.after)
		}
		end()
	})
	both.Wait()
}

// round runs the clients, and then looks at everything.
func (s *pushStorm) round(n int, clients func(c *stormClient)) {
	var all sync.WaitGroup
	for _, c := range s.clients {
		clients(c)
		all.Go(func() {
			c.run(s.Context(), n)
			c.http.http.CloseIdleConnections()
		})
	}
	all.Wait()
}

func (s *pushStorm) wantWell(round int) {
	s.Helper()
	if s.finding() == nil {
		s.wantSound()
	}
	if err := s.finding(); err != nil {
		s.Fatalf("seed %d, round %d: %v\nwhat was done: %v", s.seed, round, err, s.did)
	}
}

// The connections of the clients are cut at any byte of any request and answer: what
// was acknowledged is there, what was not can be gone on with, nothing is half there.
func TestPushesWhoseConnectionsAreCut(t *testing.T) {
	for i, b := range []func(*host){onS3("minio"), onFolder} {
		t.Run([]string{"minio", "folder"}[i], func(t *testing.T) {
			h := newHost(t, b, mayPush)
			s := newPushStorm(h, *pushSeed+uint64(i))
			for round := range wireRounds() {
				s.cuts.Store(true)
				s.round(40, func(c *stormClient) {
					p := newCutter(t, s.url, rand.New(rand.NewPCG(s.seed, uint64(round*pushClients+c.id))))
					c.http = newPushClient(p.url)
					c.http.http.Transport.(*http.Transport).DisableKeepAlives = true
					c.http.before = p.draw
				})
				s.wantWell(round)
			}
			s.cuts.Store(false)
			s.wantGoneOn()
			s.wantNothingLeft()
			if err := s.finding(); err != nil {
				t.Fatalf("seed %d: %v\nwhat was done: %v", s.seed, err, s.did)
			}
			t.Logf("what was done: %v", s.did)
		})
	}
}

// pushFaults are the ways in which a bucket fails those who push.
var pushFaults = []struct {
	name  string
	fault s3test.Fault
}{
	{"500", s3test.Fault{Status: 500}},
	{"503", s3test.Fault{Status: 503}},
	{"503, later", s3test.Fault{Status: 503, RetryAfter: "1"}},
	{"403", s3test.Fault{Status: 403}},
	{"full", s3test.Fault{Status: 507, Code: "XMinioStorageFull"}},
	{"quota", s3test.Fault{Status: 403, Code: "QuotaExceeded"}},
	{"dropped", s3test.Fault{Drop: true}},
	{"done, and the answer lost", s3test.Fault{Lose: true}},
	{"slow", s3test.Fault{Latency: 300 * time.Millisecond}},
	{"cut", s3test.Fault{CutAfter: 40}},
}

// writeOps are what a push asks of a bucket; "" is all of it.
var writeOps = []string{"", "put", "upload_part", "copy_part", "create_multipart", "complete_multipart", "stat", "get", "delete", "list"}

// The bucket fails in every way while five clients push to it; in the pauses it is
// well.
func TestPushesToABucketThatFails(t *testing.T) {
	for i, sdk := range []string{"minio", "aws"} {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, onS3(sdk), mayPush)
			s := newPushStorm(h, *pushSeed+uint64(i)+100)
			bucket := s.bucket.(s3Bucket)
			r := rand.New(rand.NewPCG(s.seed, 1<<33))
			for round := range wireRounds() {
				s.ill.Store(true)
				ended, over := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(over)
					for {
						f, op, every := pushFaults[r.IntN(len(pushFaults))], writeOps[r.IntN(len(writeOps))], int64(1+r.IntN(4))
						s.count("bucket: " + f.name)
						choose, n := s3test.Always(op, f.fault), atomic.Int64{}
						bucket.Fault(func(q *http.Request) *s3test.Fault {
							if chosen := choose(q); chosen != nil && n.Add(1)%every == 0 {
								return chosen
							}
							return nil
						})
						select { // the seed's spans, not waits for anything
						case <-ended:
							return
						case <-time.After(time.Duration(10+r.IntN(300)) * time.Millisecond):
						}
						bucket.Up()
						select {
						case <-ended:
							return
						case <-time.After(time.Duration(r.IntN(200)) * time.Millisecond):
						}
					}
				}()
				s.round(25, func(c *stormClient) { c.http = newPushClient(s.url) })
				close(ended)
				<-over
				bucket.Up()
				s.wantBucketWell()
				s.wantWell(round)
			}
			s.ill.Store(false)
			s.wantGoneOn()
			s.wantNothingLeft()
			if err := s.finding(); err != nil {
				t.Fatalf("seed %d: %v\nwhat was done: %v", s.seed, err, s.did)
			}
			t.Logf("what was done: %v", s.did)
		})
	}
}

// wantBucketWell waits until the daemon takes pushes again: it leaves a bucket alone
// for a while that failed it.
func (s *pushStorm) wantBucketWell() {
	s.Helper()
	p := newPushClient(s.url)
	defer p.http.CloseIdleConnections()
	r := rand.New(rand.NewPCG(s.seed, 1<<34))
	s.await("the daemon to push again", func() bool {
		m := s.clients[0].draw()
		return p.push(s.Context(), r, "POST", &sending{repo: "team/well", blob: m, digest: m.Digest}) == nil
	})
}
