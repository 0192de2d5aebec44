package loadtest

import "time"

// A Scenario is a load in words that a person wrote: a file of it is YAML with the
// keys below, and the ones that `loadtest list` names are embedded.
type Scenario struct {
	Name        string        `yaml:"name" json:"name"`
	Description string        `yaml:"description" json:"description"` // a sentence or two of plain English
	Seed        uint64        `yaml:"seed" json:"seed"`
	Images      Images        `yaml:"images" json:"images"`
	Clients     Clients       `yaml:"clients" json:"clients"`
	Arrivals    Arrivals      `yaml:"arrivals" json:"arrivals"`
	Upstream    Line          `yaml:"upstream" json:"upstream"`
	Bucket      Bucket        `yaml:"bucket" json:"bucket"`
	Daemons     int           `yaml:"daemons" json:"daemons"` // how many hosts; 0 means 1
	Cache       Size          `yaml:"cache" json:"cache"`     // budget of each contender's cache; 0 means enough for all
	Warm        bool          `yaml:"warm" json:"warm"`       // every daemon has pulled every image before the clock starts
	Faults      []Fault       `yaml:"faults" json:"faults"`   // what happens to the upstream, and when
	Timeout     time.Duration `yaml:"timeout" json:"timeout"` // of one pull; 0 means 2 minutes
	Assert      []string      `yaml:"assert" json:"assert"`   // what must hold, unless --assert says otherwise
	Push        bool          `yaml:"push" json:"push"`       // an image is pushed while the others are pulled
}

// Size is a number of bytes, written as 24MiB or 512 or 1.5GiB.
type Size int64

// Images is which images there are.
type Images struct {
	Count    int      `yaml:"count" json:"count"`       // distinct images; 0 means 1
	Layers   []Size   `yaml:"layers" json:"layers"`     // of each image
	Like     []string `yaml:"like" json:"like"`         // instead of layers: the sizes of real images, in turn: redis, postgres, ...
	Mixed    bool     `yaml:"mixed" json:"mixed"`       // instead of both: sizes, sharing and popularity as in IBM's registry traces
	Scale    float64  `yaml:"scale" json:"scale"`       // factor on every layer above 1 MiB; 0 means 1
	Zipf     float64  `yaml:"zipf" json:"zipf"`         // exponent of popularity; 0 means that all are equal
	OneShot  float64  `yaml:"one_shot" json:"one_shot"` // share of pulls of an image that nobody pulls again
	Bump     float64  `yaml:"bump" json:"bump"`         // share of repeated pulls that find a new version
	Index    bool     `yaml:"index" json:"index"`       // several platforms with their attestations, as buildkit makes them
	Distinct bool     `yaml:"distinct" json:"distinct"` // no layer is in two images
}

// Clients is who pulls, and how.
type Clients struct {
	Count   int    `yaml:"count" json:"count"`     // how many pulls there are, each by a client of its own
	Profile string `yaml:"profile" json:"profile"` // one of Profiles, or several with commas, in turn; "" means containerd
	Rate    Size   `yaml:"rate" json:"rate"`       // bytes a second that one client reads; 0 is as fast as it can
	Slow    int    `yaml:"slow" json:"slow"`       // of Count, how many read at Rate; 0 means all
	Leave   int    `yaml:"leave" json:"leave"`     // of Count, how many hang up in the middle
	Sample  int    `yaml:"sample" json:"sample"`   // one pull of so many is hashed; 0 and 1 mean all
}

// Arrivals is when pulls are due.
type Arrivals struct {
	Pace  string        `yaml:"pace" json:"pace"`   // burst, constant, ramp, sine, waves, trace; "" means burst
	Over  time.Duration `yaml:"over" json:"over"`   // from the first to the last, of waves within each; 0 means at once
	Waves int           `yaml:"waves" json:"waves"` // of waves: how many
	Every time.Duration `yaml:"every" json:"every"` // of waves: from one to the next
}

// A Line is what lies before the upstream or the bucket.
type Line struct {
	Latency        time.Duration `yaml:"latency" json:"latency"`                 // from a request to its first byte
	ConnectionRate Size          `yaml:"connection_rate" json:"connection_rate"` // bytes a second on one connection; 0 is unlimited
	TotalRate      Size          `yaml:"total_rate" json:"total_rate"`           // bytes a second in all
	Token          bool          `yaml:"token" json:"token"`                     // a token is asked for, as Docker Hub does
	CDN            bool          `yaml:"cdn" json:"cdn"`                         // blobs are redirected to another host
	Pulls          int           `yaml:"pulls" json:"pulls"`                     // manifest GETs before 429; 0 is unlimited
}

// Bucket is the shared store of the daemons.
type Bucket struct {
	Kind string `yaml:"kind" json:"kind"` // none, folder, minio, versitygw; "" means none
	Line `yaml:",inline"`
}

// A Fault is something that happens to the upstream or the bucket.
type Fault struct {
	At    time.Duration `yaml:"at" json:"at"`       // after the first pull is due
	For   time.Duration `yaml:"for" json:"for"`     // 0 means until the end
	On    string        `yaml:"on" json:"on"`       // upstream or bucket; "" means upstream
	Kind  string        `yaml:"kind" json:"kind"`   // stall, down, cut, status, slow
	Value int64         `yaml:"value" json:"value"` // of cut: bytes; of status: the code; of slow: bytes a second
}
