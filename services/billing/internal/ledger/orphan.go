package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
)

// closing is what the activity of an execution that was closed tells.
type closing struct {
	Debited credit.Micro `json:"debited"`
	Charged credit.Micro `json:"charged"`
}

// Close settles executions whose end will never come, or never came here. It does as Apply does, and reports each of them in an activity of
// the same transaction. It returns those that it has settled: one that was settled or refused before keeps its charge.
func (l *Ledger) Close(ctx context.Context, settles []Instruction) ([]Charge, error) {
	w := newWalk(settles)
	w.closes = true
	if err := l.follow(ctx, w); err != nil {
		return nil, err
	}
	var closed []Charge
	for _, charge := range w.distinct {
		if charge.changed {
			closed = append(closed, charge.Charge)
		}
	}
	return closed, nil
}

func (l *Ledger) queueClosings(batch *pgx.Batch, w *walk) error {
	if !w.closes {
		return nil
	}
	for _, charge := range w.distinct {
		if !charge.changed {
			continue
		}
		changes, err := event.Changes(nil, closing{Debited: charge.Debited, Charged: charge.Charged})
		if err == nil {
			err = l.outbox.QueueActivity(batch, event.Activity{
				CustomerID: charge.Customer, ActionType: event.ActionCreditsReconciled, ResourceType: "execution", ResourceID: charge.Execution.String(),
				Actor: event.Actor{Type: "service", ID: query.ServiceBilling}, Changes: changes, Outcome: "success", OccurredAt: w.now,
			})
		}
		if err != nil {
			return fmt.Errorf("report execution %s: %w", charge.Execution, err)
		}
	}
	return nil
}
