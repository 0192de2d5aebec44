package loadtest

import "time"

// Progress is replaced by the engine's own.
type Progress struct {
	Done, Due, Total, Running, Failed int
	P50, P99                          time.Duration
	BytesPerSecond                    float64
	Elapsed, ETA                      time.Duration
}
