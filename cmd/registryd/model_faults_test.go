package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

const (
	// hubGrace is for how long after its end a fault of the upstream may be the
	// reason of an outage, and bucketGrace the same of the bucket, which is left
	// alone for 5 s when it failed too often.
	hubGrace    = time.Second
	bucketGrace = 7 * time.Second

	// suspicionLasts is for how long after wrong bytes a range that does not begin
	// at the first byte may be refused: 60 s, and the time of the fill.
	suspicionLasts = 80 * time.Second
)

// A hubFault is one way in which an upstream fails.
type hubFault struct {
	name  string
	odd   bool // is no failure: such upstreams are served
	wrong bool // may send wrong bytes
	make  func(r *rand.Rand) hubtest.Fault
}

var hubFaults = []hubFault{
	{name: "down"}, // has no plan: nobody listens
	{name: "stall", make: func(*rand.Rand) hubtest.Fault { return hubtest.Stall() }},
	{name: "stall after", make: func(r *rand.Rand) hubtest.Fault { return hubtest.StallAfter(r.Int64N(256 << 10)) }},
	{name: "latency", make: func(r *rand.Rand) hubtest.Fault {
		return hubtest.Latency(time.Duration(20+r.IntN(1500)) * time.Millisecond)
	}},
	{name: "rate", make: func(r *rand.Rand) hubtest.Fault { return hubtest.Rate(128<<10 + r.Int64N(2<<20)) }},
	{name: "drop", make: func(*rand.Rand) hubtest.Fault { return hubtest.Drop() }},
	{name: "cut", make: func(r *rand.Rand) hubtest.Fault { return hubtest.CutEvery(1 + r.Int64N(512<<10)) }},
	{name: "reset", make: func(r *rand.Rand) hubtest.Fault { return hubtest.ResetEvery(1 + r.Int64N(512<<10)) }},
	{name: "status", make: func(r *rand.Rand) hubtest.Fault {
		return hubtest.Status([]int{500, 502, 503, 504}[r.IntN(4)])
	}},
	{name: "too many", make: func(r *rand.Rand) hubtest.Fault { return hubtest.TooMany(r.IntN(3) - 1) }},
	{name: "flip", wrong: true, make: func(r *rand.Rand) hubtest.Fault { return hubtest.Flip(r.Int64N(1<<10), r.Int64N(1<<20)) }},
	{name: "zero", wrong: true, make: func(r *rand.Rand) hubtest.Fault { return hubtest.Zero(r.Int64N(1<<10), 1+r.Int64N(1<<16)) }},
	{name: "short", wrong: true, make: func(r *rand.Rand) hubtest.Fault { return hubtest.Short(1 + r.Int64N(1<<10)) }},
	{name: "long", wrong: true, make: func(r *rand.Rand) hubtest.Fault { return hubtest.Long(1 + r.Int64N(1<<10)) }},
	{name: "endless", wrong: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.Endless() }},
	{name: "error page", wrong: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.ErrorPage() }},
	{name: "length", wrong: true, make: func(r *rand.Rand) hubtest.Fault { return hubtest.ContentLength(r.Int64N(1 << 20)) }},
	{name: "gzip", wrong: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.Gzip() }},
	{name: "another range", wrong: true, make: func(r *rand.Rand) hubtest.Fault { return hubtest.WrongRange(1 + r.Int64N(1<<10)) }},
	{name: "chunked", odd: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.Chunked() }},
	{name: "no ranges", odd: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.NoRanges() }},
	{name: "no digest", odd: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.NoDigest() }},
	{name: "negotiates", odd: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.Negotiate() }},
	{name: "cdn", odd: true, make: func(*rand.Rand) hubtest.Fault { return hubtest.ToCDN() }},
}

// hubFault makes the upstream fail for a while; one fault at a time.
func (x *operation) hubFault() {
	w, f := x.world, hubFaults[x.r.IntN(len(hubFaults))]
	where, match := x.drawMatcher()
	lasts := 50*time.Millisecond + time.Duration(x.r.ExpFloat64()*float64(600*time.Millisecond))
	lasts = min(lasts, 6*time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hubHeals != nil {
		x.note = "there is one"
		return
	}
	x.note = fmt.Sprintf("%s, %s, for %v", f.name, where, lasts.Round(time.Millisecond))
	if !f.odd {
		w.hubHealth.ail()
	}
	if f.wrong {
		w.lastWrong = time.Now().Add(lasts)
	}
	if f.make == nil {
		w.hub.Down()
	} else {
		w.hub.Fault(match, f.make(x.r))
	}
	w.hubHeals = time.AfterFunc(lasts, w.healHub)
}

// drawMatcher draws which requests to the upstream fail.
func (x *operation) drawMatcher() (string, hubtest.Matcher) {
	switch x.r.IntN(5) {
	case 0:
		return "all", hubtest.All()
	case 1:
		return "blobs", hubtest.Of(hubtest.GetBlob, hubtest.FromCDN)
	case 2:
		return "manifests", hubtest.Manifests()
	case 3:
		repo := x.world.truth.drawRepo(x.r)
		return repo.name, hubtest.Repo(repo.name)
	}
	var n atomic.Int64
	return "every third", func(*hubtest.Request) bool { return n.Add(1)%3 == 0 }
}

func (w *world) healHub() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hubHeals == nil {
		return
	}
	w.hubHeals.Stop()
	w.hubHeals = nil
	w.hub.Heal()
	w.hubHealth.heal(hubGrace)
}

// suspect reports whether a source may have sent wrong bytes, so long before t that
// it may still be seen.
func (w *world) suspect(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.lastWrong.IsZero() && t.Sub(w.lastWrong) < suspicionLasts
}

// A bucketFault is one way in which a bucket fails.
type bucketFault struct {
	name  string
	wrong bool
	make  func(r *rand.Rand) s3test.Fault
}

var bucketFaults = []bucketFault{
	{name: "status", make: func(r *rand.Rand) s3test.Fault {
		return s3test.Fault{Status: []int{500, 503, 403, 429}[r.IntN(4)]}
	}},
	{name: "again later", make: func(*rand.Rand) s3test.Fault { return s3test.Fault{Status: 503, RetryAfter: "1"} }},
	{name: "drop", make: func(*rand.Rand) s3test.Fault { return s3test.Fault{Drop: true} }},
	{name: "lose the answer", make: func(*rand.Rand) s3test.Fault { return s3test.Fault{Lose: true} }},
	{name: "latency", make: func(r *rand.Rand) s3test.Fault {
		return s3test.Fault{Latency: time.Duration(20+r.IntN(1500)) * time.Millisecond}
	}},
	{name: "stall before", make: func(*rand.Rand) s3test.Fault { return s3test.Fault{StallBefore: true} }},
	{name: "stall at the header", make: func(*rand.Rand) s3test.Fault { return s3test.Fault{StallHeader: true} }},
	{name: "stall after", make: func(r *rand.Rand) s3test.Fault { return s3test.Fault{StallAfter: 1 + r.Int64N(256<<10)} }},
	{name: "cut", make: func(r *rand.Rand) s3test.Fault { return s3test.Fault{CutAfter: 1 + r.Int64N(256<<10)} }},
	{name: "cut, no length", make: func(r *rand.Rand) s3test.Fault {
		return s3test.Fault{CutAfter: 1 + r.Int64N(256<<10), Unframed: true}
	}},
	{name: "too long", wrong: true, make: func(r *rand.Rand) s3test.Fault { return s3test.Fault{Unframed: true, Extra: 1 + r.IntN(100)} }},
	{name: "flip", wrong: true, make: func(r *rand.Rand) s3test.Fault { return s3test.Fault{FlipAt: 1 + r.Int64N(64<<10)} }},
}

// bucketOps are those that may fail alone, beside all.
var bucketOps = []string{"", "", "get", "put", "stat", "list", "upload_part", "copy_part", "copy_part", "complete_multipart", "create_multipart"}

// bucketFault makes the bucket fail for a while.
func (x *operation) bucketFault() {
	w, r := x.world, x.r
	f := bucketFaults[r.IntN(len(bucketFaults))]
	op, every := bucketOps[r.IntN(len(bucketOps))], int64(1+r.IntN(3))
	lasts := 50*time.Millisecond + time.Duration(r.ExpFloat64()*float64(600*time.Millisecond))
	lasts = min(lasts, 6*time.Second)
	fault, quirk := f.make(r), r.IntN(6)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.s3Heals != nil {
		x.note = "there is one"
		return
	}
	w.bucketHealth.ail()
	w.s3Heals = time.AfterFunc(lasts, w.healBucket)
	if quirk < 2 || fault.Status == http.StatusForbidden {
		w.refused.Store(true)
	}
	switch quirk {
	case 0:
		x.note = fmt.Sprintf("read only, for %v", lasts.Round(time.Millisecond))
		w.quirks(s3test.Quirks{ReadOnly: true})
		return
	case 1:
		x.note = fmt.Sprintf("no credentials, for %v", lasts.Round(time.Millisecond))
		w.quirks(s3test.Quirks{RefuseCredentials: true})
		return
	}
	x.note = fmt.Sprintf("%s, each %d. %q, for %v", f.name, every, op, lasts.Round(time.Millisecond))
	if f.wrong {
		w.lastWrong = time.Now().Add(lasts)
	}
	choose, n := s3test.Always(op, fault), atomic.Int64{}
	w.s3.Fault(func(r *http.Request) *s3test.Fault {
		chosen := choose(r)
		if chosen != nil && n.Add(1)%every != 0 {
			return nil
		}
		if chosen != nil && s3test.Op(r) == "copy_part" && !strings.HasPrefix(s3test.Key(r), "registryd/probe/") {
			w.copiesFailed.Add(1)
		}
		return chosen
	})
}

func (w *world) healBucket() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.s3Heals == nil {
		return
	}
	w.s3Heals.Stop()
	w.s3Heals = nil
	w.s3.Up()
	w.quirks(s3test.Quirks{})
	w.bucketHealth.heal(bucketGrace)
}
