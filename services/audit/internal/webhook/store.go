// Package webhook delivers tree heads to where customers want them: so they have them in their own hands, and need not trust anybody's copy.
package webhook

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	standard "github.com/galley-engine/galley/pkg/webhook"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/refusal"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

const (
	nonceSize = 16
	maxURL    = 2048
	// purpose is what the key of a webhook is derived from the log's key for, together with the customer.
	purpose = "webhook "
)

// Store keeps the customers' webhooks.
type Store struct {
	pool   *pgxpool.Pool
	key    tree.Key
	events *outbox.Outbox
	clock  clock.Clock
}

// NewStore makes a Store. The pool acts as the role that keeps webhooks. Secrets are derived from the log's key: the database holds nothing that
// a delivery could be forged with, and with another key of the log every secret is another one.
func NewStore(pool *pgxpool.Pool, key tree.Key, events *outbox.Outbox, now clock.Clock) *Store {
	return &Store{pool: pool, key: key, events: events, clock: now}
}

// keyOf is the key that deliveries are signed with.
func keyOf(key tree.Key, customer string, nonce []byte) standard.Key {
	return key.Derive(purpose+customer, nonce)
}

// told is what the audit log tells of a webhook: where it is, but not the whole address, which often is as good as a password.
type told struct {
	Host            string `json:"host"`
	URL             string `json:"url"`
	IntervalSeconds int64  `json:"interval_seconds"`
	Secret          string `json:"secret"`
}

// hidden are the members of told of which is told only that they differ.
func hidden() []string { return []string{"url", "secret"} }

func tell(hook *stored) *told {
	host := ""
	if address, err := url.Parse(hook.URL); err == nil {
		host = address.Scheme + "://" + address.Host
	}
	return &told{Host: host, URL: hook.URL, IntervalSeconds: hook.IntervalSeconds, Secret: hex.EncodeToString(hook.nonce)}
}

// Set says where the customer's heads go from now on. It makes a secret when there is none, or when asked to. The error is a *problem.Error
// when the request is at fault.
func (s *Store) Set(ctx context.Context, request query.AuditWebhookSetRequest) (query.AuditWebhookSetReply, error) {
	if err := check(&request); err != nil {
		return query.AuditWebhookSetReply{}, err
	}
	var reply query.AuditWebhookSetReply
	err := postgres.Transact(ctx, s.pool, request.CustomerID, func(tx pgx.Tx) error {
		before, err := lock(ctx, tx, request.CustomerID)
		if err != nil {
			return err
		}
		var was any
		secret := before
		if before != nil {
			was = tell(before)
		}
		if before == nil || request.NewSecret {
			secret = &stored{nonce: make([]byte, nonceSize), key: s.key.Signer.Name()}
			_, _ = rand.Read(secret.nonce) // it never fails: it ends the process instead
			reply.Secret = keyOf(s.key, request.CustomerID, secret.nonce).Secret()
		}
		now := s.clock().UTC().Truncate(time.Microsecond)
		after, err := upsert(ctx, tx, &request, secret, now)
		if err != nil {
			return err
		}
		reply.Webhook = s.shown(after)
		return s.record(ctx, tx, activity{request.CustomerID, event.ActionAuditWebhookSet, request.Actor, was, tell(after), now})
	})
	if err != nil {
		return query.AuditWebhookSetReply{}, fmt.Errorf("set the webhook of %s: %w", request.CustomerID, err)
	}
	s.events.Wake()
	return reply, nil
}

// Show gives the customer's webhook.
func (s *Store) Show(ctx context.Context, request query.AuditWebhookRequest) (query.AuditWebhook, error) {
	if err := refusal.Customer(request.CustomerID); err != nil {
		return query.AuditWebhook{}, err
	}
	var hook *stored
	err := postgres.Query(ctx, s.pool, request.CustomerID, func(batch *pgx.Batch) {
		batch.Queue(`SELECT `+columns+` FROM audit.webhooks WHERE customer_id = $1`, request.CustomerID).QueryRow(func(row pgx.Row) (err error) {
			hook, err = scan(row)
			return err
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return query.AuditWebhook{}, errNone()
	}
	if err != nil {
		return query.AuditWebhook{}, fmt.Errorf("read the webhook of %s: %w", request.CustomerID, err)
	}
	return s.shown(hook), nil
}

// withheld is why there are no deliveries to a webhook whose secret is of another key, and what ends that.
const withheld = "the log has a new key since the secret was shown, and signs with another secret: have a new one made " +
	"(new_secret; galley audit webhook set --new-secret) and give it to the receiver"

// shown is what whoever asks is told.
func (s *Store) shown(hook *stored) query.AuditWebhook {
	if hook.key != "" && hook.key != s.key.Signer.Name() {
		hook.Withheld = withheld
	}
	return hook.AuditWebhook
}

// Delete ends the deliveries, and gives the webhook as it was.
func (s *Store) Delete(ctx context.Context, request query.AuditWebhookDeleteRequest) (query.AuditWebhook, error) {
	if err := refusal.Customer(request.CustomerID); err != nil {
		return query.AuditWebhook{}, err
	}
	var hook *stored
	err := postgres.Transact(ctx, s.pool, request.CustomerID, func(tx pgx.Tx) (err error) {
		if hook, err = lock(ctx, tx, request.CustomerID); err != nil {
			return err
		}
		if hook == nil {
			return errNone()
		}
		if _, err := tx.Exec(ctx, `DELETE FROM audit.webhooks WHERE customer_id = $1`, request.CustomerID); err != nil {
			return fmt.Errorf("delete the row: %w", err)
		}
		return s.record(ctx, tx, activity{
			request.CustomerID, event.ActionAuditWebhookDeleted, request.Actor, tell(hook), nil, s.clock(),
		})
	})
	if err != nil {
		return query.AuditWebhook{}, fmt.Errorf("delete the webhook of %s: %w", request.CustomerID, err)
	}
	s.events.Wake()
	return s.shown(hook), nil
}

func errNone() error {
	return problem.Failure(problem.NotFound, "there is no webhook for tree heads of the audit log")
}

// activity is what was done.
type activity struct {
	customer, action string
	actor            event.Actor
	before, after    any
	at               time.Time
}

func (s *Store) record(ctx context.Context, tx pgx.Tx, done activity) error {
	changes, err := event.Changes(done.before, done.after, hidden()...)
	if err != nil || changes == nil {
		return err
	}
	return s.events.Activity(ctx, tx, event.Activity{
		CustomerID: done.customer, ActionType: done.action, ResourceType: event.ResourceAudit, ResourceID: done.customer, Actor: done.actor,
		Changes: changes, Outcome: string(event.StatusSuccess), OccurredAt: done.at.UTC(),
	}, "")
}

func check(request *query.AuditWebhookSetRequest) error {
	if request.IntervalSeconds == 0 {
		request.IntervalSeconds = query.DefaultWebhookInterval
	}
	if err := refusal.Customer(request.CustomerID); err != nil {
		return err
	}
	_, err := standard.ParseAddress(request.URL)
	switch {
	case err != nil || len(request.URL) > maxURL || !utf8.ValidString(request.URL):
		return refusal.Of("%v, of at most %d bytes", standard.ErrAddress, maxURL)
	case request.IntervalSeconds < query.MinWebhookInterval || request.IntervalSeconds > query.MaxWebhookInterval:
		return refusal.Of("interval_seconds must be %d to %d", query.MinWebhookInterval, query.MaxWebhookInterval)
	}
	return nil
}
