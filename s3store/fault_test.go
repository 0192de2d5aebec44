package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// eachClient runs f with both SDKs against a fake of its own, whose object "blob"
// has 1 MiB. Stalls show after stallTimeout.
func eachClient(t *testing.T, f func(t *testing.T, s *s3test.Server, h *tester)) {
	for _, client := range []string{"aws", "minio"} {
		t.Run(client, func(t *testing.T) {
			s := s3test.New(t)
			s.Put("blob", blob)
			c := s.Config(client)
			c.StallTimeout = stallTimeout
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			t.Cleanup(cancel)
			f(t, s, &tester{T: t, ctx: ctx, b: mustOpen(t, c)})
		})
	}
}

// stallTimeout is longer than a busy machine lets a connection wait for its turn: what
// does not stall must not pass for stalled.
const stallTimeout = time.Second

var blob = pattern(1 << 20)

// again fails unless err is an *Error that wants the request tried again, or not.
func (t *tester) again(err error, want bool) *s3store.Error {
	t.Helper()
	e, ok := errors.AsType[*s3store.Error](err)
	if !ok || e.Retry != want {
		t.Fatalf("retry must be %v: %#v, %v", want, e, err)
	}
	return e
}

func TestEveryDamagedAnswerIsDetected(t *testing.T) {
	half := int64(len(blob) / 2)
	for name, c := range map[string]struct {
		fault  s3test.Fault
		quirks s3test.Quirks
		off, n int64
		want   error // nil: any
	}{
		"cut":                                 {fault: s3test.Fault{CutAfter: half}, n: -1, want: io.ErrUnexpectedEOF},
		"cut at the start":                    {fault: s3test.Fault{CutAfter: -1}, n: -1, want: io.ErrUnexpectedEOF},
		"cut range":                           {fault: s3test.Fault{CutAfter: 500}, off: 1000, n: 1000, want: io.ErrUnexpectedEOF},
		"cut without a length":                {fault: s3test.Fault{CutAfter: half, Unframed: true}, n: -1},
		"cut range without a length":          {fault: s3test.Fault{CutAfter: 500, Unframed: true}, off: 1000, n: 1000, want: io.ErrUnexpectedEOF},
		"a range that is too long, unframed":  {fault: s3test.Fault{Extra: 10, Unframed: true}, off: 1000, n: 1000},
		"stalled":                             {fault: s3test.Fault{StallAfter: half}, n: -1, want: os.ErrDeadlineExceeded},
		"stalled at the start":                {fault: s3test.Fault{StallAfter: -1}, n: -1, want: os.ErrDeadlineExceeded},
		"dropped":                             {fault: s3test.Fault{Drop: true}, n: -1},
		"200 to a range":                      {quirks: s3test.Quirks{IgnoreRange: true}, off: 1000, n: 1000},
		"another range":                       {fault: s3test.Fault{Header: http.Header{"Content-Range": {"bytes 0-999/1048576"}}}, off: 1000, n: 1000},
		"less than the range":                 {fault: s3test.Fault{Header: http.Header{"Content-Range": {"bytes 1000-1499/1048576"}, "Content-Length": {"500"}}}, off: 1000, n: 1000},
		"a Content-Range that is none":        {fault: s3test.Fault{Header: http.Header{"Content-Range": {"bytes 1000-1999/*"}}}, off: 1000, n: 1000},
		"Content-Length against the range":    {fault: s3test.Fault{Header: http.Header{"Content-Length": {"999"}}}, off: 1000, n: 1000},
		"Content-Length longer than the body": {fault: s3test.Fault{Header: http.Header{"Content-Length": {"1048577"}}}, n: -1, want: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
				s.SetQuirks(c.quirks)
				s.Fault(s3test.Always("get", c.fault))
				start := time.Now()
				data, _, err := h.get("blob", c.off, c.n, "")
				if err == nil || c.want != nil && !errors.Is(err, c.want) {
					t.Fatalf("got %d bytes and %v, want %v", len(data), err, c.want)
				}
				h.again(err, true)
				if !bytes.HasPrefix(blob[c.off:], data) {
					t.Error("the bytes before the damage are others")
				}
				if d := time.Since(start); d > 10*stallTimeout {
					t.Errorf("noticed after %v", d)
				}
				// The next request is right: nothing of the broken exchange is left.
				s.SetQuirks(s3test.Quirks{})
				s.Up()
				h.want("blob", blob)
			})
		})
	}
}

func TestUnframedButWholeRangeIsRead(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		s.Fault(s3test.Always("get", s3test.Fault{Unframed: true}))
		if data, _, err := h.get("blob", 1000, 1000, ""); err != nil || !bytes.Equal(data, blob[1000:2000]) {
			t.Errorf("%d bytes, %v", len(data), err)
		}
	})
}

func TestSlowReaderIsNoStall(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		big := pattern(16 << 20) // more than the sockets hold
		s.Put("big", big)
		body, _, err := h.b.Get(h.ctx, "big", 0, -1, "")
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		head := make([]byte, 1000)
		if _, err := io.ReadFull(body, head); err != nil {
			t.Fatal(err)
		}
		<-time.After(stallTimeout + stallTimeout/2) // the reader's own affair
		rest, err := io.ReadAll(body)
		if err != nil || !bytes.Equal(append(head, rest...), big) {
			t.Errorf("%d bytes, %v", len(rest), err)
		}
	})
}

func TestStatusDecidesAgainOrNever(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		retry  bool
		is     error
	}{
		{400, "", false, nil}, {400, "RequestTimeout", true, nil}, {401, "", false, fs.ErrPermission}, {403, "", false, fs.ErrPermission},
		{404, "NoSuchBucket", false, fs.ErrNotExist}, {409, "OperationAborted", true, nil}, {412, "", false, s3store.ErrPrecondition},
		{429, "", true, nil}, {500, "", true, nil}, {501, "", false, nil}, {502, "", true, nil}, {503, "", true, nil}, {504, "", true, nil},
		{307, "", false, nil},
	} {
		eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
			s.Fault(s3test.Always("", s3test.Fault{Status: c.status, Code: c.code, RetryAfter: "7"}))
			_, _, getErr := h.get("blob", 0, -1, "")
			_, putErr := h.put("x", []byte("x"), s3store.PutOptions{})
			for _, err := range []error{getErr, putErr} {
				e := h.again(err, c.retry)
				if e.Status != c.status || c.is != nil && !errors.Is(err, c.is) || c.status >= 400 && e.RetryAfter != 7*time.Second {
					t.Errorf("%d %s: %#v", c.status, c.code, e)
				}
			}
			if n := s.Count(""); n != 2 {
				t.Errorf("%d: %d requests for 2 calls", c.status, n)
			}
		})
	}
}

func TestConflictOfConditionalWritesIsPrecondition(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		s.Fault(s3test.Always("put", s3test.Fault{Status: 409}))
		_, err := h.put("x", []byte("x"), s3store.PutOptions{IfNoneMatch: true})
		h.wantErr(err, s3store.ErrPrecondition)
	})
}

func TestLostAnswerIsNotSuccess(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		s.Fault(s3test.Times(1, "put", s3test.Fault{Lose: true}))
		_, err := h.put("lease", []byte("mine"), s3store.PutOptions{IfNoneMatch: true})
		h.again(err, true)
		_, err = h.put("lease", []byte("mine"), s3store.PutOptions{IfNoneMatch: true})
		h.wantErr(err, s3store.ErrPrecondition) // told to the winner itself: read back
		h.want("lease", []byte("mine"))
		if n := s.Count("put"); n != 2 {
			t.Errorf("%d requests: a driver has tried again by itself", n)
		}
	})
}

func TestErrorInsideOfAnAnsweredComplete(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		id, parts := h.upload("big", []byte("part"))
		s.SetQuirks(s3test.Quirks{CompleteErrorIn200: true})
		_, err := h.b.CompleteMultipart(h.ctx, "big", id, parts, s3store.CompleteOptions{IfNoneMatch: true})
		h.again(err, true)
	})
}

func TestStalledHeaderEndsWithTheContext(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		s.Fault(s3test.Always("", s3test.Fault{StallHeader: true}))
		ctx, cancel := context.WithTimeout(h.ctx, stallTimeout/10)
		defer cancel()
		for name, call := range map[string]func() error{
			"get":  func() error { _, _, err := h.b.Get(ctx, "blob", 0, -1, ""); return err },
			"list": func() error { _, err := h.b.List(ctx, "", "", "", 10); return err },
			"put": func() error {
				_, err := h.b.Put(ctx, "x", bytes.NewReader(blob), int64(len(blob)), s3store.PutOptions{})
				return err
			},
		} {
			err := call()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			h.again(err, false)
		}
	})
}

func TestStalledListIsNoticed(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		s.Fault(s3test.Always("", s3test.Fault{StallAfter: 50}))
		_, err := h.b.List(h.ctx, "", "", "", 10)
		h.wantErr(err, os.ErrDeadlineExceeded)
		h.again(err, true)
	})
}

// A server that reads nothing: the body does not fit into the sockets' buffers.
func TestStalledUploadIsNoticed(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		s.Fault(s3test.Always("put", s3test.Fault{StallBefore: true}))
		big := make([]byte, 32<<20)
		_, err := h.b.Put(h.ctx, "big", bytes.NewReader(big), int64(len(big)), s3store.PutOptions{})
		h.wantErr(err, os.ErrDeadlineExceeded)
		h.again(err, true)
	})
}

func TestDownStoreOpensAndComesBack(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		h.want("blob", blob)
		s.Down()
		_, _, err := h.get("blob", 0, -1, "")
		h.again(err, true)
		s.Up()
		h.want("blob", blob)
	})
}

func TestReadOnlyUnlistableAndForeignCredentials(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		s.SetQuirks(s3test.Quirks{ReadOnly: true, NoList: true})
		h.want("blob", blob)
		_, err := h.put("x", []byte("x"), s3store.PutOptions{IfNoneMatch: true})
		h.wantErr(err, fs.ErrPermission)
		_, err = h.b.Stat(h.ctx, "none")
		h.wantErr(err, fs.ErrPermission) // passed on as it came
		_, err = h.b.List(h.ctx, "", "", "", 10)
		h.wantErr(err, fs.ErrPermission)
		s.SetQuirks(s3test.Quirks{RefuseCredentials: true})
		_, _, err = h.get("blob", 0, -1, "")
		h.wantErr(err, fs.ErrPermission)
	})
}

func TestConnectionsAreReused(t *testing.T) {
	eachClient(t, func(t *testing.T, s *s3test.Server, h *tester) {
		for range 50 {
			h.want("blob", blob)
			h.get("blob", 1000, 1000, "")
			h.get("none", 0, -1, "")
			h.put("x", []byte("x"), s3store.PutOptions{})
			h.b.Stat(h.ctx, "none")
			h.b.List(h.ctx, "", "", "", 10)
		}
		// net/http lets go of a connection whose writer has not had a turn within 50 ms.
		// One of the six kinds of requests alone would make fifty.
		if n := s.Connections(); n > 5 {
			t.Errorf("%d connections for 300 requests in sequence", n)
		}
	})
}

func TestObserverSeesEveryExchange(t *testing.T) {
	for _, client := range []string{"aws", "minio", "folder"} {
		t.Run(client, func(t *testing.T) {
			var gets, misses, other atomic.Int32
			c := s3store.Config{URL: "file://" + t.TempDir()}
			if client != "folder" {
				c = s3test.New(t).Config(client)
			}
			c.Observe = func(op string, status int, d time.Duration) {
				switch {
				case op == "get" && status/100 == 2:
					gets.Add(1)
				case op == "get" && status == 404:
					misses.Add(1)
				default:
					other.Add(1)
				}
			}
			h := &tester{T: t, ctx: context.Background(), b: mustOpen(t, c)}
			h.mustPut("blob", blob)
			h.want("blob", blob)
			h.get("blob", 5, 5, "")
			h.get("none", 0, -1, "")
			if g, m, o := gets.Load(), misses.Load(), other.Load(); g != 2 || m != 1 || o != 1 {
				t.Errorf("%d gets, %d misses, %d others", g, m, o)
			}
		})
	}
}
