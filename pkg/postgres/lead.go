package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/lifecycle"
)

const (
	leadInterval = time.Second
	pingTimeout  = 5 * time.Second
)

// Lead calls do in at most one process at a time: the one whose session holds the advisory lock id. The others stand by and take
// over within about a second when it dies. do's context ends when the lock may be lost; what do writes must be fenced all the
// same, because a process learns of that late. Errors go to report. Lead returns only when ctx ends, and then nil.
func Lead(ctx context.Context, pool *pgxpool.Pool, id int64, report func(error), do func(ctx context.Context) error) error {
	for {
		if err := lead(ctx, pool, id, do); err != nil && ctx.Err() == nil {
			report(err)
		}
		if !lifecycle.Sleep(ctx, leadInterval) {
			return nil
		}
	}
}

var errLost = errors.New("the session that held the leader's lock is gone")

func lead(ctx context.Context, pool *pgxpool.Pool, id int64, do func(ctx context.Context) error) error {
	pooled, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("acquire a session to lead: %w", err)
	}
	var leading bool
	err = pooled.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, id).Scan(&leading)
	if err != nil || !leading {
		pooled.Release()
		return err
	}
	// Closing the session, rather than giving it back to the pool, is what releases the lock in every case.
	session := pooled.Hijack()
	defer func() { _ = session.Close(context.WithoutCancel(ctx)) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for lifecycle.Sleep(ctx, leadInterval) {
			pingContext, stop := context.WithTimeout(ctx, pingTimeout)
			err := session.Ping(pingContext)
			stop()
			if err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%w: %w", errLost, err))
			}
		}
	}()
	err = do(ctx)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	<-watched
	return err
}
