package registryd

import (
	"net/http"
	"strconv"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"hostlocal/manifest"
)

// Header values that never change. A header's value is a slice: these are shared
// by all answers, and net/http only reads them.
var (
	apiVersion   = []string{"registry/2.0"}
	octetStream  = []string{"application/octet-stream"}
	jsonType     = []string{"application/json"}
	acceptRanges = []string{"bytes"}
	// What a digest names never changes, but who may have it does, so a cache
	// between us and the client (a proxy on the host, if any) must not answer for us.
	cacheControl = []string{"private, max-age=31536000, immutable"}

	sourceValues = map[string][]string{
		SourceDisk: {SourceDisk}, SourceFill: {SourceFill}, SourceStore: {SourceStore}, SourceUpstream: {SourceUpstream},
	}
)

// contentHeaders are the header values that follow from a digest, built once.
type contentHeaders struct {
	mediaType, digest, etag, length []string
}

func newContentHeaders(mediaType string, d manifest.Digest, size int64) *contentHeaders {
	v := [4]string{mediaType, d.String(), `"` + d.String() + `"`}
	c := &contentHeaders{digest: v[1:2:2], etag: v[2:3:3], mediaType: v[0:1:1]}
	if mediaType == octetStream[0] {
		c.mediaType = octetStream
	}
	if size >= 0 {
		v[3] = strconv.FormatInt(size, 10)
		c.length = v[3:4:4]
	}
	return c
}

// setContent sets what every answer with content has. cache is its Cache-Control,
// nil for a tag's: it moves, and without a word nobody may keep it, as it has no age
// to guess from. The length is set by
// whoever sends the body: a range has another one. Each header costs 3% of a
// manifest's time (net/http copies and sorts them), and up to eight a map of them is
// one piece of memory.
func (w *response) setContent(c *contentHeaders, source string, cache []string) {
	h := w.Header()
	h["Content-Type"] = c.mediaType
	h["Docker-Content-Digest"] = c.digest
	h["Etag"] = c.etag
	if cache != nil {
		h["Cache-Control"] = cache
	}
	w.setSource(source)
}

// setBlob is setContent for a blob, of which a part may be asked for. Nobody asks
// for part of a manifest.
func (w *response) setBlob(c *contentHeaders, source string) {
	w.setContent(c, source, cacheControl)
	w.Header()["Accept-Ranges"] = acceptRanges
}

// setSource says where the body comes from, to the client, the metrics and the
// log.
func (w *response) setSource(source string) {
	w.source = source
	w.Header()["X-Registryd-Source"] = sourceValues[source]
}

// maxHeaderSets bounds how many digests' headers a headerCache remembers, at
// about 500 bytes each: 2 MiB. A host that serves more at once builds some of them
// again, in a microsecond.
const maxHeaderSets = 4096

// A headerCache remembers the headers of content of one kind. It is told only what
// was verified: what a HEAD of an upstream claims is for that answer alone.
type headerCache struct {
	sets *lru.Cache[manifest.Digest, *contentHeaders]
}

func newHeaderCache() headerCache {
	c, err := lru.New[manifest.Digest, *contentHeaders](maxHeaderSets)
	if err != nil {
		panic(err) // only for a size below one
	}
	return headerCache{c}
}

// of returns the headers of size verified bytes.
func (hc headerCache) of(mediaType string, d manifest.Digest, size int64) *contentHeaders {
	if c, ok := hc.sets.Get(d); ok {
		return c
	}
	c := newContentHeaders(mediaType, d, size)
	hc.sets.Add(d, c)
	return c
}

// conditional reports whether the request is anything but a plain one for all of
// the content: net/http's ServeContent knows what to do then.
func conditional(r *http.Request) bool {
	h := r.Header
	return len(h["Range"]) > 0 || len(h["If-None-Match"]) > 0 || len(h["If-Match"]) > 0 ||
		len(h["If-Modified-Since"]) > 0 || len(h["If-Unmodified-Since"]) > 0
}

// noneMatch reports whether If-None-Match names d: the client has it.
func noneMatch(r *http.Request, d manifest.Digest) bool {
	for _, line := range r.Header["If-None-Match"] {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || isETag(strings.TrimPrefix(tag, "W/"), d) {
				return true
			}
		}
	}
	return false
}

// rangeHeader is the Range header, unless If-Range makes it void: content that is
// named by its digest never changes, so the only validator that counts is its ETag.
func rangeHeader(r *http.Request, d manifest.Digest) string {
	if v := r.Header["If-Range"]; len(v) > 0 && !isETag(strings.TrimSpace(v[0]), d) {
		return ""
	}
	return r.Header.Get("Range")
}

// isETag reports whether tag is d's: the digest in quotes.
func isETag(tag string, d manifest.Digest) bool {
	s := d.String()
	return len(tag) == len(s)+2 && tag[0] == '"' && tag[len(tag)-1] == '"' && tag[1:len(tag)-1] == s
}
