package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

const (
	// modelClients is how many clients are at work at once in an era.
	modelClients = 24

	// modelBudget is each cache's, in bytes: a few images' worth, so that blobs are
	// evicted all the time and large ones pass through.
	modelBudget = 20 << 20

	// modelStage is from how many bytes on an own blob whose digest comes last is staged,
	// in parts of as many: half of them.
	modelStage = 64 << 10

	// bucketTakes is how long the bucket takes for an answer: less than a real one, and
	// enough for somebody to look between two writes.
	bucketTakes = 4 * time.Millisecond

	// modelTTL is for how long a tag may be believed.
	modelTTL = 50 * time.Millisecond
)

// A world is all of one era.
type world struct {
	*testing.T
	seed  uint64
	hub   *hubtest.Hub
	s3    *s3test.Server
	nodes []*node
	truth *chronicle
	own   *ownTruth
	noise *lateness
	tally tally
	log   opLog

	hubHealth, bucketHealth health

	mu        sync.Mutex    // guards what follows
	hubHeals  *time.Timer   // ends the upstream's fault, nil if there is none
	s3Heals   *time.Timer   // ends the bucket's
	allows    []*time.Timer // end prohibitions
	lastWrong time.Time     // when a source last may have sent wrong bytes

	refused atomic.Bool // the bucket did once not let itself be written

	copiesFailed atomic.Int64 // of parts, by the bucket

	over   context.Context // ends with the first finding
	end    context.CancelFunc
	failed atomic.Bool
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{T: t, seed: seed, hub: hubtest.New(t, hubtest.Seed(seed)), s3: s3test.New(t), noise: listen(t)}
	w.s3.SetModel(s3test.Model{FirstByte: bucketTakes})
	w.quirks(s3test.Quirks{})
	w.over, w.end = context.WithCancel(t.Context())
	w.truth, w.own = newChronicle(w), newOwnTruth()
	w.hubHealth.heal(0)
	w.bucketHealth.heal(0)
	// A short path: the names of unix sockets are limited to some hundred bytes.
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := rand.New(rand.NewPCG(seed, 1<<40))
	for range 12 {
		w.push(r)
	}
	kills := seed%2 == 0 // the daemons are processes, and their restarts are kills
	for i, sdk := range []string{"aws", "minio", "aws"} {
		n := newNode(w, fmt.Sprintf("%s/%c", dir, 'a'+i), sdk, kills)
		w.nodes = append(w.nodes, n)
		n.start()
	}
	t.Cleanup(func() {
		w.calm()
		for _, n := range w.nodes {
			n.stop()
		}
	})
	return w
}

// quirks has the bucket be an odd one, and take parts of modelStage in any case.
func (w *world) quirks(q s3test.Quirks) {
	q.MinPart = modelStage
	w.s3.SetQuirks(q)
}

// ok reports whether nothing was found so far.
func (w *world) ok() bool { return !w.failed.Load() }

// play runs the operations from up to to, by clients that take the next one when
// they are done with theirs.
func (w *world) play(from, to int) {
	var next atomic.Int64
	next.Store(int64(from))
	var clients sync.WaitGroup
	for range modelClients {
		clients.Go(func() {
			for w.ok() {
				i := int(next.Add(1) - 1)
				if i >= to {
					return
				}
				w.do(i)
			}
		})
	}
	clients.Wait()
}

// do runs operation i, which follows from the seed and i.
func (w *world) do(i int) {
	r := rand.New(rand.NewPCG(w.seed, uint64(i)))
	n := w.nodes[r.IntN(len(w.nodes))]
	op := drawOp(r)
	x := &operation{world: w, node: n, r: r, i: i, name: op.name, begun: time.Now()}
	op.run(x)
	x.done()
}

// found reports what must not be, with all that it takes to see it again. The
// first finding ends the era: what follows from it is not worth reading.
func (w *world) found(format string, args ...any) {
	w.Helper()
	if w.failed.Swap(true) {
		return
	}
	w.end()
	w.Errorf("seed %d: %s\n\nthe last operations:\n%s\nwhat the daemons said:\n%s\nagain: go test ./cmd/registryd -run TestModel -model.seed=%d -model.ops=%d",
		w.seed, fmt.Sprintf(format, args...), w.log.tail(), w.said(), w.seed, eraOps)
}

// said is the end of the daemons' logs.
func (w *world) said() (s string) {
	for _, n := range w.nodes {
		s += n.name + ":\n" + n.said()
	}
	return s
}

// calm ends all faults and prohibitions.
func (w *world) calm() {
	w.healHub()
	w.healBucket()
	w.mu.Lock()
	allows := w.allows
	w.allows = nil
	w.mu.Unlock()
	for _, t := range allows {
		t.Stop()
	}
	w.truth.allowAll()
}
