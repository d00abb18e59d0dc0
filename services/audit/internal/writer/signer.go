package writer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	// signInterval is how long a row may be in the log without a signed tree head that covers it.
	signInterval = time.Second
	// signEvery is how many rows may be.
	signEvery = 5000
)

// ErrRewound says that the log in the database is not the one whose tree head was published: it is shorter, or its beginning is another.
// So it is after an old backup was restored, or when somebody rewrote it. Nothing more is signed under its name.
var ErrRewound = errors.New("the log is not the one whose tree head was published")

// Publisher takes signed tree heads out of the reach of whoever has the database.
type Publisher interface {
	// Publish makes the head known. It is called with the newest one again and again, for the sake of places that were away.
	Publish(ctx context.Context, head storedtree.SignedHead) error
	// Published gives the newest head that was published, of size 0 when there is none.
	Published(ctx context.Context) (storedtree.SignedHead, error)
}

// Signer signs tree heads and has them published. It reads what is committed, so that whatever it signs is in the log for good, and two
// of them at the same time can sign nothing that does not fit together.
type Signer struct {
	pool    *pgxpool.Pool
	key     tree.Key
	outside Publisher
	clock   clock.Clock
	log     zerolog.Logger

	signed atomic.Int64
	due    chan struct{}
	leads  atomic.Bool
	// fault is why nothing is signed, nil while it is, or while another process signs.
	fault atomic.Pointer[error]
}

// NewSigner makes a Signer with the log's key. The pool acts as the role that may append.
func NewSigner(pool *pgxpool.Pool, key tree.Key, outside Publisher, now clock.Clock, log zerolog.Logger) *Signer {
	return &Signer{pool: pool, key: key, outside: outside, clock: now, log: log, due: make(chan struct{}, 1)}
}

// Leads tells whether this process is the one that signs.
func (s *Signer) Leads() bool { return s.leads.Load() }

// Fault is why this process signs no tree heads, nil while it does, and while another one leads. It is ErrRewound when that will not pass by
// itself. Other processes know it from [ToldFault], provided that the database takes what they are to be told.
func (s *Signer) Fault() error {
	if fault := s.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// grown is told the size of the log after every batch.
func (s *Signer) grown(size int64) {
	if size-s.signed.Load() >= signEvery {
		select {
		case s.due <- struct{}{}:
		default: // it is due already
		}
	}
}

// run signs as the log grows, until ctx ends.
func (s *Signer) run(ctx context.Context) error {
	s.leads.Store(true)
	defer func() {
		s.leads.Store(false)
		s.fault.Store(nil)
	}()
	report := func(err error) {
		s.fault.Store(&err)
		untold := s.tell(ctx, FaultOf(err))
		s.log.Error().Err(errors.Join(err, untold)).Msg("no tree head is signed, trying again")
	}
	_ = lifecycle.Retry(ctx, report, func(ctx context.Context) error { // nothing but the end of ctx ends the retries
		err := s.resume(ctx)
		for healthy := false; err == nil; {
			if !s.pause(ctx) {
				return nil
			}
			if err = s.step(ctx); err == nil && !healthy {
				s.fault.Store(nil)
				err = s.tell(ctx, FaultNone) // what was told before, by whomever, is over
				healthy = true
			}
		}
		return err
	})
	return nil
}

func (s *Signer) tell(ctx context.Context, fault Fault) error {
	return tellFault(ctx, s.pool, s.key.Signer.Name(), fault)
}

// pause waits until a head may be due. It is false when ctx ended.
func (s *Signer) pause(ctx context.Context) bool {
	timer := time.NewTimer(signInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-s.due:
	}
	return true
}

// resume compares the log with what was published of it.
func (s *Signer) resume(ctx context.Context) error {
	published, err := s.outside.Published(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	if published.Size == 0 {
		return nil
	}
	if head, err := tree.UnverifiedHead(published.Note); err == nil && head.Origin != s.key.Signer.Name() {
		s.log.Warn().Str("published", head.Origin).Str("log", s.key.Signer.Name()).Msg("the log has a new name: what was published is another log's")
		return nil
	}
	head, err := tree.OpenHead(published.Note, s.key.Verifier)
	if err != nil {
		return fmt.Errorf("%w: the log's name is used twice: %w", ErrRewound, err)
	}
	view, err := storedtree.View(ctx, s.pool)
	if err != nil {
		return err
	}
	if view.Edge.Size() < head.Size {
		return fmt.Errorf("%w: it has %d rows, and was %d long", ErrRewound, view.Edge.Size(), head.Size)
	}
	root, err := view.RootAt(head.Size)
	if err != nil {
		return err
	}
	if root != head.Root {
		return fmt.Errorf("%w: at %d rows its root is %s, and was %s", ErrRewound, head.Size, root, head.Root)
	}
	return nil
}

// step signs the log as it stands, when it has grown, and publishes the newest head.
func (s *Signer) step(ctx context.Context) error {
	stored, err := storedtree.Load(ctx, s.pool)
	if err != nil {
		return err
	}
	latest, err := storedtree.Latest(ctx, s.pool)
	if err != nil {
		return err
	}
	if size := stored.Edge.Size(); size > latest.Size {
		head := tree.Head{Origin: s.key.Signer.Name(), Size: size, Root: stored.Root, Time: s.clock()}
		signed, err := head.Sign(s.key.Signer)
		if err != nil {
			return err
		}
		if err := insertHead(ctx, s.pool, head, signed); err != nil {
			return err
		}
		latest = storedtree.SignedHead{Size: size, Note: signed}
	}
	s.signed.Store(latest.Size)
	if latest.Size == 0 {
		return nil
	}
	if err := s.outside.Publish(ctx, latest); err != nil {
		return fmt.Errorf("publish the tree head of size %d: %w", latest.Size, err)
	}
	return nil
}

func insertHead(ctx context.Context, pool *pgxpool.Pool, head tree.Head, signed []byte) error {
	const statement = `INSERT INTO audit.tree_heads (size, signed_at, note) VALUES ($1, $2, $3) ON CONFLICT (size) DO NOTHING`
	if _, err := pool.Exec(ctx, statement, head.Size, head.Time, string(signed)); err != nil {
		return fmt.Errorf("store the tree head of size %d: %w", head.Size, err)
	}
	return nil
}
