package notify

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"hostlocal/manifest"
)

// mediaType is the type of a request's body.
const mediaType = "application/vnd.docker.distribution.events.v2+json"

const (
	// maxReferences bounds what an event lists of a manifest's content. A manifest
	// may name tens of thousands of digests; of one with more than images have, some
	// 20 KiB of them, none is listed: a part would look like all.
	maxReferences = 128

	// maxReferenceBytes bounds the same in bytes, as JSON. Media types and platforms
	// are a stranger's words as long as a manifest: one event must not push the others
	// out of the queue, and has to fit into a line of the file.
	maxReferenceBytes = 64 << 10

	// maxWord bounds what a client's own words take of an event, in bytes.
	maxWord = 256
)

// An Event is one thing that happened, as the stock registry says it (its
// notifications package): the keys, and which of them are left out when empty.
type Event struct {
	ID        string    `json:"id"`
	Timestamp time.Time `json:"timestamp"`
	Action    string    `json:"action"`
	Target    Target    `json:"target"`
	Request   Request   `json:"request"`
	Actor     struct{}  `json:"actor"` // nobody has a name here yet
	Source    Source    `json:"source"`
}

// A Target is what it happened to. Of a deletion it has the repository and either
// the digest or the tag.
type Target struct {
	MediaType  string      `json:"mediaType"`
	Digest     string      `json:"digest"`
	Size       int64       `json:"size"`             // bytes
	Length     int64       `json:"length,omitempty"` // the same, for what was written long ago
	Repository string      `json:"repository"`
	URL        string      `json:"url,omitempty"`
	Tag        string      `json:"tag,omitempty"`
	References []Reference `json:"references,omitempty"` // what a manifest consists of
}

// A Reference is a manifest's word on a part of it.
type Reference struct {
	MediaType string             `json:"mediaType"`
	Digest    string             `json:"digest"`
	Size      int64              `json:"size"` // bytes
	Platform  *manifest.Platform `json:"platform,omitempty"`
}

// A Request is who asked for it, and how.
type Request struct {
	ID        string `json:"id"`
	Addr      string `json:"addr"`
	Host      string `json:"host"`
	Method    string `json:"method"`
	UserAgent string `json:"useragent"`
}

// A Source is the registry that an event comes from; InstanceID is another one in
// each process.
type Source struct {
	Addr       string `json:"addr"`
	InstanceID string `json:"instanceID"`
}

// event is one that happens now. Nothing of r is kept.
func (n *Notifier) event(action string, r *http.Request, t Target) Event {
	now := time.Now()
	return Event{
		ID: newID(now), Timestamp: now.UTC(), Action: action, Target: t, Source: n.source,
		Request: Request{
			ID: newID(now), Addr: bounded(r.RemoteAddr), Host: bounded(r.Host),
			Method: bounded(r.Method), UserAgent: bounded(r.UserAgent()),
		},
	}
}

// targetOf is a manifest of size bytes as a target.
func targetOf(r *http.Request, repo string, m *manifest.Manifest, size int64, tag string) Target {
	t := Target{MediaType: m.MediaType, Digest: m.Digest.String(), Size: size, Length: size, Repository: repo, Tag: tag}
	if r.Host != "" {
		scheme := "http://"
		if r.TLS != nil {
			scheme = "https://"
		}
		t.URL = scheme + bounded(r.Host) + "/v2/" + repo + "/manifests/" + t.Digest
	}
	if len(m.Layers)+len(m.Manifests) >= maxReferences {
		return t
	}
	for _, list := range [][]manifest.Descriptor{m.Blobs(), m.Children()} {
		for _, d := range list {
			t.References = append(t.References, Reference{MediaType: d.MediaType, Digest: d.Digest.String(), Size: d.Size, Platform: d.Platform})
		}
	}
	if b, err := json.Marshal(t.References); err != nil || len(b) > maxReferenceBytes {
		t.References = nil
	}
	return t
}

// bounded cuts s to maxWord bytes.
func bounded(s string) string { return s[:min(len(s), maxWord)] }

// newID returns a UUID of version 7, as the stock registry's events have: the time,
// so that they sort, and chance.
func newID(now time.Time) string {
	var b [16]byte
	rand.Read(b[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(b[:6], ms[2:])
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
