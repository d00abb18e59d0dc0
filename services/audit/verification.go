package audit

import (
	"context"
	"fmt"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/verification"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

// Verify verifies the whole log in a database, whose URL must be of a user that is a member of the service's role.
func Verify(ctx context.Context, databaseURL string, options verify.Options) (*verify.Report, error) {
	pool, err := postgres.Open(ctx, postgres.PoolConfig{URL: databaseURL, Role: migrations.Role, MaxConns: 1})
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer pool.Close()
	return verify.Database(ctx, pool, options)
}

// PublishedHeads gives signed tree heads that were published on NATS: the newest, the oldest that is kept, and some between.
func PublishedHeads(ctx context.Context, messages *bus.Bus) ([]string, error) {
	return publish.NewNATS(messages).Sample(ctx)
}

// RecordVerification has the log get a row about its own verification.
func RecordVerification(ctx context.Context, messages *bus.Bus, found *verify.Report, actor event.Actor) error {
	return verification.Record(ctx, messages, found, verification.Author{Actor: actor, At: clock.System()})
}
