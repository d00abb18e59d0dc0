// Package bootstrap makes the demo customer with an agent, a recipe and credits, and runs the recipe once. It is a client of the HTTP
// API like any other: it does nothing that a user could not do.
package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/cmd/galley/internal/datadir"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/recipes"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

// What the demo consists of.
const (
	Customer = "cust_001"
	Agent    = "the-hunter"
	Recipe   = "discovery"

	// docsAgent owns the examples of docs/components.
	docsAgent = "examples"

	input   = `{"search_query": "dentists in california", "notify": "owner@example.com"}`
	credits = 100 * credit.One
	// onceKey is the idempotency key of the grant and of the first execution: a start that was killed half-way repeats neither.
	onceKey = "galley-demo"
)

const (
	readyPeriod = 10 * time.Millisecond
	// The rows of the ledger and of the audit log are written just after the response. The wait for them is bounded.
	rowPeriod = 20 * time.Millisecond
	maxTries  = 150
	maxRows   = 50
)

// AwaitReady waits until the server says that everything is there. Every few seconds report is told of what is still missing.
func AwaitReady(ctx context.Context, c *client.Client, report func(missing string)) error {
	const between = 5 * time.Second / readyPeriod
	for n := time.Duration(1); ; n++ {
		readiness, err := c.Ready(ctx)
		if err == nil && readiness.Ready {
			return nil
		}
		if n%between == 0 {
			report(missing(readiness, err))
		}
		if !lifecycle.Sleep(ctx, readyPeriod) {
			return ctx.Err()
		}
	}
}

func missing(readiness query.Readiness, err error) string {
	if err != nil {
		return err.Error()
	}
	var missing []string
	for name, state := range readiness.Checks {
		if state != "ok" {
			missing = append(missing, name+" ("+state+")")
		}
	}
	slices.Sort(missing)
	return strings.Join(missing, ", ")
}

// Setup is what the demo needs to know of its surroundings.
type Setup struct {
	// URL is the address of the API, AdminKey the operator's key.
	URL, AdminKey string
	// Dir is where the demo customer's key is kept.
	Dir datadir.Dir
	// Directory is the URL of the business directory that the recipe searches.
	Directory string
}

// Run makes what is missing, in steps that can be repeated: a run that was killed half-way is completed by the next one. It returns
// a client with the demo customer's key.
func (s Setup) Run(ctx context.Context) (demo *client.Client, err error) {
	operator := client.New(s.URL, s.AdminKey)
	defer operator.Close()
	key, err := s.key(ctx, operator)
	if err != nil {
		return nil, fmt.Errorf("set up the demo customer: %w", err)
	}
	demo = client.New(s.URL, key)
	if err := s.fill(ctx, operator, demo); err != nil {
		demo.Close()
		return nil, fmt.Errorf("set up the demo: %w", err)
	}
	return demo, nil
}

// key finds the customer's key. Where none is stored, or one of another database, it makes the customer, or a further key when there is
// the customer: a start was killed between the two, or the data directory is a new one over an old database.
func (s Setup) key(ctx context.Context, operator *client.Client) (string, error) {
	key, err := datadir.Read(s.Dir.DemoKey())
	if err != nil {
		return "", err
	}
	if key != "" {
		demo := client.New(s.URL, key)
		defer demo.Close()
		if _, err := demo.Balance(ctx); !client.Is(err, problem.Unauthenticated) {
			return key, err
		}
	}
	made, err := operator.CreateCustomer(ctx, Customer, "Demo", s.vars())
	switch {
	case err == nil:
		err = datadir.Write(s.Dir.Directory(), s.Directory)
	case client.Is(err, problem.Conflict):
		made, err = operator.CreateKey(ctx, Customer, "demo.key")
	}
	if err != nil {
		return "", err
	}
	return made.Secret, datadir.Write(s.Dir.DemoKey(), made.Secret)
}

func (s Setup) vars() map[string]string {
	return map[string]string{"directory_url": s.Directory, "sandbox_url": s.Directory}
}

func (s Setup) fill(ctx context.Context, operator, demo *client.Client) error {
	if err := s.moveDirectory(ctx, operator); err != nil {
		return err
	}
	_, err := operator.Grant(ctx, client.Grant{CustomerID: Customer, Amount: credits, Reason: "demo"}, onceKey)
	if err != nil {
		return err
	}
	agents := []string{docsAgent}
	for _, example := range recipes.Examples() {
		agents = append(agents, example.Agent)
	}
	for _, agent := range slices.Compact(agents) {
		err = demo.CreateAgent(ctx, agent, agent, "Runs examples")
		if err != nil && !client.Is(err, problem.Conflict) {
			return err
		}
	}
	for _, example := range recipes.Examples() {
		if _, err = demo.PublishRecipe(ctx, example.Document); err != nil {
			return fmt.Errorf("publish %s/%s: %w", example.Agent, example.ID, err)
		}
	}
	return nil
}

// moveDirectory tells the customer's recipes of a sandbox at another address than last time. Apart from that the customer's settings
// are left alone: they may have been changed since.
func (s Setup) moveDirectory(ctx context.Context, operator *client.Client) error {
	before, err := datadir.Read(s.Dir.Directory())
	if err != nil || before == s.Directory {
		return err
	}
	if err := operator.SetVars(ctx, Customer, s.vars()); err != nil {
		return err
	}
	return datadir.Write(s.Dir.Directory(), s.Directory)
}

// Happened reports whether an execution has been paid for before.
func Happened(ctx context.Context, demo *client.Client) (bool, error) {
	transactions, err := demo.Transactions(ctx, "", maxRows)
	return slices.ContainsFunc(transactions, func(t query.Transaction) bool { return t.ExecutionID != "" }), err
}

// Result is an execution, and the ledger and the audit log after it.
type Result struct {
	Response     event.Response
	Transactions []query.Transaction
	Audit        []query.AuditEvent
}

// Discover runs the recipe and waits a moment for the rows of the ledger and of the audit log.
func Discover(ctx context.Context, demo *client.Client) (result Result, err error) {
	result.Response, err = demo.Execute(ctx, event.RunRequest{AgentID: Agent, RecipeID: Recipe, Input: json.RawMessage(input)}, onceKey)
	if err != nil {
		return Result{}, fmt.Errorf("run the recipe: %w", err)
	}
	tries := 0
	for {
		if result.Transactions, err = demo.Transactions(ctx, "", maxRows); err != nil {
			return Result{}, fmt.Errorf("read the ledger: %w", err)
		}
		if result.Audit, _, err = demo.AuditEvents(ctx, client.AuditFilter{}, maxRows); err != nil {
			return Result{}, fmt.Errorf("read the audit log: %w", err)
		}
		if tries++; result.complete() || tries == maxTries || !lifecycle.Sleep(ctx, rowPeriod) {
			return result, nil
		}
	}
}

// Err is nil when the execution succeeded.
func (r *Result) Err() error {
	if r.Response.Status == event.StatusSuccess {
		return nil
	}
	return fmt.Errorf("the execution ended as %s", r.Response.Status)
}

// complete reports whether the ledger adds up to what was charged and the audit log knows how the execution ended.
func (r *Result) complete() bool {
	id := r.Response.ExecutionID
	var sum credit.Micro
	for _, t := range r.Transactions {
		if t.ExecutionID == id {
			sum += t.Amount
		}
	}
	ended := slices.ContainsFunc(r.Audit, func(e query.AuditEvent) bool {
		return e.ResourceID == id && e.ActionType == "execution.completed"
	})
	return ended && -sum == r.Response.Metadata.CreditsConsumed
}
