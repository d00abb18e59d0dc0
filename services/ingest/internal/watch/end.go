package watch

import (
	"context"
	"errors"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/ending"
)

// end ends an execution that nobody has ended by its deadline: failed, TIMEOUT, nothing charged; or INSUFFICIENT_CREDITS when it waits for
// credits and billing is not there to say so. When it moves on meanwhile it is not stuck, and is left alone.
func (w *Watch) end(ctx context.Context, execution subject.Execution) error {
	last, err := w.Journal.Last(ctx, execution)
	if err != nil {
		return err
	}
	if last.Kind == event.Completed {
		return nil
	}
	first, err := w.Journal.First(ctx, execution)
	if err != nil {
		return err
	}
	reason := problem.Error{Code: problem.Timeout, Message: "the execution has not ended before its deadline", Retryable: true}
	if last.WaitsForCredits() {
		reason = problem.Error{Code: problem.InsufficientCredits, Message: "the execution has waited for credits until its deadline"}
	}
	end, err := ending.Failed(&first, &last, reason, event.Actor{Type: "service", ID: query.ServiceIngest}, w.Clock())
	if err != nil {
		return err
	}
	result := w.Journal.Append(ctx, end.Entry)[0]
	var moved *journal.MovedError
	switch {
	case errors.As(result.Err, &moved):
		return nil
	case result.Err != nil:
		return result.Err
	}
	// The end stands. Those who miss it find it in the journal.
	err = errors.Join(w.Journal.Reply(ctx, first.Header, end.Header, end.Data), w.Bus.Conn.Publish(execution.Notify(), nil))
	if err != nil {
		w.Log.Warn().Err(err).Str("execution", execution.ID).Msg("ended, but not everybody was told")
	}
	return nil
}
