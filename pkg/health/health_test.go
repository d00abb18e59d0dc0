package health_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/schemas/query"
)

func TestReadyNamesEveryDependency(t *testing.T) {
	t.Parallel()
	up := health.Check{Name: "nats", Probe: func(context.Context) error { return nil }}
	down := health.Check{Name: "postgres", Probe: func(context.Context) error { return health.Pending("migrating") }}
	require.Equal(t, query.Readiness{Ready: true, Checks: map[string]string{"nats": "ok"}},
		health.Ready(t.Context(), []health.Check{up}))
	require.Equal(t, query.Readiness{Ready: false, Checks: map[string]string{"nats": "ok", "postgres": "migrating"}},
		health.Ready(t.Context(), []health.Check{up, down}))
}
