package registryd

import (
	"context"
	"time"

	"hostlocal/manifest"
)

// Refreshed is what Refresh found.
type Refreshed struct {
	Repository string          `json:"repository"`
	Tag        string          `json:"tag"`
	Before     manifest.Digest `json:"before"` // zero if it was not known
	Now        manifest.Digest `json:"now"`
}

// Refresh asks the source of image, a name as a client would write it with a
// tag, what the tag stands for now, whatever its policy.
func (g *Registry) Refresh(ctx context.Context, image string) (Refreshed, error) { panic("soon") }

// Evicted is what Evict took from this disk.
type Evicted struct {
	Repository string `json:"repository"`
	Manifests  int    `json:"manifests"`
	Blobs      int    `json:"blobs"`
	Bytes      int64  `json:"bytes"`
}

// Evict takes an image, its manifests, its blobs and what is known of its tag,
// from this disk; the bucket and the upstream keep theirs.
func (g *Registry) Evict(ctx context.Context, image string) (Evicted, error) { panic("soon") }

// Explanation is what a name means here and why, and what is known of it.
type Explanation struct {
	Name       string          `json:"name"`
	Repository string          `json:"repository"` // as it lies in the bucket and on the disk
	Upstream   string          `json:"upstream"`   // empty: one of the bucket's own
	Path       string          `json:"path"`       // as the upstream knows it
	Why        string          `json:"why"`
	Tag        string          `json:"tag,omitempty"`
	Policy     string          `json:"policy,omitempty"`
	Digest     manifest.Digest `json:"digest"` // what the tag stands for, zero if not known here
	Confirmed  time.Time       `json:"confirmed"`
	OnDisk     bool            `json:"onDisk"` // its manifest is complete on this disk
}

// Explain says what a name means, for a person.
func (g *Registry) Explain(ctx context.Context, name string) (Explanation, error) { panic("soon") }
