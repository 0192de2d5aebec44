package registryd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"hostlocal/manifest"
)

func TestABlobIsPushedInEveryWay(t *testing.T) {
	ways := map[string]func(p *pusher, d manifest.Digest, body []byte) got{
		"POST": func(p *pusher, d manifest.Digest, body []byte) got {
			return p.send("POST", "/v2/own/app/blobs/uploads/?digest="+d.String(), body)
		},
		"POST, PUT": func(p *pusher, d manifest.Digest, body []byte) got {
			return p.send("PUT", p.begin("own/app")+"?digest="+d.String(), body)
		},
		"POST, PUT without a length": func(p *pusher, d manifest.Digest, body []byte) got {
			return p.send("PUT", p.begin("own/app")+"?digest="+d.String(), streamed{bytes.NewReader(body)})
		},
		"POST, PATCH, PUT": func(p *pusher, d manifest.Digest, body []byte) got {
			at := p.begin("own/app")
			g := p.send("PATCH", at, streamed{bytes.NewReader(body)})
			p.want(g, 202, fmt.Sprintf("Range: 0-%d", max(len(body)-1, 0)), "Location: "+at)
			return p.send("PUT", at+"?digest="+d.String(), nil)
		},
		"chunks": func(p *pusher, d manifest.Digest, body []byte) got {
			at, off := p.begin("own/app"), 0
			for n := range 4 {
				end := min(len(body), off+len(body)*n/7+1)
				if end > off {
					g := p.send("PATCH", at, body[off:end], fmt.Sprintf("Content-Range: %d-%d", off, end-1))
					p.want(g, 202, fmt.Sprintf("Range: 0-%d", end-1))
				}
				off = end
			}
			if off == len(body) {
				return p.send("PUT", at+"?digest="+d.String(), nil)
			}
			return p.send("PUT", at+"?digest="+d.String(), body[off:], fmt.Sprintf("Content-Range: bytes %d-%d/*", off, len(body)-1))
		},
	}
	for name, push := range ways {
		for _, size := range []int{0, 1, 700_000} {
			for alg, digest := range map[string]func([]byte) manifest.Digest{"sha256": manifest.DigestOf, "sha512": sha512Of} {
				t.Run(fmt.Sprintf("%s, %d bytes, %s", name, size, alg), func(t *testing.T) {
					p := newPusher(t)
					body := pattern(size)
					d := digest(body)
					p.wantPushed(push(p, d, body), "own/app", d, body)
					if calls := p.bucket.seen(); len(calls) != 2 {
						t.Errorf("the bucket was called %q", calls)
					}
					if left := p.spooled(); len(left) > 0 {
						t.Errorf("left on the disk: %q", left)
					}
				})
			}
		}
	}
}

// docker's own registry is asked about a bare name no more once it was pushed to.
func TestAPushMakesABareNameTheBucketsOwn(t *testing.T) {
	p := newPusher(t)
	body := pattern(1000)
	d := manifest.DigestOf(body)
	p.wantPushed(p.send("POST", "/v2/team/app/blobs/uploads/?digest="+d.String(), body), "team/app", d, body)
	p.restart()
	if own, known := p.cache.Names().Own("team/app"); !own || !known {
		t.Error("that it is own was forgotten")
	}
}

// It is 405 as the specification has it, but denied: what is not supported podman and
// buildah ask for again, three times.
func TestMirroredNamesTakeNoPush(t *testing.T) {
	p := newPusher(t)
	for name, instead := range map[string]string{
		"app":                    "push to a name of two components (team/app), or list library/app under own",
		"library/app":            "push to a name of two components (team/app), or list library/app under own",
		"docker.io/app":          "push to a name without docker.io (team/app)",
		"docker.io/library/app":  "push to a name without docker.io (team/app)",
		"docker.io/owner/app":    "push to a name without docker.io (owner/app)",
		"owner/app?ns=docker.io": "push to a name without docker.io (owner/app)",
	} {
		name, ns, _ := strings.Cut(name, "?")
		g := p.send("POST", "/v2/"+name+"/blobs/uploads/?"+ns, nil)
		p.wantError(g, 405, "DENIED")
		if !strings.Contains(string(g.body), instead) {
			t.Errorf("%s %s: %s does not say %q", name, ns, g.body, instead)
		}
	}
	g := p.send("POST", "/v2/quay.io/team/app/blobs/uploads/", nil)
	p.wantError(g, 404, "NAME_UNKNOWN")
	if !strings.Contains(string(g.body), "begins with no registry's (team/app)") {
		t.Errorf("a name at a registry that is not configured: %s", g.body)
	}
}

func TestAChunkOutOfOrderIsToldWhereTheUploadStands(t *testing.T) {
	p := newPusher(t)
	body := pattern(3000)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	wrong := func(method, to string, from, end int, stands string) {
		t.Helper()
		g := p.send(method, to, body[from:end], fmt.Sprintf("Content-Range: %d-%d", from, end-1))
		p.wantError(g, 416, "RANGE_INVALID")
		p.want(g, 416, "Range: "+stands, "Location: "+at)
	}
	wrong("PATCH", at, 1000, 2000, "0-0")
	p.want(p.send("PATCH", at, body[:1000], "Content-Range: 0-999"), 202)
	wrong("PATCH", at, 0, 1000, "0-999") // again
	wrong("PATCH", at, 500, 1500, "0-999")
	wrong("PATCH", at, 1001, 2000, "0-999")
	wrong("PUT", at+"?digest="+d.String(), 2000, 3000, "0-999")
	p.wantStands(at, 1000)
	p.want(p.send("PATCH", at, body[1000:2000], "Content-Range: 1000-1999"), 202)
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), body[2000:], "Content-Range: 2000-2999"), "own/app", d, body)
}

func TestAChunkThatLiesKeepsNoMoreThanItAnnounced(t *testing.T) {
	p := newPusher(t)
	body := pattern(3000)
	for _, c := range []struct {
		name, header string
		body         any
		status       int
		stands       int
	}{
		{"shorter than the range", "0-99", body[:50], 400, 0},
		{"longer than the range", "0-99", body[:150], 400, 0},
		{"streamed, longer", "0-99", streamed{bytes.NewReader(body[:150])}, 400, 100},
		{"streamed, shorter", "0-99", streamed{bytes.NewReader(body[:50])}, 400, 50},
		{"streamed, right", "0-99", streamed{bytes.NewReader(body[:100])}, 202, 100},
		{"backwards", "99-0", body[:100], 416, 0},
		{"no numbers", "a-b", body[:100], 416, 0},
		{"negative", "-1-99", body[:100], 416, 0},
		{"no dash", "99", body[:100], 416, 0},
		{"beyond all", "0-99999999999999999999999", body[:100], 416, 0},
		{"larger than may be", "0-1199511627776", streamed{bytes.NewReader(body[:100])}, 400, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := p.begin("own/app")
			g := p.send("PATCH", at, c.body, "Content-Range: "+c.header)
			if g.status != c.status {
				t.Errorf("status %d, want %d: %s", g.status, c.status, g.body)
			}
			p.wantStands(at, c.stands)
			p.want(p.send("DELETE", at, nil), 204)
		})
	}
}

func TestAnUploadIsCanceled(t *testing.T) {
	p := newPusher(t)
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, pattern(1000)), 202)
	p.wantStands(at, 1000)
	p.want(p.do("HEAD", at), 204, "Range: 0-999")
	p.want(p.send("DELETE", at, nil), 204)
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		p.wantError(p.send(method, at, nil), 404, "BLOB_UPLOAD_UNKNOWN")
	}
	p.wantNothing(manifest.DigestOf(pattern(1000)))
}

func TestAWrongDigestDiscardsTheUploadAtOnce(t *testing.T) {
	body := pattern(100_000)
	wrong := []manifest.Digest{manifest.DigestOf([]byte("other")), sha512Of([]byte("other"))}
	for _, d := range wrong {
		for name, push := range map[string]func(p *pusher) got{
			"POST":      func(p *pusher) got { return p.send("POST", "/v2/own/app/blobs/uploads/?digest="+d.String(), body) },
			"POST, PUT": func(p *pusher) got { return p.send("PUT", p.begin("own/app")+"?digest="+d.String(), body) },
			"PATCH, PUT": func(p *pusher) got {
				at := p.begin("own/app")
				p.want(p.send("PATCH", at, body), 202)
				g := p.send("PUT", at+"?digest="+d.String(), nil)
				p.wantError(p.get(at), 404, "BLOB_UPLOAD_UNKNOWN")
				return g
			},
		} {
			t.Run(name+" "+string(d.Algorithm()), func(t *testing.T) {
				p := newPusher(t)
				p.wantError(push(p), 400, "DIGEST_INVALID")
				p.wantNothing(d)
				p.wantNothing(manifest.DigestOf(body))
				p.bucket.data.Lock()
				defer p.bucket.data.Unlock()
				if p.bucket.layers[content{"own/app", d}] {
					t.Error("it is linked")
				}
			})
		}
	}
}

func TestWhatIsNoDigestIsRefusedAndNothingIsLost(t *testing.T) {
	p := newPusher(t)
	body := pattern(1000)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, body), 202)
	for _, q := range []string{"", "?digest=", "?digest=sha256:abc", "?digest=md5:" + strings.Repeat("a", 32), "?digest=sha256:" + strings.ToUpper(d.Hex())} {
		p.wantError(p.send("PUT", at+q, nil), 400, "DIGEST_INVALID")
	}
	p.wantError(p.send("POST", "/v2/own/app/blobs/uploads/?digest=x", body), 400, "DIGEST_INVALID")
	p.wantError(p.send("POST", "/v2/own/app/blobs/uploads/?mount=x", nil), 400, "DIGEST_INVALID")
	p.wantError(p.send("POST", "/v2/own/app/blobs/uploads/?digest-algorithm=md5", nil), 400, "DIGEST_INVALID")
	p.wantError(p.send("POST", "/v2/own/app/blobs/uploads/", body), 404, "BLOB_UPLOAD_INVALID")
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
}

// An id is good for its repository only, and nothing that a client writes in its place
// comes near the disk.
func TestUploadsOfOthersAreNotThere(t *testing.T) {
	p := newPusher(t)
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, pattern(1000)), 202)
	id := at[strings.LastIndexByte(at, '/')+1:]
	for _, path := range []string{
		"/v2/own/other/blobs/uploads/" + id,
		"/v2/own/app/blobs/uploads/" + strings.ToUpper(id),
		"/v2/own/app/blobs/uploads/" + id + "x",
		"/v2/own/app/blobs/uploads/" + spoolName("own/app", id),
		"/v2/own/app/blobs/uploads/boot",
		"/v2/own/app/blobs/uploads/" + strings.Repeat("a", 5000),
		"/v2/own/app/blobs/uploads/..%2f" + id,
		"/v2/own/app/blobs/uploads/%00",
	} {
		for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
			g := p.send(method, path+"?digest="+manifest.DigestOf(nil).String(), nil)
			if g.status != 404 && g.status != 400 {
				t.Errorf("%s %.80s: status %d", method, path, g.status)
			}
		}
	}
	p.wantStands(at, 1000)
}

func TestWhoMayNotPushSeesNoUploads(t *testing.T) {
	p := newPusher(t)
	at := p.begin("own/app")
	h := serve(t, NewHandler(p.g, HandlerOptions{}))
	defer h.shutdown()
	for _, method := range []string{"GET", "HEAD", "PATCH", "PUT", "DELETE"} {
		h.want(h.do(method, at), 403)
	}
	p.wantError(p.get("/v2/own/app/blobs/uploads/"), 405, "UNSUPPORTED")
}

func TestMount(t *testing.T) {
	p := newPusher(t)
	body := pattern(1000)
	d := manifest.DigestOf(body)
	mount := func(repo, from string) got {
		t.Helper()
		q := "?mount=" + d.String()
		if from != "" {
			q += "&from=" + from
		}
		return p.send("POST", "/v2/"+repo+"/blobs/uploads/"+q, nil)
	}
	p.want(mount("own/b", "own/a"), 202)
	p.want(mount("own/b", ""), 202)
	p.wantPushed(p.send("POST", "/v2/own/a/blobs/uploads/?digest="+d.String(), body), "own/a", d, body)
	p.want(mount("own/b", "own/c"), 202)
	p.want(mount("own/b", "docker.io/library/app"), 202)
	p.want(mount("own/b", "../a"), 202)
	p.wantPushed(mount("own/b", "own/a"), "own/b", d, body)
	p.wantPushed(mount("own/c", ""), "own/c", d, body)
	p.restart()
	p.wantPushed(mount("own/d", "own/a"), "own/d", d, body)

	// What another host pushed is found by its link in the bucket, unless nothing is
	// behind the link.
	body = pattern(2000)
	d = manifest.DigestOf(body)
	p.bucket.data.Lock()
	p.bucket.layers[content{"own/far", d}] = true
	p.bucket.data.Unlock()
	p.want(mount("own/b", "own/far"), 202)
	p.bucket.data.Lock()
	p.bucket.blobs[d] = body
	p.bucket.data.Unlock()
	p.want(mount("own/b", ""), 202) // this host does not know of it
	p.want(mount("own/b", "own/far"), 201)
	p.wantStored("own/b", d, body)
}

// A digest gives no right: what an upstream's repository has on this disk is neither
// mounted nor linked without its bytes.
func TestADigestAloneGivesNoRight(t *testing.T) {
	p := newPusher(t)
	body := pattern(1000)
	d := manifest.DigestOf(body)
	p.bucket.data.Lock()
	p.bucket.blobs[d] = body
	p.bucket.layers[content{"docker.io/library/secret", d}] = true
	p.bucket.data.Unlock()
	p.g.served("docker.io/library/secret", d)
	for _, q := range []string{"", "&from=docker.io/library/secret", "&from=library/secret"} {
		p.want(p.send("POST", "/v2/own/app/blobs/uploads/?mount="+d.String()+q, nil), 202)
	}
	p.wantError(p.send("PUT", p.begin("own/app")+"?digest="+d.String(), nil), 400, "DIGEST_INVALID")
	p.wantError(p.send("PUT", p.begin("own/app")+"?digest="+d.String(), body[:999]), 400, "DIGEST_INVALID")
	p.wantError(p.send("PUT", "/v2/own/app/blobs/uploads/x?digest="+d.String(), nil), 404, "BLOB_UPLOAD_UNKNOWN")
	p.bucket.data.Lock()
	defer p.bucket.data.Unlock()
	if p.bucket.layers[content{"own/app", d}] {
		t.Error("it is linked")
	}
}

func TestABucketThatDoesNotTakeItKeepsTheUpload(t *testing.T) {
	for name, err := range map[string]error{"outage": errOutage, "refusal": fmt.Errorf("bucket: %w", fs.ErrPermission), "gone": fmt.Errorf("no such bucket: %w", fs.ErrNotExist)} {
		for _, op := range []string{"PUTBLOB", "LINKLAYER"} {
			for _, way := range []string{"PUT", "PATCH"} {
				t.Run(name+" "+op+" "+way, func(t *testing.T) {
					p := newPusher(t)
					body := pattern(50_000)
					d := manifest.DigestOf(body)
					at := p.begin("own/app")
					p.bucket.fail(op, err)
					last := any(body)
					if way == "PATCH" {
						p.want(p.send("PATCH", at, body), 202)
						last = nil
					}
					g := p.send("PUT", at+"?digest="+d.String(), last)
					if errors.Is(err, fs.ErrPermission) {
						p.wantError(g, 403, "DENIED")
					} else {
						p.wantError(g, 503, "UNAVAILABLE")
					}
					p.wantStands(at, len(body))
					p.bucket.heal()
					p.restart()
					p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
				})
			}
		}
	}
}

// readOnlyBucket knows that it may not be written.
type readOnlyBucket struct{ *memStore }

func (readOnlyBucket) ReadOnly() bool { return true }

func TestAReadOnlyBucketIsSaidBeforeAnythingIsSent(t *testing.T) {
	p := newPusher(t, func(p *pusher) { p.opt.Store = readOnlyBucket{p.bucket} })
	d := manifest.DigestOf(nil)
	p.wantError(p.send("POST", "/v2/own/app/blobs/uploads/", nil), 403, "DENIED")
	p.wantError(p.send("POST", "/v2/own/app/blobs/uploads/?digest="+d.String(), pattern(10)), 403, "DENIED")
	p.wantError(p.send("PATCH", "/v2/own/app/blobs/uploads/x", pattern(10)), 403, "DENIED")
	if calls := p.bucket.seen(); len(calls) > 0 {
		t.Errorf("the bucket was called %q", calls)
	}
}

func TestAnAnswerThatWasLostIsGivenAgain(t *testing.T) {
	p := newPusher(t)
	body := pattern(50_000)
	d := manifest.DigestOf(body)
	at := p.begin("own/app")
	for range 2 {
		p.wantPushed(p.send("PUT", at+"?digest="+d.String(), body), "own/app", d, body)
	}
	p.restart()
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
	p.bucket.data.Lock()
	delete(p.bucket.blobs, d) // collected: the link alone is worth nothing
	p.bucket.data.Unlock()
	p.wantError(p.send("PUT", at+"?digest="+d.String(), nil), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestAnUploadOutlivesARestart(t *testing.T) {
	p := newPusher(t)
	body := pattern(700_000)
	d := manifest.DigestOf(body)
	at, off := p.begin("own/app"), 0
	for _, end := range []int{1, 300_000, 300_001, 700_000} {
		p.want(p.send("PATCH", at, body[off:end], fmt.Sprintf("Content-Range: %d-%d", off, end-1)), 202)
		off = end
		p.restart()
		p.wantStands(at, off)
	}
	p.wantPushed(p.send("PUT", at+"?digest="+d.String(), nil), "own/app", d, body)
}

// An upload that was begun and never sent to makes room for a new one.
func TestThousandsOfBegunUploadsDoNotKeepOthersOut(t *testing.T) {
	p := newPusher(t)
	n := 10_000
	if testing.Short() || underRace {
		n = 2000
	}
	for range n {
		p.begin("own/app")
	}
	if left := len(p.spooled()); left > 1024 {
		t.Errorf("%d uploads are on the disk", left)
	}
	at := p.begin("own/app")
	p.want(p.send("PATCH", at, pattern(10)), 202)
	p.wantStands(at, 10)
}

// What is beyond the bound is told when to come again.
func TestTooManyUploadsAreSentAway(t *testing.T) {
	p := newPusher(t, func(p *pusher) { p.cached.Budget = 1 << 30 })
	var g got
	for range 1100 {
		if g = p.send("POST", "/v2/own/app/blobs/uploads/", nil); g.status != 202 {
			break
		}
		p.want(p.send("PATCH", g.header.Get("Location"), []byte("x")), 202)
	}
	p.wantError(g, 429, "TOOMANYREQUESTS")
	p.want(g, 429, "Retry-After: 5")
}

func TestABodyLargerThanThisDiskIsRefusedAndTheRestGoesOn(t *testing.T) {
	p := newPusher(t, func(p *pusher) { p.cached.Budget = 8 << 20 })
	at := p.begin("own/app")
	g := p.send("PATCH", at, streamed{&endless{left: 64 << 20}})
	p.wantError(g, 503, "UNAVAILABLE")
	if !strings.Contains(string(g.body), "cache.size") {
		t.Errorf("it does not say what to do: %s", g.body)
	}
	p.want(p.send("DELETE", at, nil), 204)
	body := pattern(1 << 20)
	d := manifest.DigestOf(body)
	p.wantPushed(p.send("POST", "/v2/own/app/blobs/uploads/?digest="+d.String(), body), "own/app", d, body)
}

// endless gives zeros.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	n := min(len(p), e.left)
	if n == 0 {
		return 0, errors.New("more was taken than there is room for")
	}
	clear(p[:n])
	e.left -= n
	return n, nil
}

func TestABlobThatWasDeletedCanBePushedAgain(t *testing.T) {
	p := newPusher(t)
	body := pattern(1000)
	d := manifest.DigestOf(body)
	for range 3 {
		p.wantPushed(p.send("POST", "/v2/own/app/blobs/uploads/?digest="+d.String(), body), "own/app", d, body)
		p.want(p.send("DELETE", "/v2/own/app/blobs/"+d.String(), nil), 202)
		p.wantError(p.get("/v2/own/app/blobs/"+d.String()), 404, "BLOB_UNKNOWN")
		p.want(p.send("POST", "/v2/own/b/blobs/uploads/?mount="+d.String()+"&from=own/app", nil), 202)
		p.want(p.send("POST", "/v2/own/b/blobs/uploads/?mount="+d.String(), nil), 202)
	}
}

func TestWhatWasDeletedThroughAnotherHostIsNotMounted(t *testing.T) {
	p := newPusher(t)
	body := pattern(1000)
	d := manifest.DigestOf(body)
	p.wantPushed(p.send("POST", "/v2/own/app/blobs/uploads/?digest="+d.String(), body), "own/app", d, body)
	p.bucket.data.Lock()
	delete(p.bucket.layers, content{"own/app", d})
	p.bucket.data.Unlock()
	for _, q := range []string{"", "&from=own/app"} {
		p.want(p.send("POST", "/v2/own/b/blobs/uploads/?mount="+d.String()+q, nil), 202)
	}
	p.want(p.send("POST", "/v2/own/app/blobs/uploads/?mount="+d.String(), nil), 202)
}
