package audit

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/migrations"
)

const (
	// writerConns: three leaders' sessions, one for each of the two streams, one for the signer, one for verification, one for deliveries,
	// one for the outbox, and one for the readiness check.
	writerConns = 10
	readerConns = 4
	// rareConns are those of what is rare.
	rareConns = 2
)

// pools are the connections of each role.
type pools struct{ writer, reader, eraser, webhook *pgxpool.Pool }

// openPools connects to nothing yet.
func openPools(url string) (*pools, error) {
	made := new(pools)
	for _, one := range []struct {
		role     string
		conns    int32
		into     **pgxpool.Pool
		settings map[string]string
	}{
		{migrations.Role, writerConns, &made.writer, nil},
		{migrations.Reader, readerConns, &made.reader, reader.PoolSettings()},
		{migrations.Eraser, rareConns, &made.eraser, nil},
		{migrations.Webhook, rareConns, &made.webhook, nil},
	} {
		pool, err := postgres.Open(context.Background(), postgres.PoolConfig{URL: url, Role: one.role, MaxConns: one.conns, Settings: one.settings})
		if err != nil {
			made.close()
			return nil, fmt.Errorf("audit: %w", err)
		}
		*one.into = pool
	}
	return made, nil
}

func (p *pools) close() {
	for _, pool := range []*pgxpool.Pool{p.writer, p.reader, p.eraser, p.webhook} {
		if pool != nil {
			pool.Close()
		}
	}
}
