package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/harness"
)

// order is one thing that a caller asked for, with what it was told. Whatever fails, the caller asks again with the same key until
// it has an answer: so each order must become exactly one execution.
type order struct {
	Marker   string
	Customer string
	Recipe   string
	// Execution is empty for an order that was published: nobody tells the producer its id.
	Execution string
	// Response is the standard response that the caller got.
	Response []byte
	// Cancel is what became of the wish to cancel it; nil when there was none.
	Cancel *cancelled
}

// callers put load on an installation, over HTTP and over NATS.
type callers struct {
	clients map[string]*harness.Client
	names   []string
	js      jetstream.JetStream

	mu       sync.Mutex
	orders   []order
	failures []failure
	tries    int
}

// failure is an order that was not seen through.
type failure struct {
	order
	err error
}

const (
	thinking   = 40 * time.Millisecond // between two orders of one caller, at most
	publishing = 10 * thinking         // the same for those who publish: they do not wait for the end, and must not ask for more than can be done
	retryPause = 200 * time.Millisecond
	ackTimeout = 2 * time.Second
)

// placing is a way to place an order of one of some recipes.
type placing struct {
	recipes []string
	pause   time.Duration
	place   func(context.Context, *order, *harness.Client) error
}

func (c *callers) pick(recipes []string) (order, *harness.Client) {
	customer := c.names[rand.IntN(len(c.names))] //nolint:gosec // any will do
	recipe := recipes[rand.IntN(len(recipes))]   //nolint:gosec // any will do
	return order{Marker: uuid.NewString(), Customer: customer, Recipe: recipe}, c.clients[customer]
}

// run places one order after the other until ctx ends. The last one is seen through under patience.
func (c *callers) run(ctx, patience context.Context, way placing) {
	for pause(ctx, way.pause) {
		next, client := c.pick(way.recipes)
		err := way.place(patience, &next, client)
		c.mu.Lock()
		if err != nil {
			c.failures = append(c.failures, failure{next, err})
		} else {
			c.orders = append(c.orders, next)
		}
		c.mu.Unlock()
	}
}

func (c *callers) tried() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
}

// again calls do until it is done, with pauses, for as long as ctx lasts.
func (c *callers) again(ctx context.Context, do func(ctx context.Context) (done bool, err error)) error {
	var last error
	for {
		done, err := do(ctx)
		if done {
			return err
		}
		if err != nil {
			last = err
		}
		c.tried()
		if !pause(ctx, retryPause) {
			return fmt.Errorf("gave up: %w", errors.Join(ctx.Err(), last))
		}
	}
}

type body struct {
	Agent    string         `json:"agent_id"`
	Recipe   string         `json:"recipe_id"`
	Customer string         `json:"customer_id,omitempty"`
	Input    map[string]any `json:"input_data"`
}

func (o *order) body(customer string) body {
	return body{Agent: agentID, Recipe: o.Recipe, Customer: customer, Input: map[string]any{"marker": o.Marker}}
}

// overHTTP executes the order and follows it to its end.
func (c *callers) overHTTP(prefer string) func(context.Context, *order, *harness.Client) error {
	return func(ctx context.Context, o *order, client *harness.Client) error {
		accepted, err := c.accept(ctx, o, client, prefer)
		if err != nil {
			return err
		}
		return c.follow(ctx, o, client, accepted)
	}
}

// accept has the order executed.
func (c *callers) accept(ctx context.Context, o *order, client *harness.Client, prefer string) (accepted harness.Answer, err error) {
	err = c.again(ctx, func(ctx context.Context) (bool, error) {
		answer, err := client.Call(ctx, http.MethodPost, "/api/v1/recipes/execute", o.body(o.Customer), headerKey, o.Marker, "Prefer", prefer)
		if err != nil {
			return false, err
		}
		accepted = answer
		return settled(answer, http.StatusOK, http.StatusAccepted, http.StatusPaymentRequired)
	})
	return accepted, err
}

// settled tells whether an answer settles a request: whether it is one of those expected, or one that no repetition would change.
func settled(answer harness.Answer, expected ...int) (bool, error) {
	switch answer.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInternalServerError:
		return false, fmt.Errorf("answer %s", answer)
	}
	if slices.Contains(expected, answer.Status) {
		return true, nil
	}
	return true, fmt.Errorf("answer %s", answer)
}

// follow polls an execution that was accepted until it has ended.
func (c *callers) follow(ctx context.Context, o *order, client *harness.Client, accepted harness.Answer) error {
	if err := o.learn(accepted); err != nil || accepted.Status != http.StatusAccepted {
		return err
	}
	location := accepted.Header.Get("Location")
	if location == "" {
		return fmt.Errorf("202 without a Location: %s", accepted)
	}
	return c.again(ctx, func(ctx context.Context) (bool, error) {
		answer, err := client.Call(ctx, http.MethodGet, location, nil)
		if err != nil {
			return false, err
		}
		if answer.Status == http.StatusNotFound {
			return true, fmt.Errorf("%s was accepted and is not found", location)
		}
		if answer.Status != http.StatusOK {
			return false, fmt.Errorf("answer %s", answer)
		}
		var response event.Response
		if err := answer.JSON(&response); err != nil {
			return true, err
		}
		if !response.Status.Terminal() {
			return false, fmt.Errorf("it is %s", response.Status)
		}
		return true, o.learn(answer)
	})
}

// learn notes the end of the execution.
func (o *order) learn(answer harness.Answer) error {
	var response struct {
		ExecutionID string `json:"execution_id"`
	}
	if err := answer.JSON(&response); err != nil {
		return err
	}
	o.Execution = response.ExecutionID
	if answer.Status == http.StatusOK {
		o.Response = answer.Body
	}
	return nil
}

// overNATS publishes the order, until the stream has it.
func (c *callers) overNATS(ctx context.Context, o *order, _ *harness.Client) error {
	data, err := json.Marshal(o.body(""))
	if err != nil {
		return fmt.Errorf("encode order: %w", err)
	}
	message := nats.NewMsg(subject.RunRequest(o.Customer))
	message.Header.Set(event.HeaderID, o.Marker)
	message.Data = data
	return c.again(ctx, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, ackTimeout)
		defer cancel()
		_, err := c.js.PublishMsg(ctx, message, jetstream.WithRetryAttempts(0))
		return err == nil, err
	})
}
