package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
)

const (
	defaultWait = 30 * time.Second
	maxWait     = 300
	maxKey      = 255
)

// ExecuteRequest documents the body.
type ExecuteRequest struct {
	AgentID    id              `json:"agent_id"`
	RecipeID   id              `json:"recipe_id"`
	CustomerID id              `json:"customer_id,omitempty" doc:"The customer of the API key, or whom the operator names"`
	InputData  json.RawMessage `json:"input_data,omitempty" doc:"What the recipe's input schema asks for; {} when absent; at most 512 KiB"`
	Version    int             `json:"version,omitempty" minimum:"1" doc:"The latest when absent"`
}

// Accepted is the answer to who does not wait for the end.
type Accepted struct {
	ExecutionID string       `json:"execution_id"`
	CustomerID  string       `json:"customer_id"`
	AgentID     string       `json:"agent_id"`
	RecipeID    string       `json:"recipe_id"`
	Status      event.Status `json:"status"`
}

// Asking is what every request for an execution has.
type Asking struct {
	JSONBody
	// preferences and keys are all headers of their name: Prefer may come in several, and an empty key is a mistake, not none.
	preferences, keys []string
}

// Resolve implements huma.Resolver.
func (i *Asking) Resolve(ctx huma.Context) []error {
	header := &humafiber.UnwrapV2(ctx).Request().Header
	i.preferences, i.keys = values(header.PeekAll("Prefer")), values(header.PeekAll("Idempotency-Key"))
	return nil
}

// values copies: the header belongs to Fiber.
func values(found [][]byte) []string {
	texts := make([]string, 0, len(found))
	for _, value := range found {
		texts = append(texts, string(value))
	}
	return texts
}

type executeOutput struct {
	Status            int
	ContentType       string `header:"Content-Type"`
	Location          string `header:"Location"`
	PreferenceApplied string `header:"Preference-Applied"`
	Body              []byte
}

func (a *API) registerExecute(routes huma.API) {
	operation := huma.Operation{
		OperationID: "execute-recipe", Method: http.MethodPost, Path: prefix + "/recipes/execute", Tags: []string{"executions"},
		Summary: "Run a recipe",
		Description: "Waits for the end and answers with the standard response, whatever its status. When the wait is over first, the " +
			"execution goes on and the answer is 202 with its Location. Insufficient credits are a 402.",
	}
	register(a, routes, executing(routes, operation), documented[ExecuteRequest](routes, "application/json"), a.execute)
}

// executing adds what all operations have that make an execution.
func executing(routes huma.API, operation huma.Operation) huma.Operation {
	operation.Parameters = []*huma.Param{
		header("Prefer", "wait=N waits up to N seconds, from 0 to 300 (30 when absent); respond-async does not wait (RFC 7240)"),
		header("Idempotency-Key", "Up to 255 printable characters. Requests of a customer with the same key are the same execution."),
		header("traceparent", "The trace that the execution belongs to (W3C Trace Context)"),
	}
	operation.Responses = response(http.StatusOK, "The execution has ended", documented[event.Response](routes, "application/json"))
	operation.Responses["202"] = &huma.Response{
		Description: "The execution goes on", Content: documented[Accepted](routes, "application/json"),
	}
	operation.Responses["402"] = &huma.Response{
		Description: "Insufficient credits: nothing was run or charged", Content: documented[Problem](routes, problemType),
	}
	return operation
}

func (a *API) execute(ctx context.Context, caller *caller, input *Asking) (*executeOutput, error) {
	var command accept.Command
	var customer string
	err := input.decode(
		identifier("agent_id", &command.Agent), identifier("recipe_id", &command.Recipe), text("customer_id", &customer),
		field{name: "input_data", into: &command.Input},
		version(&command.Version),
	)
	if err != nil {
		return nil, err
	}
	if command.Customer, err = caller.actFor(customer, Place{Path: "/customer_id"}); err != nil {
		return nil, err
	}
	return a.ask(ctx, caller, &command, input)
}

// ask has a command executed as the request prefers.
func (a *API) ask(ctx context.Context, caller *caller, command *accept.Command, asking *Asking) (*executeOutput, error) {
	command.Trace, command.Actor = requestOf(ctx).trace, caller.actor()
	var err error
	if command.IdempotencyKey, err = idempotencyKey(asking.keys); err != nil {
		return nil, err
	}
	applied, err := prefer(command, asking.preferences)
	if err != nil {
		return nil, err
	}
	outcome, err := a.executor.Execute(ctx, *command)
	if err != nil {
		return nil, err
	}
	if outcome.Done {
		return ended(&outcome, applied)
	}
	return pending(command, &outcome, applied)
}

func ended(outcome *accept.Outcome, applied string) (*executeOutput, error) {
	if outcome.Code == problem.InsufficientCredits {
		return nil, insufficient(outcome)
	}
	return &executeOutput{
		Status: http.StatusOK, ContentType: "application/json", PreferenceApplied: applied, Body: outcome.Response,
	}, nil
}

func insufficient(outcome *accept.Outcome) *Problem {
	p := newProblem(problem.InsufficientCredits, "the balance does not cover the price; nothing was run or charged")
	p.ExecutionID = outcome.ExecutionID
	var response event.Response
	if json.Unmarshal(outcome.Response, &response) == nil && len(response.Errors) > 0 {
		p.Detail, p.Retryable = response.Errors[0].Message, response.Errors[0].Retryable
	}
	return p
}

func pending(command *accept.Command, outcome *accept.Outcome, applied string) (*executeOutput, error) {
	body, err := json.Marshal(Accepted{
		ExecutionID: outcome.ExecutionID, CustomerID: command.Customer, AgentID: command.Agent, RecipeID: command.Recipe,
		Status: event.StatusAccepted,
	})
	if err != nil {
		return nil, err
	}
	return &executeOutput{
		Status: http.StatusAccepted, ContentType: "application/json", PreferenceApplied: applied, Body: body,
		Location: prefix + "/executions/" + outcome.ExecutionID,
	}, nil
}

// prefer reads how long the caller wants to wait (RFC 7240) and gives the preferences that are followed. Those that are not known are
// ignored, as the RFC has it.
func prefer(command *accept.Command, headers []string) (applied string, err error) {
	command.Wait = defaultWait
	async, waits := false, false
	for _, header := range headers {
		for preference := range strings.SplitSeq(header, ",") {
			preference, _, _ = strings.Cut(preference, ";")
			name, value, _ := strings.Cut(preference, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				async = true
			case "wait":
				seconds, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`))
				if err != nil || seconds < 0 || seconds > maxWait {
					return "", invalid(Place{In: "header", Path: "/Prefer", Message: "wait must be a number of seconds from 0 to 300"})
				}
				waits, command.Wait = true, time.Duration(seconds)*time.Second
			}
		}
	}
	var followed []string
	if async {
		followed = append(followed, "respond-async")
		if !waits {
			command.Wait = 0
		}
	}
	if waits {
		followed = append(followed, "wait="+strconv.Itoa(int(command.Wait.Seconds())))
	}
	return strings.Join(followed, ", "), nil
}

// idempotencyKey checks the header; "" when there is none.
func idempotencyKey(headers []string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	key := headers[0]
	printable := strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) < 0
	if len(headers) > 1 || key == "" || len(key) > maxKey || !printable {
		return "", invalid(Place{
			In: "header", Path: "/Idempotency-Key", Message: "must be one key of 1 to 255 printable ASCII characters",
		})
	}
	return key, nil
}
