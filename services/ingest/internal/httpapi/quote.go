package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// Quoter tells what a command would run, and refuses what would be refused.
type Quoter interface {
	Quote(ctx context.Context, command accept.Command) (*catalogue.Pinned, error)
}

func (a *API) registerQuote(routes huma.API) {
	register(a, routes, huma.Operation{
		OperationID: "quote-recipe", Method: http.MethodPost, Path: prefix + "/recipes/quote", Tags: []string{"credits"},
		Summary: "Ask what an execution may cost",
		Description: "Checks the request as an execution's and says what would be debited before it runs, and for what. Nothing is stored, " +
			"and nothing is promised: the balance may be another one when the recipe is run.",
	}, documented[ExecuteRequest](routes, "application/json"), a.quote)
}

// Quote is what an execution may cost.
type Quote struct {
	CustomerID    string       `json:"customer_id"`
	AgentID       string       `json:"agent_id"`
	RecipeID      string       `json:"recipe_id"`
	RecipeVersion int          `json:"recipe_version"`
	Quoted        credit.Micro `json:"quoted_credits" doc:"What is debited before it runs: the most that it can cost"`
	Steps         []QuotedStep `json:"steps"`
	Available     credit.Micro `json:"available_credits" doc:"What the customer has"`
	Covered       bool         `json:"covered" doc:"What the customer has is enough"`
	Waits         bool         `json:"waits_for_credits,omitempty" doc:"When it is short of credits, it waits for them"`
	Waiting       int          `json:"waiting,omitempty" doc:"How many executions of the customer wait for credits; one that waits goes behind them"`
}

// QuotedStep is what a step may cost.
type QuotedStep struct {
	ID    string       `json:"id"`
	Kind  string       `json:"kind"`
	Max   credit.Micro `json:"max_credits" doc:"The most that it can cost, with all items"`
	Price StepPrice    `json:"price"`
}

// StepPrice is what a step costs, or each of its items.
type StepPrice struct {
	Fixed    credit.Micro `json:"fixed" doc:"What it costs when it succeeds; 0 where there are rates"`
	Rates    []StepRate   `json:"rates,omitempty" doc:"What is measured, and what that costs"`
	Max      credit.Micro `json:"max,omitempty" doc:"The most that is charged by rates"`
	MaxItems int          `json:"max_items,omitempty" doc:"How many items there may be; absent for a step that runs once"`
}

// StepRate is the price of what is measured.
type StepRate struct {
	Meter   string       `json:"meter" enum:"input_tokens,output_tokens,units"`
	Credits credit.Micro `json:"credits"`
	Per     int64        `json:"per" doc:"For how many"`
}

func priceOf(step *recipe.Step) StepPrice {
	price := StepPrice{Fixed: step.Price.Fixed}
	if step.Price.Metered() {
		price.Fixed, price.Max = 0, step.Price.Max
		for _, rate := range step.Price.Rates {
			price.Rates = append(price.Rates, StepRate{Meter: string(rate.Meter), Credits: rate.Amount, Per: rate.Per})
		}
	}
	if step.ForEach != nil {
		price.MaxItems = step.ForEach.MaxItems
	}
	return price
}

type quoteOutput struct{ Body Quote }

func (a *API) quote(ctx context.Context, caller *caller, input *JSONBody) (*quoteOutput, error) {
	command := accept.Command{Trace: requestOf(ctx).trace, Actor: caller.actor()}
	var customer string
	err := input.decode(
		identifier("agent_id", &command.Agent), identifier("recipe_id", &command.Recipe), text("customer_id", &customer),
		field{name: "input_data", into: &command.Input}, version(&command.Version),
	)
	if err != nil {
		return nil, err
	}
	if command.Customer, err = caller.actFor(customer, Place{Path: "/customer_id"}); err != nil {
		return nil, err
	}
	pinned, err := a.quoter.Quote(ctx, command)
	if err != nil {
		return nil, err
	}
	balance, err := bus.Ask[query.BalanceReply](ctx, a.bus, query.ServiceBilling, query.Balance,
		query.BalanceRequest{CustomerID: command.Customer})
	if err != nil {
		return nil, err
	}
	quote := Quote{
		CustomerID: command.Customer, AgentID: command.Agent, RecipeID: command.Recipe, RecipeVersion: pinned.Version,
		Quoted: pinned.Recipe.Quote(), Available: balance.Available, Steps: make([]QuotedStep, 0, len(pinned.Recipe.Steps)),
		Waits: pinned.Recipe.CreditWait > 0, Waiting: balance.Waiting,
	}
	quote.Covered = quote.Quoted == 0 || quote.Quoted <= quote.Available
	for _, step := range pinned.Recipe.Steps {
		quote.Steps = append(quote.Steps, QuotedStep{ID: step.ID, Kind: string(step.Kind), Max: step.Quote(), Price: priceOf(step)})
	}
	return &quoteOutput{Body: quote}, nil
}
