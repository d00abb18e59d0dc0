package recipe_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

// problemsOf loads a document that must not load, and lists its problems as "line:column path CODE".
func problemsOf(tb testing.TB, compiler *recipe.Compiler, doc []byte) []string {
	tb.Helper()
	_, err := compiler.Load(doc)
	var problems recipe.Problems
	require.ErrorAs(tb, err, &problems, "%s", doc)
	list := make([]string, len(problems))
	for i, p := range problems {
		assert.NotEmpty(tb, p.Message)
		list[i] = fmt.Sprintf("%d:%d %s %s", p.Line, p.Column, p.Path, p.Code)
	}
	return list
}

func TestLoad(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load([]byte(`
apiVersion: galley/v1
kind: Recipe
metadata: {agent: the-hunter, id: discovery, description: Find businesses}
spec:
  input: {type: object, properties: {q: {type: string}}}
  output: {type: object}
  timeout: 2m
  concurrency: 5
  on_insufficient_credits: wait
  credit_wait: 1h
  max_credits: "2.00"
  defaults: {timeout: 10s, retry: {max_attempts: 5, initial: 100ms}}
  steps:
    - id: find
      uses: action.http
      with: {url: "https://example.com/search", query: {q: "${input.q}"}}
      price: 0.02
      retry: {max: 1s, on: [TIMEOUT, CONNECTION]}
    - id: keep
      uses: state.set
      with: {found: "${steps.find.output.body}"}
      if: "${steps.find.status == 'success' && vars.wanted}"
      timeout: 1h30m
      on_error: continue
      price: "0.000001"
      checkpoint: true
    - id: last
      uses: state.set
      with: {done: true, greeting: "Hello ${vars.name}"}
  result: {found: "${state.found}"}
`))
	require.NoError(t, err)
	assert.Equal(t, "the-hunter", r.Agent)
	assert.Equal(t, "discovery", r.ID)
	assert.Equal(t, "Find businesses", r.Description)
	assert.Equal(t, 2*time.Minute, r.Timeout)
	assert.Equal(t, 5, r.Concurrency)
	assert.Equal(t, time.Hour, r.CreditWait)
	assert.Equal(t, "0.020001", r.Quote().String())
	assert.Equal(t, []string{"name", "wanted"}, r.VarsUsed)
	require.Len(t, r.Steps, 3)

	find, keep, last := r.Steps[0], r.Steps[1], r.Steps[2]
	assert.Equal(t, recipe.KindHTTP, find.Kind)
	assert.True(t, find.Checkpoint, "it has an effect outside")
	assert.Equal(t, 10*time.Second, find.Timeout)
	assert.Equal(t, recipe.Retry{
		MaxAttempts: 5, Initial: 100 * time.Millisecond, Max: time.Second, Multiplier: 2, Jitter: true,
		On: []problem.Code{problem.Timeout, problem.Connection},
	}, find.Retry)
	assert.True(t, find.Retry.Applies("TIMEOUT"))
	assert.False(t, find.Retry.Applies("UPSTREAM_5XX"))

	assert.Equal(t, 90*time.Minute, keep.Timeout)
	assert.Equal(t, recipe.OnErrorContinue, keep.OnError)
	assert.True(t, keep.Checkpoint, "it was asked for")
	assert.Equal(t, 20*time.Second, keep.Retry.Max)
	assert.True(t, keep.Retry.Applies("UPSTREAM_5XX"))

	assert.Equal(t, recipe.OnErrorFail, last.OnError)
	assert.False(t, last.Checkpoint)
	assert.Zero(t, last.Price)
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document("steps: [{id: a, uses: state.set, with: {x: 1}}]"))
	require.NoError(t, err)
	assert.Equal(t, recipe.DefaultTimeout, r.Timeout)
	assert.Zero(t, r.Concurrency, "no limit")
	assert.Zero(t, r.CreditWait, "it fails at once")
	assert.Equal(t, recipe.DefaultStepTimeout, r.Steps[0].Timeout)
	assert.Equal(t, 3, r.Steps[0].Retry.MaxAttempts)
	assert.Nil(t, r.Result)
	assert.Empty(t, r.VarsUsed)
	assert.NoError(t, r.ValidateInput(map[string]any{"anything": "goes"}))
}

// TestEveryProblemAtOnce says that an author gets the whole list, in the order of the lines, as from a compiler.
func TestEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	_, err := compiler.Load([]byte(`apiVersion: galley/v2
kind: Recipe
metadata: {agent: the hunter, id: discovery, colour: red}
spec:
  input: {type: strange}
  timeout: 5 minutes
  max_credits: "0.01"
  steps:
    - id: find
      uses: action.http
      with: {url: "${vars.url}/${input.", method: FETCH}
      price: "0.0200001"
    - id: find
      uses: action.teleport
      with: {to: "${steps.later.output}"}
      retry: {max_attempts: 0, initial: 5m}
    - id: later
      uses: state.set
      if: maybe
      with: {x: "${inputs.q}", y: "${1 + true}"}
      price: "0.05"
      on_error: shrug
`))
	assert.Equal(t, strings.TrimSpace(`
1:13: /apiVersion: must be galley/v1, not "galley/v2" (INVALID_VALUE)
3:19: /metadata/agent: "the hunter" is not an id: a letter or digit, then up to 63 letters, digits, - and _ (INVALID_ID)
3:46: /metadata/colour: there is no field "colour" here; there are agent, id, description (UNKNOWN_FIELD)
5:17: /spec/input/type: value must be one of 'array', 'boolean', 'integer', 'null', 'number', 'object', 'string' (INVALID_SCHEMA)
5:17: /spec/input/type: got string, want array (INVALID_SCHEMA)
6:12: /spec/timeout: "5 minutes" is not a duration such as 500ms, 30s, 5m or 1h30m (INVALID_DURATION)
7:16: /spec/max_credits: the steps cost up to 0.05 credits, max_credits allows 0.01 (PRICE_ABOVE_MAX)
11:19: /spec/steps/0/with/url: "${" has no matching "}"; write "$${" for a literal "${" (INVALID_TEMPLATE)
11:51: /spec/steps/0/with/method: value must be one of 'GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS' (INVALID_VALUE)
12:14: /spec/steps/0/price: "0.0200001" is not an amount of credits from 0 with at most six decimals (INVALID_PRICE)
13:11: /spec/steps/1/id: there is a step "find" already (DUPLICATE_ID)
14:13: /spec/steps/1/uses: there is no kind "action.teleport"; there are `+kindList(compiler)+` (UNKNOWN_KIND)
15:18: /spec/steps/1/with/to: ${steps.later.output}: the step "later" has not run yet at this place (UNKNOWN_REFERENCE)
16:14: /spec/steps/1/retry: initial (5m0s) is longer than max (20s) (INVALID_VALUE)
16:29: /spec/steps/1/retry/max_attempts: must be from 1 to 20 (INVALID_VALUE)
19:11: /spec/steps/2/if: a condition is one expression, such as "${has(input.notify)}" (INVALID_EXPRESSION)
20:17: /spec/steps/2/with/x: ${inputs.q}: undeclared reference to 'inputs' (did you mean 'input'?) (at character 1) (INVALID_EXPRESSION)
20:35: /spec/steps/2/with/y: ${1 + true}: found no matching overload for '_+_' applied to '(int, bool)' (at character 3) (INVALID_EXPRESSION)
22:17: /spec/steps/2/on_error: must be fail or continue, not "shrug" (INVALID_VALUE)
`), err.Error())
}

func TestProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	step := func(fields string) string { return "steps: [{id: a, uses: state.set, with: {x: 1}, " + fields + "}]" }
	with := func(value string) string { return "steps: [{id: a, uses: state.set, with: {x: '" + value + "'}}]" }
	call := func(with string) string { return "steps: [{id: a, uses: action.http, with: " + with + "}]" }
	for name, test := range map[string]struct {
		spec string
		want []string
	}{
		"no steps":                  {"steps: []", []string{"5:10 /spec/steps INVALID_VALUE"}},
		"short of credits":          {"on_insufficient_credits: hope\n" + step("price: 1"), []string{"5:28 /spec/on_insufficient_credits INVALID_VALUE"}},
		"short of no credits":       {"on_insufficient_credits: 1\n" + step("price: 1"), []string{"5:28 /spec/on_insufficient_credits WRONG_TYPE"}},
		"waits and fails":           {"on_insufficient_credits: fail\ncredit_wait: 1h\n" + step("price: 1"), []string{"6:16 /spec/credit_wait INVALID_VALUE"}},
		"waits for nothing":         {"credit_wait: 1h\n" + step("price: 1"), []string{"5:16 /spec/credit_wait INVALID_VALUE"}},
		"no duration to wait":       {"on_insufficient_credits: wait\ncredit_wait: soon\n" + step("price: 1"), []string{"6:16 /spec/credit_wait INVALID_DURATION"}},
		"waits beyond the deadline": {"on_insufficient_credits: wait\ncredit_wait: 24h\n" + step("price: 1"), []string{"6:16 /spec/credit_wait INVALID_DURATION"}},
		"no time to wait":           {"timeout: 24h\non_insufficient_credits: wait\n" + step("price: 1"), []string{"6:28 /spec/on_insufficient_credits INVALID_VALUE"}},
		"concurrency of nothing":    {"concurrency: 0\nsteps: [{id: a, uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/concurrency INVALID_VALUE"}},
		"concurrency too high":      {"concurrency: 1001\nsteps: [{id: a, uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/concurrency INVALID_VALUE"}},
		"concurrency in parts":      {"concurrency: 1.5\nsteps: [{id: a, uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/concurrency INVALID_VALUE"}},
		"steps missing":             {"timeout: 1m", []string{"5:3 /spec/steps MISSING_FIELD"}},
		"steps of another type":     {"steps: {a: 1}", []string{"5:10 /spec/steps WRONG_TYPE"}},
		"a step of another type":    {"steps: [1]", []string{"5:11 /spec/steps/0 WRONG_TYPE"}},
		"empty step": {"steps: [{}]", []string{
			"5:11 /spec/steps/0/id MISSING_FIELD", "5:11 /spec/steps/0/uses MISSING_FIELD", "5:11 /spec/steps/0/with MISSING_FIELD",
		}},
		"id with a dot":        {"steps: [{id: a.b, uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/steps/0/id INVALID_ID"}},
		"id with a wildcard":   {"steps: [{id: '*', uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/steps/0/id INVALID_ID"}},
		"id in another script": {"steps: [{id: größe, uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/steps/0/id INVALID_ID"}},
		"id is a number":       {"steps: [{id: 7, uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/steps/0/id WRONG_TYPE"}},
		"id too long":          {"steps: [{id: " + strings.Repeat("a", 65) + ", uses: state.set, with: {x: 1}}]", []string{"5:16 /spec/steps/0/id INVALID_ID"}},
		"worker without name":  {"steps: [{id: a, uses: worker., with: {x: 1}}]", []string{"5:25 /spec/steps/0/uses UNKNOWN_KIND"}},
		"worker as such":       {"steps: [{id: a, uses: worker, with: {x: 1}}]", []string{"5:25 /spec/steps/0/uses UNKNOWN_KIND"}},
		"no worker":            {"steps: [{id: a, uses: worker., with: {x: 1}}]", []string{"5:25 /spec/steps/0/uses UNKNOWN_KIND"}},
		"reference to a step that cannot be looked into": {
			"steps: [a, {id: b, uses: state.set, with: {x: '${steps.a.output}', y: '${state.z}'}}]",
			[]string{"5:11 /spec/steps/0 WRONG_TYPE"},
		},
		"duration without a unit":   {step("timeout: '30'"), []string{"5:59 /spec/steps/0/timeout INVALID_DURATION"}},
		"duration is a number":      {step("timeout: 30"), []string{"5:59 /spec/steps/0/timeout WRONG_TYPE"}},
		"duration of nothing":       {step("timeout: 0s"), []string{"5:59 /spec/steps/0/timeout INVALID_DURATION"}},
		"negative duration":         {step("timeout: -1s"), []string{"5:59 /spec/steps/0/timeout INVALID_DURATION"}},
		"endless duration":          {step("timeout: 25h"), []string{"5:59 /spec/steps/0/timeout INVALID_DURATION"}},
		"duration that overflows":   {step("timeout: 99999999999999h"), []string{"5:59 /spec/steps/0/timeout INVALID_DURATION"}},
		"negative price":            {step("price: '-0.01'"), []string{"5:57 /spec/steps/0/price INVALID_PRICE"}},
		"price with an exponent":    {step("price: 1e-7"), []string{"5:57 /spec/steps/0/price INVALID_PRICE"}},
		"price in words":            {step("price: free"), []string{"5:57 /spec/steps/0/price INVALID_PRICE"}},
		"price of too many places":  {step("price: 0.0000001"), []string{"5:57 /spec/steps/0/price INVALID_PRICE"}},
		"price beyond all measure":  {step("price: 1000000001"), []string{"5:57 /spec/steps/0/price INVALID_PRICE"}},
		"price that overflows":      {step("price: '99999999999999999999'"), []string{"5:57 /spec/steps/0/price INVALID_PRICE"}},
		"price is a list":           {step("price: []"), []string{"5:57 /spec/steps/0/price WRONG_TYPE"}},
		"metered price":             {step("price: {per_call: 1, max: 2}"), []string{"5:57 /spec/steps/0/price INVALID_PRICE"}},
		"checkpoint in words":       {step("checkpoint: 'yes'"), []string{"5:62 /spec/steps/0/checkpoint WRONG_TYPE"}},
		"half an attempt":           {step("retry: {max_attempts: 1.5}"), []string{"5:72 /spec/steps/0/retry/max_attempts INVALID_VALUE"}},
		"retry on anything":         {step("retry: {on: [EVERYTHING]}"), []string{"5:63 /spec/steps/0/retry/on/0 INVALID_VALUE"}},
		"retry with unknown field":  {step("retry: {backoff: 1}"), []string{"5:58 /spec/steps/0/retry/backoff UNKNOWN_FIELD"}},
		"nothing to set":            {"steps: [{id: a, uses: state.set, with: {}}]", []string{"5:42 /spec/steps/0/with INVALID_VALUE"}},
		"url missing":               {call("{}"), []string{"5:44 /spec/steps/0/with/url MISSING_FIELD"}},
		"url to a file":             {call("{url: 'file:///etc/passwd'}"), []string{"5:50 /spec/steps/0/with/url INVALID_VALUE"}},
		"unknown field of with":     {call("{url: '${input.u}', verb: GET}"), []string{"5:70 /spec/steps/0/with/verb UNKNOWN_FIELD"}},
		"header is a list":          {call("{url: '${input.u}', headers: {a: [1]}}"), []string{"5:77 /spec/steps/0/with/headers/a INVALID_VALUE"}},
		"with of another type":      {call("'${input.u}'"), []string{"5:44 /spec/steps/0/with WRONG_TYPE"}},
		"syntax of CEL":             {with("${1 +}"), []string{"5:46 /spec/steps/0/with/x INVALID_EXPRESSION"}},
		"empty expression":          {with("${}"), []string{"5:46 /spec/steps/0/with/x INVALID_EXPRESSION"}},
		"unknown function":          {with("${shell(1)}"), []string{"5:46 /spec/steps/0/with/x INVALID_EXPRESSION"}},
		"unknown step":              {with("${steps.b.output}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"its own step":              {with("${steps.a.output}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"all steps":                 {with("${steps}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"a step by a computed name": {with("${steps[input.x].output}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"all vars":                  {with("${vars}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"a var by a computed name":  {with("${vars[input.x]}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"secrets":                   {with("${secrets.key}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"unknown part of execution": {with("${execution.owner}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"state nobody writes":       {with("${state.y}"), []string{"5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"}},
		"a loop variable that hides": {with("${[1].map(state, state)}"), []string{
			"5:46 /spec/steps/0/with/x INVALID_EXPRESSION",
		}},
		"a pattern that does not compile": {with(`${"a".matches("(")}`), []string{"5:46 /spec/steps/0/with/x INVALID_EXPRESSION"}},
		"a condition that is a number":    {step("if: '${1}'"), []string{"5:54 /spec/steps/0/if INVALID_EXPRESSION"}},
		"a condition with text around":    {step("if: ' ${true}'"), []string{"5:54 /spec/steps/0/if INVALID_EXPRESSION"}},
		"a property the input does not have": {
			"input: {type: object, properties: {q: true}}\nsteps: [{id: a, uses: state.set, with: {x: '${input.querry}'}}]",
			[]string{"6:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"},
		},
		"result": {with("1") + "\nresult: ['${state.x}', '${state.y}']", []string{"6:26 /spec/result/1 UNKNOWN_REFERENCE"}},
		"remote schema": {
			"input: {$ref: 'https://example.com/schema.json'}\n" + with("1"), []string{"5:10 /spec/input INVALID_SCHEMA"},
		},
		"schema in a file":          {"output: {$ref: 'file:///etc/passwd'}\n" + with("1"), []string{"5:11 /spec/output INVALID_SCHEMA"}},
		"schema next door":          {"output: {$ref: '/etc/passwd'}\n" + with("1"), []string{"5:11 /spec/output INVALID_SCHEMA"}},
		"schema that is not there":  {"output: {$ref: '#/nowhere'}\n" + with("1"), []string{"5:11 /spec/output INVALID_SCHEMA"}},
		"schema of old":             {"input: {$schema: 'http://json-schema.org/draft-07/schema#'}\n" + with("1"), []string{"5:10 /spec/input INVALID_SCHEMA"}},
		"recursive schema":          {"input: {properties: {a: {$ref: '#'}}}\n" + with("1"), []string{"5:10 /spec/input INVALID_SCHEMA"}},
		"schema with a bad pattern": {"input: {properties: {a: {pattern: '('}}}\n" + with("1"), []string{"5:37 /spec/input/properties/a/pattern INVALID_SCHEMA"}},
		"schema of another type":    {"input: true\n" + with("1"), []string{"5:10 /spec/input WRONG_TYPE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, problemsOf(t, compiler, document(test.spec)))
		})
	}
}

func TestSyntaxProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	steps := "steps: [{id: a, uses: state.set, with: {x: 1}}]"
	deepJSON := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	for name, test := range map[string]struct {
		doc  string
		want []string
	}{
		"empty":           {"", []string{"1:1  SYNTAX"}},
		"only a comment":  {"# nothing\n", []string{"1:1  SYNTAX"}},
		"a list":          {"[1]", []string{"1:1  WRONG_TYPE"}},
		"a text":          {"hello", []string{"1:1  WRONG_TYPE"}},
		"null":            {"~", []string{"1:1  WRONG_TYPE"}},
		"broken YAML":     {"a: b: c", []string{"1:1  SYNTAX"}},
		"broken JSON":     {`{"apiVersion": "galley/v1",, }`, []string{"1:1  SYNTAX"}},
		"not UTF-8":       {"a: \xff", []string{"1:1  SYNTAX"}},
		"two documents":   {string(document(steps)) + "---\na: 1\n", []string{"6:1  SYNTAX"}},
		"too large":       {string(document(steps)) + strings.Repeat("# filler\n", recipe.MaxDocumentBytes/9), []string{"1:1  LIMIT_EXCEEDED"}},
		"an alias":        {string(document("input: &a {type: object}\noutput: *a\n" + steps)), []string{"5:10 /spec/input SYNTAX", "6:11 /spec/output SYNTAX"}},
		"a merge":         {string(document("<<: {timeout: 1m}\n" + steps)), []string{"5:3 /spec SYNTAX"}},
		"a tag":           {string(document("timeout: !shell '1m'\n" + steps)), []string{"5:12 /spec/timeout SYNTAX"}},
		"a binary":        {string(document("timeout: !!binary aGVsbG8=\n" + steps)), []string{"5:12 /spec/timeout SYNTAX"}},
		"a set":           {string(document("input: !!set {a}\n" + steps)), []string{"5:10 /spec/input SYNTAX"}},
		"a number as key": {string(document("result: {1: a}\n" + steps)), []string{"5:12 /spec/result SYNTAX"}},
		"a list as key":   {string(document("result: {[1]: a}\n" + steps)), []string{"5:12 /spec/result SYNTAX"}},
		"infinity":        {string(document("result: .inf\n" + steps)), []string{"5:11 /spec/result INVALID_VALUE"}},
		"a large number":  {string(document("result: 9007199254740993\n" + steps)), []string{"5:11 /spec/result INVALID_VALUE"}},
		"a NUL":           {string(document(`result: "a\0b"` + "\n" + steps)), []string{"5:11 /spec/result INVALID_VALUE"}},
		"a NUL in a key":  {string(document(`result: {"a\0b": 1}` + "\n" + steps)), []string{"5:12 /spec/result INVALID_VALUE"}},
		"twice in YAML":   {string(document("timeout: 1m\ntimeout: 2m\n" + steps)), []string{"6:3 /spec/timeout DUPLICATE_KEY"}},
		"twice in JSON":   {"{\"apiVersion\": \"galley/v1\",\n \"apiVersion\": \"galley/v1\", \"kind\": \"Recipe\", \"metadata\": {\"agent\": \"a\", \"id\": \"b\"},\n \"spec\": {\"steps\": [{\"id\": \"a\", \"uses\": \"state.set\", \"with\": {\"x\": 1, \"x\": 2}}]}}", []string{"2:2 /apiVersion DUPLICATE_KEY", "3:71 /spec/steps/0/with/x DUPLICATE_KEY"}},
		"too deep in JSON": {deepJSON, []string{
			"1:1 /apiVersion MISSING_FIELD", "1:1 /kind MISSING_FIELD", "1:1 /metadata MISSING_FIELD", "1:1 /spec MISSING_FIELD",
			"1:2 /a UNKNOWN_FIELD", "1:326 " + strings.Repeat("/a", 65) + " LIMIT_EXCEEDED",
		}},
		"too deep in YAML": {string(document("result: " + strings.Repeat("[", 70) + strings.Repeat("]", 70) + "\n" + steps)), []string{
			"5:74 /spec/result" + strings.Repeat("/0", 63) + " LIMIT_EXCEEDED",
		}},
		"far too deep": {strings.Repeat("[", 20_000), []string{"1:1  SYNTAX"}},
		"too many steps": {string(document("steps:\n" + strings.Repeat("- {id: a, uses: state.set, with: {x: 1}}\n", 101))), []string{
			"6:3 /spec/steps LIMIT_EXCEEDED",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, problemsOf(t, compiler, []byte(test.doc)))
		})
	}
}

// TestProblemsAreBounded says that a document cannot come back many times over in its problems.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("k", 100_000)
	doc := "metadata: {" + key + ": {" + key + ": .inf}}\n" + "spec: {steps: [" + strings.Repeat("{id: 1, x: 2}, ", 99) + "]}\n"
	_, err := newCompiler(t).Load([]byte(doc))
	var problems recipe.Problems
	require.ErrorAs(t, err, &problems)
	assert.LessOrEqual(t, len(problems), recipe.MaxProblems)
	assert.Less(t, len(problems.Error()), 200_000)
}

// TestJSONAndYAML says that the two are the same document, also where YAML libraries fail on what JSON writers write.
func TestJSONAndYAML(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	fromYAML, err := compiler.Load([]byte(`
# A comment.
kind: Recipe
apiVersion: galley/v1
metadata: {id: discovery, agent: the-hunter, description: "Grüße 😀"}
spec:
  result: {yes: no, number: 1.50, on: ~, text: 2026-01-01, list: [1, two]}
  steps:
    - {uses: state.set, id: a, with: {x: "<&>"}, price: 0.50}
`))
	require.NoError(t, err)
	fromJSON, err := compiler.Load([]byte(`{"apiVersion": "galley\/v1", "kind": "Recipe",
		"metadata": {"agent": "the-hunter", "id": "discovery", "description": "Gr\u00fc\u00dfe \ud83d\ude00"},
		"spec": {"steps": [{"id": "a", "uses": "state.set", "with": {"x": "<&>"}, "price": 0.5}],
			"result": {"yes": "no", "number": 1.5e0, "on": null, "text": "2026-01-01", "list": [1, "two"]}}}`))
	require.NoError(t, err)
	assert.Equal(t, string(fromYAML.Canonical()), string(fromJSON.Canonical()))
	assert.Equal(t, `{"apiVersion":"galley/v1","kind":"Recipe","metadata":{"agent":"the-hunter","description":"Grüße 😀","id":"discovery"},`+
		`"spec":{"result":{"list":[1,"two"],"number":1.5,"on":null,"text":"2026-01-01","yes":"no"},`+
		`"steps":[{"id":"a","price":0.5,"uses":"state.set","with":{"x":"<&>"}}]}}`, string(fromJSON.Canonical()))
	assert.True(t, json.Valid(fromJSON.Canonical()))

	again, err := compiler.Load(fromJSON.Canonical())
	require.NoError(t, err)
	assert.Equal(t, string(fromJSON.Canonical()), string(again.Canonical()))
}

func TestLongDescription(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(string(document("steps: [{id: a, uses: state.set, with: {x: 1}}]")),
		"id: discovery", "id: discovery, description: "+strings.Repeat("ü", 2001), 1)
	assert.Equal(t, []string{"3:59 /metadata/description LIMIT_EXCEEDED"}, problemsOf(t, newCompiler(t), []byte(doc)))
}
