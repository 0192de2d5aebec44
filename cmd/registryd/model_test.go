package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// The model test (model_*_test.go) drives three daemons whole, on one bucket and
// one upstream, from a seed for as long as one asks: many clients, tags that move,
// faults at every wire, files that rot, restarts and kills, all at once. Beside it
// runs a model that knows every byte and what each tag stood for when, and judges
// each answer; now and then everything is healed, and what is left on the disks
// and in the bucket is looked at byte by byte.
//
//	go test ./cmd/registryd -run TestModel -model.seed=7 -model.ops=1250
//	go test ./cmd/registryd -run TestModel -model.for=1h -timeout=0
//
// What is mirrored is judged by what the upstream had when (model_truth_test.go), what
// is pushed to the bucket's own repositories by who was told what when
// (model_own_truth_test.go): a tag that was acknowledged is what every host says at
// once, what was deleted is gone here at once and elsewhere within the TTL of links, and
// what a tag stands for is whole.
//
// An era is one seed's: three empty caches, an empty bucket, an upstream. Operation i
// of an era follows from the seed and i alone; what clients do meanwhile is up to
// the scheduler, so that a seed repeats the story and not each interleaving of it.
//
//	ticket i ──> op ──> client ───> daemon a ──┬──> bucket (faults)
//	                └─> world: tags, faults,   │
//	                    files, restarts    daemon b ──┤
//	                                       daemon c ──┴──> upstream (faults)
//	every phase: heal, be quiet, look at everything
var (
	modelSeed = flag.Uint64("model.seed", 0, "first seed of the model test; 0: the fixed ones, and a random one at last")
	modelOps  = flag.Int("model.ops", 0, "operations of the model test; 0: 10,000, and one era of them with -short")
	modelFor  = flag.Duration("model.for", 0, "how long the model test goes on, instead of a number of operations")
)

const (
	// eraOps is how many operations one era has: enough for the caches to have been
	// full several times, and few enough for all the bytes to stay in memory.
	eraOps = 1250

	// phaseOps lie between two looks at everything.
	phaseOps = 250
)

func TestModel(t *testing.T) {
	credentials()
	ops := *modelOps
	if ops == 0 {
		ops = 10_000
		if testing.Short() {
			ops = eraOps
		}
	}
	begun, done := time.Now(), 0
	goesOn := func() bool {
		if *modelFor > 0 {
			return time.Since(begun) < *modelFor
		}
		return done < ops
	}
	for seed := max(*modelSeed, 1); goesOn() && !t.Failed(); {
		// Two at a time: an era that waits for a fault to end leaves room for another.
		t.Run("eras", func(t *testing.T) {
			for range 2 {
				if !goesOn() {
					break
				}
				n := eraOps
				if *modelFor == 0 {
					n = min(n, ops-done)
				}
				s := seed
				if last := done+n >= ops; last && *modelFor == 0 && *modelSeed == 0 {
					s = rand.Uint64()
				}
				done += n
				seed++
				t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
					t.Parallel()
					runEra(t, s, n)
				})
			}
		})
	}
	t.Logf("%d operations in %v", done, time.Since(begun).Round(time.Millisecond))
}

// runEra plays one seed's era.
func runEra(t *testing.T, seed uint64, ops int) {
	w := newWorld(t, seed)
	for from := 0; from < ops && w.ok(); from += phaseOps {
		w.play(from, min(from+phaseOps, ops))
		if w.ok() {
			w.quiet()
		}
	}
	t.Logf("%s\n%d copies of parts, those of probes included; %d of stages fell into a fault", w.tally.summary(), w.s3.Count("copy_part"), w.copiesFailed.Load())
}
