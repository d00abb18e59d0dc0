package ingest

import (
	"context"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
)

// RebuildProjection has the table of executions made again from the journal, by whichever process runs the service. It returns how
// many rows are to be made again; executions older than the journal keep theirs.
func RebuildProjection(ctx context.Context, databaseURL string, messages *bus.Bus) (int64, error) {
	pool, err := postgres.Open(ctx, postgres.PoolConfig{URL: databaseURL, Role: "galley_ingest", MaxConns: 1})
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	return projection.Rebuild(ctx, pool, messages)
}
