package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/services/executor/internal/component"
)

func TestTellsHowBusyItIs(t *testing.T) {
	t.Parallel()
	b := newBench(t, callTwice)
	b.fund("e1", "", nil)
	began, release := make(chan struct{}), make(chan struct{})
	var busy *Worker
	b.start(func(_ context.Context, c *component.Call) (component.Result, error) {
		if c.Step == "a" {
			close(began)
			<-release
		}
		return component.Result{Output: c.Step}, nil
	}, func(w *Worker) { busy = w })
	<-began
	running := func(executions int) error {
		return testutil.CollectAndCompare(busy, strings.NewReader(fmt.Sprintf(`
			# HELP galley_executor_concurrency How many executions this process runs at most at the same time.
			# TYPE galley_executor_concurrency gauge
			galley_executor_concurrency 8
			# HELP galley_executor_running_executions Executions that this process runs at the moment; what waits for a time or an event is not run.
			# TYPE galley_executor_running_executions gauge
			galley_executor_running_executions %d
		`, executions)))
	}
	require.NoError(t, running(1))
	close(release)
	require.Eventually(t, func() bool { return running(0) == nil }, patience30, time.Millisecond)
	problems, err := testutil.CollectAndLint(busy)
	require.NoError(t, err)
	require.Empty(t, problems)
}
