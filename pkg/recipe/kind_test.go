package recipe_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

func TestWaits(t *testing.T) {
	t.Parallel()
	r, err := newCompiler(t).Load(document(`
timeout: 24h
defaults: {timeout: 5s, retry: {max_attempts: 9}, on_error: continue}
steps:
  - {id: pause, uses: wait.for, with: {duration: 1h30m}}
  - {id: morning, uses: wait.until, with: {time: 2026-12-01T08:00:00+01:00}}
  - {id: paid, uses: wait.event, with: {name: payment, timeout: 24h}, on_error: fail}
  - {id: ask, uses: approval, if: "${steps.paid.output.amount > 100}", with: {title: "Pay ${steps.paid.output.amount}?", timeout: "${input.patience}"}}
  - {id: sub, uses: recipe.run, with: {agent: the-hunter, recipe: rank, version: 2, input: {q: "${input.q}"}}}
  - {id: subs, foreach: {in: "${input.list}", as: one}, uses: recipe.run, with: {agent: a, recipe: "${one.recipe}", input: "${one}"}, timeout: 1h}
  - {id: call, uses: action.http, with: {url: "https://example.com"}}`))
	require.NoError(t, err)
	for i, want := range []struct {
		kind    recipe.Kind
		timeout time.Duration
	}{
		{recipe.KindWaitFor, recipe.MaxTimeout},
		{recipe.KindWaitUntil, recipe.MaxTimeout},
		{recipe.KindWaitEvent, recipe.MaxTimeout},
		{recipe.KindApproval, recipe.MaxTimeout},
		{recipe.KindRecipeRun, recipe.MaxTimeout},
		{recipe.KindRecipeRun, time.Hour},
	} {
		step := r.Steps[i]
		assert.Equal(t, want.kind, step.Kind)
		assert.True(t, step.Waits())
		assert.False(t, step.Effect())
		assert.True(t, step.Checkpoint, step.ID)
		assert.Equal(t, 1, step.Retry.MaxAttempts, "%s is not tried again, whatever the defaults are", step.ID)
		assert.Equal(t, want.timeout, step.Timeout, step.ID)
	}
	assert.Equal(t, recipe.OnErrorContinue, r.Steps[0].OnError)
	assert.Equal(t, recipe.OnErrorFail, r.Steps[2].OnError)
	call := r.Steps[6]
	assert.False(t, call.Waits())
	assert.Equal(t, 5*time.Second, call.Timeout)
	assert.Equal(t, 9, call.Retry.MaxAttempts)
}

func TestKindProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	for name, test := range map[string]struct {
		step string
		want []string
	}{
		"wait.for without":       {"wait.for, with: {}", []string{"5:41 with/duration MISSING_FIELD"}},
		"wait.for a number":      {"wait.for, with: {duration: 5}", []string{"5:52 with/duration INVALID_VALUE"}},
		"wait.for nothing":       {"wait.for, with: {duration: 0s}", []string{"5:52 with/duration INVALID_DURATION"}},
		"wait.for in words":      {"wait.for, with: {duration: an hour}", []string{"5:52 with/duration INVALID_DURATION"}},
		"wait.for two days":      {"wait.for, with: {duration: 48h}", []string{"5:52 with/duration INVALID_DURATION"}},
		"wait.for too long here": {"wait.for, with: {duration: 6m}", []string{"5:52 with/duration INVALID_DURATION"}},
		"wait.for with more":     {"wait.for, with: {duration: 5m, until: x}", []string{"5:63 with/until UNKNOWN_FIELD"}},
		"wait.for with retry":    {"wait.for, with: {duration: 5m}, retry: {max_attempts: 2}", []string{"5:64 retry UNKNOWN_FIELD"}},
		"wait.for with timeout":  {"wait.for, with: {duration: 5m}, timeout: 1m", []string{"5:66 timeout UNKNOWN_FIELD"}},
		"wait.until a day":       {"wait.until, with: {time: 2026-12-01}", []string{"5:50 with/time INVALID_VALUE"}},
		"wait.until in words":    {"wait.until, with: {time: tomorrow}", []string{"5:50 with/time INVALID_VALUE"}},
		"wait.event without": {"wait.event, with: {}", []string{
			"5:43 with/name MISSING_FIELD", "5:43 with/timeout MISSING_FIELD",
		}},
		"wait.event by no name":      {"wait.event, with: {name: a.b, timeout: 5m}", []string{"5:50 with/name INVALID_ID"}},
		"wait.event too long":        {"wait.event, with: {name: a, timeout: 25h}", []string{"5:62 with/timeout INVALID_DURATION"}},
		"wait.event with timeout":    {"wait.event, with: {name: a, timeout: 5m}, timeout: 5m", []string{"5:76 timeout UNKNOWN_FIELD"}},
		"approval without":           {"approval, with: {timeout: 5m}", []string{"5:41 with/title MISSING_FIELD"}},
		"approval of nothing":        {"approval, with: {title: '', timeout: 5m}", []string{"5:49 with/title INVALID_VALUE"}},
		"approval of a book":         {"approval, with: {title: " + strings.Repeat("a", 201) + ", timeout: 5m}", []string{"5:49 with/title INVALID_VALUE"}},
		"approval too long here":     {"approval, with: {title: x, timeout: 1h}", []string{"5:61 with/timeout INVALID_DURATION"}},
		"approval with retry":        {"approval, with: {title: x, timeout: 5m}, retry: {}", []string{"5:73 retry UNKNOWN_FIELD"}},
		"recipe.run without":         {"recipe.run, with: {}", []string{"5:43 with/agent MISSING_FIELD", "5:43 with/recipe MISSING_FIELD"}},
		"recipe.run of no id":        {"recipe.run, with: {agent: a b, recipe: c.d}", []string{"5:51 with/agent INVALID_ID", "5:64 with/recipe INVALID_ID"}},
		"recipe.run of no version":   {"recipe.run, with: {agent: a, recipe: b, version: 0}", []string{"5:74 with/version INVALID_VALUE"}},
		"recipe.run of half":         {"recipe.run, with: {agent: a, recipe: b, version: 1.5}", []string{"5:74 with/version INVALID_VALUE"}},
		"recipe.run with other data": {"recipe.run, with: {agent: a, recipe: b, input: [1]}", []string{"5:72 with/input INVALID_VALUE"}},
		"recipe.run with retry":      {"recipe.run, with: {agent: a, recipe: b}, retry: {}", []string{"5:73 retry UNKNOWN_FIELD"}},
		"recipe.run too long":        {"recipe.run, with: {agent: a, recipe: b}, timeout: 25h", []string{"5:75 timeout INVALID_DURATION"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := problemsOf(t, compiler, document("steps: [{id: a, uses: "+test.step+"}]"))
			for i := range got {
				got[i] = strings.Replace(got[i], "/spec/steps/0/", "", 1)
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestKindMessages(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	_, err := compiler.Load(document(`
steps:
  - {id: a, uses: wait.for, with: {duration: 1h}, timeout: 5m}
  - {id: b, uses: approval, with: {title: Go, timeout: 1m}, timeout: 5m}
  - {id: c, uses: recipe.run, with: {agent: a, recipe: b}, retry: {max_attempts: 3}}
  - {id: d, uses: ai.think, with: {}}`))
	require.Error(t, err)
	assert.Equal(t, strings.TrimSpace(`
6:48: /spec/steps/0/with/duration: the whole recipe may take only 5m0s: raise timeout under spec to wait for 1h0m0s (INVALID_DURATION)
6:62: /spec/steps/0/timeout: how long wait.for waits is said inside with: remove timeout (UNKNOWN_FIELD)
7:72: /spec/steps/1/timeout: how long approval waits is said by timeout inside with (UNKNOWN_FIELD)
8:69: /spec/steps/2/retry: recipe.run is not tried again: remove retry (UNKNOWN_FIELD)
9:21: /spec/steps/3/uses: there is no kind "ai.think"; there are `)+" "+kindList(compiler)+" (UNKNOWN_KIND)", err.Error())
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, "30s": 30 * time.Second, "1.5h": 90 * time.Minute, "1h30m": 90 * time.Minute, "24h": 24 * time.Hour,
	} {
		got, err := recipe.ParseDuration(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "0", "0s", "-1s", "+1s", "1", "1d", "5 m", "1us", ".5s", "24h1ms", "99999999999999h", strings.Repeat("9", 1000)} {
		_, err := recipe.ParseDuration(text)
		require.Error(t, err, text)
		assert.Less(t, len(err.Error()), 150)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	r, err := compiler.Load(document(`
steps:
  - id: call
    uses: action.http
    with:
      url: "https://example.com"
      headers: {authorization: "Bearer ${secrets.api_key}", x: "${secrets['Other1'] + secrets.?third.orValue('')}"}
      query: {number: "${int(secrets.api_key)}"}
  - {id: none, uses: action.http, with: {url: "https://example.com"}}
  - {id: each, foreach: {in: "${[1]}", as: i}, uses: action.http, with: {url: "https://example.com/${i}", body: "${secrets.api_key}"}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"Other1", "api_key", "third"}, r.Steps[0].SecretsUsed)
	assert.Empty(t, r.Steps[1].SecretsUsed)
	assert.Equal(t, []string{"api_key"}, r.Steps[2].SecretsUsed)

	scope := &recipe.Scope{Secrets: map[string]any{"api_key": "12", "Other1": "b", "third": "c"}}
	with, err := r.Steps[0].With.Eval(t.Context(), scope)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"authorization": "Bearer 12", "x": "bc"}, field(t, with, "headers"))

	// CEL names the value that it cannot turn into a number.
	scope.Secrets["api_key"] = "sk-hidden"
	_, err = r.Steps[0].With.Eval(t.Context(), scope)
	var failed *recipe.EvalError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, problem.ExpressionError, failed.Code)
	assert.NotContains(t, failed.Error(), "hidden")
}

func TestSecretProblems(t *testing.T) {
	t.Parallel()
	compiler := newCompiler(t)
	call := func(url string) string { return "{id: a, uses: action.http, with: {url: \"" + url + "\"}}" }
	const here = "5:50 /spec/steps/0/with/url UNKNOWN_REFERENCE"
	for _, test := range []struct{ spec, want string }{
		{call("${secrets}"), here},
		{call("${secrets[input.x]}"), here},
		{call("${[secrets].map(s, s.x)[0]}"), here},
		{call("${secrets['a-b']}"), here},
		{call("${secrets['1a']}"), here},
		{call("${secrets['']}"), here},
		{call("${secrets._a}"), here},
		{call("${secrets.a" + strings.Repeat("b", 64) + "}"), here},
		{call("${secrets.map(k, k)[0]}"), here},
		{"{id: a, uses: action.http, if: \"${secrets.x == 'y'}\", with: {url: \"https://a.b\"}}", "5:42 /spec/steps/0/if UNKNOWN_REFERENCE"},
		{"{id: a, uses: action.http, foreach: {in: \"${secrets.x}\", as: s}, with: {url: \"https://a.b\"}}", "5:52 /spec/steps/0/foreach/in UNKNOWN_REFERENCE"},
		{"{id: a, uses: state.set, with: {x: \"${secrets.x}\"}}", "5:46 /spec/steps/0/with/x UNKNOWN_REFERENCE"},
		{"{id: a, uses: recipe.run, with: {agent: a, recipe: b, input: {x: \"${secrets.x}\"}}}", "5:76 /spec/steps/0/with/input/x UNKNOWN_REFERENCE"},
		{"{id: a, uses: wait.for, with: {duration: \"${secrets.x}\"}}", "5:52 /spec/steps/0/with/duration UNKNOWN_REFERENCE"},
		{"{id: a, uses: ai.think, with: {key: \"${secrets.x}\"}}", "5:25 /spec/steps/0/uses UNKNOWN_KIND"},
	} {
		assert.Equal(t, []string{test.want}, problemsOf(t, compiler, document("steps: ["+test.spec+"]")), test.spec)
	}
	assert.Equal(t, []string{"6:15 /spec/result/x UNKNOWN_REFERENCE"},
		problemsOf(t, compiler, document("steps: ["+call("https://a.b")+"]\nresult: {x: \"${secrets.x}\"}")))
}
