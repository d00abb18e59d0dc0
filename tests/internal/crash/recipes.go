package crash

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/tests/internal/harness"
)

const agentID = "crash-test"

// The customers: the poor one runs out of credits in the middle, and gets a few more now and then.
const (
	customers = 5
	poor      = "customer_0"
	plenty    = 1_000_000 * credit.One
	little    = 3 * credit.One
	fewMore   = credit.One / 4
)

// threeCalls has effects outside before and after a pure step, so that a process can die between any two of them. It waits a while for credits.
const threeCalls = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: three-calls}
spec:
  on_insufficient_credits: wait
  credit_wait: 3s
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

// The recipe that reaches for everything else: what it leaves and what it pays is checked.
const (
	reachRecipe = agentID + "/reach/1"
	reachNote   = "note.reached"
)

// The prices of what is measured in reach, in micro-credits: for a token read, a token written and a unit, and the most for each step.
const (
	perInput  = 10
	perOutput = 20
	perUnit   = 3000
	maxAsk    = 50_000
	maxWork   = 90_000
)

// pieces are what reach keeps a value and writes a note for, one after the other: what galley does by itself is done in no time, so there
// have to be many moments at which it can be cut off.
func pieces() []string { return []string{"a", "b", "c", "d", "e", "f", "g", "h"} }

// reach asks a model, then sends a mail and has a worker work at the same time, keeps values that must not be there, writes notes and tells
// a webhook. However often its calls are cut off, it succeeds.
const reach = `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: crash-test, id: reach}
spec:
  timeout: 10m
  input: {type: object, required: [marker], properties: {marker: {type: string}}, additionalProperties: false}
  defaults: {timeout: 60s, retry: {max_attempts: 20, initial: 100ms, max: 4s, multiplier: 2, jitter: true}}
  steps:
    - id: ask
      uses: ai.chat
      with: {provider: compatible, model: counter, base_url: "URL/v1", prompt: "What of ${input.marker}?", max_output_tokens: 64}
      price: {per_1k_input_tokens: "0.01", per_1k_output_tokens: "0.02", max: "0.05"}
    - parallel:
        - id: mail
          uses: correspondence.email
          with:
            from: galley@crash.example
            to: [ada@crash.example, bob@crash.example]
            subject: "${execution.id}/mail"
            text: "${input.marker}: ${steps.ask.output.text}"
            server: {host: "MAILHOST", port: MAILPORT, tls: none}
          price: "0.01"
        - id: work
          uses: worker.count
          with: {url: "URL/worked/work"}
          price: {per_unit: "0.003", max: "0.09"}
    - id: keep
      foreach: {in: "${['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']}", as: piece, max_items: 8, max_parallel: 1}
      uses: store.set
      with: {key: "crash.${execution.id}.${piece}", value: "${input.marker}", if_revision: 0}
      price: "0.002"
    - id: note
      foreach: {in: "${['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']}", as: piece, max_items: 8, max_parallel: 1}
      uses: audit.note
      with: {action: reached, resource_type: marker, resource_id: "${input.marker}.${piece}", message: "Reached ${steps.work.output.call}"}
    - id: tell
      uses: correspondence.webhook
      with: {url: "URL/hook/tell", payload: {marker: "${input.marker}"}, type: marker.reached, secret: "${secrets.webhook_key}"}
      price: "0.01"
    - {id: end, uses: state.merge, with: {marker: "${input.marker}"}}
  result: {marker: "${state.marker}", kept: "${steps.keep.outputs}"}
`

const webhookKey = "whsec_Z2FsbGV5IGNyYXNoIHRlc3Qgc2VjcmV0IQ=="

// furnish makes the customers and their recipes.
func (s *scene) furnish(ctx context.Context) error {
	mailHost, mailPort, err := net.SplitHostPort(s.outside.mail.address)
	if err != nil {
		return fmt.Errorf("read the address of the mail server: %w", err)
	}
	addresses := strings.NewReplacer("URL", s.outside.url, "MAILHOST", mailHost, "MAILPORT", mailPort)
	s.callers = &callers{clients: map[string]*harness.Client{}}
	for n := range customers {
		id, credits := fmt.Sprintf("customer_%d", n), plenty
		if id == poor {
			credits = little
		}
		client, err := s.installation.Customer(ctx, id, credits)
		if err != nil {
			return err
		}
		if err := client.Agent(ctx, agentID); err != nil {
			return err
		}
		if err := client.PutSecret(ctx, "webhook_key", webhookKey); err != nil {
			return err
		}
		for _, document := range []string{threeCalls, shaky, pure, many, patient, signalled, child, parent, reach} {
			if err := client.Publish(ctx, addresses.Replace(document)); err != nil {
				return err
			}
		}
		s.callers.clients[id] = client
		s.callers.names = append(s.callers.names, id)
	}
	return nil
}
