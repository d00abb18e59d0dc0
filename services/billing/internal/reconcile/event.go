package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

const (
	// silence is how long the journal may keep back an event that it has.
	silence = 30 * time.Second
	// abandoned is after how long the server forgets a reader that is gone.
	abandoned = time.Minute
)

// milestone is an event that must agree with a charge.
type milestone struct {
	ledger.Key
	kind   event.Kind
	amount credit.Micro
}

// compareEvents reads the journal's headers, as far as it goes now, and compares them with the charges, a page at a time.
func (c *comparison) compareEvents(ctx context.Context) error {
	stream, err := c.Bus.JS.Stream(ctx, subject.StreamExecutions)
	if err != nil {
		return fmt.Errorf("look up stream: %w", err)
	}
	end := stream.CachedInfo().State.LastSeq
	consumer, err := c.Bus.JS.OrderedConsumer(ctx, subject.StreamExecutions, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.ExecutionMilestones}, HeadersOnly: true, InactiveThreshold: abandoned,
	})
	if err != nil {
		return fmt.Errorf("create ordered consumer: %w", err)
	}
	if consumer.CachedInfo().NumPending == 0 {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(page))
	if err != nil {
		return fmt.Errorf("subscribe to ordered consumer: %w", err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for more := true; more; {
		milestones := make([]milestone, 0, page)
		for more && len(milestones) < page {
			var found *milestone
			if found, more, err = c.next(messages, end); err != nil {
				return errors.Join(err, ctx.Err())
			}
			if found != nil {
				milestones = append(milestones, *found)
			}
		}
		if err := c.compareCharges(ctx, milestones); err != nil {
			return err
		}
	}
	return nil
}

// next reads an event: nil for one that need not agree with a charge, or not yet.
func (c *comparison) next(messages jetstream.MessagesContext, end uint64) (found *milestone, more bool, err error) {
	message, err := messages.Next(jetstream.NextMaxWait(silence))
	if err != nil {
		return nil, false, fmt.Errorf("read the journal: %w", err)
	}
	meta, err := message.Metadata()
	if err != nil {
		return nil, false, fmt.Errorf("read metadata: %w", err)
	}
	record, _, err := journal.Decode(message)
	if err != nil {
		return nil, false, err
	}
	if c.due(&record) {
		found = c.milestone(&record)
	}
	return found, meta.NumPending > 0 && record.Sequence < end, nil
}

// due tells whether the ledger must know of an event: a debit is committed before its funded event is appended, a settle before its
// completed event is acknowledged.
func (c *comparison) due(record *journal.Record) bool {
	return record.Kind == event.Funded || record.Kind == event.Completed && record.Sequence <= c.completed
}

// milestone is nil, and a difference, for an event that billing cannot have understood.
func (c *comparison) milestone(record *journal.Record) *milestone {
	key := ledger.Key{Customer: record.Execution.Customer}
	amount, err := record.Credits()
	if err == nil {
		key.Execution, err = uuid.Parse(record.Execution.ID)
	}
	if err != nil {
		c.differs(key, "the %s event at %d of the journal cannot be read: %v", record.Kind, record.Sequence, err)
		return nil
	}
	return &milestone{Key: key, kind: record.Kind, amount: credit.Micro(amount)}
}

// chargesOf reaches the charges by their key, however large the table is. It may give some of another customer's execution of the same id.
const chargesOf = `SELECT customer_id, execution_id, state, debited, charged FROM billing.charges
	WHERE execution_id = ANY($2) AND customer_id = ANY($1)`

func (c *comparison) compareCharges(ctx context.Context, milestones []milestone) error {
	customers, executions := make([]string, len(milestones)), make([]pgtype.UUID, len(milestones))
	for i := range milestones {
		customers[i], executions[i] = milestones[i].Customer, pgtype.UUID{Bytes: milestones[i].Execution, Valid: true}
	}
	charges := make(map[ledger.Key]ledger.Charge, len(milestones))
	err := postgres.Query(ctx, c.Pool, postgres.EveryCustomer, func(batch *pgx.Batch) {
		batch.Queue(chargesOf, customers, executions).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var charge ledger.Charge
				err := rows.Scan(&charge.Customer, (*[16]byte)(&charge.Execution), &charge.State, &charge.Debited, &charge.Charged)
				if err != nil {
					return err
				}
				charges[charge.Key] = charge
			}
			return rows.Err()
		})
	})
	if err != nil {
		return fmt.Errorf("read charges: %w", err)
	}
	c.report.Events += int64(len(milestones))
	for _, found := range milestones {
		charge := charges[found.Key]
		if found.kind == event.Funded {
			c.compareFunded(found, &charge)
		} else {
			c.compareCompleted(found, &charge)
		}
	}
	return nil
}

func (c *comparison) compareFunded(found milestone, charge *ledger.Charge) {
	switch {
	case charge.State == "":
		c.differs(found.Key, "funded with %d, and there is no charge", found.amount)
	case charge.State == ledger.StateRefused, charge.State == ledger.StateWaiting:
		c.differs(found.Key, "funded with %d, and the charge is %s", found.amount, charge.State)
	case charge.Debited != found.amount:
		c.differs(found.Key, "funded with %d, and the charge debited %d", found.amount, charge.Debited)
	}
}

// compareCompleted takes the debit as the most that can be charged, as the ledger does.
func (c *comparison) compareCompleted(found milestone, charge *ledger.Charge) {
	switch charge.State {
	case ledger.StateDebited:
		c.differs(found.Key, "ended and charged %d, and the debit of %d is not settled", found.amount, charge.Debited)
	case ledger.StateWaiting:
		c.differs(found.Key, "ended and charged %d, and the charge waits for credits", found.amount)
	case ledger.StateRefused, ledger.StateSettled:
		if charge.Charged != min(found.amount, charge.Debited) {
			c.differs(found.Key, "ended and charged %d, and the charge is %d of a debit of %d", found.amount, charge.Charged, charge.Debited)
		}
		if charge.State == ledger.StateRefused && found.amount != 0 {
			c.differs(found.Key, "ended and charged %d, and the charge is refused", found.amount)
		}
	default:
		c.differs(found.Key, "ended and charged %d, and there is no charge", found.amount)
	}
}
