// Package consumer follows the journal: it debits what was accepted, and settles what has completed, in batches. It tells the journal
// what was decided about executions that had to wait for credits.
//
// For each batch, in this order: one transaction of the ledger; one append of the next events; the acknowledgements. Whatever
// dies in between, the messages are delivered again, and the ledger gives the same answers, from which the same events are made.
package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

const (
	batch         = 500
	maxAckPending = 4000
	// redelivery is how soon a message comes back after a failure.
	redelivery = time.Second
)

// Journal appends events, answers callers, and reads what executions that waited stand at; a *journal.Journal.
type Journal interface {
	Append(ctx context.Context, entries ...journal.Entry) []journal.Result
	Reply(ctx context.Context, asked, header nats.Header, data []byte) error
	Last(ctx context.Context, execution subject.Execution) (journal.Record, error)
	First(ctx context.Context, execution subject.Execution) (journal.Record, error)
}

// Deps is what a Consumer works with.
type Deps struct {
	Bus     *bus.Bus
	Journal Journal
	Ledger  *ledger.Ledger
	// AckWait is after how long the work of a dead process is taken over, and so the longest that a batch may take.
	AckWait time.Duration
	Clock   clock.Clock
	Logger  zerolog.Logger
}

// Consumer is the durable consumer "billing".
type Consumer struct {
	Deps
	backoff   lifecycle.Backoff
	decisions decisions
}

// New makes a Consumer.
func New(deps Deps) *Consumer {
	return &Consumer{Deps: deps, decisions: newDecisions()}
}

// Run consumes until ctx ends. It finishes the batch at hand.
func (c *Consumer) Run(ctx context.Context) error {
	return c.Bus.Consume(ctx, bus.Consumer{
		Stream: subject.StreamExecutions, Durable: query.ServiceBilling, AckWait: c.AckWait, MaxAckPending: maxAckPending, Batch: batch,
		Filters: []string{subject.ExecutionMilestone(string(event.Accepted)), subject.ExecutionMilestone(string(event.Completed))},
	}, c.handle)
}

func (c *Consumer) handle(ctx context.Context, delivered []jetstream.Msg) {
	// Stopping in the middle would only mean that another process does it all again.
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.AckWait)
	defer cancel()
	messages, instructions := c.decode(work, delivered)
	if len(messages) == 0 {
		return
	}
	charges, err := c.Ledger.Apply(work, instructions)
	if err != nil {
		c.Logger.Warn().Err(err).Int("messages", len(messages)).Msg("batch not applied to the ledger, trying again")
		for i := range messages {
			again(&messages[i])
		}
		c.backoff.Wait(ctx)
		return
	}
	c.backoff.Reset()
	c.advance(work, messages, charges)
}

func (c *Consumer) decode(ctx context.Context, delivered []jetstream.Msg) ([]message, []ledger.Instruction) {
	messages := make([]message, 0, len(delivered))
	instructions := make([]ledger.Instruction, 0, len(delivered))
	for _, one := range delivered {
		decoded, err := decode(one)
		if err != nil {
			c.Bus.DeadLetter(ctx, one, err)
			continue
		}
		messages = append(messages, decoded)
		instructions = append(instructions, decoded.instruction)
	}
	return messages, instructions
}

// advance appends the events that follow from the charges and acknowledges the messages.
func (c *Consumer) advance(ctx context.Context, messages []message, charges []ledger.Charge) {
	now := c.Clock()
	entries := make([]journal.Entry, 0, len(messages))
	causes := make([]*message, 0, len(messages))
	for i := range messages {
		if messages[i].instruction.Action == ledger.Settle {
			c.settled(&messages[i], &charges[i])
			continue
		}
		entry, err := messages[i].follow(&charges[i], now)
		switch {
		case err != nil:
			c.Logger.Error().Err(err).Str("execution", messages[i].record.Execution.ID).Msg("event not made, trying again")
			again(&messages[i])
		case entry == nil:
			_ = messages[i].Ack()
		default:
			entries = append(entries, *entry)
			causes = append(causes, &messages[i])
		}
	}
	var failed int
	var failure error
	results := c.Journal.Append(ctx, entries...)
	c.decisions.count(entries, results)
	for i, result := range results {
		if err := c.appended(ctx, causes[i], &entries[i], result); err != nil {
			failed, failure = failed+1, err
		}
	}
	if failed > 0 {
		c.Logger.Warn().Err(failure).Int("events", failed).Msg("events not appended, trying again")
	}
}

// settled acknowledges the end of an execution.
func (c *Consumer) settled(m *message, charge *ledger.Charge) {
	if m.instruction.Amount > charge.Charged {
		c.Logger.Error().Str("execution", m.record.Execution.ID).Stringer("debited", charge.Debited).
			Stringer("charged", m.instruction.Amount).Msg("charged more than was debited, the difference is not taken")
	}
	_ = m.Ack()
}

// appended does what is left to do for a message after the append of its next event. It returns an error when that has to be
// tried again.
func (c *Consumer) appended(ctx context.Context, m *message, entry *journal.Entry, result journal.Result) error {
	last := &journal.Record{Kind: entry.Kind, Header: entry.Header, Data: entry.Data}
	if moved, ok := errors.AsType[*journal.MovedError](result.Err); ok {
		// An earlier delivery came this far and may have died before it answered the caller; or the execution was cancelled. Where it waited
		// for credits, Tell goes on.
		last = &moved.Last
	} else if result.Err != nil {
		again(m)
		return result.Err
	}
	if entry.Kind == event.Completed {
		c.reply(ctx, m, last)
	}
	_ = m.Ack()
	return nil
}

func again(m *message) {
	_ = m.NakWithDelay(redelivery)
}
