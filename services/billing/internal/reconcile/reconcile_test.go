package reconcile_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/reconcile"
)

func TestAgrees(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	assert.Empty(t, s.differences(t), "there is no journal and no consumer yet")
	stop := s.consume(t)
	s.finish(t)
	s.fund(t)
	refused := newExecution(t)
	s.append(t, refused, event.Accepted, 0, 5000)
	s.await(t, refused, event.Completed)
	stop()
	cancelled := newExecution(t) // before billing comes to it
	s.append(t, cancelled, event.Completed, s.append(t, cancelled, event.Accepted, 0, 10), 0)
	s.consume(t)
	s.awaitAcked(t)
	s.clock.Advance(time.Hour)
	report := s.compare(t)
	assert.Empty(t, report.Drifts)
	assert.GreaterOrEqual(t, report.Events, int64(5), "two funded, three completed")
	assert.GreaterOrEqual(t, report.Debits, int64(1))
	assert.EqualValues(t, 4, report.Charges)
}

// TestOnTheWay has what is not due yet.
func TestOnTheWay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stop := s.consume(t)
	execution, last := s.fund(t)
	s.awaitAcked(t)
	stop()
	s.append(t, execution, event.Completed, last, 4)
	s.append(t, newExecution(t), event.Accepted, 0, 10)
	s.clock.Advance(2 * time.Hour)
	assert.Empty(t, s.differences(t), "billing has not seen the end")
	young := newExecution(t)
	s.apply(t, young, ledger.Debit, 10)
	assert.Empty(t, s.differences(t), "the debit is young")
	s.clock.Advance(2 * time.Minute)
	assert.Equal(t, []string{about(young) + "debited 10, and the journal does not have the execution"}, s.differences(t))
}

// TestFaults are named, each of them, with the execution and the amounts.
func TestFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, s *site) []string{
		"lost journal": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.apply(t, execution, ledger.Debit, 10)
			return []string{about(execution) + "debited 10, and the journal does not have the execution"}
		},
		"lost funded": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.apply(t, execution, ledger.Debit, 10)
			s.acknowledged(t, execution, event.Accepted, 0, 10)
			return []string{about(execution) + "debited 10, and the journal does not have its funded event"}
		},
		"settle not applied": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.apply(t, execution, ledger.Debit, 10)
			s.acknowledged(t, execution, event.Completed, s.append(t, execution, event.Funded, 0, 10), 4)
			return []string{about(execution) + "ended and charged 4, and the debit of 10 is not settled"}
		},
		"end without a charge": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.acknowledged(t, execution, event.Completed, 0, 4)
			return []string{about(execution) + "ended and charged 4, and there is no charge"}
		},
		"funded without a charge": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.append(t, execution, event.Funded, 0, 10)
			return []string{about(execution) + "funded with 10, and there is no charge"}
		},
		"funded with another amount": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.apply(t, execution, ledger.Debit, 10)
			s.append(t, execution, event.Funded, 0, 11)
			return []string{about(execution) + "funded with 11, and the charge debited 10"}
		},
		"funded although refused": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.apply(t, execution, ledger.Debit, 5000)
			s.acknowledged(t, execution, event.Completed, s.append(t, execution, event.Funded, 0, 5000), 4)
			return []string{
				about(execution) + "funded with 5000, and the charge is refused",
				about(execution) + "ended and charged 4, and the charge is refused",
			}
		},
		"charged other than it says": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.apply(t, execution, ledger.Debit, 10)
			s.apply(t, execution, ledger.Settle, 5)
			s.acknowledged(t, execution, event.Completed, s.append(t, execution, event.Funded, 0, 10), 4)
			return []string{about(execution) + "ended and charged 4, and the charge is 5 of a debit of 10"}
		},
		"altered charge": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			s.apply(t, execution, ledger.Debit, 10)
			s.apply(t, execution, ledger.Settle, 4)
			s.acknowledged(t, execution, event.Completed, s.append(t, execution, event.Funded, 0, 10), 4)
			s.tamper(t, `UPDATE billing.charges SET charged = 3 WHERE execution_id = $1`, execution.ID)
			return []string{
				"settled charge, debited 10, charged 3, refunded in the ledger: 6",
				about(execution) + "ended and charged 4, and the charge is 3 of a debit of 10",
			}
		},
		"a lot off by one": func(t *testing.T, s *site) []string {
			s.tamper(t, `UPDATE billing.grants SET remaining = remaining - 1`)
			return []string{"customer cust_1: the balance is 1000, of the grants remains 999"}
		},
		"unreadable": func(t *testing.T, s *site) []string {
			execution := newExecution(t)
			execution.ID = "no-uuid"
			s.acknowledged(t, execution, event.Completed, 0, 4)
			return []string{"customer cust_1: the completed event at 1 of the journal cannot be read"}
		},
	}
	for name, seed := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			want := seed(t, s)
			s.clock.Advance(time.Hour)
			found := s.differences(t)
			for _, line := range want {
				matched := false
				for _, difference := range found {
					matched = matched || strings.Contains(difference, line)
				}
				assert.True(t, matched, "%q in %q", line, found)
			}
			result, err := s.reconciler(0).Reconcile(t.Context())
			require.NoError(t, err)
			assert.False(t, result.OK)
			assert.Zero(t, result.Settled, "nothing is old enough")
			assert.Len(t, result.Differences, int(result.Found))
		})
	}
}

// acknowledged appends an event that billing acknowledges without having done anything.
func (s *site) acknowledged(t *testing.T, execution subject.Execution, kind event.Kind, last uint64, amount credit.Micro) {
	t.Helper()
	s.append(t, execution, kind, last, amount)
	durable, err := s.bus.JS.CreateOrUpdateConsumer(t.Context(), subject.StreamExecutions, jetstream.ConsumerConfig{
		Durable: "billing-" + string(kind), FilterSubjects: []string{subject.ExecutionMilestone(string(kind))}, AckPolicy: jetstream.AckExplicitPolicy,
	})
	require.NoError(t, err)
	message, err := durable.Next(jetstream.FetchMaxWait(patience))
	require.NoError(t, err)
	require.NoError(t, message.DoubleAck(t.Context()))
}

// TestUnderLoad compares while executions come and end. Nothing is ever out of step.
func TestUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.consume(t)
	s.consume(t)
	const executions = 150
	load := make(chan struct{})
	go func() {
		defer close(load)
		open := map[subject.Execution]uint64{}
		for range executions {
			execution := newExecution(t)
			open[execution] = s.append(t, execution, event.Accepted, 0, 10)
		}
		for len(open) > 0 {
			for execution := range open {
				last, err := s.journal.Last(t.Context(), execution)
				if !assert.NoError(t, err) {
					return
				}
				if last.Kind == event.Funded {
					s.append(t, execution, event.Completed, last.Sequence, 4)
				}
				if last.Kind == event.Funded || last.Kind == event.Completed {
					delete(open, execution)
				}
			}
		}
	}()
	for running := true; running; {
		select {
		case <-load:
			running = false
		default:
		}
		// Every debit is old enough to be looked at.
		report, err := reconcile.Compare(t.Context(), s.source(), s.clock.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Empty(t, report.Drifts)
	}
	s.awaitAcked(t)
	report := s.compare(t)
	assert.Empty(t, report.Drifts)
	assert.EqualValues(t, executions, report.Charges)
}

func TestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(t, newExecution(t), event.Accepted, 0, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := reconcile.Compare(ctx, s.source(), s.clock.Now())
	require.ErrorIs(t, err, context.Canceled)
}
