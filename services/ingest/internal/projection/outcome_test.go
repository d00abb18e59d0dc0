package projection_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
)

// code is empty for no refusal.
func code(err error) problem.Code {
	if refused, ok := errors.AsType[*problem.Error](err); ok {
		return refused.Code
	}
	return ""
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.run(t)
	ctx, cancel := context.WithCancel(context.Background())
	answered := make(chan error, 1)
	go func() { answered <- f.AnswerOutcomes(ctx, f.bus) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-answered)
	})
	ended, open := f.write(t, "cust_001", event.StatusPartial), f.write(t, "cust_002", event.StatusAccepted)
	f.eventually(t, 1, 1)
	key := func(customer, execution string) query.ExecutionKey {
		return query.ExecutionKey{CustomerID: customer, ExecutionID: execution}
	}
	ask := func(keys ...query.ExecutionKey) (reply query.OutcomesReply, err error) {
		require.Eventually(t, func() bool { // until somebody listens
			reply, err = bus.Ask[query.OutcomesReply](
				t.Context(), f.bus, query.ServiceIngest, query.Outcomes, query.OutcomesRequest{Executions: keys})
			return code(err) != problem.Unavailable
		}, 20*time.Second, 20*time.Millisecond)
		return reply, err
	}
	mine, theirs := key("cust_001", ended.ID), key("cust_002", open.ID)
	reply, err := ask(mine, theirs, key("cust_002", ended.ID), key("cust_001", uuid.NewString()))
	require.NoError(t, err)
	require.ElementsMatch(t, []query.Outcome{
		{ExecutionKey: mine, Status: event.StatusPartial, Charged: 250_000}, {ExecutionKey: theirs, Status: event.StatusAccepted},
	}, reply.Outcomes)
	reply, err = ask()
	require.NoError(t, err)
	require.Empty(t, reply.Outcomes)
	for name, wrong := range map[string][]query.ExecutionKey{
		"customer": {key("*", ended.ID)}, "execution": {key("cust_001", "x")}, "too many": slices.Repeat([]query.ExecutionKey{mine}, 501),
	} {
		_, err := ask(wrong...)
		require.Equal(t, problem.InvalidRequest, code(err), name)
	}
}
