package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"hostlocal/manifest"
	"hostlocal/registryd/upstream/hubtest"
	"hostlocal/s3store/s3test"
)

// An origin is the upstream, with the verbs of these tests.
type origin struct{ *hubtest.Hub }

// holdAfter sends n bytes of the blob to whoever asks from its start, and no more
// until the returned function is called.
func (up *origin) holdAfter(d manifest.Digest, n int64) (open func()) {
	gate := hubtest.NewGate()
	up.Fault(hubtest.And(hubtest.Blob(d), fromStart), hubtest.HoldAfter(n, gate))
	return gate.Open
}

// fromStart matches requests for a body from its first byte on.
func fromStart(q *hubtest.Request) bool {
	span := q.Header.Get("Range")
	return span == "" || strings.HasPrefix(span, "bytes=0-")
}

// cost is what the upstream sent of the content, in units of its size.
func (up *origin) cost(c hubtest.Content) float64 {
	return float64(up.Sent(c.Digest)) / float64(c.Size)
}

// A bucketServer is what the daemon's store.url names, seen from behind.
type bucketServer interface {
	config() string // of the key store, indented
	get(manifest.Digest) ([]byte, bool)
	put(manifest.Digest, []byte) // whatever the bytes are
	hasTag(repo, tag string) bool
}

func blobKey(d manifest.Digest) string {
	return fmt.Sprintf("docker/registry/v2/blobs/%s/%s/%s/data", d.Algorithm(), d.Hex()[:2], d.Hex())
}

func tagKey(repo, tag string) string {
	return fmt.Sprintf("docker/registry/v2/repositories/%s/_manifests/tags/%s/current/link", repo, tag)
}

// A folderBucket is a plain folder.
type folderBucket struct{ dir string }

func (b folderBucket) config() string { return fmt.Sprintf("  url: %q", "file://"+b.dir) }

func (b folderBucket) get(d manifest.Digest) ([]byte, bool) {
	data, err := os.ReadFile(filepath.Join(b.dir, blobKey(d)))
	return data, err == nil
}

// put replaces the file, as another program on the folder would, so that nobody
// finds half of it.
func (b folderBucket) put(d manifest.Digest, data []byte) {
	path := filepath.Join(b.dir, blobKey(d))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		panic(err)
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		panic(err)
	}
}

func (b folderBucket) hasTag(repo, tag string) bool {
	_, err := os.Stat(filepath.Join(b.dir, tagKey(repo, tag)))
	return err == nil
}

// An s3Bucket is a fake S3, reached by one of the SDKs.
type s3Bucket struct {
	*s3test.Server
	sdk string
}

func (b s3Bucket) config() string {
	return fmt.Sprintf("  url: s3://%s\n  s3: {endpoint: %q, region: us-east-1, client: %s}", s3test.Bucket, b.URL, b.sdk)
}

func (b s3Bucket) get(d manifest.Digest) ([]byte, bool) { return b.Server.Get(blobKey(d)) }
func (b s3Bucket) put(d manifest.Digest, data []byte)   { b.Server.Put(blobKey(d), data) }
func (b s3Bucket) hasTag(repo, tag string) (found bool) {
	_, found = b.Server.Get(tagKey(repo, tag))
	return found
}
func (b s3Bucket) sent(d manifest.Digest) (bytes int64) { return b.Server.Sent(blobKey(d)) }

// break has f go wrong with each reading of the blob.
func (b s3Bucket) breakBlob(d manifest.Digest, f s3test.Fault) {
	b.Fault(onBlob(d, s3test.Always("get", f)))
}

// onBlob restricts a choice to requests for one blob's bytes.
func onBlob(d manifest.Digest, choose func(*http.Request) *s3test.Fault) func(*http.Request) *s3test.Fault {
	key := blobKey(d)
	return func(r *http.Request) *s3test.Fault {
		if s3test.Key(r) != key {
			return nil
		}
		return choose(r)
	}
}

// damaged is the content with one byte turned over.
func damaged(c hubtest.Content, at int64) []byte {
	b := bytes.Clone(c.Bytes())
	b[at] ^= 0xff
	return b
}

// buckets are the kinds of bucket that a test may run on.
var buckets = []struct {
	name string
	on   func(*host)
}{
	{"folder", onFolder},
	{"aws", onS3("aws")},
	{"minio", onS3("minio")},
}
