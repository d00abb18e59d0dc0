package catalogue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// answerLimits has a process answer what limits there are.
func (w *world) answerLimits(t *testing.T, c *catalogue.Catalogue) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.AnswerLimits(ctx, w.bus(t)) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
}

// bounded is a recipe of which so many executions may be under way, 0 for any number.
func bounded(id, content string, most int) []byte {
	limit := ""
	if most > 0 {
		limit = fmt.Sprintf("concurrency: %d", most)
	}
	return fmt.Appendf(nil, `
apiVersion: galley/v1
kind: Recipe
metadata: {agent: cook, id: %s, description: %q}
spec:
  steps: [{id: remember, uses: state.set, with: {a: 1}}]
  %s
`, id, content, limit)
}

// TestLimitsAreToldAndAnswered: after each change whoever listens is told, and whoever asks then, whichever process, hears of it.
func TestLimitsAreToldAndAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	changing, answering := w.process(t, clock.System), w.process(t, clock.System)
	w.follow(t, changing)
	w.follow(t, answering)
	customer(t, changing, "alice")
	customer(t, changing, "bob")
	w.answerLimits(t, answering)
	messages := w.bus(t)
	news, err := messages.Conn.SubscribeSync(subject.AllLimited)
	require.NoError(t, err)
	require.NoError(t, messages.Conn.Flush())
	recipes := []query.Recipe{{AgentID: "cook", RecipeID: "soup"}, {AgentID: "cook", RecipeID: "tea"}, {AgentID: "cook", RecipeID: "nothing"}}
	ask := func() query.LimitsReply {
		t.Helper()
		var reply query.LimitsReply
		require.Eventually(t, func() bool {
			var err error
			reply, err = bus.Ask[query.LimitsReply](t.Context(), messages, query.ServiceIngest, query.Limits,
				query.LimitsRequest{CustomerID: "alice", Recipes: recipes})
			return err == nil
		}, patience, time.Millisecond)
		require.WithinDuration(t, time.Now(), reply.AsOf, time.Minute)
		reply.AsOf = time.Time{}
		return reply
	}
	told := func() {
		t.Helper()
		message, err := news.NextMsg(patience)
		require.NoError(t, err)
		require.Equal(t, "galley.limited.alice", message.Subject)
	}
	publish := func(c *catalogue.Catalogue, document []byte) {
		t.Helper()
		_, created, err := c.Publish(t.Context(), "alice", document, author())
		require.NoError(t, err)
		if created {
			told()
		}
	}
	soup := func(version, most int) query.RecipeLimit {
		return query.RecipeLimit{Recipe: recipes[0], Version: version, Concurrency: most}
	}
	require.Equal(t, query.LimitsReply{}, ask())

	publish(changing, bounded("soup", "a", 2))
	require.Equal(t, []query.RecipeLimit{soup(1, 2)}, ask().Recipes)
	publish(changing, bounded("soup", "b", 0))
	require.Equal(t, []query.RecipeLimit{soup(2, 0)}, ask().Recipes)
	publish(changing, bounded("soup", "a", 2))
	require.Equal(t, []query.RecipeLimit{soup(2, 0)}, ask().Recipes, "an old version is not the latest again")
	publish(changing, bounded("tea", "a", 7))
	tea := query.RecipeLimit{Recipe: recipes[1], Version: 1, Concurrency: 7}
	require.ElementsMatch(t, []query.RecipeLimit{soup(2, 0), tea}, ask().Recipes)

	require.NoError(t, changing.SetLimits(t.Context(), "alice", catalogue.Limits{MaxConcurrency: new(5)}, author()))
	told()
	require.Equal(t, 5, ask().MaxConcurrency)
	tell(t, messages, "alice", 10, 2)
	told()
	require.Equal(t, 5, ask().MaxConcurrency, "the customer's own")
	require.NoError(t, changing.SetLimits(t.Context(), "alice", catalogue.Limits{}, author()))
	told()
	require.Equal(t, 2, ask().MaxConcurrency)
	tell(t, messages, "alice", 10, 9)
	tell(t, messages, "alice", 11, 0)
	told()
	require.Zero(t, ask().MaxConcurrency)
	_, err = news.NextMsg(100 * time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout, "each change is told by one process")
}

func TestLimitsThatCannotBeAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.process(t, clock.System)
	customer(t, c, "alice")
	w.answerLimits(t, c)
	messages := w.bus(t)
	for customer, recipes := range map[string]int{"nobody": 0, "alice": query.MaxLimited + 1} {
		want := map[bool]problem.Code{true: problem.NotFound, false: problem.InvalidRequest}[customer == "nobody"]
		require.Eventually(t, func() bool {
			_, err := bus.Ask[query.LimitsReply](t.Context(), messages, query.ServiceIngest, query.Limits,
				query.LimitsRequest{CustomerID: customer, Recipes: make([]query.Recipe, recipes)})
			refused, ok := errors.AsType[*problem.Error](err)
			return ok && refused.Code == want
		}, patience, time.Millisecond)
	}
}
