package main

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
)

// A pushClient sends the single requests of pushes, so that each can be made to go
// wrong by itself.
type pushClient struct {
	base   string // http://host:port
	http   *http.Client
	before func(kind string) // is told what comes; nil: nobody is
}

func newPushClient(base string) *pushClient {
	return &pushClient{base: base, http: &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: pushPatience}}
}

// pushPatience is how long a client waits for one answer. The longest work behind one
// is a blob of 20 MiB on a machine that does much else.
const pushPatience = time.Minute

// A pushAnswer is what came of a request.
type pushAnswer struct {
	status int
	header http.Header
	body   []byte
}

func (a pushAnswer) String() string { return fmt.Sprintf("%d %s", a.status, bytes.TrimSpace(a.body)) }

// send sends one request; kind says what it is. A body that knows its length is sent
// with it. The error is that of a connection that broke.
func (p *pushClient) send(ctx context.Context, kind, method, path string, body io.Reader, header ...string) (pushAnswer, error) {
	if p.before != nil {
		p.before(kind)
	}
	if !strings.Contains(path, "://") {
		path = p.base + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return pushAnswer{}, err
	}
	if s, ok := body.(*io.SectionReader); ok {
		if req.ContentLength = s.Size(); s.Size() == 0 {
			req.Body = http.NoBody
		}
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		req.Header.Set(k, v)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return pushAnswer{}, fmt.Errorf("%s: %w", kind, err)
	}
	defer resp.Body.Close()
	a := pushAnswer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return pushAnswer{}, fmt.Errorf("%s: the answer's body: %w", kind, err)
	}
	return a, nil
}

// A sending is a blob on its way.
type sending struct {
	repo   string
	blob   hubtest.Content
	digest manifest.Digest // by whichever algorithm
	at     string          // of the upload; empty: nobody said
	acked  int64           // bytes that the daemon said it has
	ending bool            // its end was asked for: it may be a blob already
	story  []string        // what was done and what came of it
}

// wantedStatus is an answer that is not the one that was waited for.
type wantedStatus struct {
	kind string
	want int
	pushAnswer
}

func (e wantedStatus) Error() string {
	return fmt.Sprintf("%s: want %d, got %s", e.kind, e.want, e.pushAnswer)
}

// want is send for one status.
func (p *pushClient) want(ctx context.Context, want int, kind, method, path string, body io.Reader, header ...string) (pushAnswer, error) {
	a, err := p.send(ctx, kind, method, path, body, header...)
	if err == nil && a.status != want {
		err = wantedStatus{kind, want, a}
	}
	return a, err
}

func (s *sending) tell(err error, format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf("%s (%v)", fmt.Sprintf(format, args...), err))
}

// ways are the ways in which a blob is sent, by what is the last request of it.
var ways = []string{"POST", "PUT", "PUT stream", "PATCH, PUT", "chunks, PUT", "chunks, PUT the last"}

// push sends a blob in one of the ways. When it returns nil it was acknowledged.
func (p *pushClient) push(ctx context.Context, r *rand.Rand, way string, s *sending) error {
	uploads := "/v2/" + s.repo + "/blobs/uploads/"
	whole := func() io.Reader { return io.NewSectionReader(s.blob, 0, s.blob.Size) }
	if way == "POST" {
		_, err := p.want(ctx, 201, "POST with the blob", "POST", uploads+"?digest="+s.digest.String(), whole())
		return err
	}
	a, err := p.want(ctx, 202, "POST", "POST", uploads, nil)
	if err != nil {
		return err
	}
	if s.at = a.header.Get("Location"); s.at == "" {
		return fmt.Errorf("POST: no Location in %v", a.header)
	}
	switch way {
	case "PUT":
		return p.end(ctx, s, "PUT with the blob", whole())
	case "PUT stream":
		return p.end(ctx, s, "PUT with the blob, streamed", struct{ io.Reader }{whole()})
	case "PATCH, PUT":
		if err := p.add(ctx, s, "PATCH, streamed", struct{ io.Reader }{whole()}, s.blob.Size); err != nil {
			return err
		}
		return p.end(ctx, s, "PUT", nil)
	}
	n := 1 + r.Int64N(4)
	for i := range n {
		to := s.blob.Size * (i + 1) / n
		if i == n-1 && way == "chunks, PUT the last" {
			return p.end(ctx, s, "PUT with the last chunk", io.NewSectionReader(s.blob, s.acked, s.blob.Size-s.acked), s.span(to)...)
		}
		if to > s.acked {
			if err := p.add(ctx, s, "PATCH of a chunk", io.NewSectionReader(s.blob, s.acked, to-s.acked), to, s.span(to)...); err != nil {
				return err
			}
		}
	}
	return p.end(ctx, s, "PUT", nil)
}

// span is the header of a chunk from what has come up to to.
func (s *sending) span(to int64) []string {
	if to <= s.acked {
		return nil
	}
	return []string{fmt.Sprintf("Content-Range: %d-%d", s.acked, to-1)}
}

// add sends a part of the blob, up to to.
func (p *pushClient) add(ctx context.Context, s *sending, kind string, body io.Reader, to int64, header ...string) error {
	a, err := p.want(ctx, 202, kind, "PATCH", s.at, body, header...)
	s.tell(err, "%s from %d to %d", kind, s.acked, to)
	if err != nil {
		return err
	}
	if got := a.header.Get("Range"); got != fmt.Sprintf("0-%d", max(to-1, 0)) {
		return fmt.Errorf("%s: Range is %q after %d bytes", kind, got, to)
	}
	s.acked = to
	return nil
}

// end asks for the end of the upload, with the rest of it.
func (p *pushClient) end(ctx context.Context, s *sending, kind string, body io.Reader, header ...string) error {
	s.ending = true
	a, err := p.want(ctx, 201, kind, "PUT", s.at+"?digest="+s.digest.String(), body, header...)
	s.tell(err, "%s from %d", kind, s.acked)
	if err == nil && a.header.Get("Docker-Content-Digest") != s.digest.String() {
		err = fmt.Errorf("%s: Docker-Content-Digest is %q, want %s", kind, a.header.Get("Docker-Content-Digest"), s.digest)
	}
	return err
}

// status asks how far the upload has come; -1 if there is none, which may be where
// its end was asked for.
func (p *pushClient) status(ctx context.Context, s *sending) (int64, error) {
	a, err := p.send(ctx, "GET of an upload", "GET", s.at, nil)
	if err != nil {
		return 0, err
	}
	if a.status == 404 && s.ending {
		return -1, nil
	}
	if a.status != 204 {
		return 0, wantedStatus{"GET of an upload", 204, a}
	}
	var last int64
	if _, err := fmt.Sscanf(a.header.Get("Range"), "0-%d", &last); err != nil {
		return 0, fmt.Errorf("GET of an upload: Range is %q", a.header.Get("Range"))
	}
	s.tell(nil, "Range: 0-%d", last)
	n := last + 1
	if last == 0 && s.acked == 0 {
		n = 0 // of an empty one it is the same, and a blob here is empty or has more
	}
	if n < s.acked || n > s.blob.Size {
		return 0, fmt.Errorf("the upload has %d bytes of %d, and %d were acknowledged", n, s.blob.Size, s.acked)
	}
	return n, nil
}

// resume goes on with an upload that broke off.
func (p *pushClient) resume(ctx context.Context, s *sending) error {
	n, err := p.status(ctx, s)
	if err != nil {
		return err
	}
	if n >= 0 && n < s.blob.Size {
		s.acked = n
		err := p.addRest(ctx, s)
		var got wantedStatus
		if errors.As(err, &got) && got.status == 416 && n == 0 {
			s.acked = 1 // 0-0 means either
			err = p.addRest(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return p.end(ctx, s, "PUT after a break", nil)
}

func (p *pushClient) addRest(ctx context.Context, s *sending) error {
	return p.add(ctx, s, "PATCH of the rest", io.NewSectionReader(s.blob, s.acked, s.blob.Size-s.acked), s.blob.Size, s.span(s.blob.Size)...)
}

// sha512Of is the content's other digest.
func sha512Of(c hubtest.Content) manifest.Digest {
	sum := sha512.Sum512(c.Bytes())
	return manifest.MustDigest("sha512:" + hex.EncodeToString(sum[:]))
}
