package loadtest

import (
	"math"
	"time"

	"hostlocal/manifest"
)

// A Report is one experiment: what was run on what, and what came out. Its JSON
// form is what `registryd loadtest` writes beside the HTML.
type Report struct {
	Version    string        `json:"version"` // of registryd
	Command    []string      `json:"command"` // as it was typed, secrets taken out
	Machine    Machine       `json:"machine"`
	Started    time.Time     `json:"started"`
	Wall       time.Duration `json:"wall"` // nanoseconds, as all durations
	Scenario   Scenario      `json:"scenario"`
	Tool       Calibration   `json:"tool"`
	Contenders []Contender   `json:"contenders"`
	Verdicts   []Verdict     `json:"verdicts,omitempty"`
	Ladder     *Ladder       `json:"ladder,omitempty"`
	Ended      string        `json:"ended,omitempty"` // why it ended early: "interrupted", a fault of the tool's own
}

// A Machine is what the experiment ran on.
type Machine struct {
	Host   string `json:"host"`
	OS     string `json:"os"` // kernel and its version
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory"` // bytes
	Go     string `json:"go"`
}

// A Contender is one target and all rounds of it.
type Contender struct {
	Name     string        `json:"name"`    // as in --target and --compare
	Version  string        `json:"version"` // as its binary says
	Settings []string      `json:"settings"`
	Rounds   []Measurement `json:"rounds"` // without the warm-up round
}

// A Measurement is one round of a scenario against one contender.
type Measurement struct {
	Began     time.Time                `json:"began"`
	Wall      time.Duration            `json:"wall"` // from the first pull's due time until the last client is done
	Pulls     []Pull                   `json:"pulls"`
	Wait      Quantiles                `json:"wait"`       // of whole pulls that went well, from when they were due
	FirstByte Quantiles                `json:"first_byte"` // of the first layer, from when its request was sent
	Requests  map[string]RequestTotals `json:"requests"`   // by kind: "tag", "manifest", "blob", "range", "token", "push"
	Wanted    int64                    `json:"wanted"`     // bytes of distinct content that the clients asked for, each digest once
	Received  int64                    `json:"received"`   // bytes of bodies that clients got
	Verified  int64                    `json:"verified"`   // of those, bytes whose digest was checked
	Sources   map[string]int64         `json:"sources"`    // received bytes by X-Registryd-Source; "" where there was none
	Upstream  Traffic                  `json:"upstream"`   // at the fake hub's sockets
	Bucket    Traffic                  `json:"bucket"`     // at the proxy before the bucket
	Usage     []Usage                  `json:"usage"`      // of the contender's processes, in order of time
	CPU       time.Duration            `json:"cpu"`        // user and system time of the contender's processes in the round
	Failures  []Failures               `json:"failures"`
	HeldBack  string                   `json:"held_back,omitempty"` // what besides the target bounded the load: the tool, descriptors, others on the machine
	Cold      string                   `json:"cold,omitempty"`      // where it should have been warm and was not: what warming it still cost
	Profiles  []string                 `json:"profiles,omitempty"`  // files written by --pprof
}

// A Pull is what one client saw of one image.
type Pull struct {
	Client    int           `json:"client"`
	Daemon    int           `json:"daemon"` // index of the target's URL
	Image     string        `json:"image"`
	Due       time.Duration `json:"due"`   // since Began of the measurement
	Start     time.Duration `json:"start"` // when the first request left; later than Due if the tool was late
	End       time.Duration `json:"end"`
	FirstByte time.Duration `json:"first_byte"` // of the first layer, from its request; 0 if none came
	Bytes     int64         `json:"bytes"`
	Requests  int           `json:"requests"`
	Failure   string        `json:"failure,omitempty"` // the kind; "" if every byte came and was right
	Left      bool          `json:"left,omitempty"`    // hung up in the middle, as the scenario has it; neither failed nor whole
}

// Wait returns how long the client waited, from when its pull was due.
func (p Pull) Wait() time.Duration { return p.End - p.Due }

// Quantiles sum up a distribution; all are zero if there was nothing to sum up.
type Quantiles struct {
	Count int           `json:"count"`
	Mean  time.Duration `json:"mean"`
	P50   time.Duration `json:"p50"`
	P90   time.Duration `json:"p90"`
	P99   time.Duration `json:"p99"`
	P999  time.Duration `json:"p999"`
	Max   time.Duration `json:"max"`
}

// RequestTotals count the requests of one kind, as the clients saw them.
type RequestTotals struct {
	Count   int            `json:"count"`
	Codes   map[string]int `json:"codes"` // by status; "0" where no answer came
	Bytes   int64          `json:"bytes"`
	Latency Quantiles      `json:"latency"` // until the body's end
}

// Traffic is what a server of ours, hub or bucket, was asked and sent.
type Traffic struct {
	Requests map[string]int            `json:"requests"` // by operation
	Sent     int64                     `json:"sent"`     // bytes of content that left, by its own count
	Received int64                     `json:"received"` // bytes of content that came in
	Wire     int64                     `json:"wire"`     // bytes written to sockets, headers included
	Fetched  map[manifest.Digest]int64 `json:"-"`        // content bytes sent of each digest
	Refused  int                       `json:"refused"`  // 429 and 503 that it was told to give
}

// Usage is what a contender's processes cost at one moment, summed over them.
type Usage struct {
	At          time.Duration `json:"at"`  // since Began
	CPU         time.Duration `json:"cpu"` // since the processes began
	RSS         int64         `json:"rss"` // bytes
	Threads     int           `json:"threads"`
	Goroutines  int           `json:"goroutines,omitempty"` // where /metrics says so
	Descriptors int           `json:"descriptors"`
	Disk        int64         `json:"disk,omitempty"` // bytes allocated under its cache folder
}

// Failures count the pulls and requests that went wrong in one way.
type Failures struct {
	Kind     string   `json:"kind"` // "status 503", "connection reset", "wrong digest", "timeout", ...
	Count    int      `json:"count"`
	Examples []string `json:"examples"` // a few, whole
}

// Calibration is what the tool can do on this machine, measured against a server
// that costs next to nothing.
type Calibration struct {
	PullsPerSecond    float64 `json:"pulls_per_second"`    // of a tiny image
	RequestsPerSecond float64 `json:"requests_per_second"` // kept alive, of 4 KiB
	BytesPerSecond    float64 `json:"bytes_per_second"`    // hashed
	Clients           int     `json:"clients"`             // at once, by descriptors and memory
}

// A Verdict is one assertion and whether it held.
type Verdict struct {
	Assertion string  `json:"assertion"` // as written: amplification<=1.01
	Contender string  `json:"contender"`
	Value     float64 `json:"value"` // seconds where it is a duration
	OK        bool    `json:"ok"`
}

// A Ladder is one quantity raised step by step.
type Ladder struct {
	Of    string `json:"of"` // "clients", "cached blobs", "blob size"
	Steps []Step `json:"steps"`
}

// A Step of a ladder is one contender's measurement at one value of the quantity.
type Step struct {
	Value       int64       `json:"value"`
	Contender   string      `json:"contender"`
	Measurement Measurement `json:"measurement"`
}

// Amplification is how many bytes the upstream sent for each byte wanted; NaN if
// nothing was wanted, or nobody counted what the upstream was asked.
func (m Measurement) Amplification() float64 {
	if m.Upstream.Requests == nil {
		return math.NaN()
	}
	return float64(m.Upstream.Sent) / float64(m.Wanted)
}
