package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// message is an event of the journal with what it asks of the ledger.
type message struct {
	jetstream.Msg
	record journal.Record
	// recipe is what is run; it is read from accepted only.
	recipe      event.RecipeVersion
	instruction ledger.Instruction
	// expect is the sequence of the execution's last event.
	expect uint64
}

// decode reads an event by its subject and headers alone. An error means that nobody can ever process it.
func decode(delivered jetstream.Msg) (message, error) {
	record, _, err := journal.Decode(delivered)
	if err != nil {
		return message{}, err
	}
	decoded := message{Msg: delivered, record: record, expect: record.Sequence}
	amount, err := record.Credits()
	if err != nil {
		return message{}, err
	}
	if amount < 0 {
		return message{}, fmt.Errorf("header %s: %d is negative", event.HeaderCredits, amount)
	}
	execution, err := uuid.Parse(record.Execution.ID)
	if err != nil || execution.String() != record.Execution.ID {
		return message{}, fmt.Errorf("execution %q is not a UUID in its usual form", record.Execution.ID)
	}
	decoded.instruction = ledger.Instruction{
		Key:    ledger.Key{Customer: record.Execution.Customer, Execution: execution},
		Amount: credit.Micro(amount),
	}
	switch record.Kind {
	case event.Accepted:
		decoded.instruction.Action = ledger.Debit
		if err := decoded.readWait(); err != nil {
			return message{}, err
		}
		return decoded, decoded.checkAccepted()
	case event.Completed:
		decoded.instruction.Action = ledger.Settle
		return decoded, nil
	default:
		return message{}, fmt.Errorf("event %s is none that moves credits", record.Kind)
	}
}

// checkAccepted makes sure, before any money moves, that the next event can be made of this one.
func (m *message) checkAccepted() (err error) {
	if !bytes.HasPrefix(m.record.Data, []byte(`{"`)) {
		return errors.New("the data is not a JSON object")
	}
	m.recipe, err = m.record.Recipe()
	return err
}

// readWait reads until when the execution waits for credits; few do. The order of those that wait is that of the journal.
func (m *message) readWait() error {
	text := m.record.Header.Get(event.HeaderCreditsUntil)
	if text == "" {
		return nil
	}
	until, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("header %s: %w", event.HeaderCreditsUntil, err)
	}
	m.instruction.Wait = ledger.Wait{Until: until.UTC(), Place: m.record.Sequence}
	return nil
}
