package consumer_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/pgserver"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

func TestFundsAndSettles(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 100)
	site.run(t, site.journal)
	execution := newExecution(t)
	site.accept(t, execution, 30, "_INBOX.waiting")

	funded := site.await(t, execution, event.Funded)
	var funding event.Funding
	require.NoError(t, json.Unmarshal(funded.Data, &funding))
	require.Positive(t, funding.Debit.TransactionID)
	want := event.Funding{
		Debit:   event.Debit{TransactionID: funding.Debit.TransactionID, Amount: 30, BalanceAfter: 70},
		Request: request(execution, 30),
	}
	assert.Empty(t, cmp.Diff(want, funding))
	assert.Equal(t, execution.ID+"/funded", funded.ID())
	for name, value := range map[string]string{
		event.HeaderSubject: "the-hunter/discovery/3", event.HeaderActor: "key:k1",
		event.HeaderTraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", event.HeaderReply: "_INBOX.waiting",
		event.HeaderCredits: "30", event.HeaderSource: "/galley/billing",
	} {
		assert.Equal(t, value, funded.Header.Get(name), name)
	}

	site.complete(t, execution, funded.Sequence, 20)
	site.comesToRest(t, 80)
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 20_000)
	inbox, err := site.bus.Conn.SubscribeSync(nats.NewInbox())
	require.NoError(t, err)
	require.NoError(t, site.bus.Conn.Flush())
	site.run(t, site.journal)
	execution := newExecution(t)
	site.accept(t, execution, 30_000, inbox.Subject)

	completed := site.await(t, execution, event.Completed)
	var response event.Response
	require.NoError(t, json.Unmarshal(completed.Data, &response))
	want := event.Response{
		RecipeID: "discovery", AgentID: "the-hunter", RecipeVersion: 3, ExecutionID: execution.ID, CustomerID: customer,
		Status: event.StatusFailed, Data: json.RawMessage("null"),
		Metadata: event.Metadata{
			DurationMS: response.Metadata.DurationMS, Timestamp: response.Metadata.Timestamp, Steps: []event.StepSummary{},
			Receipt: event.Receipt{Quoted: 30_000},
		},
		Errors: []problem.Error{{
			Code: problem.InsufficientCredits, Message: "the execution may cost up to 0.03 credits, the balance is 0.02",
		}},
	}
	assert.Empty(t, cmp.Diff(want, response))
	for name, value := range map[string]string{
		event.HeaderSubject: "the-hunter/discovery/3", event.HeaderStatus: "failed", event.HeaderCode: "INSUFFICIENT_CREDITS", event.HeaderCredits: "0",
	} {
		assert.Equal(t, value, completed.Header.Get(name), name)
	}
	answered, err := inbox.NextMsg(patience)
	require.NoError(t, err)
	assert.Equal(t, completed.Data, answered.Data)

	site.comesToRest(t, 20_000)
}

func TestCancelledBeforeItIsFunded(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 100)
	execution := newExecution(t)
	last := site.accept(t, execution, 30, "")
	last = site.complete(t, execution, last, 0)
	site.run(t, site.journal)
	site.awaitAcked(t)
	site.awaitBalance(t, 100)
	assert.Equal(t, last, site.await(t, execution, event.Completed).Sequence)
	site.reconciled(t)
}

// broken is a journal that fails at first, before or after it appended, as when the process dies at that point.
type broken struct {
	*journal.Journal
	failures atomic.Int32
	appends  bool
}

func (b *broken) Append(ctx context.Context, entries ...journal.Entry) []journal.Result {
	if len(entries) == 0 || b.failures.Add(-1) < 0 {
		return b.Journal.Append(ctx, entries...)
	}
	if b.appends {
		b.Journal.Append(ctx, entries...)
	}
	results := make([]journal.Result, len(entries))
	for i := range results {
		results[i].Err = errors.New("killed")
	}
	return results
}

func TestFailsBetweenCommitAndAcknowledgement(t *testing.T) {
	t.Parallel()
	for name, appends := range map[string]bool{"before the append": false, "after the append": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t, testkit.Postgres(t))
			site.grant(t, 100)
			inbox, err := site.bus.Conn.SubscribeSync(nats.NewInbox())
			require.NoError(t, err)
			events := &broken{Journal: site.journal, appends: appends}
			events.failures.Store(2)
			site.run(t, events)
			paid, refused := newExecution(t), newExecution(t)
			site.accept(t, paid, 60, "")
			site.await(t, paid, event.Funded)
			site.awaitAcked(t)

			events.failures.Store(1)
			site.accept(t, refused, 60, inbox.Subject)
			completed := site.await(t, refused, event.Completed)
			answered, err := inbox.NextMsg(patience)
			require.NoError(t, err)
			assert.Equal(t, string(problem.InsufficientCredits), answered.Header.Get(event.HeaderCode))
			assert.Equal(t, completed.Data, answered.Data, "the caller gets the response of the journal, whoever appended it")

			site.awaitAcked(t)
			assert.Negative(t, events.failures.Load())
			site.awaitBalance(t, 40)
			site.reconciled(t)
		})
	}
}

// blocked is a journal whose first append does not return before the test lets it, and then fails.
type blocked struct {
	*journal.Journal
	reached, release chan struct{}
}

func (b *blocked) Append(_ context.Context, entries ...journal.Entry) []journal.Result {
	close(b.reached)
	<-b.release
	results := make([]journal.Result, len(entries))
	for i := range results {
		results[i].Err = errors.New("killed")
	}
	return results
}

func TestAnotherProcessTakesOver(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 100)
	dying := *site
	dying.bus = newBus(t, site.server.Conn(t))
	hanging := &blocked{reached: make(chan struct{}), release: make(chan struct{})}
	stop := dying.run(t, hanging)
	execution := newExecution(t)
	site.accept(t, execution, 60, "")
	<-hanging.reached
	dying.bus.Conn.Close()
	site.run(t, site.journal)
	var funding event.Funding
	require.NoError(t, json.Unmarshal(site.await(t, execution, event.Funded).Data, &funding))
	assert.EqualValues(t, 40, funding.Debit.BalanceAfter)
	close(hanging.release)
	stop()
	site.comesToRest(t, 40)
}

func TestPostgresVanishesForAWhile(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresServer(t, func(c *pgserver.Config) { c.NoSync = true })
	site := newSite(t, server.URL())
	site.grant(t, 100)
	site.run(t, site.journal)
	before, during := newExecution(t), newExecution(t)
	site.accept(t, before, 10, "")
	funded := site.await(t, before, event.Funded)
	server.Kill(t)
	site.accept(t, during, 10, "")
	site.complete(t, before, funded.Sequence, 5)
	server.Start(t)
	site.await(t, during, event.Funded)
	site.comesToRest(t, 85)
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 100)
	good := newExecution(t)
	bad := map[string]nats.Msg{
		"not a number": {Header: nats.Header{event.HeaderCredits: {"1.5"}, event.HeaderSubject: {"a/b/1"}}, Data: []byte(`{"a":1}`)},
		"negative":     {Header: nats.Header{event.HeaderCredits: {"-1"}, event.HeaderSubject: {"a/b/1"}}, Data: []byte(`{"a":1}`)},
		"no credits":   {Header: nats.Header{event.HeaderSubject: {"a/b/1"}}, Data: []byte(`{"a":1}`)},
		"no version":   {Header: nats.Header{event.HeaderCredits: {"1"}}, Data: []byte(`{"a":1}`)},
		"no object":    {Header: nats.Header{event.HeaderCredits: {"1"}, event.HeaderSubject: {"a/b/1"}}, Data: []byte(`[]`)},
		"empty object": {Header: nats.Header{event.HeaderCredits: {"1"}, event.HeaderSubject: {"a/b/1"}}, Data: []byte(`{}`)},
		"no data":      {Header: nats.Header{event.HeaderCredits: {"1"}, event.HeaderSubject: {"a/b/1"}}},
		"not a UUID":   {Subject: "x", Header: nats.Header{event.HeaderCredits: {"1"}, event.HeaderSubject: {"a/b/1"}}, Data: []byte(`{"a":1}`)},
		"unusual form": {Subject: "0190B4D54E0B7CC1A8B7D3A7E2F0A001", Header: nats.Header{event.HeaderCredits: {"1"}, event.HeaderSubject: {"a/b/1"}}, Data: []byte(`{"a":1}`)},
		"no headers":   {Data: []byte(`{"a":1}`)},
	}
	for _, message := range bad {
		execution := newExecution(t)
		if message.Subject != "" {
			execution.ID = message.Subject
		}
		site.append(t, journal.Entry{
			Execution: execution, Kind: event.Accepted, Source: "ingest", Header: message.Header, Data: message.Data,
		})
	}
	site.accept(t, good, 10, "")
	site.run(t, site.journal)
	site.await(t, good, event.Funded)
	site.awaitAcked(t)
	letters := site.deadLetters(t)
	require.Len(t, letters, len(bad))
	for _, letter := range letters {
		assert.Equal(t, subject.DeadLetter(subject.StreamExecutions), letter.Subject)
		assert.NotEmpty(t, letter.Header.Get(bus.HeaderReason))
	}
	site.awaitBalance(t, 90)
	site.reconciled(t)
}

func TestManyExecutions(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 1000)
	for range 2 {
		site.run(t, site.journal)
	}
	var executions []subject.Execution
	for range 300 {
		execution := newExecution(t)
		executions = append(executions, execution)
		site.accept(t, execution, 10, "")
	}
	funded := 0
	for _, execution := range executions {
		var last journal.Record
		require.Eventually(t, func() bool {
			var err error
			last, err = site.journal.Last(t.Context(), execution)
			return err == nil && last.Kind != event.Accepted
		}, patience, time.Millisecond)
		if last.Kind == event.Funded {
			funded++
			site.complete(t, execution, last.Sequence, 4)
		}
	}
	assert.GreaterOrEqual(t, funded, 100, "refunds may pay for more than the grant did")
	site.comesToRest(t, 1000-credit.Micro(4*funded))
}
