//go:build race

package registryd

// The race detector's own data make stacks larger.
func init() { underRace = true }
