package control

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
	"github.com/galley-engine/galley/services/ingest/internal/ending"
)

const (
	maxText = 500
	// patience bounds how long a cancellation runs after an execution that moves on, and what follows it.
	patience = 10 * time.Second
)

// Cancel ends an execution wherever it is, and those that its steps wait for, and gives the response with which it ended. One that has
// ended, also while this tries, is EXECUTION_ENDED: the journal decides who came first. reason may be empty.
func (c *Controller) Cancel(ctx context.Context, execution subject.Execution, reason string, author Author) ([]byte, error) {
	if err := checkText("/reason", reason); err != nil {
		return nil, err
	}
	last, err := c.underWay(ctx, execution)
	if err != nil {
		return nil, err
	}
	first, err := c.first(ctx, execution)
	if err != nil {
		return nil, expired(err, ended(execution))
	}
	trying, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for last.Kind != event.Completed {
		cancelled := problem.Error{Code: problem.Cancelled, Message: message(reason)}
		end, err := ending.Failed(&first, &last, cancelled, author.Actor, c.Clock())
		if err != nil {
			return nil, err
		}
		result := c.Journal.Append(trying, end.Entry)[0]
		var moved *journal.MovedError
		switch {
		case result.Err == nil:
			following, stop := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer stop()
			c.tell(following, &first, end, activity.Entry{
				Action: event.ActionExecutionCancelled, Author: author, Before: map[string]any{"status": last.Kind.Standing()},
				After: map[string]any{"status": event.StatusFailed, "reason": reason},
			})
			return end.Data, nil
		case trying.Err() != nil, !errors.As(result.Err, &moved), moved.Last.Sequence == 0:
			return nil, unavailable(result.Err)
		}
		last = moved.Last
	}
	return nil, ended(execution)
}

func message(reason string) string {
	if reason == "" {
		return "the execution was cancelled"
	}
	return "the execution was cancelled: " + reason
}

// tell tells everybody of the end: the caller and the execution that wait for this one, the process that works on it, the audit log
// and the executions that this one waited for. The end stands: what cannot be reached is logged, and finds out later from the journal.
func (c *Controller) tell(ctx context.Context, first *journal.Record, end *ending.End, entry activity.Entry) {
	report := func(doing string, err error) {
		if err != nil {
			c.Log.Warn().Err(err).Str("execution", end.Execution.ID).Msg("cancelled, but cannot " + doing)
		}
	}
	report("tell those who wait for it", c.Journal.Reply(ctx, first.Header, end.Header, end.Data))
	report("notify the worker", c.Bus.Conn.Publish(end.Execution.Notify(), nil))
	report("record the activity", c.transact(ctx, end.Execution.Customer, func(tx pgx.Tx) error {
		return c.record(ctx, tx, end.Execution, entry)
	}))
	for _, child := range end.Children {
		_, err := c.Cancel(ctx, subject.Execution{Customer: end.Execution.Customer, ID: child},
			"execution "+end.Execution.ID+", which ran it, was cancelled", entry.Author)
		if refused, ok := errors.AsType[*problem.Error](err); !ok || refused.Code != problem.ExecutionEnded {
			report("cancel the execution "+child, err)
		}
	}
}

// checkText checks what a person writes for people.
func checkText(path, text string) error {
	for _, r := range text {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return accept.Malformed(path, "must not hold control characters")
		}
	}
	if utf8.RuneCountInString(text) > maxText {
		return accept.Malformed(path, fmt.Sprintf("must have at most %d characters", maxText))
	}
	return nil
}
