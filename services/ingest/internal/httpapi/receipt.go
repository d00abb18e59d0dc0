package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
)

func (a *API) registerReceipt(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "get-receipt", Method: http.MethodGet, Path: ofExecution + "/receipt", Tags: []string{"credits"},
		Summary: "Get the receipt of an execution",
		Description: "What was quoted, debited and refunded, what each step is charged for, and the rows of the ledger. While the execution is " +
			"under way, it says what is known.",
	}, nil, a.getReceipt)
}

// Receipt is what an execution costs, and for what.
type Receipt struct {
	ExecutionID   string       `json:"execution_id"`
	CustomerID    string       `json:"customer_id"`
	AgentID       string       `json:"agent_id"`
	RecipeID      string       `json:"recipe_id"`
	RecipeVersion int          `json:"recipe_version" doc:"Fixes the prices"`
	Status        event.Status `json:"status"`
	Quoted        credit.Micro `json:"quoted_credits" doc:"The most that it could cost"`
	Debited       credit.Micro `json:"debited_credits" doc:"What the ledger took before it ran"`
	Refunded      credit.Micro `json:"refunded_credits" doc:"What the ledger gave back"`
	Consumed      credit.Micro `json:"credits_consumed" doc:"What is charged; 0 until it has ended"`
	Capped        credit.Micro `json:"capped_credits,omitempty" doc:"What the steps come to above the debit: nobody pays it"`
	// Settled tells that Debited less Refunded is Consumed, for good.
	Settled      bool                `json:"settled" doc:"It has ended, and what was debited less what was refunded is what is charged"`
	Steps        []ReceiptStep       `json:"steps" doc:"What the steps are charged for, which adds up to credits_consumed and capped_credits"`
	Transactions []query.Transaction `json:"transactions" doc:"The rows of the ledger, the oldest first"`
}

// ReceiptStep is what a step is charged for.
type ReceiptStep struct {
	ID      string           `json:"id"`
	Kind    string           `json:"kind,omitempty" doc:"Absent where this galley cannot read the version of the recipe"`
	Status  event.StepStatus `json:"status"`
	Credits credit.Micro     `json:"credits"`
	Metered bool             `json:"metered,omitempty" doc:"The credits are for the usage"`
	Usage   *event.Usage     `json:"usage,omitempty" doc:"What was counted"`
	Items   *event.ItemCount `json:"items,omitempty"`
	Price   *StepPrice       `json:"price,omitempty" doc:"Absent where the kind is"`
}

type receiptOutput struct{ Body Receipt }

func (a *API) getReceipt(ctx context.Context, caller *caller, input *getExecutionInput) (*receiptOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	found, err := a.standing(ctx, subject.Execution{Customer: customer, ID: string(input.ExecutionID)})
	if err != nil {
		return nil, err
	}
	// The ledger is read last: what it has of an execution that has ended by now can only be more.
	ledger, err := bus.Ask[query.TransactionsReply](ctx, a.bus, query.ServiceBilling, query.Transactions, query.TransactionsRequest{
		CustomerID: customer, ExecutionID: found.ExecutionID, Limit: maxLimit,
	})
	if err != nil {
		return nil, err
	}
	priced, err := a.priceVersion(ctx, &found)
	if err != nil {
		return nil, err
	}
	receipt, err := receiptOf(&found, priced, ledger.Transactions)
	if err != nil {
		return nil, err
	}
	return &receiptOutput{Body: receipt}, nil
}

// priceVersion is the version of the recipe that an execution runs; nil where it cannot be read any more. A receipt must not depend on
// that.
func (a *API) priceVersion(ctx context.Context, found *projection.Execution) (*recipe.Recipe, error) {
	pinned, err := a.catalogue.Resolve(ctx, found.CustomerID, found.AgentID, found.RecipeID, found.RecipeVersion)
	if refused, ok := errors.AsType[*problem.Error](err); ok && !refused.Retryable {
		return nil, nil //nolint:nilnil // see above
	}
	if err != nil {
		return nil, err
	}
	return pinned.Recipe, nil
}

// receiptOf makes a receipt; priced may be nil, rows are the newest first.
func receiptOf(found *projection.Execution, priced *recipe.Recipe, rows []query.Transaction) (Receipt, error) {
	receipt := Receipt{
		ExecutionID: found.ExecutionID, CustomerID: found.CustomerID, AgentID: found.AgentID, RecipeID: found.RecipeID,
		RecipeVersion: found.RecipeVersion, Status: found.Status, Quoted: found.Receipt.Quoted,
		Steps: []ReceiptStep{}, Transactions: make([]query.Transaction, len(rows)),
	}
	for i := range rows {
		receipt.Transactions[len(rows)-1-i] = rows[i]
		if rows[i].Amount < 0 {
			receipt.Debited -= rows[i].Amount
		} else {
			receipt.Refunded += rows[i].Amount
		}
	}
	steps := found.Steps
	if found.Response != nil {
		var response event.Response
		if err := json.Unmarshal(found.Response, &response); err != nil {
			return Receipt{}, fmt.Errorf("decode the response of execution %s: %w", found.ExecutionID, err)
		}
		steps, receipt.Quoted, receipt.Consumed = response.Metadata.Steps, response.Metadata.Quoted, response.Metadata.CreditsConsumed
		receipt.Capped = max(0, response.Metadata.Charged()-receipt.Consumed)
		receipt.Settled = receipt.Debited-receipt.Refunded == receipt.Consumed
	}
	receipt.Quoted = max(receipt.Quoted, receipt.Debited) // responses did not always say it
	for i := range steps {
		receipt.Steps = append(receipt.Steps, receiptStep(&steps[i], priced))
	}
	return receipt, nil
}

func receiptStep(step *event.StepSummary, priced *recipe.Recipe) ReceiptStep {
	line := ReceiptStep{
		ID: step.ID, Status: step.Status, Credits: step.Credits, Metered: step.Metered, Usage: step.Usage, Items: step.Items,
	}
	if priced != nil {
		if compiled := priced.Step(step.ID); compiled != nil {
			price := priceOf(compiled)
			line.Kind, line.Price = string(compiled.Kind), &price
		}
	}
	return line
}
