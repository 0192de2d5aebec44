//go:build race

package main

import "time"

// The detector makes everything slower by a factor, the machine's other work too.
func init() { underRace, patience = true, time.Minute }
