package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/outbound"
	"github.com/galley-engine/galley/pkg/postgres"
	standard "github.com/galley-engine/galley/pkg/webhook"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	// Type is that of what is delivered.
	Type = "audit.tree_head"

	// lockID is held by the process that delivers.
	lockID = 7315
	// lookInterval is how often it looks for webhooks that are due.
	lookInterval = 5 * time.Second
	batch        = 64
	concurrency  = 8
	// sendTimeout bounds one attempt. A receiver need only store what it gets.
	sendTimeout = 10 * time.Second
	// claimed is longer than all attempts of a batch take.
	claimed = 2 * time.Minute

	// A failed delivery is tried again after firstPause, then after twice that, and so on, up to maxPause or the interval, whichever is longer.
	// Who asks to be left alone is, for up to a day.
	firstPause = 30 * time.Second
	maxPause   = time.Hour
	maxDelay   = 24 * time.Hour
)

// Deliverer delivers the newest head to every webhook that is due. Whatever a receiver does costs nobody but it: the log is written and signed
// elsewhere.
type Deliverer struct {
	pool    *pgxpool.Pool
	key     tree.Key
	network *outbound.Network
	clock   clock.Clock
	log     zerolog.Logger
	pause   time.Duration
}

// NewDeliverer makes a Deliverer. The pool acts as the role that writes the log.
func NewDeliverer(pool *pgxpool.Pool, key tree.Key, network *outbound.Network, now clock.Clock, log zerolog.Logger) *Deliverer {
	return &Deliverer{pool: pool, key: key, network: network, clock: now, log: log, pause: lookInterval}
}

// Run delivers, or stands by while another process does, until ctx ends.
func (d *Deliverer) Run(ctx context.Context) error {
	report := func(err error) { d.log.Warn().Err(err).Msg("tree heads are not delivered to webhooks, trying again") }
	begun := false
	return postgres.Lead(ctx, d.pool, lockID, report, func(ctx context.Context) error {
		if !begun {
			if err := d.begin(ctx); err != nil {
				return err
			}
			begun = true
		}
		for {
			more, err := d.step(ctx)
			if err != nil {
				return err
			}
			if !more && !lifecycle.Sleep(ctx, d.pause) {
				return nil
			}
		}
	})
}

// begin looks at which webhooks the log's key has no secrets of.
func (d *Deliverer) begin(ctx context.Context) error {
	key := d.key.Signer.Name()
	if err := adopt(ctx, d.pool, key); err != nil {
		return err
	}
	found, err := Count(ctx, d.pool, key, d.clock())
	if err == nil && found.Withheld > 0 {
		d.log.Warn().Int64("webhooks", found.Withheld).
			Msg("the log has a new key: nothing is delivered to webhooks with secrets of another one until their customers have new secrets made")
	}
	return err
}

// step delivers to some of the webhooks that are due; more tells that there may be others.
func (d *Deliverer) step(ctx context.Context) (more bool, err error) {
	latest, err := storedtree.Latest(ctx, d.pool)
	if err != nil || latest.Size == 0 {
		return false, err
	}
	head, err := tree.OpenHead(latest.Note, d.key.Verifier)
	if err != nil {
		return false, fmt.Errorf("the newest tree head: %w", err)
	}
	now := d.clock()
	due, err := claim(ctx, d.pool, head.Origin, head.Size, now, now.Add(claimed))
	if err != nil {
		return false, err
	}
	var group errgroup.Group
	group.SetLimit(concurrency)
	for i := range due {
		group.Go(func() error { return d.deliver(ctx, &due[i], head, latest.Note) })
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	return len(due) == batch, nil
}

// deliver makes one attempt. Its error is one of Postgres: what the receiver does is recorded.
func (d *Deliverer) deliver(ctx context.Context, to *target, head tree.Head, signed []byte) error {
	err := d.send(ctx, to, head, signed)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was called off, and is tried again
	}
	now := d.clock()
	if err == nil {
		return recordDelivery(ctx, d.pool, to, head.Origin, head.Size, now)
	}
	reason := "the message cannot be sent"
	if failed, ok := errors.AsType[*problem.Error](err); ok {
		reason = failed.Message
	}
	d.log.Debug().Str("customer", to.Customer).Str("reason", reason).Int("failures", to.Failures+1).Msg("tree head not delivered to the webhook")
	return recordFailure(ctx, d.pool, to, reason, now, now.Add(pauseAfter(to, err)))
}

// pauseAfter is how long a webhook is left alone after a failure.
func pauseAfter(to *target, err error) time.Duration {
	limit := max(maxPause, time.Duration(to.Interval)*time.Second)
	pause := firstPause
	for i := 0; i < to.Failures && pause < limit; i++ {
		pause *= 2
	}
	pause = min(pause, limit)
	if asked, ok := errors.AsType[*outbound.DelayError](err); ok {
		pause = min(max(pause, asked.After), maxDelay)
	}
	return pause
}

func (d *Deliverer) send(ctx context.Context, to *target, head tree.Head, signed []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	address, err := standard.ParseAddress(to.URL)
	if err != nil {
		return problem.Failure(problem.ComponentError, "%v", err)
	}
	data, err := json.Marshal(head.Event(signed))
	if err != nil {
		return fmt.Errorf("encode the tree head: %w", err)
	}
	body, err := standard.Typed(Type, head.Time, data)
	if err != nil {
		return err
	}
	message := standard.Message{Address: address, ID: messageID(to.Customer, head), At: d.clock(), Body: body}
	request, err := message.Request(ctx, keyOf(d.key, to.Customer, to.Nonce))
	if err != nil {
		return problem.Failure(problem.ComponentError, "%v", err)
	}
	_, err = standard.Send(d.network, &outbound.Call{Customer: to.Customer, IdempotencyKey: message.ID}, request)
	return err
}

// idBytes is how much of a digest names a message.
const idBytes = 16

// messageID is the same for all attempts to deliver a head.
func messageID(customer string, head tree.Head) string {
	digest := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", customer, head.Origin, head.Size))
	return "msg_" + hex.EncodeToString(digest[:idBytes])
}
