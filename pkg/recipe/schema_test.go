package recipe_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/galley-engine/galley/pkg/recipe"
)

func TestValidateInput(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
input:
  type: object
  required: [search_query, place]
  additionalProperties: false
  properties:
    search_query: {type: string, minLength: 2, maxLength: 200}
    notify: {type: string, format: email}
    place: {$ref: "#/$defs/place"}
    tags: {type: array, items: {enum: [a, b]}, uniqueItems: true}
    count: {type: integer, minimum: 1}
  $defs: {place: {type: object, required: [city], properties: {city: {type: string}}}}
output: {type: object, required: [leads], properties: {leads: {type: array}}}
steps: [{id: a, uses: state.set, with: {x: "${input.place.city}"}}]`))
	require.NoError(t, err)
	for name, test := range map[string]struct {
		input string
		want  recipe.Violations
	}{
		"good":          {`{"search_query": "dentists", "place": {"city": "Bern"}, "notify": "a@example.com", "tags": ["a"], "count": 3}`, nil},
		"whole float":   {`{"search_query": "dentists", "place": {"city": "Bern"}, "count": 3.0}`, nil},
		"not an object": {`[]`, recipe.Violations{{Path: "", Message: "got array, want object"}}},
		"everything wrong": {
			`{"search_query": "d", "place": {}, "notify": "nobody", "tags": ["a", "c", "a"], "count": 0.5, "a/b": 1}`,
			recipe.Violations{
				{Path: "/a~1b", Message: "is not a known property"},
				{Path: "/count", Message: "got number, want integer"},
				{Path: "/notify", Message: "'nobody' is not valid email: missing @"},
				{Path: "/place/city", Message: "is missing"},
				{Path: "/search_query", Message: "minLength: got 1, want 2"},
				{Path: "/tags", Message: "items at 0 and 2 are equal"},
				{Path: "/tags/1", Message: "value must be one of 'a', 'b'"},
			},
		},
		"nothing": {`{}`, recipe.Violations{{Path: "/place", Message: "is missing"}, {Path: "/search_query", Message: "is missing"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var input any
			require.NoError(t, json.Unmarshal([]byte(test.input), &input))
			err := r.ValidateInput(input)
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			var violations recipe.Violations
			require.ErrorAs(t, err, &violations)
			got, err := json.Marshal(violations)
			require.NoError(t, err)
			want, err := json.Marshal(test.want)
			require.NoError(t, err)
			assert.JSONEq(t, string(want), string(got))
		})
	}
	require.NoError(t, r.ValidateOutput(map[string]any{"leads": []any{}}))
	require.EqualError(t, r.ValidateOutput(map[string]any{"leads": "none"}), "/leads: got string, want array")
}

// TestSchemaCannotExplode tries a schema of 2^40 branches.
func TestSchemaCannotExplode(t *testing.T) {
	t.Parallel()
	var definitions strings.Builder
	for i := range 40 {
		fmt.Fprintf(&definitions, "n%d: {anyOf: [{$ref: '#/$defs/n%d'}, {$ref: '#/$defs/n%d'}]}, ", i, i+1, i+1)
	}
	definitions.WriteString("n40: {type: string}")
	_, err := newCompiler(t).Load(document(
		"input: {$ref: '#/$defs/n0', $defs: {" + definitions.String() + "}}\nsteps: [{id: a, uses: state.set, with: {x: 1}}]"))
	var problems recipe.Problems
	require.ErrorAs(t, err, &problems)
	assert.Equal(t, recipe.CodeInvalidSchema, problems[0].Code)
}

// TestPublishedSchema says that the JSON Schema for editors accepts and refuses the same documents as the parser, as far as a
// JSON Schema can tell.
func TestPublishedSchema(t *testing.T) {
	t.Parallel()
	const path = "../../schemas/json/recipe.schema.json"
	published := jsonschema.NewCompiler()
	published.AssertFormat() // as editors do
	schema, err := published.Compile(path)
	require.NoError(t, err)
	compiler := newCompiler(t)
	agree := func(name string, doc []byte, good bool) {
		_, err := compiler.Load(doc)
		assert.Equal(t, good, err == nil, "the parser on %s: %v", name, err)
		var value any
		require.NoError(t, yaml.Unmarshal(doc, &value))
		err = schema.Validate(value)
		assert.Equal(t, good, err == nil, "the schema on %s: %v", name, err)
	}

	discovery, err := os.ReadFile("../../recipes/discovery.yaml")
	require.NoError(t, err)
	agree("discovery.yaml", discovery, true)

	step := func(fields string) string { return "steps: [{id: a, uses: state.set, with: {x: 1}, " + fields + "}]" }
	call := func(with string) string { return "steps: [{id: a, uses: action.http, with: " + with + "}]" }
	priced := func(step, price string) string { return "steps: [{id: a, uses: " + step + ", price: " + price + "}]" }
	const one = "steps: [{id: a, uses: state.set, with: {x: 1}}]"
	wait := func(uses, with string) string { return "steps: [{id: a, uses: " + uses + ", with: {" + with + "}}]" }
	set := func(id string) string { return "{id: " + id + ", uses: state.set, with: {" + id + ": 1}}" }
	group := func(branches ...string) string { return "{parallel: [" + strings.Join(branches, ", ") + "]}" }
	list := func(steps ...string) string { return "{steps: [" + strings.Join(steps, ", ") + "]}" }
	for _, spec := range []string{
		one,
		"timeout: 1h30m\nmax_credits: 2\nresult: [1, {a: '${state.x}'}]\n" + one,
		"defaults: {timeout: 500ms, retry: {max_attempts: 1}}\n" + one,
		"defaults: {}\ninput: {}\noutput: {}\nresult: ~\n" + one,
		step("if: '${true}'"), step("price: '0.000001'"), step("price: 0.02"), step("price: 0"), step("price: '007'"),
		step("timeout: 1.5h"), step("on_error: continue"), step("checkpoint: true"), step("checkpoint: false"),
		step("retry: {max_attempts: 20, initial: 1ms, max: 1h, multiplier: 1.5, jitter: false, on: [TIMEOUT, RATE_LIMITED, UPSTREAM_5XX, CONNECTION]}"),
		step("retry: {}"), step("retry: {on: []}"),
		call("{url: 'https://example.com', method: POST, query: {a: 1, b: true, c: ~, d: e}, headers: {a: b}, body: [1]}"),
		call("{url: '${input.u}', method: '${input.m}', query: '${input.q}', headers: '${input.h}', body: '${input.b}'}"),
		call("{url: '${input.u}/x', query: {a: '${input.q}'}, headers: {a: '${input.q}'}}"),
		"defaults: {on_error: continue}\n" + one,
		step("foreach: {in: '${input.x}', as: y}"), step("foreach: {in: '${input.x}', as: _Y1, max_items: 1000, max_parallel: 32}"),
		"steps: [" + group(set("a"), set("b")) + "]",
		"steps: [" + set("a") + ", " + group(set("b"), list(set("c"), group(set("d"), list(set("e"))), set("f"))) + ", " + set("g") + "]",
		wait("wait.for", "duration: 1m30s"), wait("wait.for", "duration: '${input.d}'"),
		wait("wait.until", "time: '2026-12-01T08:00:00Z'"), wait("wait.until", "time: '2026-12-01T08:00:00.5+01:00'"), wait("wait.until", "time: '${input.t}'"),
		wait("wait.event", "name: paid, timeout: 5m"), wait("wait.event", "name: 'order-${input.n}', timeout: '${input.t}'"),
		wait("approval", "title: Pay, timeout: 5m"), wait("approval", "title: 'Pay ${input.n}?', timeout: '${input.t}'"),
		wait("recipe.run", "agent: a, recipe: b"), wait("recipe.run", "agent: a, recipe: b, version: 3, input: {x: '${input.x}'}"),
		wait("recipe.run", "agent: '${input.a}', recipe: '${input.r}', version: '${input.v}', input: '${input.i}'"),
		call("{url: '${input.u}', headers: {a: 1, b: true}}"),
		priced("ai.chat, with: {prompt: x}", "1"), priced("ai.chat, with: {prompt: x}", "{per_1k_input_tokens: 0.1, max: 1}"),
		priced("ai.chat, with: {prompt: x}", "{per_1k_input_tokens: '0.1', per_1k_output_tokens: 0, max: '1'}"),
		priced("subscription.charge, with: {units: '${input.n}'}", "{per_unit: '0.01', max: 1}"),
		priced("worker.shout, with: {x: 1}", "{per_unit: 1, per_1k_output_tokens: 1, max: 2}"),
		priced("worker.shout_2, with: {x: '${secrets.y}'}, timeout: 1h, retry: {on: [WORKER_UNAVAILABLE, WORKER_LOST]}", "0"),
		"steps: [{id: a, uses: recipe.run, with: {agent: a, recipe: b}, timeout: 1h, if: '${true}', price: 1, on_error: continue, checkpoint: false}]",
	} {
		agree(spec, document(spec), true)
	}
	for _, spec := range []string{
		"steps: []", "steps: {}", "steps: [{}]", "steps: [1]", "timeout: 1m",
		"colour: red\n" + one, "timeout: 5\n" + one, "timeout: 5 m\n" + one, "max_credits: -1\n" + one, "max_credits: '1e3'\n" + one,
		"input: true\n" + one, "output: []\n" + one, "defaults: {price: 1}\n" + one, "defaults: ~\n" + one,
		step("colour: red"), step("if: true"), step("if: 'yes'"), step("price: 0.0000001"), step("price: '0.0000001'"), step("price: -0.01"),
		step("price: '-0'"), step("price: '1.'"), step("price: '.5'"), step("price: {max: 1}"), step("price: ~"),
		step("timeout: ''"), step("timeout: 1d"), step("timeout: '-1s'"), step("on_error: stop"), step("checkpoint: 1"),
		step("retry: 3"), step("retry: {max_attempts: 0}"), step("retry: {max_attempts: 21}"), step("retry: {max_attempts: 1.5}"),
		step("retry: {multiplier: 0.5}"), step("retry: {on: TIMEOUT}"), step("retry: {on: [OTHER]}"), step("retry: {delay: 1s}"),
		step("foreach: {in: '${input.x}'}"), step("foreach: {as: y}"), step("foreach: ~"), step("foreach: {in: [1], as: y}"),
		step("foreach: {in: '${input.x}', as: index}"), step("foreach: {in: '${input.x}', as: state}"), step("foreach: {in: '${input.x}', as: a-b}"),
		step("foreach: {in: '${input.x}', as: y, max_items: 0}"), step("foreach: {in: '${input.x}', as: y, max_items: 1001}"),
		step("foreach: {in: '${input.x}', as: y, max_parallel: 33}"), step("foreach: {in: '${input.x}', as: y, max_parallel: 1.5}"),
		step("foreach: {in: '${input.x}', as: y, until: 1}"), "defaults: {on_error: stop}\n" + one,
		"steps: [{parallel: []}]", "steps: [{parallel: ~}]", "steps: [" + group(set("a")) + "]", "steps: [" + group(set("a"), list()) + "]",
		"steps: [" + group(set("a"), group(set("b"), set("c"))) + "]", "steps: [" + list(set("a")) + "]", "steps: [" + group(set("a"), "{steps: 1}") + "]",
		"steps: [{parallel: [" + set("a") + ", " + set("b") + "], id: c}]", "steps: [" + group(set("a"), "{id: d, steps: ["+set("b")+"]}") + "]",
		"steps: [" + group(set("a"), list(group(set("b"), list(group(set("c"), set("d")))))) + "]",
		wait("wait.for", ""), wait("wait.for", "duration: 5"), wait("wait.for", "duration: 5 m"), wait("wait.for", "duration: 5m, x: 1"),
		wait("wait.until", "time: tomorrow"), wait("wait.until", "time: '2026-12-01'"), wait("wait.until", "time: 5"),
		wait("wait.event", "name: a b, timeout: 5m"), wait("wait.event", "name: a"), wait("wait.event", "timeout: 5m"),
		wait("approval", "title: '', timeout: 5m"), wait("approval", "title: x"), wait("approval", "title: "+strings.Repeat("x", 201)+", timeout: 5m"),
		wait("recipe.run", "agent: a"), wait("recipe.run", "recipe: a"), wait("recipe.run", "agent: a b, recipe: b"),
		wait("recipe.run", "agent: a, recipe: b, version: 0"), wait("recipe.run", "agent: a, recipe: b, input: 1"), wait("recipe.run", "agent: a, recipe: b, x: 1"),
		"steps: [{id: a, uses: recipe.run, with: {agent: a, recipe: b}, retry: {}}]",
		"steps: [{id: a, uses: wait.for, with: {duration: 5m}, retry: {}}]", "steps: [{id: a, uses: wait.for, with: {duration: 5m}, timeout: 5m}]",
		"steps: [{id: a, uses: approval, with: {title: x, timeout: 5m}, timeout: 5m}]",
		"steps: [{id: a b, uses: state.set, with: {x: 1}}]", "steps: [{id: 1, uses: state.set, with: {x: 1}}]",
		"steps: [{id: -a, uses: state.set, with: {x: 1}}]", "steps: [{uses: state.set, with: {x: 1}}]",
		"steps: [{id: a, with: {x: 1}}]", "steps: [{id: a, uses: state.set}]", "steps: [{id: a, uses: state.set, with: {}}]",
		"steps: [{id: a, uses: state.set, with: 1}]", "steps: [{id: a, uses: ai.think, with: {x: 1}}]", "steps: [{id: a, uses: nothing, with: {x: 1}}]",
		call("{}"), call("{url: 1}"), call("{url: 'ftp://example.com'}"), call("{url: '${input.u}', method: get}"),
		call("{url: '${input.u}', query: [1]}"), call("{url: '${input.u}', query: {a: [1]}}"), call("{url: '${input.u}', headers: {a: [1]}}"),
		call("{url: '${input.u}', colour: red}"),
		priced("state.set, with: {x: 1}", "{per_unit: 1, max: 1}"), priced("action.http, with: {url: '${input.u}'}", "{per_unit: 1, max: 1}"),
		priced("ai.chat, with: {prompt: x}", "{per_unit: 1, max: 1}"), priced("ai.chat, with: {prompt: x}", "{max: 1}"),
		priced("ai.chat, with: {prompt: x}", "{per_1k_input_tokens: 1}"), priced("ai.chat, with: {prompt: x}", "{}"),
		priced("ai.chat, with: {prompt: x}", "{per_1k_input_tokens: -1, max: 1}"),
		priced("ai.chat, with: {prompt: x}", "{per_1k_input_tokens: 0.0000001, max: 1}"), priced("ai.chat, with: {prompt: x}", "[1]"),
		priced("subscription.charge, with: {units: 1}", "1"), "steps: [{id: a, uses: subscription.charge, with: {units: 1}}]",
		priced("subscription.charge, with: {units: 1}", "{per_1k_input_tokens: 1, max: 1}"),
		priced("worker., with: {x: 1}", "0"), priced("worker, with: {x: 1}", "0"), priced("worker.a.b, with: {x: 1}", "0"),
		step("retry: {on: [INTERNAL]}"),
	} {
		agree(spec, document(spec), false)
	}
	good := string(document(one))
	for _, change := range [][2]string{
		{"galley/v1", "galley/v2"},
		{"kind: Recipe", "kind: Meal"},
		{"kind: Recipe\n", ""},
		{"agent: the-hunter, ", ""},
		{"id: discovery", "id: ''"},
		{"id: discovery", "id: discovery, colour: red"},
		{"id: discovery", "id: discovery, description: 1"},
		{"spec:", "specification:"},
	} {
		agree(change[1], []byte(strings.Replace(good, change[0], change[1], 1)), false)
	}
}
