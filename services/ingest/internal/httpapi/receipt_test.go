package httpapi_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/httpapi"
)

// feasted writes the journal of an execution of cook/feast, quoted 0.6 credits, up to the last of the data, by their kinds.
func (s *server) feasted(t *testing.T, customer string, events ...any) (id string) {
	t.Helper()
	execution, expect := subject.Execution{Customer: customer, ID: uuid.NewString()}, uint64(0)
	for _, data := range append([]any{event.Request{}}, events...) {
		header := nats.Header{event.HeaderSubject: {"cook/feast/1"}, event.HeaderActor: {"api_key:k"}, event.HeaderCredits: {"600000"}}
		entry := journal.Entry{Execution: execution, Kind: event.Accepted, Expect: expect, Source: "test", Time: time.Now(), Header: header}
		switch data := data.(type) {
		case event.Funding:
			entry.Kind = event.Funded
		case event.Checkpoint:
			entry.Kind, entry.Qualifier = event.Step, "1"
		case event.Response:
			entry.Kind = event.Completed
			header[event.HeaderStatus], header[event.HeaderDuration] = []string{string(data.Status)}, []string{"1"}
			header[event.HeaderCredits] = []string{strconv.FormatInt(int64(data.Metadata.CreditsConsumed), 10)}
		}
		var err error
		entry.Data, err = json.Marshal(data)
		require.NoError(t, err)
		result := journal.New(s.bus.Conn, s.bus.JS).Append(t.Context(), entry)[0]
		require.NoError(t, result.Err)
		expect = result.Sequence
	}
	return execution.ID
}

// response is how an execution of cook/feast ended that was debited so much.
func response(status event.Status, debited credit.Micro, steps ...event.StepSummary) event.Response {
	made := event.Response{Status: status, Data: json.RawMessage("null"), Metadata: event.Metadata{Steps: steps}, Errors: []problem.Error{}}
	made.Metadata.Settle(made.Metadata.Charged(), 600_000, debited)
	return made
}

func step(id string, credits credit.Micro) event.StepSummary {
	return event.StepSummary{ID: id, Status: event.StepSuccess, Attempts: 1, Credits: credits}
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	require.Equal(t, 201, s.call(t, key, "POST", "/api/v1/recipes", feast, "Content-Type", "application/yaml").status)
	invite, toast := step("invite", 40_000), step("toast", 1234)
	invite.Items = &event.ItemCount{Total: 3, Succeeded: 2, Failed: 1}
	toast.Usage, toast.Metered = &event.Usage{InputTokens: 1000, OutputTokens: 117}, true
	debit := query.Transaction{ID: 7, Kind: "debit", Amount: -600_000}
	refund := func(amount credit.Micro) query.Transaction {
		return query.Transaction{ID: 9, Kind: "refund", Amount: amount}
	}

	ledger := make(map[string][]query.Transaction) // complete before the first request
	type sums struct {
		quoted, debited, refunded, consumed, capped credit.Micro
		settled                                     bool
		steps                                       []string
	}
	tests := map[string]struct {
		events []any
		rows   []query.Transaction // the newest first
		status event.Status
		want   sums
	}{
		"accepted":         {nil, nil, event.StatusAccepted, sums{quoted: 600_000}},
		"debited a moment": {nil, []query.Transaction{debit}, event.StatusAccepted, sums{quoted: 600_000, debited: 600_000}},
		"under way": {
			[]any{event.Funding{}, event.Checkpoint{Steps: []event.StepOutcome{{StepSummary: invite}}}},
			[]query.Transaction{debit},
			event.StatusRunning,
			sums{quoted: 600_000, debited: 600_000, steps: []string{"invite"}},
		},
		"success": {
			[]any{event.Funding{}, response(event.StatusSuccess, 600_000, step("remember", 0), invite, toast)},
			[]query.Transaction{refund(558_766), debit},
			event.StatusSuccess,
			sums{quoted: 600_000, debited: 600_000, refunded: 558_766, consumed: 41_234, settled: true, steps: []string{"remember", "invite", "toast"}},
		},
		"not settled yet": {
			[]any{event.Funding{}, response(event.StatusSuccess, 600_000, invite)},
			[]query.Transaction{debit},
			event.StatusSuccess,
			sums{quoted: 600_000, debited: 600_000, consumed: 40_000, steps: []string{"invite"}},
		},
		"refused": {[]any{response(event.StatusFailed, 0)}, nil, event.StatusFailed, sums{quoted: 600_000, settled: true}},
		"cancelled while it was debited": {
			[]any{response(event.StatusFailed, 0)},
			[]query.Transaction{refund(600_000), debit},
			event.StatusFailed,
			sums{quoted: 600_000, debited: 600_000, refunded: 600_000, settled: true},
		},
		"more than the debit": {
			[]any{event.Funding{}, response(event.StatusSuccess, 600_000, step("invite", 599_999), step("toast", 2))},
			[]query.Transaction{debit},
			event.StatusSuccess,
			sums{quoted: 600_000, debited: 600_000, consumed: 600_000, capped: 1, settled: true, steps: []string{"invite", "toast"}},
		},
	}
	ids := make(map[string]string)
	for name, test := range tests {
		ids[name] = s.feasted(t, "alice", test.events...)
		ledger[ids[name]] = test.rows
	}
	answer(t, s, query.ServiceBilling, query.Transactions, func(r query.TransactionsRequest) (query.TransactionsReply, error) {
		assert.Equal(t, "alice", r.CustomerID)
		return query.TransactionsReply{Transactions: ledger[r.ExecutionID]}, nil
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var receipt httpapi.Receipt
			s.call(t, key, "GET", "/api/v1/executions/"+ids[name]+"/receipt", nil).into(t, &receipt)
			var steps []string
			var charged credit.Micro
			for _, step := range receipt.Steps {
				steps, charged = append(steps, step.ID), charged+step.Credits
				require.NotEmpty(t, step.Kind)
				require.NotNil(t, step.Price)
			}
			require.Equal(t, test.want, sums{
				receipt.Quoted, receipt.Debited, receipt.Refunded, receipt.Consumed, receipt.Capped, receipt.Settled, steps,
			})
			require.Equal(t, test.status, receipt.Status)
			require.Len(t, receipt.Transactions, len(test.rows))
			if receipt.Settled {
				require.Equal(t, receipt.Consumed, receipt.Debited-receipt.Refunded)
				require.Equal(t, charged, receipt.Consumed+receipt.Capped)
			}
		})
	}
}

func TestReceiptIsComplete(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key, bob := s.customer(t, "alice"), s.customer(t, "bob")
	require.Equal(t, 201, s.call(t, key, "POST", "/api/v1/recipes", feast, "Content-Type", "application/yaml").status)
	toast := step("toast", 1234)
	toast.Usage, toast.Metered = &event.Usage{InputTokens: 1000, OutputTokens: 117}, true
	id := s.feasted(t, "alice", event.Funding{}, response(event.StatusSuccess, 600_000, toast, step("gone", 0)))
	path := "/api/v1/executions/" + id + "/receipt"
	require.Equal(t, 503, s.call(t, key, "GET", path, nil).problem(t).Status, "billing does not answer")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	answer(t, s, query.ServiceBilling, query.Transactions, func(query.TransactionsRequest) (query.TransactionsReply, error) {
		return query.TransactionsReply{Transactions: []query.Transaction{
			{ID: 9, CustomerID: "alice", Kind: "refund", Amount: 598_766, BalanceAfter: 998_766, ExecutionID: id, CreatedAt: at},
			{ID: 7, CustomerID: "alice", Kind: "debit", Amount: -600_000, BalanceAfter: 400_000, ExecutionID: id, CreatedAt: at},
		}}, nil
	})
	got := s.call(t, key, "GET", path, nil)
	require.Equal(t, 200, got.status)
	require.JSONEq(t, `{
		"execution_id": "`+id+`", "customer_id": "alice", "agent_id": "cook", "recipe_id": "feast", "recipe_version": 1, "status": "success",
		"quoted_credits": 0.6, "debited_credits": 0.6, "refunded_credits": 0.598766, "credits_consumed": 0.001234, "settled": true,
		"steps": [
			{"id": "toast", "kind": "ai.chat", "status": "success", "credits": 0.001234, "metered": true,
				"usage": {"input_tokens": 1000, "output_tokens": 117},
				"price": {"fixed": 0, "max": 0.5, "rates": [
					{"meter": "input_tokens", "credits": 0.001, "per": 1000}, {"meter": "output_tokens", "credits": 0.002, "per": 1000}]}},
			{"id": "gone", "status": "success", "credits": 0}
		],
		"transactions": [
			{"transaction_id": 7, "customer_id": "alice", "kind": "debit", "amount": -0.6, "balance_after": 0.4, "execution_id": "`+id+`",
				"created_at": "2026-01-02T03:04:05Z"},
			{"transaction_id": 9, "customer_id": "alice", "kind": "refund", "amount": 0.598766, "balance_after": 0.998766,
				"execution_id": "`+id+`", "created_at": "2026-01-02T03:04:05Z"}
		]
	}`, string(got.body))
	require.Equal(t, 404, s.call(t, bob, "GET", path, nil).status)
	require.Equal(t, 404, s.call(t, key, "GET", "/api/v1/executions/"+uuid.NewString()+"/receipt", nil).status)
	require.Equal(t, 404, s.call(t, key, "GET", "/api/v1/executions/x/receipt", nil).status)
	require.Equal(t, 422, s.call(t, operatorKey, "GET", path, nil).status)
}
