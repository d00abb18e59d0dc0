package testkit

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, stops the Postgres server that they shared, fails when goroutines are left, and exits the
// process. Call it from TestMain. Options are for goroutines that a library never ends.
func Main(m *testing.M, options ...goleak.Option) {
	goleak.VerifyTestMain(stopAfter{m}, options...)
}

// stopAfter stops what is shared before goleak looks.
type stopAfter struct{ m *testing.M }

// Run implements goleak.TestingM.
func (s stopAfter) Run() int {
	code := s.m.Run()
	if err := shared.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		return max(code, 1)
	}
	return code
}
