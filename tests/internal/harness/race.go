//go:build race

package harness

// raceEnabled: programs are built with the race detector when the tests are.
const raceEnabled = true
