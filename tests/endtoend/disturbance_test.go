package endtoend_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/tests/internal/crash"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/harness/harnesstest"
)

// The short runs of `make test`; `go test ./endtoend -kills 20 -outage 30s` for longer ones, and `make chaos`.
//
//nolint:gochecknoglobals // flags
var (
	kills  = flag.Int("kills", 5, "processes to kill in each mode")
	outage = flag.Duration("outage", 5*time.Second, "how long Postgres or NATS stay away")
	seed   = flag.Uint64("seed", 0, "what decides on victims and moments; 0 for a new one")
)

const callers = 8

// disturb puts load on an installation, disturbs it, and makes sure that nothing was lost and nothing happened twice.
func disturb(t *testing.T, mode harness.Mode, how func(ctx context.Context, installation *harness.Installation) error) {
	t.Helper()
	start := *seed
	if start == 0 {
		start = rand.Uint64() //nolint:gosec // any seed will do
	}
	var progress strings.Builder
	report, err := crash.Run(t.Context(), crash.Config{
		Mode: mode, Binaries: harnesstest.Binaries(t, mode), Kills: *kills, Seed: start, Callers: callers, Disturb: how, Progress: &progress,
	})
	report.Print(&progress)
	t.Log(progress.String())
	require.NoError(t, err, "seed %d", start)
	require.Empty(t, report.Violations, "seed %d", start)
	require.NotZero(t, report.Orders)
}

func TestKill(t *testing.T) {
	t.Parallel()
	for _, mode := range harness.Modes() {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			disturb(t, mode, nil)
		})
	}
}

// TestPostgresStops has Postgres gone (refusing connections) or frozen (saying nothing at all) for a while.
func TestPostgresStops(t *testing.T) {
	t.Parallel()
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		disturb(t, harness.Split, func(ctx context.Context, installation *harness.Installation) error {
			if err := installation.Stop(harness.Postgres); err != nil {
				return err
			}
			awaitUnready(ctx, t, installation, "postgres")
			<-time.After(*outage)
			return installation.Start(ctx, harness.Postgres)
		})
	})
	t.Run("frozen", func(t *testing.T) {
		t.Parallel()
		disturb(t, harness.Single, func(ctx context.Context, installation *harness.Installation) error {
			if err := installation.Freeze(); err != nil {
				return err
			}
			awaitUnready(ctx, t, installation, "postgres")
			<-time.After(*outage)
			return installation.Thaw()
		})
	})
}

func TestNATSRestarts(t *testing.T) {
	t.Parallel()
	disturb(t, harness.Split, func(ctx context.Context, installation *harness.Installation) error {
		if err := installation.Stop(harness.NATS); err != nil {
			return err
		}
		awaitUnready(ctx, t, installation, "nats")
		<-time.After(*outage / 2)
		return installation.Start(ctx, harness.NATS)
	})
}

// awaitUnready waits until galley says that it cannot work, and what is missing.
func awaitUnready(ctx context.Context, t *testing.T, installation *harness.Installation, missing string) {
	t.Helper()
	nobody := harness.Client{Base: installation.BaseURL()}
	eventually(t, "galley does not notice", func() bool {
		answer, err := nobody.Call(ctx, http.MethodGet, "/ready", nil)
		return err == nil && answer.Status == http.StatusServiceUnavailable && strings.Contains(string(answer.Body), missing)
	})
}
