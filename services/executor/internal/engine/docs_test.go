package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/executor/internal/component"
	"github.com/galley-engine/galley/services/executor/internal/component/state"
	"github.com/galley-engine/galley/services/executor/internal/engine"
)

// TestRecipesOfTheDocsRun runs every recipe of docs/recipes.md to its end. Package recipe tests what the page says of loading.
func TestRecipesOfTheDocsRun(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ input, data string }{
		"hello":       {`{"name": "Ada"}`, `{"greeting": "Hello Ada"}`},
		"expressions": {`{"prices": [5, 20]}`, `{"low": [5], "total": 21.6, "label": "2 prices in EUR", "literal": "${not.an.expression}"}`},
		"shapes":      {`{"name": "Ada"}`, `{"letters": 3, "text": "Hello Ada"}`},
		"search":      {`{"query": "dentists"}`, `{"first": {"id": 1, "name": "one"}}`},
		"notify":      {`{}`, `{"told": false}`},
		"patience":    {`{}`, `{"found": {"results": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}], "id": 7}, "ratings": [1, 2]}`},
		"defaults":    {`{}`, `{"status": 200, "headers": {}, "body": {}}`},
		"details":     {`{}`, `{"details": [{"place": "1"}, {"place": "2"}], "complete": true}`},
		"both": {
			`{"place": "Rome"}`, `{"place": "Rome", "cheap": [{"price": 80, "rating": 3}], "best": {"price": 200, "rating": 5},
			 "trip": {"weather": "success", "choice": 1}}`,
		},
		"later":    {`{"not_before": "2020-01-01T00:00:00Z"}`, `{"status": 200, "headers": {}, "body": {"order": 7}}`},
		"order":    {`{}`, `{"paid": true}`},
		"refund":   {`{"amount": 250}`, `{"paid": true, "by": "user:u1"}`},
		"campaign": {`{"place": "Rome"}`, `{"leads": ["a", "a"]}`},
		"careful":  {`{}`, `{"status": 200, "headers": {}, "body": {"results": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}], "id": 7}}`},
		"patient":  {`{}`, `{"status": 200, "headers": {}, "body": {"results": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}], "id": 7}}`},
		"sign-in":  {`{}`, `{"status": 200, "headers": {}, "body": {"results": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}], "id": 7}}`},
		"summary":  {`{"text": "A long story"}`, `{"summary": "A story"}`},
		"keep":     {`{"list": [{"rating": 1}, {"rating": 2}]}`, `{"ranked": [{"rating": 2}, {"rating": 1}]}`},
	}
	page, err := os.ReadFile("../../../../docs/recipes.md")
	require.NoError(t, err)
	compiler, err := recipe.NewCompiler()
	require.NoError(t, err)
	found := map[string]bool{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(block[1], "kind: Recipe") {
			continue
		}
		compiled, err := compiler.Load([]byte(block[1]))
		require.NoError(t, err)
		test, known := tests[compiled.ID]
		require.True(t, known, "what recipe %s gives is not known here", compiled.ID)
		found[compiled.ID] = true
		t.Run(compiled.ID, func(t *testing.T) {
			t.Parallel()
			var input map[string]any
			require.NoError(t, json.Unmarshal([]byte(test.input), &input))
			require.NoError(t, compiled.ValidateInput(input))
			response := toTheEnd(t, compiled, input)
			assert.Equal(t, event.StatusSuccess, response.Status, "%v", response.Errors)
			assert.JSONEq(t, test.data, string(response.Data))
		})
	}
	assert.Len(t, found, len(tests))
}

// internet answers the calls of the page.
func internet(_ context.Context, c *component.Call) (component.Result, error) {
	with, _ := c.With.(map[string]any)
	url, _ := with["url"].(string)
	var body any = map[string]any{}
	for _, site := range []struct{ part, answer string }{
		{"/search", `{"results": [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}], "id": 7}`},
		{"ratings", `[1, 2]`},
		{"/places/1", `{"place": "1"}`},
		{"/places/2", `{"place": "2"}`},
		{"hotels", `[{"price": 80, "rating": 3}, {"price": 200, "rating": 5}]`},
		{"/orders/7", `{"order": 7}`},
		{"/orders", `{"id": 7}`},
	} {
		if strings.Contains(url, site.part) {
			if err := json.Unmarshal([]byte(site.answer), &body); err != nil {
				return component.Result{}, err
			}
			break
		}
	}
	return component.Result{Output: map[string]any{"status": 200.0, "headers": map[string]any{}, "body": body}}, nil
}

// model answers the prompts of the page.
func model(context.Context, *component.Call) (component.Result, error) {
	return component.Result{Output: map[string]any{"text": "A story"}, Usage: &event.Usage{InputTokens: 12, OutputTokens: 3}}, nil
}

func toTheEnd(t *testing.T, compiled *recipe.Recipe, input map[string]any) event.Response {
	t.Helper()
	w := &world{
		signals: map[string]string{
			"event/payment": `{"amount": 100}`,
			"approval/ask":  `{"approved": true, "by": "user:u1", "comment": "", "at": "2026-01-01T00:00:00Z"}`,
		},
		children: map[string]string{},
		secrets:  map[string]any{"directory_key": "s3cr3t-value"},
	}
	components := component.Registry{
		recipe.KindHTTP: component.Func(internet), recipe.KindStateSet: component.Func(state.Set), "ai.chat": component.Func(model),
	}
	e := engine.New(components, w, clock.System, zerolog.Nop())
	x := &engine.Execution{
		Funding: event.Funding{
			Debit: event.Debit{Amount: compiled.Quote()},
			Request: event.Request{
				ExecutionID: "e1", CustomerID: "cust_001", AgentID: compiled.Agent, RecipeID: compiled.ID, RecipeVersion: 1,
				Vars: map[string]any{"directory_url": "https://directory.example.com"}, Deadline: clock.System().Add(24 * time.Hour),
			},
		},
		Input: input, Recipe: compiled,
	}
	journal := &notes{last: e.Begin(x)}
	for range 20 {
		completion, err := resumed(t, e, x, journal)
		if err == nil {
			return completion.Response
		}
		require.True(t, errors.Is(err, engine.ErrParked), "%v", err)
		for i := range journal.last.Waits {
			wait := &journal.last.Waits[i]
			wait.Since = wait.Since.Add(-15 * time.Minute)
			if wait.Execution != "" {
				w.children[wait.Execution] = `{"status": "success", "data": {"leads": ["a"]}}`
				wait.Since = clock.System()
			}
		}
	}
	t.Fatal("the execution does not end")
	return event.Response{}
}
