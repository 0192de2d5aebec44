package registryd

import (
	"maps"
	"slices"
	"time"
)

// Status is how the registry's sources are, for /readyz and for people.
type Status struct {
	Store     StoreStatus      `json:"store"`
	Upstreams []UpstreamStatus `json:"upstreams"` // by name
	WriteBack WriteBackStatus  `json:"writeBack"`
	Stale     int64            `json:"stale"` // answers given with a Warning since the start
}

// StoreStatus is how the bucket answers.
type StoreStatus struct {
	Configured bool      `json:"configured"`
	Mirror     bool      `json:"mirror"`
	Failures   int       `json:"failures"`          // in a row; 0 if the last call was answered
	Trouble    string    `json:"trouble,omitempty"` // the last failure, while Failures > 0
	Since      time.Time `json:"since,omitzero"`    // of the trouble
}

// UpstreamStatus is how one upstream answers.
type UpstreamStatus struct {
	Name    string    `json:"name"`
	Trouble string    `json:"trouble,omitempty"` // the last outage, if no answer came after it
	Since   time.Time `json:"since,omitzero"`
}

// WriteBackStatus is what the bucket has still to be given.
type WriteBackStatus struct {
	Pending int    `json:"pending"`           // blobs and manifests, and what is left of uploads to be removed
	Done    int64  `json:"done"`              // since the start
	Failed  int64  `json:"failed"`            // attempts that failed since the start
	Dropped int64  `json:"dropped"`           // given up: evicted meanwhile, or the list was full
	Refused int    `json:"refused"`           // waiting until this host may write the bucket, which it may only read now
	Trouble string `json:"trouble,omitempty"` // the last failure, until one succeeds
}

// Status returns how things are, from memory alone.
func (g *Registry) Status() Status {
	s := Status{Stale: g.staleAnswers.Load(), Store: StoreStatus{Mirror: g.options.Mirror}}
	if g.bucket != nil {
		g.bucket.status(&s.Store)
	}
	for _, name := range slices.Sorted(maps.Keys(g.origins)) {
		s.Upstreams = append(s.Upstreams, g.origins[name].status())
	}
	if g.writer != nil {
		s.WriteBack = g.writer.status()
	}
	return s
}
