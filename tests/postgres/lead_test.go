package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
)

func TestLeadLooselyGoesOnWithoutPostgresUntilAnotherLeads(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresServer(t)
	pool, err := pgxpool.New(t.Context(), server.URL())
	require.NoError(t, err)
	defer pool.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	begun, ended, lost := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 100)
	group.Go(func() {
		_ = postgres.LeadLoosely(ctx, pool, 4712, func(error) { lost <- struct{}{} }, func(ctx context.Context) {
			begun <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
		})
	})
	await := func(happened <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-happened:
		case <-time.After(20 * time.Second):
			t.Fatal(what)
		}
	}
	await(begun, "nobody led")
	server.Kill(t)
	await(lost, "the loss was not noticed")
	require.Empty(t, ended, "the work goes on")
	server.Start(t)
	other, err := pgx.Connect(t.Context(), server.URL())
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close(context.WithoutCancel(t.Context()))) }()
	require.Eventually(t, func() (got bool) {
		_, err := other.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks
			WHERE locktype = 'advisory' AND objid = 4712 AND granted AND pid <> pg_backend_pid()`)
		require.NoError(t, err)
		require.NoError(t, other.QueryRow(t.Context(), `SELECT pg_try_advisory_lock(4712)`).Scan(&got))
		return got
	}, 20*time.Second, 10*time.Millisecond)
	await(ended, "two lead")
}
