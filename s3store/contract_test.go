package s3store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostlocal/s3store"
	"hostlocal/s3store/s3test"
)

// TestBucketContract is what the interface's comments say, run against every
// driver over every store.
func TestBucketContract(t *testing.T) {
	eachStore(t, func(t *testing.T, open maker) {
		for name, check := range map[string]func(*tester){
			"what was put is read":               (*tester).putAndGet,
			"ranges":                             (*tester).ranges,
			"a miss is fs.ErrNotExist":           (*tester).misses,
			"wrong bytes are refused":            (*tester).wrongBytes,
			"a short body leaves nothing":        (*tester).shortBody,
			"create-only":                        (*tester).createOnly,
			"If-Match":                           (*tester).ifMatch,
			"one of 50 creators wins":            (*tester).raceCreate,
			"one of 20 completers wins":          (*tester).raceComplete,
			"one of 20 takes over":               (*tester).raceTakeOver,
			"parts become an object":             (*tester).multipart,
			"an aborted upload is gone":          (*tester).abort,
			"parts are copied":                   (*tester).copyParts,
			"listing":                            (*tester).list,
			"delete is idempotent":               (*tester).remove,
			"a cancelled context is recognised":  (*tester).cancelled,
			"keys that no store should see fail": (*tester).badKeys,
		} {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				check(&tester{T: t, ctx: ctx, b: open(t), dir: strings.ReplaceAll(name, " ", "-") + "/"})
			})
		}
	})
}

// A tester is the suite's language. Keys are below a folder of its own.
type tester struct {
	*testing.T
	ctx context.Context
	b   s3store.Bucket
	dir string
}

func (t *tester) put(key string, data []byte, opt s3store.PutOptions) (string, error) {
	return t.b.Put(t.ctx, t.dir+key, bytes.NewReader(data), int64(len(data)), opt)
}

func (t *tester) mustPut(key string, data []byte) string {
	t.Helper()
	etag, err := t.put(key, data, s3store.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if etag == "" || strings.Contains(etag, `"`) {
		t.Fatalf("ETag %q", etag)
	}
	return etag
}

func (t *tester) get(key string, off, n int64, ifMatch string) ([]byte, s3store.Object, error) {
	body, obj, err := t.b.Get(t.ctx, t.dir+key, off, n, ifMatch)
	if err != nil {
		if body != nil {
			t.Error("a body beside an error")
		}
		return nil, obj, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return data, obj, err
}

func (t *tester) want(key string, data []byte) s3store.Object {
	t.Helper()
	got, obj, err := t.get(key, 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%s has %d bytes, %.20q; want %d, %.20q", key, len(got), got, len(data), data)
	}
	return obj
}

func (t *tester) wantErr(err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
	if _, ok := errors.AsType[*s3store.Error](err); !ok {
		t.Fatalf("%v is no *Error", err)
	}
}

func (t *tester) putAndGet() {
	for _, n := range []int{0, 1, 300, 64 << 10, 64<<10 + 1, 6 << 20} {
		key := fmt.Sprintf("size/%d+ä %%2F&=", n)
		data := pattern(n)
		sum := sha256.Sum256(data)
		// From the middle of a reader, since parts of files are sent.
		body := bytes.NewReader(append([]byte("skip"), data...))
		body.Seek(4, io.SeekStart)
		etag, err := t.b.Put(t.ctx, t.dir+key, body, int64(n), s3store.PutOptions{SHA256: hex.EncodeToString(sum[:]), ContentType: "application/octet-stream"})
		if err != nil {
			t.Fatal(err)
		}
		got := t.want(key, data)
		stat, err := t.b.Stat(t.ctx, t.dir+key)
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range []s3store.Object{got, stat} {
			if obj.Key != t.dir+key || obj.Size != int64(n) || obj.ETag != etag {
				t.Errorf("%+v, want size %d and ETag %s", obj, n, etag)
			}
			if age := obj.Date.Sub(obj.Modified); age < -2*time.Second || age > 30*time.Second {
				t.Errorf("age %v by the store's clock", age)
			}
		}
	}
	// The same key with other bytes is another ETag, and the other bytes.
	a := t.mustPut("again", []byte("aaaa"))
	if b := t.mustPut("again", []byte("bbbb")); a == b {
		t.Errorf("two contents, one ETag %s", a)
	}
	t.want("again", []byte("bbbb"))
}

func (t *tester) ranges() {
	data := pattern(100_000)
	etag := t.mustPut("blob", data)
	for _, r := range []struct{ off, n, end int64 }{{0, -1, 100_000}, {0, 1, 1}, {1, 10, 11}, {99_999, -1, 100_000}, {50_000, 1 << 40, 100_000}, {0, 100_000, 100_000}} {
		got, obj, err := t.get("blob", r.off, r.n, etag)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, data[r.off:r.end]) || obj.Size != 100_000 || obj.ETag != etag {
			t.Errorf("%d+%d: %d bytes of %+v", r.off, r.n, len(got), obj)
		}
	}
	_, _, err := t.get("blob", 100_000, -1, "")
	if e, ok := errors.AsType[*s3store.Error](err); !ok || e.Status != 416 || e.Retry {
		t.Errorf("past the end: %v", err)
	}
	_, _, err = t.get("blob", 0, 10, "0123456789abcdef0123456789abcdef")
	t.wantErr(err, s3store.ErrPrecondition)
	if _, _, err := t.get("blob", 0, 0, ""); err == nil {
		t.Error("an empty range was accepted")
	}
	// A body that is closed early ends the exchange and harms nobody.
	body, _, err := t.b.Get(t.ctx, t.dir+"blob", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(body, make([]byte, 10))
	body.Close()
	t.want("blob", data)
}

func (t *tester) misses() {
	_, err := t.b.Stat(t.ctx, t.dir+"none")
	t.wantErr(err, fs.ErrNotExist)
	_, _, err = t.get("none", 0, -1, "")
	t.wantErr(err, fs.ErrNotExist)
	_, _, err = t.get("none", 5, 10, "abc")
	t.wantErr(err, fs.ErrNotExist)
	if e, _ := errors.AsType[*s3store.Error](err); e.Retry {
		t.Error("a miss that wants to be tried again")
	}
	_, err = t.put("none", []byte("x"), s3store.PutOptions{IfMatch: "0123456789abcdef0123456789abcdef"})
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, s3store.ErrPrecondition) {
		t.Errorf("If-Match on nothing: %v", err)
	}
	_, err = t.b.Stat(t.ctx, t.dir+"none")
	t.wantErr(err, fs.ErrNotExist)
	t.mustPut("a/b", []byte("x"))
	_, err = t.b.Stat(t.ctx, t.dir+"a") // what is a folder for some is nothing for S3
	t.wantErr(err, fs.ErrNotExist)
}

func (t *tester) wrongBytes() {
	sum := sha256.Sum256([]byte("right"))
	_, err := t.put("blob", []byte("wrong"), s3store.PutOptions{SHA256: hex.EncodeToString(sum[:])})
	e, ok := errors.AsType[*s3store.Error](err)
	if !ok || e.Status != 400 || e.Retry {
		t.Fatalf("wrong bytes: %v", err)
	}
	_, err = t.b.Stat(t.ctx, t.dir+"blob")
	t.wantErr(err, fs.ErrNotExist)
}

func (t *tester) shortBody() {
	ctx, cancel := context.WithTimeout(t.ctx, 20*time.Second)
	defer cancel()
	if _, err := t.b.Put(ctx, t.dir+"short", bytes.NewReader(pattern(1000)), 2000, s3store.PutOptions{}); err == nil {
		t.Error("a body of half its size was accepted")
	}
	_, err := t.b.Stat(t.ctx, t.dir+"short")
	t.wantErr(err, fs.ErrNotExist)
}

func (t *tester) createOnly() {
	if _, err := t.put("one", []byte("first"), s3store.PutOptions{IfNoneMatch: true}); err != nil {
		t.Fatal(err)
	}
	_, err := t.put("one", []byte("second"), s3store.PutOptions{IfNoneMatch: true})
	t.wantErr(err, s3store.ErrPrecondition)
	t.want("one", []byte("first"))
}

func (t *tester) ifMatch() {
	first := t.mustPut("lease", []byte("first"))
	second, err := t.put("lease", []byte("other"), s3store.PutOptions{IfMatch: first})
	if err != nil {
		t.Fatal(err)
	}
	_, err = t.put("lease", []byte("third"), s3store.PutOptions{IfMatch: first})
	t.wantErr(err, s3store.ErrPrecondition)
	if obj := t.want("lease", []byte("other")); obj.ETag != second {
		t.Errorf("ETag %s after a write that answered %s", obj.ETag, second)
	}
}

// race runs n writers at once and returns how many won; all others must be told so.
func (t *tester) race(n int, write func(i int) error) int {
	var wg sync.WaitGroup
	var won atomic.Int32
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			// 503 and 409 are no verdict: S3 says so under contention, once more then.
			for try := 0; ; try++ {
				err := write(i)
				e, _ := errors.AsType[*s3store.Error](err)
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, s3store.ErrPrecondition):
				case e != nil && e.Retry && try < 5:
					continue
				default:
					t.Errorf("writer %d: %v", i, err)
				}
				return
			}
		})
	}
	close(gate)
	wg.Wait()
	return int(won.Load())
}

func (t *tester) raceCreate() {
	for round := range 3 {
		key := fmt.Sprintf("race/%d", round)
		if won := t.race(50, func(i int) error {
			_, err := t.put(key, fmt.Appendf(nil, "writer %02d", i), s3store.PutOptions{IfNoneMatch: true})
			return err
		}); won != 1 {
			t.Errorf("%d of 50 won", won)
		}
	}
}

func (t *tester) raceTakeOver() {
	etag := t.mustPut("lease", []byte("expired"))
	if won := t.race(20, func(i int) error {
		_, err := t.put("lease", fmt.Appendf(nil, "holder %02d", i), s3store.PutOptions{IfMatch: etag})
		return err
	}); won != 1 {
		t.Errorf("%d of 20 took over", won)
	}
}

func (t *tester) upload(key string, parts ...[]byte) (string, []s3store.Part) {
	t.Helper()
	id, err := t.b.CreateMultipart(t.ctx, t.dir+key)
	if err != nil {
		t.Fatal(err)
	}
	var done []s3store.Part
	for i, p := range slices.Backward(parts) { // in any order
		etag, err := t.b.UploadPart(t.ctx, t.dir+key, id, i+1, bytes.NewReader(p), int64(len(p)))
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, s3store.Part{Number: i + 1, ETag: etag})
	}
	slices.Reverse(done)
	return id, done
}

func (t *tester) raceComplete() {
	const n = 20
	ids, parts := make([]string, n), make([][]s3store.Part, n)
	for i := range n {
		ids[i], parts[i] = t.upload("blob", fmt.Appendf(nil, "writer %02d", i))
	}
	if won := t.race(n, func(i int) error {
		_, err := t.b.CompleteMultipart(t.ctx, t.dir+"blob", ids[i], parts[i], s3store.CompleteOptions{IfNoneMatch: true})
		return err
	}); won != 1 {
		t.Errorf("%d of %d won", won, n)
	}
}

func (t *tester) multipart() {
	data := pattern(11 << 20)
	id, parts := t.upload("blob", data[:5<<20], data[5<<20:10<<20], data[10<<20:])
	_, err := t.b.Stat(t.ctx, t.dir+"blob")
	t.wantErr(err, fs.ErrNotExist)
	if page, err := t.b.List(t.ctx, t.dir, "", "", 10); err != nil || len(page.Objects) != 0 {
		t.Errorf("an unfinished upload is listed: %+v, %v", page, err)
	}
	etag, err := t.b.CompleteMultipart(t.ctx, t.dir+"blob", id, parts, s3store.CompleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if obj := t.want("blob", data); obj.ETag != etag || obj.Size != int64(len(data)) {
		t.Errorf("%+v after ETag %s", obj, etag)
	}
	// A part sent again replaces the first; a wrong ETag does not pass.
	id, parts = t.upload("other", []byte("old"))
	tag, err := t.b.UploadPart(t.ctx, t.dir+"other", id, 1, strings.NewReader("new!"), 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := t.b.CompleteMultipart(t.ctx, t.dir+"other", id, parts, s3store.CompleteOptions{}); err == nil {
		t.Error("the ETag of a replaced part was accepted")
	}
	parts[0].ETag = tag
	if _, err := t.b.CompleteMultipart(t.ctx, t.dir+"other", id, parts, s3store.CompleteOptions{IfNoneMatch: true}); err != nil {
		t.Fatal(err)
	}
	t.want("other", []byte("new!"))
	id, parts = t.upload("other", []byte("late"))
	_, err = t.b.CompleteMultipart(t.ctx, t.dir+"other", id, parts, s3store.CompleteOptions{IfNoneMatch: true})
	t.wantErr(err, s3store.ErrPrecondition)
	t.want("other", []byte("new!"))
}

func (t *tester) copyParts() {
	data := pattern(13 << 20)
	src := t.dir + "a/_b/source"
	etag := t.mustPut("a/_b/source", data)
	id, _ := t.upload("blob")
	copyOf := func(number int, off, n int64) (s3store.Part, error) {
		tag, err := t.b.CopyPart(t.ctx, t.dir+"blob", id, number, src, etag, off, n)
		return s3store.Part{Number: number, ETag: tag}, err
	}
	first, err := copyOf(1, 1, 6<<20)
	if e, ok := errors.AsType[*s3store.Error](err); ok && e.Status == 501 {
		if err := t.b.AbortMultipart(t.ctx, t.dir+"blob", id); err != nil || !strings.Contains(t.Name(), "folder") {
			t.Errorf("no copies here; %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	second, err := copyOf(2, 6<<20, 7<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := t.b.CompleteMultipart(t.ctx, t.dir+"blob", id, []s3store.Part{first, second}, s3store.CompleteOptions{IfNoneMatch: true}); err != nil {
		t.Fatal(err)
	}
	t.want("blob", append(data[1:6<<20+1:6<<20+1], data[6<<20:]...))
	id, _ = t.upload("other")
	_, err = t.b.CopyPart(t.ctx, t.dir+"other", id, 1, src, strings.Repeat("0", 32), 0, 6<<20)
	t.wantErr(err, s3store.ErrPrecondition)
	_, err = t.b.CopyPart(t.ctx, t.dir+"other", id, 1, t.dir+"nothing", "", 0, 6<<20)
	t.wantErr(err, fs.ErrNotExist)
	if err := t.b.AbortMultipart(t.ctx, t.dir+"other", id); err != nil {
		t.Fatal(err)
	}
	_, err = t.b.CopyPart(t.ctx, t.dir+"other", id, 1, src, etag, 0, 6<<20)
	t.wantErr(err, fs.ErrNotExist)
}

func (t *tester) abort() {
	id, parts := t.upload("blob", []byte("part"))
	if err := t.b.AbortMultipart(t.ctx, t.dir+"blob", id); err != nil {
		t.Fatal(err)
	}
	_, err := t.b.CompleteMultipart(t.ctx, t.dir+"blob", id, parts, s3store.CompleteOptions{})
	t.wantErr(err, fs.ErrNotExist)
	_, err = t.b.UploadPart(t.ctx, t.dir+"blob", id, 1, strings.NewReader("x"), 1)
	t.wantErr(err, fs.ErrNotExist)
	if err := t.b.AbortMultipart(t.ctx, t.dir+"blob", id); err != nil {
		t.wantErr(err, fs.ErrNotExist)
	}
}

func (t *tester) list() {
	keys := []string{"a", "b+c d%/x", "dir-x", "dir/a/1", "dir/b/2", "dir/c", "dir0", "z/ä"}
	for _, k := range keys {
		t.mustPut(k, []byte(k))
	}
	for _, c := range []struct {
		prefix, delimiter string
		want              string
	}{
		{"", "", "a b+c d%/x dir-x dir/a/1 dir/b/2 dir/c dir0 z/ä"},
		{"", "/", "a b+c d%/ dir-x dir/ dir0 z/"},
		{"dir", "/", "dir-x dir/ dir0"},
		{"dir/", "/", "dir/a/ dir/b/ dir/c"},
		{"dir/", "", "dir/a/1 dir/b/2 dir/c"},
		{"none/", "", ""},
	} {
		for _, max := range []int{1, 2, 1000} {
			var got []string
			after := ""
			for pages := 0; ; pages++ {
				page, err := t.b.List(t.ctx, t.dir+c.prefix, c.delimiter, after, max)
				if err != nil {
					t.Fatal(err)
				}
				if n := len(page.Objects) + len(page.Prefixes); n > max || pages > 2*len(keys) {
					t.Fatalf("%d entries on page %d of at most %d", n, pages, max)
				}
				var entries []string
				for _, o := range page.Objects {
					key := strings.TrimPrefix(o.Key, t.dir)
					if entries = append(entries, key); o.Size != int64(len(key)) || o.Modified.IsZero() {
						t.Errorf("%+v", o)
					}
				}
				for _, p := range page.Prefixes {
					entries = append(entries, strings.TrimPrefix(p, t.dir))
				}
				slices.Sort(entries)
				got = append(got, entries...)
				if after = page.Next; after == "" {
					break
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("prefix %q, delimiter %q, pages of %d:\n got %s\nwant %s", c.prefix, c.delimiter, max, s, c.want)
			}
		}
	}
	page, err := t.b.List(t.ctx, t.dir, "", t.dir+"dir/b", 2) // after what is no key
	if err != nil || len(page.Objects) != 2 || page.Objects[0].Key != t.dir+"dir/b/2" {
		t.Errorf("after dir/b: %+v, %v", page, err)
	}
}

func (t *tester) remove() {
	t.mustPut("x/y", []byte("x"))
	for range 2 {
		if err := t.b.Delete(t.ctx, t.dir+"x/y"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := t.b.Stat(t.ctx, t.dir+"x/y")
	t.wantErr(err, fs.ErrNotExist)
	page, err := t.b.List(t.ctx, t.dir, "/", "", 10)
	if err != nil || len(page.Prefixes)+len(page.Objects) != 0 {
		t.Errorf("left behind: %+v, %v", page, err)
	}
	t.mustPut("x/y", []byte("again"))
}

func (t *tester) cancelled() {
	t.mustPut("blob", pattern(1000))
	ctx, cancel := context.WithCancel(t.ctx)
	body, _, err := t.b.Get(ctx, t.dir+"blob", 0, -1, "")
	if err != nil {
		t.Fatal(err)
	}
	body.Close()
	cancel()
	_, err = t.b.Put(ctx, t.dir+"late", bytes.NewReader(pattern(1000)), 1000, s3store.PutOptions{})
	t.wantErr(err, context.Canceled)
	if e, _ := errors.AsType[*s3store.Error](err); e.Retry {
		t.Error("a cancelled call wants to be tried again")
	}
	_, err = t.b.Stat(t.ctx, t.dir+"late")
	t.wantErr(err, fs.ErrNotExist)
}

func (t *tester) badKeys() {
	for _, key := range []string{"", "..", "../x", "a/../../x", "a//b", "/a", "a/", "./a", "a\x00b", strings.Repeat("k", 1025)} {
		if _, err := t.b.Put(t.ctx, key, strings.NewReader("x"), 1, s3store.PutOptions{}); err == nil {
			t.Errorf("%.20q was written", key)
		}
		if body, _, err := t.b.Get(t.ctx, key, 0, -1, ""); err == nil {
			body.Close()
			t.Errorf("%.20q was read", key)
		}
	}
}

// TestOneDriverReadsWhatTheOtherWrote, over each server.
func TestOneDriverReadsWhatTheOtherWrote(t *testing.T) {
	for name, start := range map[string]func(testing.TB) func(string) s3store.Config{
		"fake":      func(t testing.TB) func(string) s3store.Config { return s3test.New(t).Config },
		"minio":     startMinio,
		"versitygw": startVersity,
	} {
		t.Run(name, func(t *testing.T) {
			config := start(t)
			ctx := context.Background()
			for _, pair := range [][2]string{{"aws", "minio"}, {"minio", "aws"}} {
				w := &tester{T: t, ctx: ctx, b: mustOpen(t, config(pair[0])), dir: "from-" + pair[0] + "/"}
				r := &tester{T: t, ctx: ctx, b: mustOpen(t, config(pair[1])), dir: w.dir}
				etag := w.mustPut("a key+ä", []byte("small"))
				if obj := r.want("a key+ä", []byte("small")); obj.ETag != etag {
					t.Errorf("ETags %q and %q", obj.ETag, etag)
				}
				// One finishes what the other began, as after a change of the configuration.
				data := pattern(6 << 20)
				id, parts := w.upload("big", data[:5<<20], data[5<<20:])
				if _, err := r.b.CompleteMultipart(ctx, w.dir+"big", id, parts, s3store.CompleteOptions{IfNoneMatch: true}); err != nil {
					t.Fatal(err)
				}
				w.want("big", data)
			}
		})
	}
}
