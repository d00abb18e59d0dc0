package endtoend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/contract"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/inspect"
)

const (
	agentID = "tester"
	greet   = "greet"
	plenty  = 1000 * credit.One
	// greetPrice is what greet costs.
	greetPrice = 30_000
)

// greeting is the recipe that most cases run.
const greeting = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: tester, id: greet}
spec:
  input:
    type: object
    required: [name]
    additionalProperties: false
    properties: {name: {type: string, minLength: 2, maxLength: 40}, times: {type: integer, minimum: 1}}
  output: {type: object, required: [greeting], properties: {greeting: {type: string}}}
  steps:
    - {id: compose, uses: state.set, checkpoint: true, price: "0.01", with: {greeting: "hello ${input.name}"}}
    - {id: count, uses: state.set, price: "0.02", with: {length: "${size(state.greeting)}"}}
  result: {greeting: "${state.greeting}", length: "${state.length}"}
`

// scene is what one case plays in.
type scene struct {
	*stage
	customer string
	client   *harness.Client
}

var customers atomic.Int64 //nolint:gochecknoglobals // ids must differ between all cases of the process

// scene makes a customer with credits and the recipe greet.
func (s *stage) scene(t *testing.T) *scene {
	t.Helper()
	return s.newScene(t, plenty)
}

func (s *stage) newScene(t *testing.T, credits credit.Micro) *scene {
	t.Helper()
	id := fmt.Sprintf("customer-%d", customers.Add(1))
	client, err := s.installation.Customer(t.Context(), id, credits)
	require.NoError(t, err)
	require.NoError(t, client.Agent(t.Context(), agentID))
	made := &scene{stage: s, customer: id, client: client}
	made.publish(t, greeting)
	return made
}

// publish publishes a recipe; URL in it stands for the address of the outside world.
func (s *scene) publish(t *testing.T, document string) {
	t.Helper()
	require.NoError(t, s.client.Publish(t.Context(), strings.ReplaceAll(document, "URL", s.outside.url)))
}

// call calls the API as the customer.
func (s *scene) call(t *testing.T, method, path string, body any, headers ...string) harness.Answer {
	t.Helper()
	answer, err := s.client.Call(t.Context(), method, harness.API+path, body, headers...)
	require.NoError(t, err)
	return answer
}

type run map[string]any

// greeted is a valid request.
func greeted() run {
	return run{"agent_id": agentID, "recipe_id": greet, "input_data": map[string]any{"name": "Ada"}}
}

func of(recipe string) run {
	return run{"agent_id": agentID, "recipe_id": recipe, "input_data": map[string]any{}}
}

// with is the request with another field.
func (r run) with(name string, value any) run {
	changed := run{name: value}
	for key, old := range r {
		if key != name {
			changed[key] = old
		}
	}
	return changed
}

func (s *scene) execute(t *testing.T, body any, headers ...string) harness.Answer {
	t.Helper()
	return s.call(t, http.MethodPost, "/recipes/execute", body, headers...)
}

// response executes and decodes the standard response, which must fit its schema.
func (s *scene) response(t *testing.T, body any, headers ...string) event.Response {
	t.Helper()
	answer := s.execute(t, body, headers...)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	return s.standard(t, answer.Body)
}

// standard decodes a standard response, which must fit its schema.
func (s *scene) standard(t *testing.T, body []byte) event.Response {
	t.Helper()
	require.NoError(t, s.rules.CheckData(contract.Response, body))
	var response event.Response
	require.NoError(t, json.Unmarshal(body, &response))
	require.Equal(t, s.customer, response.CustomerID)
	return response
}

// problem is the body of a refusal.
type problem struct {
	Type        string `json:"type"`
	Title       string `json:"title"`
	Status      int    `json:"status"`
	Detail      string `json:"detail"`
	Code        string `json:"code"`
	Retryable   *bool  `json:"retryable"`
	ExecutionID string `json:"execution_id"`
	Errors      []struct {
		Path    string `json:"path"`
		Message string `json:"message"`
		Line    int    `json:"line"`
	} `json:"errors"`
}

func (p *problem) paths() []string {
	paths := make([]string, 0, len(p.Errors))
	for _, each := range p.Errors {
		paths = append(paths, each.Path)
	}
	return paths
}

// refused checks that the answer is a refusal in the form of RFC 9457.
func refused(t *testing.T, answer harness.Answer, status int, code string) problem {
	t.Helper()
	require.Equal(t, status, answer.Status, "%s", answer)
	require.Equal(t, "application/problem+json", strings.Split(answer.Header.Get("Content-Type"), ";")[0])
	var p problem
	require.NoError(t, json.Unmarshal(answer.Body, &p))
	require.Equal(t, code, p.Code)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Title)
	require.NotEmpty(t, p.Type)
	require.NotNil(t, p.Retryable)
	return p
}

// journal reads an execution's journal.
func (s *scene) journal(t *testing.T, id string) *inspect.Execution {
	t.Helper()
	execution, err := inspect.ReadExecution(t.Context(), s.js, subject.Execution{Customer: s.customer, ID: id})
	require.NoError(t, err)
	require.NotNil(t, execution, "execution %s has no journal", id)
	return execution
}

func kinds(execution *inspect.Execution) []event.Kind {
	list := make([]event.Kind, 0, len(execution.Events))
	for _, each := range execution.Events {
		list = append(list, each.Kind)
	}
	return list
}

// followed polls an execution until it has ended. It must be found at every moment.
func (s *scene) followed(t *testing.T, location string) event.Response {
	t.Helper()
	path := strings.TrimPrefix(location, harness.API)
	var body []byte
	eventually(t, "execution "+location+" does not end", func() bool {
		answer := s.call(t, http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
		var response event.Response
		require.NoError(t, answer.JSON(&response))
		body = answer.Body
		return response.Status.Terminal()
	})
	return s.standard(t, body)
}

// items reads a list of the API.
func items[T any](t *testing.T, s *scene, path string) []T {
	t.Helper()
	answer := s.call(t, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	var list struct {
		Items []T `json:"items"`
	}
	require.NoError(t, answer.JSON(&list))
	return list.Items
}

func (s *scene) balance(t *testing.T) credit.Micro {
	t.Helper()
	answer := s.call(t, http.MethodGet, "/credits", nil)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer)
	var balance query.BalanceReply
	require.NoError(t, answer.JSON(&balance))
	require.Equal(t, balance.Posted, balance.Available)
	return balance.Posted
}

// completions subscribes to the completed events of the customer, as any consumer may.
func (s *scene) completions(t *testing.T) *nats.Subscription {
	t.Helper()
	return s.subscribe(t, "galley.execution.*."+s.customer+".*.completed")
}

func (s *scene) subscribe(t *testing.T, filter string) *nats.Subscription {
	t.Helper()
	conn, err := s.installation.Connect()
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	subscription, err := conn.SubscribeSync(filter)
	require.NoError(t, err)
	require.NoError(t, conn.FlushTimeout(patience))
	return subscription
}

func next(t *testing.T, subscription *nats.Subscription) *nats.Msg {
	t.Helper()
	message, err := subscription.NextMsg(patience)
	require.NoError(t, err, "nothing on %s", subscription.Subject)
	return message
}

// checkEverything looks at all that the cases left behind: journals, ledger, projection and audit log must agree.
func (s *stage) checkEverything(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := s.installation.Database(ctx)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // only read from
	var journal inspect.Journal
	reader := inspect.NewReader(s.js)
	eventually(t, "galley does not come to rest", func() bool {
		var rest bool
		journal, rest, _, err = reader.AtRest(ctx, conn)
		require.NoError(t, err)
		return rest
	})
	for _, execution := range journal {
		for _, problem := range execution.Check(s.rules) {
			t.Errorf("%v\n%s", problem, execution)
		}
	}
	problems, err := journal.Database(ctx, conn)
	require.NoError(t, err)
	require.Empty(t, problems)
	output, err := s.installation.Reconcile(ctx)
	require.NoError(t, err, "%s", output)
}
