package registryd

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hostlocal/registryd/upstream"
)

func TestColdGetByTagIsOneRequest(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		if a := w.mustGet("library/app:v1", im); a.Source != SourceFill || a.Warning != "" {
			w.t.Fatalf("source %q, warning %q", a.Source, a.Warning)
		}
		w.mustGet("library/app@"+im.d.String(), im)
		if w.wantCalls(&w.hub.calls, "", 1); w.hub.count("GET") != 1 {
			w.t.Fatal("the one request is not a GET")
		}
	}, withoutBucket)
}

func TestHeadThenGetByDigestIsTwoRequests(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		a, err := w.head("library/app:v1")
		if err != nil {
			w.t.Fatal(err)
		}
		w.wantImage(a, im)
		if a.Size != int64(len(im.body)) || a.Manifest.MediaType == "" || a.Manifest.Body != nil || a.Source != SourceUpstream {
			w.t.Fatalf("answer to HEAD: %+v", a)
		}
		if a := w.mustGet("library/app@"+im.d.String(), im); a.Source != SourceFill {
			w.t.Fatalf("source %q", a.Source)
		}
		if a, _ := w.head("library/app:v1"); a.Source != SourceDisk || a.Size != int64(len(im.body)) {
			w.t.Fatalf("second HEAD: %+v", a)
		}
		w.wantCalls(&w.hub.calls, "", 2)
	}, withoutBucket)
}

func TestHeadWithoutDigestMakesAGet(t *testing.T) {
	within(t, func(w *world) {
		w.hub.headless = true
		im := w.hub.push(w.t, "library/app:v1", "one")
		a, err := w.head("library/app:v1")
		if err != nil {
			w.t.Fatal(err)
		}
		w.wantImage(a, im)
		w.wantCalls(&w.hub.calls, "GET", 1)
	}, withoutBucket)
}

func TestWarmTagWithinItsTTLAsksNobody(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		synctest.Wait()
		up, bucket := w.hub.count(""), w.bucket.count("")
		time.Sleep(59 * time.Second)
		for range 10 {
			w.pull("library/app:v1", im)
		}
		w.wantCalls(&w.hub.calls, "", up)
		w.wantCalls(&w.bucket.calls, "", bucket)
	})
}

func TestTagIsConfirmedAgainAfterItsTTL(t *testing.T) {
	within(t, func(w *world) {
		old := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", old)
		moved := w.hub.push(w.t, "library/app:v1", "two")
		w.mustGet("library/app:v1", old)
		time.Sleep(time.Minute)
		if a := w.mustGet("library/app:v1", moved); a.Warning != "" {
			w.t.Fatalf("warning %q", a.Warning)
		}
		w.wantCalls(&w.hub.calls, "HEAD", 1)
		w.wantCalls(&w.hub.calls, "GET", 2)
	}, withoutBucket)
}

func TestAThousandClientsOfATagAreOneRequest(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		gate := make(chan struct{})
		w.hub.on("GET", func(context.Context) error { <-gate; return nil })
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { w.mustGet("library/app:v1", im) })
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		w.wantCalls(&w.hub.calls, "", 1)
	}, withoutBucket)
}

// The faults that are an outage: the last known digest is served.
func TestOutageServesTheLastKnownWithWarning(t *testing.T) {
	faults := map[string]func(*calls){
		"refused": func(c *calls) { c.fail("", errOutage) },
		"stalled": func(c *calls) { c.stall("") },
		"429":     func(c *calls) { c.fail("", rateLimit(30*time.Second)) },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				im := w.hub.push(w.t, "library/app:v1", "one")
				w.pull("library/app:v1", im)
				synctest.Wait()
				time.Sleep(2 * time.Minute)
				fault(&w.hub.calls)
				fault(&w.bucket.calls)
				for i, bound := range []time.Duration{2 * time.Second, 0, 0} {
					w.took(bound, func() {
						for _, ask := range []func(string) (Answer, error){w.get, w.head} {
							a, err := ask("library/app:v1")
							if err != nil {
								w.t.Fatalf("%d: %v", i, err)
							}
							w.wantImage(a, im)
							if !strings.HasPrefix(a.Warning, `299 - "`) || !strings.HasSuffix(a.Warning, `"`) {
								w.t.Fatalf("warning %q", a.Warning)
							}
						}
					})
				}
				w.restart()
				w.took(2*time.Second, func() {
					if a := w.mustGet("library/app:v1", im); a.Warning == "" {
						w.t.Fatal("no warning after the restart")
					}
				})
				w.hub.heal()
				w.bucket.heal()
				time.Sleep(time.Minute)
				if a := w.mustGet("library/app:v1", im); a.Warning != "" {
					w.t.Fatalf("healed, but warning %q", a.Warning)
				}
			})
		})
	}
}

// rateLimit is an outage that says how long it lasts.
func rateLimit(after time.Duration) error {
	return &upstream.Error{Upstream: "hub", Status: http.StatusTooManyRequests, RetryAfter: after}
}

func TestBackOffEndsWithRetryAfter(t *testing.T) {
	for _, c := range []struct {
		name  string
		p     Policy
		err   error
		quiet time.Duration // for so long nobody is asked
	}{
		{"ttl 1m", Policy{TTL, time.Minute}, errOutage, 5 * time.Second},
		{"ttl 2s", Policy{TTL, 2 * time.Second}, errOutage, 2 * time.Second},
		{"Retry-After 30 s", Policy{TTL, 2 * time.Second}, rateLimit(30 * time.Second), 30 * time.Second},
		{"Retry-After 1 h is a minute", Policy{TTL, 2 * time.Second}, rateLimit(time.Hour), time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			within(t, func(w *world) {
				im := w.hub.push(w.t, "library/app:v1", "one")
				w.mustGet("library/app:v1", im)
				time.Sleep(2 * time.Minute)
				w.hub.fail("", c.err)
				w.mustGet("library/app:v1", im)
				w.hub.heal()
				time.Sleep(c.quiet - time.Millisecond)
				if a := w.mustGet("library/app:v1", im); a.Warning == "" {
					w.t.Fatal("asked before the back-off ended")
				}
				time.Sleep(2 * time.Millisecond)
				if a := w.mustGet("library/app:v1", im); a.Warning != "" {
					w.t.Fatalf("not asked after the back-off: %s", a.Warning)
				}
			}, withoutBucket, policy(c.p))
		})
	}
}

func TestNothingKnownAndAnOutageIsAnErrorWithinTenSeconds(t *testing.T) {
	within(t, func(w *world) {
		w.hub.stall("")
		w.bucket.stall("")
		w.took(10*time.Second, func() {
			_, err := w.get("library/app:v1")
			w.wantOutage(err)
		})
		w.hub.heal()
		w.bucket.heal()
		time.Sleep(flightLimit)
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", im)
	})
}

func TestABoundEndsTheAnswerNotTheWork(t *testing.T) {
	within(t, func(w *world) {
		old := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", old)
		moved := w.hub.push(w.t, "library/app:v1", "two")
		time.Sleep(time.Minute)
		w.hub.on("HEAD", func(context.Context) error { time.Sleep(7 * time.Second); return nil })
		w.took(2*time.Second, func() { w.mustGet("library/app:v1", old) })
		time.Sleep(7 * time.Second)
		if a := w.mustGet("library/app:v1", moved); a.Warning != "" {
			w.t.Fatalf("warning %q", a.Warning)
		}
		w.wantCalls(&w.hub.calls, "HEAD", 1)
	}, withoutBucket)
}

func TestAnUpstreamsNoIsAnAnswer(t *testing.T) {
	for _, no := range []error{fs.ErrNotExist, fs.ErrPermission} {
		t.Run(no.Error(), func(t *testing.T) {
			within(t, func(w *world) {
				im := w.hub.push(w.t, "library/app:v1", "one")
				w.pull("library/app:v1", im)
				time.Sleep(time.Minute)
				w.hub.fail("", fmt.Errorf("hub: %w", no))
				for range 3 {
					if _, err := w.get("library/app:v1"); err == nil || !answered(err) {
						w.t.Fatalf("got %v, want %v", err, no)
					}
				}
				w.wantCalls(&w.hub.calls, "HEAD", 2)
				// An outage after it does not bring the old image back.
				w.hub.fail("", errOutage)
				time.Sleep(maxRefusal)
				_, err := w.get("library/app:v1")
				w.wantOutage(err)
				w.hub.heal()
				time.Sleep(maxBackoff)
				w.mustGet("library/app:v1", im)
			})
		})
	}
}

func TestImmutableTagIsNeverAskedForAgain(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		w.mustGet("library/app:v1", im)
		w.hub.push(w.t, "library/app:v1", "two")
		time.Sleep(1000 * time.Hour)
		if a := w.mustGet("library/app:v1", im); a.Warning != "" {
			w.t.Fatalf("warning %q", a.Warning)
		}
		w.wantCalls(&w.hub.calls, "", 1)
	}, policy(Policy{Mode: Immutable}))
}

func TestImmutableTagIsTakenFromTheBucketAlone(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(w.t, "docker.io/library/app:v1", "one")
		if a := w.mustGet("library/app:v1", im); a.Warning != "" || a.Source != SourceFill {
			w.t.Fatalf("%+v", a)
		}
		w.wantCalls(&w.hub.calls, "", 0)
	}, policy(Policy{Mode: Immutable}))
}

func TestOfflinePolicyAsksTheBucketOnly(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(w.t, "docker.io/library/app:v1", "one")
		w.hub.push(w.t, "library/app:v1", "two")
		w.hub.push(w.t, "library/app:v2", "two")
		w.mustGet("library/app:v1", im)
		_, err := w.get("library/app:v2")
		w.wantMiss(err)
		w.bucket.fail("TAG", errOutage)
		time.Sleep(maxRefusal)
		_, err = w.get("library/app:v3")
		w.wantOutage(err)
		w.wantCalls(&w.hub.calls, "", 0)
	}, policy(Policy{Mode: Offline}))
}

func TestAlwaysPolicyAsksEachTime(t *testing.T) {
	within(t, func(w *world) {
		w.mustGet("library/app:v1", w.hub.push(w.t, "library/app:v1", "one"))
		w.mustGet("library/app:v1", w.hub.push(w.t, "library/app:v1", "two"))
		w.mustGet("library/app:v1", w.hub.push(w.t, "library/app:v1", "three"))
		w.wantCalls(&w.hub.calls, "HEAD", 2)
	}, withoutBucket, policy(Policy{Mode: Always}))
}

func TestTheBucketsTagIsTheLastKnownNotTheTruth(t *testing.T) {
	within(t, func(w *world) {
		w.bucket.push(w.t, "docker.io/library/app:v1", "old")
		im := w.hub.push(w.t, "library/app:v1", "new")
		if a := w.mustGet("library/app:v1", im); a.Warning != "" {
			w.t.Fatalf("warning %q", a.Warning)
		}
	})
}

func TestTheBucketsTagIsServedWhileTheUpstreamIsOut(t *testing.T) {
	for name, fault := range map[string]func(*calls){
		"refused": func(c *calls) { c.fail("", errOutage) },
		"stalled": func(c *calls) { c.stall("") },
	} {
		t.Run(name, func(t *testing.T) {
			within(t, func(w *world) {
				im := w.bucket.push(w.t, "docker.io/library/app:v1", "one")
				fault(&w.hub.calls)
				w.took(2*time.Second, func() {
					if a := w.mustGet("library/app:v1", im); a.Warning == "" {
						w.t.Fatal("no warning")
					}
				})
				if b, err := w.blob("library/app", im.layerDigest()); err != nil || im.layerDigest().Verify(b) != nil {
					w.t.Fatal(err)
				}
			})
		})
	}
}

func TestAManifestInTheBucketIsNotGotFromTheUpstream(t *testing.T) {
	within(t, func(w *world) {
		im := w.bucket.push(w.t, "docker.io/library/app:v1", "one")
		w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", im)
		w.mustGet("library/app:v1", im)
		w.wantCalls(&w.hub.calls, "HEAD", 1)
		w.wantCalls(&w.hub.calls, "", 1)
	})
}

func TestWhileTheUpstreamIsOutAWholeImageIsPreferred(t *testing.T) {
	within(t, func(w *world) {
		old := w.hub.push(w.t, "library/app:v1", "one")
		w.pull("library/app:v1", old)
		moved := w.hub.push(w.t, "library/app:v1", "two")
		time.Sleep(time.Minute)
		a, err := w.head("library/app:v1")
		if err != nil {
			w.t.Fatal(err)
		}
		w.wantImage(a, moved)
		w.hub.fail("", errOutage)
		if a := w.mustGet("library/app:v1", old); a.Warning == "" {
			w.t.Fatal("no warning")
		}
		time.Sleep(time.Minute)
		if a := w.mustGet("library/app:v1", old); a.Warning == "" {
			w.t.Fatal("no warning")
		}
	}, withoutBucket)
}

func TestAnOutageOfOneUpstreamDoesNotDelayItsOtherTags(t *testing.T) {
	within(t, func(w *world) {
		var images []image
		for i := range 5 {
			images = append(images, w.hub.push(w.t, fmt.Sprintf("library/app:v%d", i), fmt.Sprint(i)))
			w.mustGet(fmt.Sprintf("library/app:v%d", i), images[i])
		}
		time.Sleep(time.Minute)
		w.hub.stall("")
		w.took(2*time.Second, func() {
			for i := range 5 {
				w.mustGet(fmt.Sprintf("library/app:v%d", i), images[i])
			}
		})
	}, withoutBucket)
}

func TestOwnTagsAreTheBuckets(t *testing.T) {
	within(t, func(w *world) {
		_, err := w.get("own/app:v1")
		w.wantMiss(err)
		im := w.bucket.push(w.t, "own/app:v1", "one")
		w.pull("own/app:v1", im) // a refusal of an own name is not kept
		w.bucket.fail("", errOutage)
		if a := w.mustGet("own/app:v1", im); a.Warning == "" {
			w.t.Fatal("no warning")
		}
		w.wantCalls(&w.hub.calls, "", 0)
	})
}

func TestABareNameIsServedWithinTwoSecondsWhileAllIsStalled(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "team/app:v1", "one")
		w.pull("team/app:v1", im)
		synctest.Wait()
		time.Sleep(time.Hour)
		w.hub.stall("")
		w.bucket.stall("")
		w.took(2*time.Second, func() {
			if a := w.mustGet("team/app:v1", im); a.Warning == "" {
				w.t.Fatal("no warning")
			}
		})
	}, func(w *world) { w.bucket.patience = time.Second })
}

// In a stall the first request waits out the bound; those after it do not, though
// the tag is to be asked for at each request. When the source is well it is.
func TestAStallCostsTheBoundOnceWithThePolicyAlways(t *testing.T) {
	within(t, func(w *world) {
		im := w.hub.push(w.t, "library/app:v1", "one")
		own := w.bucket.push(w.t, "own/app:v1", "own")
		w.mustGet("library/app:v1", im)
		w.mustGet("own/app:v1", own)
		// Each question is given up after 5 s, as the clients do.
		for _, c := range []*calls{&w.hub.calls, &w.bucket.calls} {
			c.on("", func(context.Context) error { time.Sleep(5 * time.Second); return errOutage })
		}
		for name, im := range map[string]image{"library/app:v1": im, "own/app:v1": own} {
			w.took(tagLimit, func() { w.mustGet(name, im) })
			var waited time.Duration
			const requests = 600
			for range requests { // a minute's
				start := time.Now()
				if a := w.mustGet(name, im); a.Warning == "" {
					w.t.Fatal("no warning")
				}
				waited += time.Since(start)
				time.Sleep(100 * time.Millisecond)
			}
			if mean := waited / requests; mean > 20*time.Millisecond {
				w.t.Errorf("%s: a request waited %v on average", name, mean)
			}
		}
		w.hub.heal()
		w.bucket.heal()
		time.Sleep(5*time.Second + alwaysBackoff) // what was asked in the stall has failed
		moved := w.hub.push(w.t, "library/app:v1", "two")
		for name, im := range map[string]image{"library/app:v1": moved, "own/app:v1": own} {
			if a := w.mustGet(name, im); a.Warning != "" {
				w.t.Errorf("%s: healed, but warning %q", name, a.Warning)
			}
		}
		asked := w.hub.count("HEAD")
		w.mustGet("library/app:v1", moved)
		w.wantCalls(&w.hub.calls, "HEAD", asked+1)
	}, policy(Policy{Mode: Always}))
}
