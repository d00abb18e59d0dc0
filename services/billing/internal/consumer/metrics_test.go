package consumer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/billing/internal/consumer"
)

func TestDecisionsAreCounted(t *testing.T) {
	t.Parallel()
	site := newSite(t, testkit.Postgres(t))
	site.grant(t, 10)
	follower := consumer.New(consumer.Deps{
		Bus: site.bus, Journal: site.journal, Ledger: site.ledger, AckWait: 2 * time.Second, Clock: clock.System, Logger: zerolog.Nop(),
	})
	counted := func(funded, refused string) func() bool {
		return func() bool {
			return testutil.CollectAndCompare(follower, strings.NewReader(`
				# HELP galley_billing_decisions_total Accepted executions that were decided: funded, that is debited, or refused for want of credits.
				# TYPE galley_billing_decisions_total counter
				galley_billing_decisions_total{decision="funded"} `+funded+`
				galley_billing_decisions_total{decision="refused"} `+refused+`
			`)) == nil
		}
	}
	require.True(t, counted("0", "0")(), "an alert needs to see them rise from 0")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- follower.Run(ctx) }()
	defer func() {
		cancel()
		assert.NoError(t, <-ended)
	}()
	paid, unpaid := newExecution(t), newExecution(t)
	site.accept(t, paid, 10, "")
	site.await(t, paid, event.Funded)
	site.accept(t, unpaid, 1, "")
	site.await(t, unpaid, event.Completed)
	require.Eventually(t, counted("1", "1"), patience, time.Millisecond)
	problems, err := testutil.CollectAndLint(follower)
	require.NoError(t, err)
	require.Empty(t, problems)
}
