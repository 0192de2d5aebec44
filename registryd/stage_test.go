package registryd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"hostlocal/manifest"
)

// stagingStore is a memStore that takes blobs before their digests, in parts of 256 KiB
// once 512 KiB are there.
type stagingStore struct {
	*resuming
	off bool
}

const testPart = 256 << 10

func (s *stagingStore) StageFrom() (int64, bool) { return 2 * testPart, !s.off }

func (s *stagingStore) StageBlob(ctx context.Context, repo, id string, r io.ReaderAt, arriving func(context.Context, int64) (int64, manifest.Digest, error), note func(string)) error {
	if err := s.enter(ctx, "STAGE", repo); err != nil {
		return err
	}
	note("staged " + id)
	var all []byte
	for {
		size, d, err := arriving(ctx, int64(len(all))+testPart)
		if err != nil {
			return err
		}
		for int64(len(all)) < size && (size-int64(len(all)) >= testPart || !d.IsZero()) {
			b := make([]byte, min(testPart, size-int64(len(all))))
			if _, err := r.ReadAt(b, int64(len(all))); err != nil {
				return err
			}
			all = append(all, b...)
			if err := s.enter(ctx, "PART", repo); err != nil {
				return err
			}
		}
		if d.IsZero() {
			continue
		}
		if err := s.enter(ctx, "COPY", d.String()); err != nil {
			return err
		}
		if err := d.Verify(all); err != nil {
			return err
		}
		s.data.Lock()
		defer s.data.Unlock()
		s.blobs[d] = all
		return nil
	}
}

// newStagingPusher is a pusher whose bucket stages.
func newStagingPusher(t testing.TB, opts ...func(*pusher)) (*pusher, *stagingStore) {
	var s *stagingStore
	p := newPusher(t, append(opts, func(p *pusher) {
		s = &stagingStore{resuming: &resuming{memStore: p.bucket}}
		p.opt.Store = s
	})...)
	return p, s
}

// awaitNoStage waits until nothing is left of any stage, here and in the bucket.
func (p *pusher) awaitNoStage() {
	p.Helper()
	p.waitFor("the stages to be gone", func() bool {
		w := p.g.writer
		w.mu.Lock()
		defer w.mu.Unlock()
		p.g.staged.mu.Lock()
		defer p.g.staged.mu.Unlock()
		return len(p.g.staged.by) == 0 && w.uploads.count == 0 && w.idle()
	})
}

// wantNoStage is awaitNoStage, and demands that each stage was removed once.
func (p *pusher) wantNoStage(s *stagingStore) {
	p.Helper()
	p.awaitNoStage()
	if a, b := s.count("STAGE"), s.count("ABANDON"); a != b {
		p.Errorf("%d stages, %d were removed", a, b)
	}
}

// docker sends one PATCH, of a length that it does not say: most of it is in the bucket
// before the PUT that says what it is.
func TestPartsOfAPushAreSentBeforeItsDigestIsKnown(t *testing.T) {
	for _, alg := range []func([]byte) manifest.Digest{manifest.DigestOf, sha512Of} {
		p, s := newStagingPusher(t)
		body := pattern(5*testPart + 1000)
		d := alg(body)
		at := p.begin("own/app")
		r, w := io.Pipe()
		go func() {
			w.Write(body[:4*testPart])
			p.waitFor("parts of a body that is coming", func() bool { return s.count("PART") >= 2 })
			w.Write(body[4*testPart:])
			w.Close()
		}()
		p.want(p.send("PATCH", at, r), 202)
		p.waitFor("the other parts", func() bool { return s.count("PART") >= 4 })
		if _, err := p.bucket.blob(d); err == nil {
			t.Error("it is complete before anybody knew its digest")
		}
		p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
		if n := s.count("PUTBLOB"); n > 0 {
			t.Errorf("it was sent %d times more", n)
		}
		p.wantNoStage(s)
	}
}

func TestChunksGoOnWithOneStage(t *testing.T) {
	p, s := newStagingPusher(t)
	body := pattern(9*testPart + 7)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	rest := body
	for len(rest) > 2*testPart {
		p.want(p.send("PATCH", at, rest[:testPart+1]), 202)
		rest = rest[testPart+1:]
	}
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), rest), "own/app", d, body) // the last bytes come with it
	if a, b := s.count("STAGE"), s.count("PUTBLOB"); a != 1 || b != 0 {
		t.Errorf("%d stages, sent %d times beside them", a, b)
	}
	p.wantNoStage(s)
}

func TestSmallBlobsAndThoseWhoseDigestComesFirstAreNotStaged(t *testing.T) {
	p, s := newStagingPusher(t)
	for _, body := range [][]byte{pattern(2 * testPart), pattern(8 * testPart)} {
		d := manifest.DigestOf(body)
		at := p.begin("own/app")
		if len(body) == 2*testPart {
			p.want(p.send("PATCH", at, streamed{bytes.NewReader(body)}), 202)
			body = nil
		}
		p.want(p.send("PUT", at+"?digest="+d.String(), body), 201)
	}
	if n := s.count("STAGE"); n > 0 {
		t.Errorf("%d stages", n)
	}
}

func TestAnUploadThatEndsTakesItsStageAlong(t *testing.T) {
	body := pattern(6 * testPart)
	d := manifest.DigestOf(body)
	for name, end := range map[string]func(p *pusher, at string) got{
		"wrong digest": func(p *pusher, at string) got {
			return p.send("PUT", at+"?digest="+manifest.DigestOf(body[1:]).String(), nil)
		},
		"wrong digest with bytes": func(p *pusher, at string) got { return p.send("PUT", at+"?digest="+d.String(), body) },
		"canceled":                func(p *pusher, at string) got { return p.send("DELETE", at, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			p, s := newStagingPusher(t)
			at := p.begin("own/app")
			p.want(p.send("PATCH", at, body), 202)
			p.waitFor("parts", func() bool { return s.count("PART") >= 4 })
			if g := end(p, at); g.status != 400 && g.status != 204 {
				t.Errorf("%d %s", g.status, g.body)
			}
			p.wantNoStage(s)
			p.wantNothing(d)
			if n := s.count("COPY"); n > 0 {
				t.Error("it was copied to a digest")
			}
		})
	}
}

// Whatever a stage fails at, its upload is sent from the spool.
func TestAPushWhoseStageFailsIsSentFromTheSpool(t *testing.T) {
	for _, op := range []string{"STAGE", "PART", "COPY"} {
		t.Run(op, func(t *testing.T) {
			p, s := newStagingPusher(t)
			s.fail(op, errors.New("not here"))
			body := pattern(6 * testPart)
			d := manifest.DigestOf(body)
			at := p.begin("own/app")
			p.want(p.send("PATCH", at, body[:4*testPart]), 202)
			p.want(p.send("PATCH", at, body[4*testPart:]), 202)
			p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
			if n := s.count("PUTBLOB"); n != 1 {
				t.Errorf("it was sent %d times", n)
			}
			s.heal()
			p.awaitNoStage()
		})
	}
}

// A restart leaves what was staged to the next process, which removes it; the upload goes
// on, and is staged anew.
func TestAStageThatARestartInterruptsIsRemoved(t *testing.T) {
	p, s := newStagingPusher(t)
	body := pattern(8 * testPart)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, body[:4*testPart]), 202)
	p.waitFor("parts", func() bool { return s.count("PART") == 4 })
	p.restart()
	if n := s.count("ABANDON"); n > 0 {
		t.Error("a process that ends removes things")
	}
	p.want(p.send("PATCH", at, body[4*testPart:]), 202)
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
	if n := s.count("PUTBLOB"); n > 0 || s.count("STAGE") != 2 {
		t.Errorf("%d stages, sent %d times beside them", s.count("STAGE"), n)
	}
	p.wantNoStage(s)
}

// Nobody goes on with this one.
func TestAStageIsRemovedByTheNextProcess(t *testing.T) {
	p, s := newStagingPusher(t, func(p *pusher) { p.opt.UploadExpiry = time.Hour })
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, pattern(4*testPart)), 202)
	p.waitFor("parts", func() bool { return s.count("PART") == 4 })
	p.opt.UploadExpiry = 10 * time.Millisecond
	p.restart()
	p.wantNoStage(s)
}

func TestAStageThatNothingComesForIsGivenUp(t *testing.T) {
	p, s := newStagingPusher(t)
	p.g.writer.abandonAfter = 30 * time.Millisecond
	body := pattern(4 * testPart)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, body), 202)
	p.wantNoStage(s)
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
}

// The client of a PUT leaves while the store copies, and comes again: the copies went on.
func TestAClientThatLeavesAtTheEndFindsItDone(t *testing.T) {
	p, s := newStagingPusher(t)
	copying, goOn := make(chan struct{}), make(chan struct{})
	s.on("COPY", func(context.Context) error { close(copying); <-goOn; return nil })
	body := pattern(4 * testPart)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, body), 202)
	c := p.dial()
	c.send(request("PUT", at+"?digest="+d.String(), 0))
	<-copying
	c.rude()
	p.waitFor("the server to know", func() bool { _, busy := p.g.open.size(spoolName("own/app", at[len(at)-32:])); return !busy })
	close(goOn)
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
	if n := s.count("COPY"); n != 1 {
		t.Errorf("it was copied %d times", n)
	}
	p.wantNoStage(s)
}
