package bucket

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"hostlocal/loadtest/line"
)

// Counts is what a store was asked and what moved, since Start or Forget.
type Counts struct {
	Requests    map[string]int // by operation: get, stat, put, list, delete, create_multipart, upload_part, complete_multipart, ...
	Sent        int64          // bytes of bodies to clients
	Received    int64          // bytes of bodies from clients
	Wire        int64          // bytes written to clients' sockets, headers included
	Refused     int            // answers of 429 and 503 that a fault gave
	Connections int            // accepted
}

type counters struct {
	socket         line.Counts
	sent, received atomic.Int64

	mu       sync.Mutex // guards what follows
	requests map[string]int
	refused  int
}

func (c *counters) init() { c.requests = map[string]int{} }

func (c *counters) request(op string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[op]++
}

func (c *counters) refuse(status int) {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
}

// Counts returns all counts at once.
func (p *Proxy) Counts() Counts {
	c := &p.log
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counts{Requests: maps.Clone(c.requests), Sent: c.sent.Load(), Received: c.received.Load(),
		Wire: c.socket.Wire.Load(), Refused: c.refused, Connections: int(c.socket.Accepted.Load())}
}

// Forget sets all counts to zero.
func (p *Proxy) Forget() {
	c := &p.log
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.requests)
	c.refused = 0
	for _, n := range []*atomic.Int64{&c.sent, &c.received, &c.socket.Wire, &c.socket.Accepted} {
		n.Store(0)
	}
}

// operation names what a request asks of S3, in the words of the daemon's metrics
// where it has some.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
func operation(r *http.Request) string {
	q := r.URL.Query()
	upload := q.Has("uploadId")
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch r.Method {
	case http.MethodHead:
		if key == "" {
			return "bucket"
		}
		return "stat"
	case http.MethodGet:
		switch {
		case upload:
			return "list_parts"
		case q.Has("uploads"):
			return "list_uploads"
		case q.Has("list-type") || q.Has("prefix") || q.Has("delimiter"):
			return "list"
		case key == "":
			return "bucket"
		}
		return "get"
	case http.MethodPut:
		switch {
		case upload && r.Header.Get("X-Amz-Copy-Source") != "":
			return "copy_part"
		case upload:
			return "upload_part"
		case r.Header.Get("X-Amz-Copy-Source") != "":
			return "copy"
		case key == "":
			return "bucket"
		}
		return "put"
	case http.MethodPost:
		switch {
		case upload:
			return "complete_multipart"
		case q.Has("uploads"):
			return "create_multipart"
		case q.Has("delete"):
			return "delete"
		}
	case http.MethodDelete:
		if upload {
			return "abort_multipart"
		}
		return "delete"
	}
	return "other"
}
