package s3store

import (
	"context"
	"io"
	"strings"
)

// A prefixed Bucket lies under a prefix of another, which ends with a slash. Keys
// are joined here and nowhere else.
type prefixed struct {
	b      Bucket
	prefix string
}

func (p prefixed) own(obj Object) Object {
	obj.Key = strings.TrimPrefix(obj.Key, p.prefix)
	return obj
}

func (p prefixed) Stat(ctx context.Context, key string) (Object, error) {
	obj, err := p.b.Stat(ctx, p.prefix+key)
	return p.own(obj), err
}

func (p prefixed) Get(ctx context.Context, key string, off, n int64, ifMatch string) (io.ReadCloser, Object, error) {
	body, obj, err := p.b.Get(ctx, p.prefix+key, off, n, ifMatch)
	return body, p.own(obj), err
}

func (p prefixed) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, opt PutOptions) (string, error) {
	return p.b.Put(ctx, p.prefix+key, body, size, opt)
}

func (p prefixed) Delete(ctx context.Context, key string) error {
	return p.b.Delete(ctx, p.prefix+key)
}

func (p prefixed) List(ctx context.Context, prefix, delimiter, after string, max int) (Page, error) {
	if after != "" {
		after = p.prefix + after
	}
	page, err := p.b.List(ctx, p.prefix+prefix, delimiter, after, max)
	for i := range page.Objects {
		page.Objects[i] = p.own(page.Objects[i])
	}
	for i := range page.Prefixes {
		page.Prefixes[i] = strings.TrimPrefix(page.Prefixes[i], p.prefix)
	}
	page.Next = strings.TrimPrefix(page.Next, p.prefix)
	return page, err
}

func (p prefixed) CreateMultipart(ctx context.Context, key string) (string, error) {
	return p.b.CreateMultipart(ctx, p.prefix+key)
}

func (p prefixed) UploadPart(ctx context.Context, key, id string, number int, body io.ReadSeeker, size int64) (string, error) {
	return p.b.UploadPart(ctx, p.prefix+key, id, number, body, size)
}

func (p prefixed) CopyPart(ctx context.Context, key, id string, number int, src, ifMatch string, off, n int64) (string, error) {
	return p.b.CopyPart(ctx, p.prefix+key, id, number, p.prefix+src, ifMatch, off, n)
}

func (p prefixed) CompleteMultipart(ctx context.Context, key, id string, parts []Part, opt CompleteOptions) (string, error) {
	return p.b.CompleteMultipart(ctx, p.prefix+key, id, parts, opt)
}

func (p prefixed) AbortMultipart(ctx context.Context, key, id string) error {
	return p.b.AbortMultipart(ctx, p.prefix+key, id)
}
