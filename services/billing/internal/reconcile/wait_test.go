package reconcile_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// queue has an execution wait for credits in the ledger.
func (s *site) queue(t *testing.T, execution subject.Execution) {
	t.Helper()
	wanted := instruction(execution, ledger.Debit, 5000)
	wanted.Wait = ledger.Wait{Until: s.clock.Now().Add(6 * time.Hour), Place: 1}
	charges, err := s.ledger.Apply(t.Context(), []ledger.Instruction{wanted})
	require.NoError(t, err)
	require.Equal(t, ledger.StateWaiting, charges[0].State)
}

// short has the journal say it.
func (s *site) short(t *testing.T, execution subject.Execution) uint64 {
	t.Helper()
	result := s.journal.Append(t.Context(), journal.Entry{
		Execution: execution, Kind: event.Waiting, Qualifier: event.WaitingForCredits, Expect: s.append(t, execution, event.Accepted, 0, 5000),
		Source: "test", Time: s.clock.Now(), Data: []byte(`{"steps":[]}`),
	})[0]
	require.NoError(t, result.Err)
	return result.Sequence
}

func (s *site) pay(t *testing.T) {
	t.Helper()
	_, err := s.ledger.Grant(t.Context(), query.GrantRequest{ID: "more", CustomerID: customer, Amount: 5000})
	require.NoError(t, err)
}

// TestWaitsAgree follows an execution that waits for credits from step to step.
func TestWaitsAgree(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	execution := newExecution(t)
	s.queue(t, execution)
	last := s.short(t, execution)
	s.clock.Advance(time.Hour)
	assert.Empty(t, s.differences(t), "it waits")
	s.pay(t)
	assert.Empty(t, s.differences(t), "it was just paid for")
	at := s.clock.Now().Format(time.RFC3339)
	s.clock.Advance(2 * time.Minute)
	assert.Equal(t, []string{
		about(execution) + "has waited for credits, was decided at " + at + ", and the journal does not know",
	}, s.differences(t))
	found, err := s.ledger.Decided(t.Context(), nil, 10)
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.NoError(t, s.ledger.Told(t.Context(), []ledger.Key{found[0].Key}))
	assert.Equal(t, []string{about(execution) + "debited 5000, and the journal does not have its funded event"}, s.differences(t))
	s.append(t, execution, event.Funded, last, 5000)
	assert.Empty(t, s.differences(t))
}

func TestFaultsOfWaits(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, s *site) []string{
		"lost journal": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.queue(t, execution)
			return []string{about(execution) + "waits for credits, and the journal does not have the execution"}
		},
		"funded while it waits": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.queue(t, execution)
			s.append(t, execution, event.Funded, s.short(t, execution), 5000)
			return []string{about(execution) + "funded with 5000, and the charge is waiting"}
		},
		"ended while it waits": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.queue(t, execution)
			s.acknowledged(t, execution, event.Completed, s.short(t, execution), 0)
			return []string{about(execution) + "ended and charged 0, and the charge waits for credits"}
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			want := damage(t, s)
			s.clock.Advance(time.Hour)
			assert.Equal(t, want, s.differences(t))
		})
	}
}
