package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/galley-engine/galley/cmd/galley/internal/client"
	"github.com/galley-engine/galley/schemas/query"
)

type plansGroup struct {
	List    plansListCommand    `cmd:"" default:"withargs" help:"List the plans in their newest versions; for the operator also those that are retired."`
	Show    plansShowCommand    `cmd:"" help:"Print a plan."`
	Publish plansPublishCommand `cmd:"" help:"Publish a plan, or its next version (operator)."`
	Retire  plansRetireCommand  `cmd:"" help:"Close a plan to new subscriptions, for good (operator)."`
}

type plansListCommand struct{ connection }

// Run lists the plans.
func (c *plansListCommand) Run(app *app) error {
	return show(c.operator, app.report.Plans, func(api *client.Client) ([]query.Plan, error) { return api.Plans(app.ctx) })
}

type plansShowCommand struct {
	connection
	ID          string `arg:"" help:"The plan."`
	PlanVersion int    `help:"The version; the newest when absent." placeholder:"N"`
}

// Run prints a plan.
func (c *plansShowCommand) Run(app *app) error {
	return show(c.operator, app.report.Plan, func(api *client.Client) (query.Plan, error) { return api.Plan(app.ctx, c.ID, c.PlanVersion) })
}

type plansPublishCommand struct {
	connection
	File string `arg:"" help:"The plan, YAML or JSON." type:"existingfile"`
}

// Run publishes a plan.
func (c *plansPublishCommand) Run(app *app) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	document, err := toJSON(text)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	return show(c.operator, app.report.Plan, func(api *client.Client) (query.Plan, error) { return api.PublishPlan(app.ctx, document) })
}

type plansRetireCommand struct {
	connection
	ID string `arg:"" help:"The plan."`
}

// Run retires a plan.
func (c *plansRetireCommand) Run(app *app) error {
	retired := func(p query.Plan) { app.report.Line("%s takes no new subscriptions", p.PlanID) }
	return show(c.operator, retired, func(api *client.Client) (query.Plan, error) { return api.RetirePlan(app.ctx, c.ID) })
}

// toJSON makes JSON of a document that is YAML, which JSON is as well. Numbers keep their digits: an amount with too many decimal places is to
// be refused, not rounded on the way.
func toJSON(text []byte) ([]byte, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("read YAML: %w", err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("there must be one YAML document")
	}
	value, err := ofYAML(document.Content[0])
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

func ofYAML(node *yaml.Node) (any, error) {
	refuse := func(format string, arguments ...any) (any, error) {
		return nil, fmt.Errorf("line %d: %s", node.Line, fmt.Sprintf(format, arguments...))
	}
	switch node.Kind {
	case yaml.MappingNode:
		object := make(map[string]any, len(node.Content)/2)
		for i := 0; i < len(node.Content); i += 2 {
			name := node.Content[i].Value
			if _, twice := object[name]; twice || node.Content[i].Kind != yaml.ScalarNode {
				return refuse("%q is not a name that is there once", name)
			}
			value, err := ofYAML(node.Content[i+1])
			if err != nil {
				return nil, err
			}
			object[name] = value
		}
		return object, nil
	case yaml.SequenceNode:
		list := make([]any, len(node.Content))
		for i, item := range node.Content {
			value, err := ofYAML(item)
			if err != nil {
				return nil, err
			}
			list[i] = value
		}
		return list, nil
	case yaml.ScalarNode:
		switch node.ShortTag() {
		case "!!null":
			return nil, nil //nolint:nilnil // null is a value
		case "!!bool":
			var value bool
			err := node.Decode(&value)
			return value, err
		case "!!int", "!!float":
			if !json.Valid([]byte(node.Value)) {
				return refuse("write %s as a decimal number", node.Value)
			}
			return json.Number(node.Value), nil
		}
		return node.Value, nil
	case yaml.AliasNode, yaml.DocumentNode:
	}
	return refuse("anchors and aliases are not taken")
}
