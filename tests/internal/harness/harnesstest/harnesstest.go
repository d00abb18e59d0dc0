// Package harnesstest lets tests use the harness: binaries that are built once per test process, and installations that end with
// their test.
package harnesstest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/galley-engine/galley/tests/internal/harness"
)

// shared are the binaries of the process, by mode. They have to be global: tests have nothing else in common.
var shared = map[harness.Mode]*binaries{harness.Single: {}, harness.Split: {}} //nolint:gochecknoglobals // see above

type binaries struct {
	once  sync.Once
	built *harness.Binaries
	err   error
}

// Main runs the tests of a package, removes the binaries and looks for goroutines that were left. Call it from TestMain.
func Main(m *testing.M) {
	goleak.VerifyTestMain(removeAfter{m}, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

type removeAfter struct{ m *testing.M }

// Run implements goleak.TestingM.
func (r removeAfter) Run() int {
	code := r.m.Run()
	for _, each := range shared {
		if each.built == nil {
			continue
		}
		if err := each.built.Remove(); err != nil {
			fmt.Fprintln(os.Stderr, "harnesstest:", err)
			code = max(code, 1)
		}
	}
	return code
}

// Binaries gives the freshly built programs of a mode.
func Binaries(t testing.TB, mode harness.Mode) *harness.Binaries {
	t.Helper()
	each := shared[mode]
	each.once.Do(func() {
		each.built, each.err = harness.Build(context.WithoutCancel(t.Context()), harness.Needs(mode)...)
	})
	require.NoError(t, each.err)
	return each.built
}

// Start starts an installation for the test. When the test fails, the ends of all logs are shown.
func Start(t testing.TB, config harness.Config) *harness.Installation {
	t.Helper()
	config.Binaries = Binaries(t, config.Mode)
	if config.AckWait == 0 {
		config.AckWait = 2 * time.Second
	}
	installation, err := harness.Start(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(installation.Logs())
		}
		assert.NoError(t, installation.Close())
	})
	return installation
}
