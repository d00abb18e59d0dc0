// Package outbox publishes events that belong to a database transaction: they are stored in it, and a relay publishes them
// afterwards, at least once and in order. Consumers recognise a repetition by its ce-id.
//
// A schema that uses it has the table
//
//	outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, subject text NOT NULL, header jsonb NOT NULL, data bytea NOT NULL)
package outbox

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/traceparent"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// interval is how long an event waits when nobody woke the relay: after a crash between commit and Wake, for example.
	interval = time.Second
	page     = 200
)

// Outbox stores and relays the events of one schema.
type Outbox struct {
	pool   *pgxpool.Pool
	js     jetstream.JetStream
	table  string
	source string
	log    zerolog.Logger
	wake   chan struct{}
	// waiting describes the metric.
	waiting *prometheus.Desc
}

// New makes the outbox of a service's schema. The pool's role must be able to insert, select and delete.
func New(pool *pgxpool.Pool, js jetstream.JetStream, schema string, log zerolog.Logger) *Outbox {
	return &Outbox{
		pool: pool, js: js, table: pgx.Identifier{schema, "outbox"}.Sanitize(), source: "/galley/" + schema, log: log,
		wake: make(chan struct{}, 1), waiting: newPending(),
	}
}

// Event is what can be stored. Data is encoded as JSON.
type Event struct {
	// ID is the ce-id, a new UUID where it is empty.
	ID      string
	Subject string
	Type    string
	Time    time.Time
	// Actor and Trace, a W3C traceparent, may be empty.
	Actor string
	Trace string
	Data  any
}

// Activity stores an activity of the customer in the transaction. trace is a W3C traceparent; the one of ctx when it is "".
func (o *Outbox) Activity(ctx context.Context, tx pgx.Tx, activity event.Activity, trace string) error {
	return o.Store(ctx, tx, ofActivity(&activity, cmp.Or(trace, traceparent.From(ctx))))
}

// Store stores an event in the transaction.
func (o *Outbox) Store(ctx context.Context, tx pgx.Tx, stored Event) error {
	batch := &pgx.Batch{}
	if err := o.Queue(batch, stored); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("store event: %w", err)
	}
	return nil
}

// QueueActivity stores an activity of the customer together with the other statements of the batch.
func (o *Outbox) QueueActivity(batch *pgx.Batch, activity event.Activity) error {
	return o.Queue(batch, ofActivity(&activity, ""))
}

func ofActivity(activity *event.Activity, trace string) Event {
	return Event{
		Subject: subject.Activity(activity.CustomerID, activity.ActionType), Type: event.TypeActivity, Time: activity.OccurredAt,
		Actor: activity.Actor.String(), Trace: trace, Data: activity,
	}
}

// Queue stores an event together with the other statements of the batch, which must be one transaction.
func (o *Outbox) Queue(batch *pgx.Batch, stored Event) error {
	id := stored.ID
	if id == "" {
		made, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make event id: %w", err)
		}
		id = made.String()
	}
	data, err := json.Marshal(stored.Data)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	header := map[string]string{
		event.HeaderSpecVersion: "1.0", event.HeaderID: id, event.HeaderType: stored.Type,
		event.HeaderSource: o.source, event.HeaderTime: stored.Time.UTC().Format(time.RFC3339Nano),
	}
	if stored.Actor != "" {
		header[event.HeaderActor] = stored.Actor
	}
	if stored.Trace != "" {
		header[event.HeaderTraceParent] = stored.Trace
	}
	batch.Queue(`INSERT INTO `+o.table+` (subject, header, data) VALUES ($1, $2, $3)`, stored.Subject, header, data)
	return nil
}

// Wake tells the relay that a transaction with events was committed.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Run relays stored events until ctx ends.
func (o *Outbox) Run(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		more, err := o.relay(ctx)
		if err != nil && ctx.Err() == nil {
			o.log.Warn().Err(err).Msg("events wait in the outbox")
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-o.wake:
		}
	}
}

type row struct {
	id      int64
	subject string
	header  map[string]string
	data    []byte
}

// relay publishes a page of events and forgets them, in one transaction: a second process waits for the rows, so that the order
// holds.
func (o *Outbox) relay(ctx context.Context) (more bool, err error) {
	err = pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		rows, err := o.pending(ctx, tx)
		if err != nil {
			return err
		}
		more = len(rows) == page
		ids := make([]int64, 0, len(rows))
		for _, row := range rows {
			message := nats.NewMsg(row.subject)
			message.Data = row.data
			for name, value := range row.header {
				message.Header.Set(name, value)
			}
			if _, err := o.js.PublishMsg(ctx, message, jetstream.WithMsgID(row.header[event.HeaderID])); err != nil {
				return fmt.Errorf("publish %s: %w", row.subject, err)
			}
			ids = append(ids, row.id)
		}
		if len(ids) == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `DELETE FROM `+o.table+` WHERE id = ANY($1)`, ids)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("relay events: %w", err)
	}
	return more, nil
}

func (o *Outbox) pending(ctx context.Context, tx pgx.Tx) ([]row, error) {
	result, err := tx.Query(ctx, `SELECT id, subject, header, data FROM `+o.table+` ORDER BY id LIMIT $1 FOR UPDATE`, page)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return pgx.CollectRows(result, func(r pgx.CollectableRow) (row, error) {
		var found row
		err := r.Scan(&found.id, &found.subject, &found.header, &found.data)
		return found, err
	})
}
