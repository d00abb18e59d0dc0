package crash

import (
	"context"
	"fmt"
	"strings"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/tests/internal/harness"
)

const agentID = "crash-test"

// The customers: the poor one runs out of credits in the middle.
const (
	customers = 5
	plenty    = 1_000_000 * credit.One
	little    = 3 * credit.One
)

// threeCalls has effects outside before and after a pure step, so that a process can die between any two of them.
const threeCalls = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: three-calls}
spec:
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  steps:
    - id: first
      uses: action.http
      with: {method: POST, url: "URL/call/first", body: {marker: "${input.marker}"}}
      price: "0.01"
    - id: remember
      uses: state.set
      with: {marker: "${input.marker}", call: "${steps.first.output.body.call}"}
      price: "0.02"
    - id: second
      uses: action.http
      with: {method: POST, url: "URL/call/second", body: {marker: "${state.marker}"}}
      price: "0.03"
    - id: third
      uses: action.http
      with: {method: POST, url: "URL/call/third"}
      price: "0.04"
  result: {marker: "${state.marker}"}
`

// shaky has a step that succeeds at the second attempt and one that never does, and so ends as partial with a refund.
const shaky = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: shaky}
spec:
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  defaults: {retry: {max_attempts: 2, initial: 20ms, max: 50ms, multiplier: 2, jitter: true}}
  steps:
    - id: retried
      uses: action.http
      with: {method: POST, url: "URL/shaky/retried"}
      price: "0.01"
      retry: {max_attempts: 5}
    - id: missing
      uses: action.http
      with: {method: POST, url: "URL/nowhere"}
      price: "0.05"
      on_error: continue
    - id: last
      uses: action.http
      with: {method: POST, url: "URL/call/last"}
      price: "0.01"
`

// pure has durable steps without any effect outside.
const pure = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: pure}
spec:
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  steps:
    - {id: a, uses: state.set, checkpoint: true, price: "0.001", with: {marker: "${input.marker}"}}
    - {id: b, uses: state.set, checkpoint: true, price: "0.001", with: {size: "${size(state.marker)}"}}
    - {id: c, uses: state.set, checkpoint: true, with: {done: true}}
`

const (
	manyRecipe = agentID + "/many/1"
	manyLimit  = 2
)

// many calls for each of a list, eight times, with an endpoint that fails at first, and in branches at the same time. No more than
// manyLimit of a customer's may be under way at once.
const many = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: many}
spec:
  concurrency: 2
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  defaults: {retry: {max_attempts: 5, initial: 20ms, max: 50ms, multiplier: 2, jitter: true}}
  steps:
    - id: each
      foreach: {in: "${[1, 2, 3, 4, 5, 6, 7, 8]}", as: n, max_items: 8, max_parallel: 3}
      uses: action.http
      with: {method: POST, url: "URL/shaky/each", body: {n: "${n}"}}
      price: "0.001"
    - parallel:
        - {id: left, uses: action.http, price: "0.01", with: {method: POST, url: "URL/call/left"}}
        - steps:
            - {id: right, uses: action.http, price: "0.02", with: {method: POST, url: "URL/shaky/right"}}
            - {id: further, uses: action.http, price: "0.04", with: {method: POST, url: "URL/call/further"}}
    - {id: last, uses: action.http, with: {method: POST, url: "URL/call/last"}}
  result: {marker: "${input.marker}", calls: "${size(steps.each.outputs)}"}
`

// patient waits for a time, and for its next attempt, so long that it is put down meanwhile.
const patient = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: patient}
spec:
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  steps:
    - {id: first, uses: action.http, price: "0.01", with: {method: POST, url: "URL/call/first"}}
    - parallel:
        - steps:
            - {id: pause, uses: wait.for, with: {duration: 6s}}
            - {id: paused, uses: action.http, price: "0.02", with: {method: POST, url: "URL/call/paused"}}
        - id: again
          uses: action.http
          with: {method: POST, url: "URL/shaky/again"}
          retry: {max_attempts: 4, initial: 6s, max: 6s, multiplier: 1, jitter: false}
          price: "0.04"
    - {id: last, uses: action.http, with: {method: POST, url: "URL/call/last"}}
`

// signalled waits until its caller sends it the event "go".
const signalled = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: signalled}
spec:
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  steps:
    - {id: first, uses: action.http, price: "0.01", with: {method: POST, url: "URL/call/first"}}
    - {id: told, uses: wait.event, with: {name: go, timeout: 4m}}
    - {id: last, uses: action.http, price: "0.02", with: {method: POST, url: "URL/call/last", body: {marker: "${steps.told.output.marker}"}}}
  result: {marker: "${steps.told.output.marker}"}
`

// parent runs child.
const parent = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: parent}
spec:
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  steps:
    - {id: first, uses: action.http, price: "0.01", with: {method: POST, url: "URL/call/first"}}
    - {id: run, uses: recipe.run, price: "0.02", with: {agent: crash-test, recipe: child, input: {parent: "${input.marker}"}}}
    - {id: last, uses: action.http, price: "0.04", with: {method: POST, url: "URL/call/last"}}
  result: {child: "${steps.run.output.execution_id}"}
`

const child = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: child}
spec:
  input: {type: object, required: [parent], properties: {parent: {type: string}}, additionalProperties: false}
  steps:
    - {id: first, uses: action.http, price: "0.08", with: {method: POST, url: "URL/call/first"}}
    - {id: last, uses: action.http, price: "0.16", with: {method: POST, url: "URL/call/last"}}
`

// furnish makes the customers and their recipes.
func (s *scene) furnish(ctx context.Context) error {
	s.callers = &callers{clients: map[string]*harness.Client{}}
	for n := range customers {
		id, credits := fmt.Sprintf("customer_%d", n), plenty
		if n == 0 {
			credits = little
		}
		client, err := s.installation.Customer(ctx, id, credits)
		if err != nil {
			return err
		}
		if err := client.Agent(ctx, agentID); err != nil {
			return err
		}
		for _, document := range []string{threeCalls, shaky, pure, many, patient, signalled, child, parent} {
			if err := client.Publish(ctx, strings.ReplaceAll(document, "URL", s.outside.url)); err != nil {
				return err
			}
		}
		s.callers.clients[id] = client
		s.callers.names = append(s.callers.names, id)
	}
	return nil
}
