package ledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/testkit"
)

func TestWaitsAreCounted(t *testing.T) {
	t.Parallel()
	b := open(t, migrated(t, testkit.Postgres(t)))
	told := func(executions, longest int) {
		t.Helper()
		require.NoError(t, testutil.CollectAndCompare(b.reader, strings.NewReader(fmt.Sprintf(`
			# HELP galley_billing_longest_wait_seconds How long the execution has waited that has waited longest for credits; 0 when none waits.
			# TYPE galley_billing_longest_wait_seconds gauge
			galley_billing_longest_wait_seconds %d
			# HELP galley_billing_waiting_executions Executions that wait for credits.
			# TYPE galley_billing_waiting_executions gauge
			galley_billing_waiting_executions %d
		`, longest, executions))))
	}
	told(0, 0)
	b.apply(t, step{wait(1, 5), wait(2, 7)}.of("a"))
	b.pass(20 * time.Second)
	b.apply(t, step{wait(3, 5)}.of("b"))
	told(3, 20)
	b.grant(t, "a", uuid.NewString(), 5)
	told(2, 20)
	b.grant(t, "a", uuid.NewString(), 7)
	b.pass(10 * time.Second)
	told(1, 10)
	b.pass(time.Hour)
	_, err := b.Serve(t.Context())
	require.NoError(t, err)
	told(0, 0)
	problems, err := testutil.CollectAndLint(b.reader)
	require.NoError(t, err)
	require.Empty(t, problems)
}
