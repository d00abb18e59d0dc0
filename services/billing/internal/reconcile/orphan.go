package reconcile

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// settle settles orphans: with what they charged in the end, if anything knows of that, else with nothing. Those that ingest has to be
// asked about, and is not there to be, wait for the next time.
func (r *Reconciler) settle(ctx context.Context, orphans []orphan) (settled int64, err error) {
	for few := range slices.Chunk(orphans, query.MaxOutcomes) {
		settles, err := r.settles(ctx, few)
		if err != nil {
			return settled, err
		}
		if len(settles) == 0 {
			continue
		}
		closed, err := r.Ledger.Close(ctx, settles)
		if err != nil {
			return settled, fmt.Errorf("settle orphans: %w", err)
		}
		settled += int64(len(closed))
	}
	return settled, nil
}

func (r *Reconciler) settles(ctx context.Context, orphans []orphan) ([]ledger.Instruction, error) {
	var unknown []query.ExecutionKey
	for i := range orphans {
		if !orphans[i].ended {
			unknown = append(unknown, query.ExecutionKey{CustomerID: orphans[i].Customer, ExecutionID: orphans[i].Execution.String()})
		}
	}
	charged, answered, err := r.outcomes(ctx, unknown)
	if err != nil {
		return nil, err
	}
	settles := make([]ledger.Instruction, 0, len(orphans))
	for i := range orphans {
		found := &orphans[i]
		amount := found.charged
		if !found.ended {
			if !answered {
				continue
			}
			amount = charged[found.Key]
		}
		settles = append(settles, ledger.Instruction{Key: found.Key, Action: ledger.Settle, Amount: amount})
	}
	return settles, nil
}

// outcomes asks ingest what executions charged that the journal does not have. One that ingest does not know either, or whose end it never
// heard of, charged nothing. answered is false when ingest does not answer.
func (r *Reconciler) outcomes(
	ctx context.Context, executions []query.ExecutionKey,
) (charged map[ledger.Key]credit.Micro, answered bool, err error) {
	if len(executions) == 0 {
		return nil, true, nil
	}
	reply, err := bus.Ask[query.OutcomesReply](
		ctx, r.Bus, query.ServiceIngest, query.Outcomes, query.OutcomesRequest{Executions: executions})
	if err != nil {
		r.Log.Warn().Err(err).Int("executions", len(executions)).Msg("orphans not settled, ingest does not say how they ended")
		return nil, false, nil
	}
	charged = make(map[ledger.Key]credit.Micro, len(reply.Outcomes))
	for _, outcome := range reply.Outcomes {
		execution, err := uuid.Parse(outcome.ExecutionID)
		if err != nil || outcome.Charged < 0 {
			return nil, false, fmt.Errorf("outcome of execution %q: %d charged", outcome.ExecutionID, outcome.Charged)
		}
		if outcome.Status.Terminal() {
			charged[ledger.Key{Customer: outcome.CustomerID, Execution: execution}] = outcome.Charged
		}
	}
	return charged, true, nil
}
