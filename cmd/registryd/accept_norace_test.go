//go:build !race

package main

import "time"

// noise is what a machine that does much else may add to a bound of the daemon's.
const noise = time.Second
