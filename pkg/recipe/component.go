package recipe

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed component/*.json
var componentSchemas embed.FS

// Kind names the component that runs a step.
type Kind string

// The kinds that this version runs.
const (
	// KindHTTP calls an HTTP API. Its input is {method, url, query, headers, body}, its output {status, headers, body}.
	KindHTTP Kind = "action.http"
	// KindStateSet writes each field of its input to the shared state; its output is that input.
	KindStateSet Kind = "state.set"
	// KindRecipeRun runs another recipe of the customer as an execution of its own. Its input is {agent, recipe, version?, input?}, its
	// output the standard response.
	KindRecipeRun Kind = "recipe.run"
	// KindWaitFor waits {duration}, KindWaitUntil until {time} (RFC 3339). Their output is {until}.
	KindWaitFor   Kind = "wait.for"
	KindWaitUntil Kind = "wait.until"
	// KindWaitEvent waits for the event {name} for at most {timeout}. Its output is the event's data.
	KindWaitEvent Kind = "wait.event"
	// KindApproval waits for a decision about {title} for at most {timeout}. Its output is {approved, by, comment, at}; the step fails when
	// it is rejected.
	KindApproval Kind = "approval"
)

// Waits reports whether steps of this kind wait for something that takes its time: a clock, a person, another execution.
func (k Kind) Waits() bool {
	switch k {
	case KindRecipeRun, KindWaitFor, KindWaitUntil, KindWaitEvent, KindApproval:
		return true
	case KindHTTP, KindStateSet:
	}
	return false
}

// Effect reports whether a step of this kind changes something outside the process, so that its outcome must be durable before
// the next step begins. Only such steps may read secrets.
func (k Kind) Effect() bool {
	return k == KindHTTP
}

func kinds() []Kind {
	return []Kind{KindHTTP, KindStateSet, KindRecipeRun, KindWaitFor, KindWaitUntil, KindWaitEvent, KindApproval}
}

func kindNames() string {
	var names strings.Builder
	all := kinds()
	for i, kind := range all {
		switch i {
		case 0:
		case len(all) - 1:
			names.WriteString(" and ")
		default:
			names.WriteString(", ")
		}
		names.WriteString(string(kind))
	}
	return names.String()
}

func (k Kind) exists() bool {
	return slices.Contains(kinds(), k)
}

// planned reports whether the recipe format has this kind although nothing runs it yet.
func (k Kind) planned() bool {
	name, isWorker := strings.CutPrefix(string(k), "worker.")
	return isWorker && isID(name) || slices.Contains([]Kind{
		"ai.chat", "action.sql", "correspondence.email", "correspondence.sms", "correspondence.webhook",
		"state.merge", "state.delete", "state.get", "audit.note", "subscription.check", "subscription.charge",
	}, k)
}

// compileComponent compiles the JSON Schema of a kind's input.
func compileComponent(kind Kind) (*schema, error) {
	text, err := componentSchemas.ReadFile("component/" + string(kind) + ".json")
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	var document any
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	return compileSchema(document)
}
