package accept

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/journal"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/reply"
)

// Acceptor accepts commands.
type Acceptor struct {
	catalogue Catalogue
	history   History
	bus       *bus.Bus
	journal   *journal.Journal
	inbox     *reply.Inbox
	retention *retention
	clock     clock.Clock
}

// New makes an Acceptor.
func New(
	found Catalogue, history History, messages *bus.Bus, executions *journal.Journal, inbox *reply.Inbox, now clock.Clock,
) *Acceptor {
	return &Acceptor{
		catalogue: found, history: history, bus: messages, journal: executions, inbox: inbox, clock: now,
		retention: &retention{js: messages.JS, clock: now},
	}
}

// executionNamespace is the namespace of the ids (UUIDv5) that are derived from idempotency keys.
//
//nolint:gochecknoglobals // a constant that the language cannot spell as one
var executionNamespace = uuid.MustParse("6f1d7a52-6f0e-4b53-9a3c-0f4ad0d9a3f1")

// ExecutionID is the id of the execution that a command asks for: derived from customer and idempotency key when there is a key,
// else new.
func ExecutionID(customer, key string) (string, error) {
	if key != "" {
		return uuid.NewSHA1(executionNamespace, []byte(customer+"\x00"+key)).String(), nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make execution id: %w", err)
	}
	return id.String(), nil
}

// Accepted is a command that was accepted, now or earlier.
type Accepted struct {
	Execution subject.Execution
	// Joined tells that the execution existed already: the command had been accepted before.
	Joined bool
	// Ended is set when the execution is known to have ended already.
	Ended *Outcome
	// Err is set when the command was refused (*problem.Error, *InvalidInput) or could not be stored (any other error).
	Err error
}

// prepared is a command that was checked, on its way into the journal.
type prepared struct {
	command *Command
	pinned  *catalogue.Pinned
	request event.Request
	entry   journal.Entry
}

// Execute accepts a command and waits for its end as long as the command says. Errors are *problem.Error or *InvalidInput.
func (a *Acceptor) Execute(ctx context.Context, command Command) (Outcome, error) {
	ready, err := a.prepare(ctx, &command)
	if err != nil {
		return Outcome{}, err
	}
	var waiter *reply.Waiter
	if command.Wait > 0 {
		waiter = a.inbox.Register(ready.entry.Execution)
		defer waiter.Close()
		ready.entry.Header[event.HeaderReply] = []string{waiter.Subject()}
	}
	accepted := a.append(ctx, ready)[0]
	if accepted.Err != nil {
		return Outcome{}, known(accepted.Err)
	}
	if command.Accepted != nil && !accepted.Joined {
		command.Accepted(accepted.Execution)
	}
	if accepted.Ended != nil {
		return *accepted.Ended, nil
	}
	outcome := Outcome{ExecutionID: accepted.Execution.ID, Status: event.StatusAccepted}
	if waiter == nil {
		return outcome, nil
	}
	if completion, ended := waiter.Wait(ctx, command.Wait, accepted.Joined); ended {
		return completed(accepted.Execution.ID, completion), nil
	}
	return outcome, nil
}

func completed(id string, completion reply.Completion) Outcome {
	return Outcome{ExecutionID: id, Done: true, Response: completion.Response, Status: completion.Status, Code: completion.Code}
}

// Accept accepts commands without waiting for their end. Results are in the order of the commands.
func (a *Acceptor) Accept(ctx context.Context, commands []Command) []Accepted {
	results := make([]Accepted, len(commands))
	ready := make([]prepared, 0, len(commands))
	places := make([]int, 0, len(commands))
	for i := range commands {
		checked, err := a.prepare(ctx, &commands[i])
		if err != nil {
			results[i].Err = err
			continue
		}
		ready, places = append(ready, checked), append(places, i)
	}
	for i, accepted := range a.append(ctx, ready...) {
		results[places[i]] = accepted
	}
	return results
}

func (a *Acceptor) prepare(ctx context.Context, command *Command) (prepared, error) {
	if err := command.validate(); err != nil {
		return prepared{}, err
	}
	pinned, err := a.catalogue.Resolve(ctx, command.Customer, command.Agent, command.Recipe, command.Version)
	if err != nil {
		return prepared{}, err
	}
	if len(command.Input) == 0 {
		command.Input = json.RawMessage("{}")
	}
	var input any
	if err := json.Unmarshal(command.Input, &input); err != nil {
		return prepared{}, Malformed("/input_data", "is not valid JSON")
	}
	if err := pinned.Recipe.ValidateInput(input); err != nil {
		return prepared{}, invalidInput(err)
	}
	id, err := ExecutionID(command.Customer, command.IdempotencyKey)
	if err != nil {
		return prepared{}, err
	}
	now := a.clock()
	request := event.Request{
		ExecutionID: id, CustomerID: command.Customer, AgentID: command.Agent, RecipeID: command.Recipe,
		RecipeVersion: pinned.Version, Input: command.Input, Vars: pinned.Vars, MaxConcurrency: pinned.MaxConcurrency, Quoted: pinned.Recipe.Quote(),
		Actor: command.Actor, AcceptedAt: now, Deadline: now.Add(bus.MaxExecution), Origin: command.Origin, Parent: command.Parent,
	}
	data, err := json.Marshal(request)
	if err != nil {
		return prepared{}, fmt.Errorf("encode request: %w", err)
	}
	if len(data) > maxRequest {
		return prepared{}, &problem.Error{
			Code: problem.PayloadTooLarge, Message: "the input with what is kept of the earlier execution is over the limit of 1000 KiB",
		}
	}
	return prepared{command: command, pinned: pinned, request: request, entry: journal.Entry{
		Execution: subject.Execution{Customer: command.Customer, ID: id},
		Kind:      event.Accepted, Source: query.ServiceIngest, Time: now, Header: header(&request, pinned.Recipe, command.Trace), Data: data,
	}}, nil
}

func invalidInput(err error) error {
	var violations recipe.Violations
	if !errors.As(err, &violations) {
		return fmt.Errorf("validate input: %w", err)
	}
	invalid := &InvalidInput{Code: problem.InputInvalid}
	for _, violation := range violations {
		invalid.Violations = append(invalid.Violations, problem.Violation{
			Path: "/input_data" + violation.Path, Message: violation.Message,
		})
	}
	return invalid
}

func header(request *event.Request, run *recipe.Recipe, trace string) nats.Header {
	if trace == "" {
		trace = newTrace()
	}
	ran := event.RecipeVersion{AgentID: request.AgentID, RecipeID: request.RecipeID, Version: request.RecipeVersion}
	header := journal.NewHeader()
	header[event.HeaderSubject] = []string{ran.String()}
	header[event.HeaderActor] = []string{request.Actor.String()}
	header[event.HeaderCredits] = []string{strconv.FormatInt(int64(request.Quoted), 10)}
	header[event.HeaderTraceParent] = []string{trace}
	if run.CreditWait > 0 {
		header[event.HeaderCreditsUntil] = []string{request.AcceptedAt.Add(run.CreditWait).Format(time.RFC3339Nano)}
	}
	if request.Parent != nil {
		parent := subject.Execution{Customer: request.CustomerID, ID: request.Parent.ExecutionID}
		header[event.HeaderParent] = []string{parent.Due()}
	}
	return header
}

// newTrace starts a trace: a W3C traceparent, version 00, not sampled.
func newTrace() string {
	var ids [24]byte
	_, _ = rand.Read(ids[:])
	text := hex.EncodeToString(ids[:])
	return "00-" + text[:32] + "-" + text[32:] + "-00"
}

// append writes the accepted events, each unless its execution exists.
func (a *Acceptor) append(ctx context.Context, ready ...prepared) []Accepted {
	results := make([]Accepted, len(ready))
	entries := make([]journal.Entry, 0, len(ready))
	places := make([]int, 0, len(ready))
	expired, err := a.expired(ctx, ready)
	for i := range ready {
		id := ready[i].entry.Execution.ID
		results[i].Execution = ready[i].entry.Execution
		if outcome, ended := expired[id]; ended {
			results[i].Ended, results[i].Joined = &outcome, true
			continue
		}
		if err != nil && ready[i].command.IdempotencyKey != "" {
			results[i].Err = err
			continue
		}
		entries, places = append(entries, ready[i].entry), append(places, i)
	}
	for k, result := range a.journal.Append(ctx, entries...) {
		accepted := &results[places[k]]
		var moved *journal.MovedError
		switch {
		case result.Err == nil:
		case errors.As(result.Err, &moved):
			accepted.Joined = true
			accepted.Err = a.same(ctx, &ready[places[k]])
		default:
			accepted.Err = result.Err
		}
	}
	return results
}

// expired finds the ends of keyed commands' executions whose journal is no longer there. As long as the stream has never dropped an
// event there is nothing to look for.
func (a *Acceptor) expired(ctx context.Context, ready []prepared) (map[string]Outcome, error) {
	keyed := make([]subject.Execution, 0, len(ready))
	for i := range ready {
		if ready[i].command.IdempotencyKey != "" {
			keyed = append(keyed, ready[i].entry.Execution)
		}
	}
	if len(keyed) == 0 {
		return nil, nil
	}
	whole, err := a.retention.whole(ctx)
	if err != nil || whole {
		return nil, err
	}
	return a.history.Completed(ctx, keyed)
}

// same tells whether an execution that exists was asked for by the same request: an idempotency key that is used for another one is
// a mistake of the caller. Without a key the execution can only be this very command's.
func (a *Acceptor) same(ctx context.Context, ready *prepared) error {
	if ready.command.IdempotencyKey == "" {
		return nil
	}
	first, err := a.journal.First(ctx, ready.entry.Execution)
	if errors.Is(err, journal.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var earlier event.Request
	if err := json.Unmarshal(first.Data, &earlier); err != nil {
		return fmt.Errorf("decode the accepted request: %w", err)
	}
	asked := ready.request
	if earlier.AgentID == asked.AgentID && earlier.RecipeID == asked.RecipeID && SameJSON(earlier.Input, asked.Input) &&
		(ready.command.Version == 0 || ready.command.Version == earlier.RecipeVersion) && sameOrigin(earlier.Origin, asked.Origin) {
		return nil
	}
	return &problem.Error{
		Code: problem.Conflict, Message: "the idempotency key was used for another request, execution " + asked.ExecutionID,
	}
}

func sameOrigin(left, right *event.Origin) bool {
	if left == nil || right == nil {
		return left == right
	}
	return left.ExecutionID == right.ExecutionID && left.Verb == right.Verb && left.Step == right.Step
}

// SameJSON tells whether two JSON texts differ in white space at most.
func SameJSON(left, right []byte) bool {
	var a, b bytes.Buffer
	if json.Compact(&a, left) != nil || json.Compact(&b, right) != nil {
		return false
	}
	return bytes.Equal(a.Bytes(), b.Bytes())
}

// known makes every error one that a caller may see.
func known(err error) error {
	return problem.Public(err, "the request cannot be stored at the moment")
}
