package consumer_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
)

// isTold waits until nothing is left of what has waited.
func (s *site) isTold(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		left, err := s.ledger.Decided(t.Context(), nil, 1)
		return err == nil && len(left) == 0
	}, patience, 2*time.Millisecond, "decisions are not told")
}

func TestWaitsForCredits(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 10)
	site.run(t, site.journal)
	first, second := newExecution(t), newExecution(t)
	accepted := site.acceptWaiting(t, first, 30, "_INBOX.x", time.Hour)
	waiting := site.await(t, first, event.Waiting)
	assert.True(t, waiting.WaitsForCredits())
	assert.Equal(t, first.ID+"/waiting/credits", waiting.ID())
	assert.Greater(t, waiting.Sequence, accepted)
	checkpoint, found, err := waiting.Checkpoint()
	require.NoError(t, err)
	require.True(t, found)
	require.Len(t, checkpoint.Waits, 1)
	wait := checkpoint.Waits[0]
	assert.WithinDuration(t, time.Now().Add(time.Hour), wait.Until, time.Minute)
	want := event.Checkpoint{
		ExecutionID: first.ID, StartedAt: wait.Since, Steps: []event.StepOutcome{},
		Waits: []event.Wait{{Since: wait.Since, Until: wait.Until, Credits: 30}},
	}
	assert.Empty(t, cmp.Diff(want, checkpoint))

	site.acceptWaiting(t, second, 5, "", time.Hour)
	site.await(t, second, event.Waiting)
	site.awaitAcked(t)
	site.awaitBalance(t, 10)

	site.grant(t, 40)
	funded := site.await(t, first, event.Funded)
	var funding event.Funding
	require.NoError(t, json.Unmarshal(funded.Data, &funding))
	assert.Empty(t, cmp.Diff(event.Funding{
		Debit:   event.Debit{TransactionID: funding.Debit.TransactionID, Amount: 30, BalanceAfter: 20},
		Request: request(first, 30),
	}, funding))
	assert.Equal(t, "_INBOX.x", funded.Header.Get(event.HeaderReply))
	assert.Empty(t, funded.Header.Get(event.HeaderCreditsUntil))
	assert.Greater(t, site.await(t, second, event.Funded).Sequence, funded.Sequence, "in their order")
	site.isTold(t)
	site.complete(t, first, funded.Sequence, 20)
	site.awaitBalance(t, 25)
	site.reconciled(t)
}

func TestWaitsTooLong(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	inbox, err := site.bus.Conn.SubscribeSync(nats.NewInbox())
	require.NoError(t, err)
	require.NoError(t, site.bus.Conn.Flush())
	for range 2 {
		site.run(t, site.journal)
	}
	execution := newExecution(t)
	site.acceptWaiting(t, execution, 30, inbox.Subject, 500*time.Millisecond)
	completed := site.await(t, execution, event.Completed)
	var response event.Response
	require.NoError(t, json.Unmarshal(completed.Data, &response))
	assert.Equal(t, event.StatusFailed, response.Status)
	assert.Equal(t, problem.InsufficientCredits, response.Errors[0].Code)
	assert.Contains(t, response.Errors[0].Message, "may cost up to 0.00003 credits, the balance is 0, and it has waited until 20")
	assert.Equal(t, event.Receipt{Quoted: 30}, response.Metadata.Receipt)
	answered, err := inbox.NextMsg(patience)
	require.NoError(t, err)
	assert.Equal(t, completed.Data, answered.Data)
	site.grant(t, 100)
	site.comesToRest(t, 100)
}

func TestCancelledWhileItWaits(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 10)
	site.run(t, site.journal)
	first, second := newExecution(t), newExecution(t)
	site.acceptWaiting(t, first, 30, "", time.Hour)
	waiting := site.await(t, first, event.Waiting)
	site.acceptWaiting(t, second, 10, "", time.Hour)
	site.await(t, second, event.Waiting)
	site.complete(t, first, waiting.Sequence, 0)
	site.await(t, second, event.Funded)
	site.comesToRest(t, 0)
}

// TestFailsWhileExecutionsWait has everything that is appended fail, before or after it is there: when it comes to wait, when it is paid for
// and when it has waited too long.
func TestFailsWhileExecutionsWait(t *testing.T) {
	t.Parallel()
	for name, appends := range map[string]bool{"before the append": false, "after the append": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t, testkit.Postgres(t))
			events := &broken{Journal: site.journal, appends: appends}
			events.failures.Store(1)
			site.run(t, events)
			paid, late := newExecution(t), newExecution(t)
			site.acceptWaiting(t, paid, 60, "", time.Hour)
			site.await(t, paid, event.Waiting)
			site.awaitAcked(t)
			events.failures.Store(1)
			site.grant(t, 100)
			site.await(t, paid, event.Funded)
			site.isTold(t)
			site.acceptWaiting(t, late, 60, "", time.Second)
			site.await(t, late, event.Waiting)
			site.awaitAcked(t)
			events.failures.Store(1)
			site.await(t, late, event.Completed)
			site.isTold(t)
			assert.LessOrEqual(t, events.failures.Load(), int32(0), "it has failed")
			site.comesToRest(t, 40)
		})
	}
}

// TestAnotherProcessTells: the process that has paid for what waits dies before the journal knows.
func TestAnotherProcessTells(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	stop := site.run(t, site.journal)
	execution, cancelled := newExecution(t), newExecution(t)
	site.acceptWaiting(t, execution, 60, "", time.Hour)
	site.await(t, execution, event.Waiting)
	site.acceptWaiting(t, cancelled, 40, "", time.Hour)
	waiting := site.await(t, cancelled, event.Waiting)
	site.awaitAcked(t)
	stop()
	site.grant(t, 100)
	site.awaitBalance(t, 0)
	site.complete(t, cancelled, waiting.Sequence, 0)
	site.run(t, site.journal)
	site.await(t, execution, event.Funded)
	site.isTold(t)
	site.awaitAcked(t)
	site.awaitBalance(t, 40)
	assert.Equal(t, event.Completed, site.await(t, cancelled, event.Completed).Kind)
	site.reconciled(t)
}

// TestWaitsUnderFire lets two processes work, whose appends fail now and then, while executions come, are cancelled and end, and grants
// come. In the end nothing is undecided that is covered, each execution was funded or ended once, and the money adds up.
func TestWaitsUnderFire(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	for seed := range 8 {
		site.underFire(t, rapid.SliceOfN(rapid.Custom(drawShot), 4, 16).Example(seed), seed%2 == 0)
	}
}

// shot is something that happens in TestWaitsUnderFire.
type shot struct {
	what, which int
	amount      credit.Micro
	wait        time.Duration
}

func drawShot(t *rapid.T) shot {
	return shot{
		what: rapid.IntRange(0, 5).Draw(t, "what"), which: rapid.IntRange(0, 99).Draw(t, "which"),
		amount: credit.Micro(rapid.IntRange(1, 30).Draw(t, "amount")),
		wait:   rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour, time.Hour}).Draw(t, "wait"),
	}
}

func (s *site) underFire(t *testing.T, shots []shot, appends bool) {
	t.Helper()
	name := uuid.NewString()
	events := &broken{Journal: s.journal, appends: appends}
	stops := []func(){s.run(t, events), s.run(t, events)}
	var executions []subject.Execution
	for _, one := range shots {
		switch {
		case one.what < 3:
			execution := subject.Execution{Customer: name, ID: uuid.NewString()}
			s.acceptWaiting(t, execution, one.amount, "", one.wait)
			executions = append(executions, execution)
		case one.what == 3:
			_, err := s.ledger.Grant(t.Context(), query.GrantRequest{ID: uuid.NewString(), CustomerID: name, Amount: one.amount})
			require.NoError(t, err)
		case one.what == 4:
			events.failures.Store(int32(one.which % 3))
		case len(executions) > 0:
			s.end(t, executions[one.which%len(executions)])
		}
	}
	s.settlesDown(t, name, executions)
	for _, stop := range stops {
		stop()
	}
	s.reconciled(t)
}

// end ends an execution with 1 charged if it was funded, wherever it stands.
func (s *site) end(t *testing.T, execution subject.Execution) {
	t.Helper()
	for {
		last, err := s.journal.Last(t.Context(), execution)
		require.NoError(t, err)
		if last.Kind == event.Completed {
			return
		}
		charged := "0"
		if last.Kind == event.Funded {
			charged = "1"
		}
		result := s.journal.Append(t.Context(), journal.Entry{
			Execution: execution, Kind: event.Completed, Expect: last.Sequence, Source: "executor", Time: time.Now(),
			Header: nats.Header{event.HeaderCredits: {charged}}, Data: []byte(`{"status":"success"}`),
		})[0]
		if _, moved := errors.AsType[*journal.MovedError](result.Err); !moved {
			require.NoError(t, result.Err)
			return
		}
	}
}

// settlesDown waits until the journal and the ledger agree about every execution.
func (s *site) settlesDown(t *testing.T, customer string, executions []subject.Execution) {
	t.Helper()
	s.awaitAcked(t)
	s.isTold(t)
	kinds := map[event.Kind]int{}
	for _, execution := range executions {
		seen := map[event.Kind]int{}
		for record, err := range s.journal.Events(t.Context(), execution) {
			require.NoError(t, err)
			seen[record.Kind]++
			if record.Kind == event.Waiting {
				assert.Zero(t, seen[event.Funded], "it waits before it is funded")
			}
		}
		for kind, count := range seen {
			assert.Equal(t, 1, count, kind)
			kinds[kind]++
		}
	}
	reply, err := s.reader.Transactions(t.Context(), ledger.Page{Customer: customer, Limit: 1000})
	require.NoError(t, err)
	debits := map[string]int{}
	for _, row := range reply.Transactions {
		if row.Kind == "debit" {
			debits[row.ExecutionID]++
		}
	}
	for execution, count := range debits {
		assert.Equal(t, 1, count, "debits of %s", execution)
	}
	assert.GreaterOrEqual(t, len(debits), kinds[event.Funded])
}
