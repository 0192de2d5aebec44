package s3test

import (
	"fmt"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// content is bytes that may repeat: a blob of gigabytes needs memory for one block.
type content struct {
	block []byte
	size  int64
}

func whole(b []byte) content { return content{b, int64(len(b))} }

// at returns at most n bytes from off on, n > 0: up to the end of the block.
func (c content) at(off, n int64) []byte {
	i := off % int64(len(c.block))
	return c.block[i:min(i+n, int64(len(c.block)))]
}

// and is c with the bytes of d behind it.
func (c content) and(d content) content {
	if d.isZeros() && (c.size == 0 || c.isZeros()) {
		return content{zeros, c.size + d.size}
	}
	return whole(append(c.block, d.block...))
}

func (c content) isZeros() bool { return len(c.block) > 0 && &c.block[0] == &zeros[0] }

// tag is derived from the bytes alone, as S3's MD5 is: identical bodies collide.
// Two CRCs cost a tenth of an MD5.
func (c content) tag() string {
	return fmt.Sprintf("%08x%08x%016x", crc32.Checksum(c.block, crc32.MakeTable(crc32.Castagnoli)), crc32.ChecksumIEEE(c.block), c.size)
}

type object struct {
	content
	etag     string
	modified time.Time
	kind     string // Content-Type
}

// Put stores an object without a request. The server keeps data.
func (s *Server) Put(key string, data []byte) { s.PutRepeated(key, data, int64(len(data))) }

// PutRepeated stores an object of size bytes: block again and again, cut at the end.
func (s *Server) PutRepeated(key string, block []byte, size int64) {
	c := content{block, size}
	s.locked(func() { s.store(key, c, c.tag(), "") })
}

// Get returns an object's bytes without a request, and whether it is there.
func (s *Server) Get(key string) (data []byte, ok bool) {
	s.locked(func() {
		var o *object
		if o, ok = s.objects[key]; ok {
			for off := int64(0); off < o.size; {
				p := o.at(off, o.size-off)
				data = append(data, p...)
				off += int64(len(p))
			}
		}
	})
	return data, ok
}

// Delete removes an object without a request.
func (s *Server) Delete(key string) { s.locked(func() { delete(s.objects, key) }) }

// Keys returns all keys in order.
func (s *Server) Keys() (keys []string) {
	s.locked(func() { keys = s.keys() })
	return keys
}

// store wants the lock.
func (s *Server) store(key string, c content, etag, kind string) {
	s.objects[key] = &object{content: c, etag: etag, modified: s.now().Truncate(time.Second), kind: kind}
}

// condition looks at a write's conditions; nil means that they hold.
func (s *Server) condition(key string, r *http.Request, q Quirks) (bad *reply) {
	s.locked(func() { bad = s.check(key, r, q) })
	return bad
}

// check wants the lock.
func (s *Server) check(key string, r *http.Request, q Quirks) *reply {
	o, ok := s.objects[key]
	if r.Header.Get("If-None-Match") == "*" && ok && !q.IgnoreIfNoneMatch {
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	if want := r.Header.Get("If-Match"); want != "" && !q.IgnoreIfMatch {
		if !ok {
			return refuse(http.StatusNotFound, "NoSuchKey")
		}
		if strings.Trim(want, `"`) != o.etag {
			return refuse(http.StatusPreconditionFailed, "PreconditionFailed")
		}
	}
	return nil
}

func (s *Server) put(key string, r *http.Request, q Quirks, body []byte) *reply {
	c := whole(body)
	etag := c.tag()
	rep := answer(http.StatusOK)
	rep.header.Set("ETag", `"`+etag+`"`)
	s.locked(func() {
		if bad := s.check(key, r, q); bad != nil && !q.NotAtomic {
			rep = bad
			return
		}
		s.store(key, c, etag, r.Header.Get("Content-Type"))
	})
	return rep
}

func (s *Server) get(key string, r *http.Request, q Quirks) *reply {
	var o *object
	s.locked(func() { o = s.objects[key] })
	switch {
	case o == nil && q.NoList:
		return refuse(http.StatusForbidden, "AccessDenied")
	case o == nil:
		return refuse(http.StatusNotFound, "NoSuchKey")
	}
	if want := r.Header.Get("If-Match"); want != "" && strings.Trim(want, `"`) != o.etag {
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed")
	}
	rep := answer(http.StatusOK)
	rep.key, rep.body = key, o.content
	rep.header.Set("ETag", `"`+o.etag+`"`)
	rep.header.Set("Last-Modified", o.modified.Format(http.TimeFormat))
	rep.header.Set("Accept-Ranges", "bytes")
	rep.header.Set("Content-Type", o.kind)
	rep.header.Set("Content-Length", strconv.FormatInt(o.size, 10))
	if spec := r.Header.Get("Range"); spec != "" && !q.IgnoreRange {
		first, last, ok := parseRange(spec, o.size)
		if !ok {
			return refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		}
		rep.status = http.StatusPartialContent
		rep.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, o.size))
		rep.body = o.slice(first, last-first+1)
	}
	return rep
}

// slice is the range of a content, which starts somewhere in its block.
func (c content) slice(off, n int64) content {
	if c.isZeros() {
		return content{zeros, n}
	}
	i := off % int64(len(c.block))
	if i+n <= int64(len(c.block)) {
		return content{c.block[i : i+n], n}
	}
	return content{append(append([]byte(nil), c.block[i:]...), c.block[:i]...), n}
}

func parseRange(spec string, size int64) (first, last int64, ok bool) {
	spec, ok = strings.CutPrefix(spec, "bytes=")
	from, to, ok2 := strings.Cut(spec, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	if !ok || !ok2 || err != nil || first >= size {
		return 0, 0, false
	}
	if last = size - 1; to != "" {
		end, err := strconv.ParseInt(to, 10, 64)
		if err != nil || end < first {
			return 0, 0, false
		}
		last = min(last, end)
	}
	return first, last, true
}
