//go:build race

package main

import "time"

// noise is the same under the detector, which makes everything slower by a factor, the
// machine's other work too. Bounds in time are for a run without it.
const noise = 5 * time.Second

func init() { underRace, patience = true, time.Minute }
