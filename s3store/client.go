package s3store

import (
	"context"
	"errors"
	"io"
	"strings"
)

// A client is what the aws and minio drivers share around their SDK's calls: the
// exchange, the errors, and fresh credentials when the old ones have run out.
type client struct {
	wire    *wire
	refresh func()             // drops cached credentials
	code    func(error) string // the S3 code in an SDK's error
}

// call makes one exchange with f. It runs f a second time only for credentials
// that expired, which is no answer about the object, and which an SDK's cache shows
// until it is told; body, if there is one, is wound back then.
func (c *client) call(caller context.Context, op, key string, conditional bool, body *window, f func(context.Context) error) (*exchange, error) {
	x, err := c.open(caller, op, key, conditional, body, f)
	x.end()
	return x, err
}

// open is call for an exchange that goes on after f: the caller ends it.
func (c *client) open(caller context.Context, op, key string, conditional bool, body *window, f func(context.Context) error) (*exchange, error) {
	x := begin(caller, op, key)
	x.body = body
	if op != "list" {
		if err := checkKey(key); err != nil {
			return x, invalid(op, key, "%w", err)
		}
	}
	err := f(x.ctx)
	if err != nil && x.status >= 400 && strings.HasPrefix(c.code(err), "ExpiredToken") {
		c.refresh()
		if x.out != nil {
			x.out.leave()
		}
		if body != nil {
			if _, serr := body.Seek(0, io.SeekStart); serr != nil {
				return x, invalid(op, key, "the body cannot seek: %w", serr)
			}
		}
		err = f(x.ctx)
	}
	if err != nil {
		return x, x.fail(c.code(err), conditional, err)
	}
	return x, nil
}

// send is call with a body.
func (c *client) send(caller context.Context, op, key string, conditional bool, body io.ReadSeeker, size int64, f func(context.Context, *window) error) error {
	w, err := newWindow(body, size)
	if err != nil {
		return invalid(op, key, "the body cannot seek: %w", err)
	}
	_, err = c.call(caller, op, key, conditional, w, func(ctx context.Context) error { return f(ctx, w) })
	return err
}

// get wraps the driver's own get: range, condition and length are judged by what
// came over the wire.
func (c *client) get(caller context.Context, key string, off, n int64, ifMatch string, f func(context.Context) (io.ReadCloser, Object, error)) (io.ReadCloser, Object, error) {
	if err := checkRange(key, off, n); err != nil {
		return nil, Object{}, err
	}
	var body io.ReadCloser
	var obj Object
	x, err := c.open(caller, "get", key, ifMatch != "", nil, func(ctx context.Context) (err error) {
		body, obj, err = f(ctx)
		return err
	})
	if err != nil {
		x.end()
		return nil, Object{}, err
	}
	left, size, err := expect(x, off, n)
	if err != nil {
		x.end() // before Close, which might read what nobody wants
		body.Close()
		return nil, Object{}, x.fail("", false, err)
	}
	obj.Key, obj.Size, obj.Date, obj.ETag = key, size, x.date(), plainETag(obj.ETag)
	return &exact{x: x, body: body, left: left}, obj, nil
}

// errNotCopied is a copy that failed behind an answer that had begun well: what takes
// long is answered with 200 before it is done, and the body says how it ended.
var errNotCopied = errors.New("the answer is 200, and no part in it")

func copied(etag string, err error) error {
	if err == nil && etag == "" {
		err = errNotCopied
	}
	return err
}

// plainETag takes the quotes off: minio-go has done so, aws-sdk-go-v2 has not.
func plainETag(s string) string {
	return strings.Trim(strings.TrimPrefix(s, "W/"), `"`)
}

// page sorts out what a store listed. Stores disagree about start-after where it
// is a common prefix, so what is not greater than after is dropped.
func page(objects []Object, prefixes []string, truncated bool, after string) Page {
	var p Page
	last := ""
	for _, o := range objects {
		last = max(last, o.Key)
		if o.Key > after {
			p.Objects = append(p.Objects, o)
		}
	}
	for _, s := range prefixes {
		last = max(last, s)
		if s > after {
			p.Prefixes = append(p.Prefixes, s)
		}
	}
	if truncated && last > after { // else the store does not get on
		p.Next = last
	}
	return p
}

// startAfter is what a listing has to start after. A common prefix stands for all
// keys below it; the highest character of Unicode comes after each of them.
func startAfter(after, delimiter string) string {
	if delimiter != "" && strings.HasSuffix(after, delimiter) {
		return after + "\U0010FFFF"
	}
	return after
}
