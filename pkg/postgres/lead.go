package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
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

// LeadLoosely is Lead for work that two processes may do at the same time for a while, and that should go on without Postgres. do's
// context ends only when ctx ends or another process holds the lock; do returns when its context ends.
func LeadLoosely(ctx context.Context, pool *pgxpool.Pool, id int64, report func(error), do func(ctx context.Context)) error {
	stop := func() {}
	defer func() { stop() }()
	leading := false
	begin := func() {
		if leading {
			return
		}
		leading = true
		work, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			do(work)
		}()
		stop = func() {
			cancel()
			<-done
			leading = false
		}
	}
	for {
		held, err := hold(ctx, pool, id, begin)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			report(err)
		case !held && leading:
			stop()
		}
		if !lifecycle.Sleep(ctx, leadInterval) {
			return nil
		}
	}
}

// hold calls begin when this process gets the lock, and returns when the lock may be lost; held is false when another process has it.
func hold(ctx context.Context, pool *pgxpool.Pool, id int64, begin func()) (held bool, err error) {
	session, err := acquire(ctx, pool, id)
	if session == nil || err != nil {
		return false, err
	}
	defer func() { _ = session.Close(context.WithoutCancel(ctx)) }()
	begin()
	return true, watch(ctx, session)
}

func lead(ctx context.Context, pool *pgxpool.Pool, id int64, do func(ctx context.Context) error) error {
	session, err := acquire(ctx, pool, id)
	if session == nil || err != nil {
		return err
	}
	// Closing the session, rather than giving it back to the pool, is what releases the lock in every case.
	defer func() { _ = session.Close(context.WithoutCancel(ctx)) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := watch(ctx, session); err != nil {
			cancel(err)
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

// acquire gives a session that holds the lock, nil when another one does.
func acquire(ctx context.Context, pool *pgxpool.Pool, id int64) (*pgx.Conn, error) {
	pooled, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquire a session to lead: %w", err)
	}
	var leading bool
	err = pooled.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, id).Scan(&leading)
	if err != nil || !leading {
		pooled.Release()
		return nil, err
	}
	return pooled.Hijack(), nil
}

// watch returns an error when the session is lost, nil when ctx ends.
func watch(ctx context.Context, session *pgx.Conn) error {
	for lifecycle.Sleep(ctx, leadInterval) {
		ping, stop := context.WithTimeout(ctx, pingTimeout)
		err := session.Ping(ping)
		stop()
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%w: %w", errLost, err)
		}
	}
	return nil
}
