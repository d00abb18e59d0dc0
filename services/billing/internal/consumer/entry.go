package consumer

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// follow makes the event that follows from the charge: nil when the execution has ended already.
func (m *message) follow(charge *ledger.Charge, now time.Time) (*journal.Entry, error) {
	switch charge.State {
	case ledger.StateDebited:
		return m.funded(charge, now)
	case ledger.StateRefused:
		return m.refused(charge, now)
	case ledger.StateWaiting:
		return m.waiting(now)
	case ledger.StateSettled:
		return nil, nil //nolint:nilnil // see above
	}
	return nil, fmt.Errorf("charge in state %q", charge.State)
}

// next is the milestone that follows accepted, or the wait for credits.
func (m *message) next(kind event.Kind, credits int64, now time.Time, data []byte) *journal.Entry {
	header := journal.NewHeader()
	handOn := []string{event.HeaderSubject, event.HeaderActor, event.HeaderTraceParent}
	if kind != event.Completed { // whoever ends the execution replies
		handOn = append(handOn, event.HeaderReply, event.HeaderParent)
	}
	for _, name := range handOn {
		if values := m.record.Header[name]; len(values) > 0 {
			header[name] = values
		}
	}
	header[event.HeaderCredits] = []string{strconv.FormatInt(credits, 10)}
	return &journal.Entry{
		Execution: m.record.Execution, Kind: kind, Expect: m.expect, Source: query.ServiceBilling, Time: now,
		Header: header, Data: data,
	}
}

// funded hands the request on with its debit in front. The request is not decoded: its bytes are an object that begins with a
// member, see checkAccepted.
func (m *message) funded(charge *ledger.Charge, now time.Time) (*journal.Entry, error) {
	debit, err := json.Marshal(event.Debit{
		TransactionID: charge.DebitID, Amount: charge.Debited, BalanceAfter: charge.BalanceAfter,
	})
	if err != nil {
		return nil, fmt.Errorf("encode debit: %w", err)
	}
	data := make([]byte, 0, len(debit)+len(m.record.Data)+16)
	data = append(data, `{"debit":`...)
	data = append(data, debit...)
	data = append(data, ',')
	data = append(data, m.record.Data[1:]...)
	return m.next(event.Funded, int64(charge.Debited), now, data), nil
}

// refused ends the execution: nothing was run, nothing is charged.
func (m *message) refused(charge *ledger.Charge, now time.Time) (*journal.Entry, error) {
	waited := max(now.Sub(m.record.Stored), 0).Milliseconds()
	reason := fmt.Sprintf("the execution may cost up to %s credits, the balance is %s", m.instruction.Amount, charge.BalanceAfter)
	if until := m.instruction.Wait.Until; !until.IsZero() {
		reason += ", and it has waited until " + until.Format(time.RFC3339)
	}
	data, err := json.Marshal(event.Response{
		RecipeID:      m.recipe.RecipeID,
		AgentID:       m.recipe.AgentID,
		RecipeVersion: m.recipe.Version,
		ExecutionID:   m.record.Execution.ID,
		CustomerID:    m.record.Execution.Customer,
		Status:        event.StatusFailed,
		Data:          json.RawMessage("null"),
		Metadata: event.Metadata{
			DurationMS: waited, Receipt: event.Receipt{Quoted: m.instruction.Amount}, Timestamp: now, Steps: []event.StepSummary{},
		},
		Errors: []problem.Error{{Code: problem.InsufficientCredits, Message: reason}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode response: %w", err)
	}
	entry := m.next(event.Completed, 0, now, data)
	entry.Header.Set(event.HeaderStatus, string(event.StatusFailed))
	entry.Header.Set(event.HeaderCode, string(problem.InsufficientCredits))
	entry.Header.Set(event.HeaderDuration, strconv.FormatInt(waited, 10))
	return entry, nil
}

// waiting says that the execution waits for credits, until when at most, and that nothing has been done of it.
func (m *message) waiting(now time.Time) (*journal.Entry, error) {
	data, err := json.Marshal(event.Checkpoint{
		ExecutionID: m.record.Execution.ID, StartedAt: m.record.Stored, Steps: []event.StepOutcome{},
		Waits: []event.Wait{{Since: m.record.Stored, Until: m.instruction.Wait.Until, Credits: m.instruction.Amount}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	header := journal.NewHeader()
	if values := m.record.Header[event.HeaderTraceParent]; len(values) > 0 {
		header[event.HeaderTraceParent] = values
	}
	return &journal.Entry{
		Execution: m.record.Execution, Kind: event.Waiting, Qualifier: event.WaitingForCredits, Expect: m.expect,
		Source: query.ServiceBilling, Time: now, Header: header, Data: data,
	}, nil
}
