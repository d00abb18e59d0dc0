package recipe

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/galley-engine/galley/schemas/problem"
)

//go:embed component/*.json
var componentFiles embed.FS

// Kind names the component that runs a step.
type Kind string

// The kinds that the engine runs itself, because they are about the execution and not about the world.
const (
	// KindRecipeRun runs another recipe of the customer as an execution of its own.
	KindRecipeRun Kind = "recipe.run"
	// KindWaitFor waits for a duration, KindWaitUntil until a moment.
	KindWaitFor   Kind = "wait.for"
	KindWaitUntil Kind = "wait.until"
	// KindWaitEvent waits for an event, KindApproval for a decision.
	KindWaitEvent Kind = "wait.event"
	KindApproval  Kind = "approval"
)

// The kinds that components run.
const (
	KindChat        Kind = "ai.chat"
	KindHTTP        Kind = "action.http"
	KindStateSet    Kind = "state.set"
	KindStateMerge  Kind = "state.merge"
	KindStateDelete Kind = "state.delete"

	// workerPrefix begins the kinds that programs outside galley run; all share one description.
	workerPrefix      = "worker."
	KindWorker   Kind = "worker"
)

// Worker is the name of the worker that runs steps of this kind, such as shout for worker.shout; empty for all other kinds.
func (k Kind) Worker() string {
	name, found := strings.CutPrefix(string(k), workerPrefix)
	if !found {
		return ""
	}
	return name
}

// Component describes the steps of one kind: what an author may write, what the engine has to know, and what the documentation says.
// It is read from component/<kind>.json: the JSON Schema of the step's with, which has the rest under "x-galley".
type Component struct {
	// Kind is "worker" for all workers.
	Kind        Kind   `json:"-"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Traits      `json:"x-galley"`
	// With is the JSON Schema of the input, without Traits.
	With json.RawMessage `json:"-"`

	schema *Schema
	// closed says that the input has no other fields than those of the schema.
	closed bool
}

// Traits are what a schema cannot say of a component.
type Traits struct {
	// Effect: a step does, or reads, something outside the process, so that its outcome must be durable before the next step begins.
	// Such steps have time-outs and are tried again.
	Effect bool `json:"effect"`
	// Waits: a step waits for something that takes its time: a clock, a person, another execution.
	Waits bool `json:"waits"`
	// Secrets: the input may read secrets.
	Secrets bool `json:"secrets"`
	// Meters are what a step can be priced by, besides a fixed price.
	Meters []Meter `json:"meters"`
	// Charges: a step exists to be paid for, and so must have a metered price.
	Charges bool `json:"charges"`
	// Output is the JSON Schema of the output.
	Output json.RawMessage `json:"output"`
	// Errors are the codes that are special to the kind or need an explanation.
	Errors []ComponentError `json:"errors"`
}

// ComponentError says when a component fails with a code.
type ComponentError struct {
	Code      problem.Code `json:"code"`
	Retryable bool         `json:"retryable"`
	When      string       `json:"when"`
}

// Components are the kinds that there are, by their names.
func (c *Compiler) Components() []*Component {
	kinds := slices.Sorted(maps.Keys(c.components))
	components := make([]*Component, len(kinds))
	for i, kind := range kinds {
		components[i] = c.components[kind]
	}
	return components
}

// component is the description of a kind, nil for one that does not exist.
func (c *Compiler) component(kind Kind) *Component {
	if name, isWorker := strings.CutPrefix(string(kind), workerPrefix); isWorker {
		if !isID(name) {
			return nil
		}
		return c.components[KindWorker]
	}
	if kind == KindWorker {
		return nil
	}
	return c.components[kind]
}

func (c *Compiler) kindNames() string {
	var names []string
	for _, component := range c.Components() {
		name := string(component.Kind)
		if component.Kind == KindWorker {
			name = workerPrefix + "<name>"
		}
		names = append(names, name)
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// readComponents reads the descriptions of all kinds.
func readComponents() (map[Kind]*Component, error) {
	files, err := componentFiles.ReadDir("component")
	if err != nil {
		return nil, err
	}
	components := make(map[Kind]*Component, len(files))
	for _, file := range files {
		kind := Kind(strings.TrimSuffix(file.Name(), ".json"))
		text, err := componentFiles.ReadFile(path.Join("component", file.Name()))
		if err != nil {
			return nil, err
		}
		if components[kind], err = readComponent(kind, text); err != nil {
			return nil, fmt.Errorf("describe %s: %w", kind, err)
		}
	}
	return components, nil
}

func readComponent(kind Kind, text []byte) (*Component, error) {
	component := &Component{Kind: kind}
	var document map[string]any
	if err := errors.Join(json.Unmarshal(text, component), json.Unmarshal(text, &document)); err != nil {
		return nil, err
	}
	for _, meter := range component.Meters {
		if field, _ := meter.Unit(); field == "" {
			return nil, fmt.Errorf("there is no meter %q", meter)
		}
	}
	if component.Charges && len(component.Meters) == 0 {
		return nil, errors.New("charges without a meter")
	}
	delete(document, "x-galley")
	var err error
	if component.With, err = json.Marshal(document); err != nil {
		return nil, err
	}
	component.closed = document["additionalProperties"] == false
	component.schema, err = CompileSchema(document)
	return component, err
}
