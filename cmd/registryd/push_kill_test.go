package main

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostlocal/s3store/s3test"
)

// These tests kill the daemon in the middle of pushes, as often as one asks:
//
//	go test ./cmd/registryd -run TestKilledAtAnyMomentOfPushes -push.seed=7 -push.kills=1000
//
//	clients ──> daemon (killed) ──> bucket
//	                                  │ looked at after each kill: sound? all acknowledged there?
//	                                  └──> another daemon with an empty cache: all served?
var (
	pushSeed  = flag.Uint64("push.seed", 1, "seed of the tests of pushes under faults")
	pushKills = flag.Int("push.kills", 0, "how often TestKilledAtAnyMomentOfPushes kills the daemon; 0: 40, or 12 with -short")
)

// killsAnEra is how many kills one bucket sees: few enough for its bytes to stay in
// memory.
const killsAnEra = 20

// longestLife is how long a daemon lives, unless it is killed at a call of the bucket
// before.
const longestLife = 250 * time.Millisecond

func TestKilledAtAnyMomentOfPushes(t *testing.T) {
	kills := *pushKills
	if kills == 0 {
		kills = 40
		if testing.Short() {
			kills = 12
		}
	}
	for era := 0; kills > 0; era++ {
		b := []struct {
			name string
			on   func(*host)
		}{{"minio", onS3("minio")}, {"folder", onFolder}, {"aws", onS3("aws")}}[era%3]
		seed, n := *pushSeed+uint64(era), min(kills, killsAnEra)
		kills -= n
		if !t.Run(fmt.Sprintf("seed=%d, %s", seed, b.name), func(t *testing.T) { killPushes(t, seed, n, b.on) }) {
			return
		}
	}
}

// killPushes kills a daemon so many times.
func killPushes(t *testing.T, seed uint64, kills int, on func(*host)) {
	h, _ := newProgram(t, on, mayPush)
	s := newPushStorm(h, seed)
	r := rand.New(rand.NewPCG(seed, 1<<32))
	for k := range kills {
		at := s.killed(r)
		if s.finding() == nil {
			s.wantSound()
		}
		if err := s.finding(); err != nil {
			t.Fatalf("seed %d, kill %d, %s: %v\nwhat was done: %v", seed, k, at, err, s.did)
		}
	}
	s.wantGoneOn()
	s.wantNothingLeft()
	if err := s.finding(); err != nil {
		t.Fatalf("seed %d: %v\nwhat was done: %v", seed, err, s.did)
	}
	t.Logf("%d kills; what was done: %v", kills, s.did)
}

// killed lets the clients push until the daemon is killed: at some moment, or at some
// call of the bucket, which was done by then or was not. It returns where, and the
// daemon runs again.
func (s *pushStorm) killed(r *rand.Rand) (at string) {
	reached := make(chan struct{})
	fake, onFake := s.bucket.(s3Bucket)
	life := time.Duration(r.Int64N(int64(longestLife)))
	var mu sync.Mutex // guards n, and at until the daemon has been killed
	n := 0
	if onFake && r.IntN(3) > 0 {
		var done bool
		n, done = 1+r.IntN(90), r.IntN(2) == 0
		at = fmt.Sprintf("at call %d of the bucket, done: %v", n, done)
		life = 3 * time.Second
		fake.Fault(func(q *http.Request) *s3test.Fault {
			mu.Lock()
			defer mu.Unlock()
			if n--; n != 0 {
				return nil
			}
			at += ", " + s3test.Op(q) + " " + s3test.Key(q)
			close(reached)
			s.over.Store(true)
			s.stop() // by SIGKILL
			if !done {
				return &s3test.Fault{Drop: true}
			}
			return nil
		})
	} else {
		at = fmt.Sprintf("after %v", life)
	}
	var clients sync.WaitGroup
	for _, c := range s.clients {
		c.http = newPushClient(s.url)
		clients.Go(func() { c.run(s.Context(), 1<<20) })
	}
	select {
	case <-reached:
	case <-time.After(life): // the seed's moment, not a wait for anything
	}
	mu.Lock()
	n = 0 // a call that was on its way is none at which the next daemon is killed
	mu.Unlock()
	s.over.Store(true)
	s.stop()
	clients.Wait()
	if onFake {
		fake.Up()
	}
	for _, c := range s.clients {
		c.http.http.CloseIdleConnections()
	}
	if s.finding() == nil {
		s.launch()
		s.over.Store(false)
	}
	return at
}

// wantSound looks at the bucket, has another daemon serve what was acknowledged, and
// asks for the uploads that broke off.
func (s *pushStorm) wantSound() {
	s.Helper()
	err := s.audit.audit()
	if err == nil {
		err = s.ledger.missing(s.audit)
	}
	if err == nil {
		n := s.neighbour()
		err = s.ledger.served(s.Context(), n.url, 5)
		n.stop()
		os.RemoveAll(n.dir)
	}
	for _, c := range s.clients {
		for _, u := range c.broken {
			if err != nil {
				break
			}
			_, err = newPushClient(s.url).status(s.Context(), u)
		}
	}
	if err != nil {
		s.found("%w", err)
	}
}

// wantGoneOn goes on with all that broke off.
func (s *pushStorm) wantGoneOn() {
	for _, c := range s.clients {
		c.http = newPushClient(s.url)
		for len(c.broken) > 1 && s.finding() == nil { // one is left for the expiry
			c.goOn(s.Context())
		}
		c.http.http.CloseIdleConnections()
	}
	if s.finding() == nil {
		s.wantSound()
	}
}

// wantNothingLeft has the daemon be one to which a moment is a day, and waits until
// nothing is left of what broke off.
func (s *pushStorm) wantNothingLeft() {
	s.Helper()
	s.stop()
	s.expiry = 50 * time.Millisecond
	s.start()
	s.await("the disk to be rid of uploads", func() bool {
		left, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
		return err == nil && len(left) <= 1 // the boot that they are of
	})
	if b, ok := s.bucket.(s3Bucket); ok {
		// Not Uploads: one that was begun for a daemon that was killed before it heard
		// of it has no parts, and nobody knows it.
		s.await("the bucket to be rid of parts", func() bool { return b.LooseParts("docker/") == 0 })
		s.Logf("%d empty uploads are left to the bucket's own rule; %d parts were copied", b.Uploads(), b.Count("copy_part"))
	} else {
		s.await("the folder to be rid of parts", func() bool {
			left := 0
			filepath.WalkDir(filepath.Join(s.bucket.(folderBucket).dir, ".registryd-tmp"), func(path string, e fs.DirEntry, err error) error {
				// Not its key: one without parts is as above.
				if err == nil && e.Type().IsRegular() && strings.Contains(path, "/upload-") && e.Name() != "key" {
					left++
				}
				return nil
			})
			return left == 0
		})
	}
	s.await("the bucket to be rid of stages", func() bool {
		return !slices.ContainsFunc(s.bucket.keys(), func(key string) bool { return strings.Contains(key, "/_uploads/") })
	})
	if err := s.audit.audit(); err != nil {
		s.found("%w", err)
	} else if err := s.ledger.missing(s.audit); err != nil {
		s.found("%w", err)
	}
}
