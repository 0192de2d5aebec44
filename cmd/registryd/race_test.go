//go:build race

package main

// raceDetector says that the processes under test carry the race detector, which
// takes several times the memory of what it watches.
const raceDetector = true
