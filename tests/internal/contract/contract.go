// Package contract checks messages against the public contract: the JSON Schemas of the events and of their headers.
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/tests/internal/repository"
)

// Names of the schemas, without the ending of their files.
const (
	Accepted   = "accepted"
	Funded     = "funded"
	Checkpoint = "checkpoint"
	Response   = "response"
	RunRequest = "run-request"
	Rejection  = "rejection"
	Activity   = "activity"
	Alert      = "alert"
	Limits     = "limits"
	TreeHead   = "tree-head"
	Headers    = "headers"
)

// ErrUnknownType says that an event has a CloudEvents type that the contract does not name.
var ErrUnknownType = errors.New("no schema for this type of event")

// Contract holds the compiled schemas. It is safe for concurrent use.
type Contract struct {
	schemas map[string]*jsonschema.Schema
	types   map[string]string
}

// Load compiles the schemas of the repository. Formats are asserted, and nothing outside the folder may be referred to.
func Load() (*Contract, error) {
	root, err := repository.Root()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(root, "schemas", "json", "*.schema.json"))
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiler.UseLoader(jsonschema.SchemeURLLoader{})
	ids := make(map[string]string, len(files))
	for _, file := range files {
		id, err := register(compiler, file)
		if err != nil {
			return nil, fmt.Errorf("read schema %s: %w", file, err)
		}
		ids[strings.TrimSuffix(filepath.Base(file), ".schema.json")] = id
	}
	contract := &Contract{schemas: make(map[string]*jsonschema.Schema, len(ids)), types: types()}
	for name, id := range ids {
		if contract.schemas[name], err = compiler.Compile(id); err != nil {
			return nil, fmt.Errorf("compile schema %s: %w", name, err)
		}
	}
	return contract, nil
}

func register(compiler *jsonschema.Compiler, file string) (id string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	var head struct {
		ID string `json:"$id"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return "", err
	}
	return head.ID, compiler.AddResource(head.ID, document)
}

func types() map[string]string {
	return map[string]string{
		event.Accepted.Type():  Accepted,
		event.Funded.Type():    Funded,
		event.Started.Type():   Checkpoint,
		event.Step.Type():      Checkpoint,
		event.Waiting.Type():   Checkpoint,
		event.Completed.Type(): Response,
		event.TypeRunRequested: RunRequest,
		event.TypeRunRejected:  Rejection,
		event.TypeActivity:     Activity,

		event.AlertLowBalance.Type(): Alert,
		event.AlertExhausted.Type():  Alert,
		event.TypeLimits:             Limits,
		event.TypeTreeHead:           TreeHead,
	}
}

// Schema gives a compiled schema, nil when there is none of that name.
func (c *Contract) Schema(name string) *jsonschema.Schema { return c.schemas[name] }

// Names lists the schemas.
func (c *Contract) Names() []string {
	names := make([]string, 0, len(c.schemas))
	for name := range c.schemas {
		names = append(names, name)
	}
	return names
}

// Check tells what is wrong with an event: its headers, or its data for the type that they name.
func (c *Contract) Check(header nats.Header, data []byte) error {
	attributes := make(map[string]any, len(header))
	for name, values := range header {
		if len(values) != 1 {
			return fmt.Errorf("header %s has %d values", name, len(values))
		}
		attributes[name] = values[0]
	}
	if err := c.schemas[Headers].Validate(attributes); err != nil {
		return fmt.Errorf("headers: %w", err)
	}
	kind := header.Get(event.HeaderType)
	name, found := c.types[kind]
	if !found {
		return fmt.Errorf("%s: %w", kind, ErrUnknownType)
	}
	if err := c.CheckData(name, data); err != nil {
		return fmt.Errorf("event %s: %w", header.Get(event.HeaderID), err)
	}
	return nil
}

// CheckData tells what is wrong with a document under the named schema.
func (c *Contract) CheckData(name string, data []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s is not JSON: %w", name, err)
	}
	if err := c.schemas[name].Validate(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
