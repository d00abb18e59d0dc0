// Package contract_test keeps the public contract in one piece: the Go structs of schemas, the JSON Schemas, the golden files,
// and docs/events.md say the same.
package contract_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/tests/internal/contract"
	"github.com/galley-engine/galley/tests/internal/repository"
)

// golden is an example message, as it travels over NATS.
type golden struct {
	Subject string            `json:"subject"`
	Headers map[string]string `json:"headers"`
	Data    json.RawMessage   `json:"data"`
}

func (g golden) header() nats.Header {
	header := nats.Header{}
	for name, value := range g.Headers {
		header[name] = []string{value}
	}
	return header
}

// events lists the golden files of events in binary mode, with the schema of their data and the Go struct that decodes it.
func events() map[string]struct {
	schema string
	data   any
} {
	type kind = struct {
		schema string
		data   any
	}
	return map[string]kind{
		"accepted": {contract.Accepted, &event.Request{}},
		"funded":   {contract.Funded, &event.Funding{}},
		"started":  {contract.Checkpoint, &event.Checkpoint{}},
		"step":     {contract.Checkpoint, &event.Checkpoint{}},
		"waiting":  {contract.Checkpoint, &event.Checkpoint{}},
		// The balance does not cover it.
		"waiting_credits": {contract.Checkpoint, &event.Checkpoint{}},
		"completed":       {contract.Response, &event.Response{}},
		"run-request":     {contract.RunRequest, &event.RunRequest{}},
		"rejection":       {contract.Rejection, &event.Rejection{}},
		"activity":        {contract.Activity, &event.Activity{}},
		"low_balance":     {contract.Alert, &event.Alert{}},
		"exhausted":       {contract.Alert, &event.Alert{}},
		"limits":          {contract.Limits, &event.Limits{}},
		"tree_head":       {contract.TreeHead, &event.TreeHead{}},
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := repository.Root()
	require.NoError(t, err)
	return dir
}

func load(t *testing.T) *contract.Contract {
	t.Helper()
	loaded, err := contract.Load()
	require.NoError(t, err)
	return loaded
}

func readGolden(t *testing.T, name string) (text []byte, message golden) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "schemas", "golden", name+".json"))
	require.NoError(t, err)
	decodeStrictly(t, text, &message)
	return text, message
}

func decodeStrictly(t *testing.T, text []byte, target any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(target))
	_, err := decoder.Token()
	require.ErrorIs(t, err, io.EOF)
}

func TestGoldenFilesFitTheSchemas(t *testing.T) {
	t.Parallel()
	loaded := load(t)
	for name := range events() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, message := readGolden(t, name)
			require.NoError(t, loaded.Check(message.header(), message.Data))
		})
	}
}

func TestGoldenFilesSurviveTheGoStructs(t *testing.T) {
	t.Parallel()
	for name, kind := range events() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, message := readGolden(t, name)
			value := reflect.New(reflect.TypeOf(kind.data).Elem()).Interface()
			decodeStrictly(t, message.Data, value)
			again, err := json.Marshal(value)
			require.NoError(t, err)
			require.JSONEq(t, string(message.Data), string(again))
		})
	}
}

func TestEveryGoldenFileIsChecked(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root(t), "schemas", "golden", "*.json"))
	require.NoError(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if _, known := events()[name]; !known {
			require.Equal(t, "run-request-structured", name, "a golden file that no test reads")
		}
	}
	require.Len(t, files, len(events())+1)
}

func TestStructuredRunRequest(t *testing.T) {
	t.Parallel()
	_, message := readGolden(t, "run-request-structured")
	_, binary := readGolden(t, "run-request")
	require.Equal(t, map[string]string{"content-type": "application/cloudevents+json"}, message.Headers)
	var envelope map[string]json.RawMessage
	decodeStrictly(t, message.Data, &envelope)
	require.JSONEq(t, string(binary.Data), string(envelope["data"]), "both modes carry the same request")
	for name := range envelope {
		if name != "data" {
			require.JSONEq(t, `"`+binary.Headers["ce-"+name]+`"`, string(envelope[name]), name)
		}
	}
}

func TestJournalGoldenFilesFollowTheRules(t *testing.T) {
	t.Parallel()
	for _, kind := range []event.Kind{event.Accepted, event.Funded, event.Started, event.Step, event.Waiting, event.Completed} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			_, message := readGolden(t, string(kind))
			execution, last, number, err := subject.ParseExecution(message.Subject)
			require.NoError(t, err)
			require.Equal(t, string(kind), last)
			id := append(strings.Split(message.Headers[event.HeaderID], "/"), "")
			require.Equal(t, []string{execution.ID, last, number}, id[:3])
			require.Equal(t, message.Subject, execution.Event(last, number), "shard and number fit")
			require.Equal(t, kind.Type(), message.Headers[event.HeaderType])
			var body struct {
				Execution string `json:"execution_id"`
			}
			require.NoError(t, json.Unmarshal(message.Data, &body))
			require.Equal(t, execution.ID, body.Execution)
		})
	}
}

// TestSchemasNameTheFieldsOfTheStructs finds a field that was added, renamed or made optional on one side only.
func TestSchemasNameTheFieldsOfTheStructs(t *testing.T) {
	t.Parallel()
	loaded := load(t)
	for name, kind := range events() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareFields(t, kind.schema, loaded.Schema(kind.schema), reflect.TypeOf(kind.data))
		})
	}
	t.Run("error", func(t *testing.T) {
		t.Parallel()
		items := loaded.Schema(contract.Response).Properties["errors"].Items2020
		compareFields(t, "error", items, reflect.TypeFor[problem.Error]())
	})
}

func compareFields(t *testing.T, path string, schema *jsonschema.Schema, of reflect.Type) {
	t.Helper()
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	properties, required := members(schema)
	if of.Kind() == reflect.Slice && itemsOf(schema) != nil {
		compareFields(t, path+"[]", itemsOf(schema), of.Elem())
		return
	}
	if of.Kind() != reflect.Struct || len(properties) == 0 {
		return
	}
	fields := map[string]bool{}
	for _, field := range fieldsOf(of) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields[name] = true
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		property, found := properties[name]
		if !assert.True(t, found, "%s/%s is not in the schema", path, name) {
			continue
		}
		// A producer may leave out what it publishes; what galley itself writes is required unless it may be empty.
		if of != reflect.TypeFor[event.RunRequest]() {
			assert.Equal(t, !optional, slices.Contains(required, name), "%s/%s is required", path, name)
		}
		compareFields(t, path+"/"+name, property, field.Type)
	}
	for name := range properties {
		assert.True(t, fields[name], "%s/%s is not in the struct %s", path, name, of)
	}
}

// fieldsOf lists the fields as JSON has them: one that another field of the same name in Go hides is among them.
func fieldsOf(of reflect.Type) []reflect.StructField {
	var fields []reflect.StructField
	for field := range of.Fields() {
		if field.Anonymous {
			fields = append(fields, fieldsOf(field.Type)...)
		} else {
			fields = append(fields, field)
		}
	}
	return fields
}

// members collects the properties of a schema over its references and conjunctions.
func members(schema *jsonschema.Schema) (properties map[string]*jsonschema.Schema, required []string) {
	properties = map[string]*jsonschema.Schema{}
	for _, part := range parts(schema) {
		maps.Copy(properties, part.Properties)
		required = append(required, part.Required...)
	}
	return properties, required
}

func itemsOf(schema *jsonschema.Schema) *jsonschema.Schema {
	for _, part := range parts(schema) {
		if part.Items2020 != nil {
			return part.Items2020
		}
	}
	return nil
}

func parts(schema *jsonschema.Schema) []*jsonschema.Schema {
	if schema == nil {
		return nil
	}
	all := append([]*jsonschema.Schema{schema}, parts(schema.Ref)...)
	for _, part := range schema.AllOf {
		all = append(all, parts(part)...)
	}
	return all
}

func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	loaded := load(t)
	tests := map[string]struct{ schema, data string }{
		"unknown field of a run request": {contract.RunRequest, `{"agent_id":"a","recipe_id":"r","inputs":{}}`},
		"id with a dot":                  {contract.RunRequest, `{"agent_id":"a.b","recipe_id":"r"}`},
		"id of 65 characters":            {contract.RunRequest, `{"agent_id":"` + strings.Repeat("a", 65) + `","recipe_id":"r"}`},
		"input that is no object":        {contract.RunRequest, `{"agent_id":"a","recipe_id":"r","input_data":[]}`},
		"response without errors":        {contract.Response, `{"status":"success"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Error(t, loaded.CheckData(test.schema, []byte(test.data)))
		})
	}
}

func TestDocumentationShowsTheGoldenFiles(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "events.md"))
	require.NoError(t, err)
	names := []string{"run-request-structured"}
	for name := range events() {
		names = append(names, name)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expected, _ := readGolden(t, name)
			_, after, found := strings.Cut(string(text), "<!-- schemas/golden/"+name+".json -->\n```json\n")
			require.True(t, found, "docs/events.md has no example %s", name)
			shown, _, found := strings.Cut(after, "```")
			require.True(t, found)
			require.Equal(t, string(expected), shown, "docs/events.md shows another %s than schemas/golden", name)
		})
	}
}

// TestDocumentationNamesEverything finds streams, subjects, headers, types and codes that docs/events.md does not mention.
func TestDocumentationNamesEverything(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "events.md"))
	require.NoError(t, err)
	named := []string{
		subject.StreamExecutions, subject.StreamRuns, subject.StreamSignals, subject.StreamDelays, subject.StreamActivity,
		subject.StreamBilling, subject.StreamLimits, subject.StreamDeadLetters, subject.BucketRecipes, subject.BucketSignals,
		subject.Execution{Customer: "<customer>", ID: "<execution>"}.Signal("<name>"),
		subject.Execution{Customer: "<customer>", ID: "<execution>"}.Delay(), subject.Execution{Customer: "<customer>", ID: "<execution>"}.Due(),
		subject.Execution{Customer: "<customer>", ID: "<execution>"}.Notify(),
		subject.RunRequest("<customer>"), subject.RunRejected("<customer>"), subject.Activity("<customer>", "<resource>.<verb>"),
		subject.Billing("<customer>", "<event>"), event.AlertLowBalance.Type(), event.AlertExhausted.Type(),
		subject.Limits("<customer>"), event.TypeLimits, subject.StreamTreeHeads, subject.TreeHead, event.TypeTreeHead,
		subject.DeadLetter("<stream>"), subject.Query("<service>", "<name>"),
		"galley.execution.<shard>.<customer>.<execution>.<event>", "galley.execution.<shard>.<customer>.<execution>.<event>.<number>",
		subject.ExecutionMilestones,
		event.Accepted.Type(), event.Funded.Type(), event.Started.Type(), event.Step.Type(), event.Waiting.Type(), event.Completed.Type(),
	}
	named = append(named, textConstants(t, "Header", "schemas", "event", "event.go")...)
	named = append(named, textConstants(t, "Type", "schemas", "event", "event.go")...)
	named = append(named, textConstants(t, "", "schemas", "problem", "problem.go")...)
	for _, name := range named {
		assert.Contains(t, string(text), "`"+name+"`")
	}
	for _, schema := range load(t).Names() {
		if schema != "common" && schema != "recipe" {
			assert.Contains(t, string(text), "(../schemas/json/"+schema+".schema.json)")
		}
	}
}

// TestDocumentationListsTheActions: the table of docs/events.md has each action once, and no other.
func TestDocumentationListsTheActions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "events.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Activities\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for line := range strings.SplitSeq(section, "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.Contains(cells[1], ".") {
			for action := range strings.SplitSeq(cells[1], ",") {
				listed = append(listed, strings.Trim(action, " `"))
			}
		}
	}
	actions := append(textConstants(t, "Action", "schemas", "event", "action.go"), event.NotePrefix+"<action>")
	require.ElementsMatch(t, actions, listed)
	schema := load(t).Schema(contract.Activity).Properties["action_type"].Pattern
	for _, action := range actions[:len(actions)-1] {
		require.True(t, schema.MatchString(action), action)
	}
}

// textConstants lists the values of the string constants of a Go file whose names have the prefix.
func textConstants(t *testing.T, prefix string, path ...string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(append([]string{root(t)}, path...)...), nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var values []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		for _, expression := range spec.Values {
			literal, ok := expression.(*ast.BasicLit)
			if ok && literal.Kind == token.STRING {
				value, err := strconv.Unquote(literal.Value)
				require.NoError(t, err)
				values = append(values, value)
			}
		}
		return true
	})
	require.NotEmpty(t, values)
	return values
}
