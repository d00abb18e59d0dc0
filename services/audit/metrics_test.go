package audit_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/process"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// instance is a process of the service, of which only the metrics are its own.
type instance struct {
	metrics *prometheus.Registry
	stop    func()
}

func start(t *testing.T, e *audittest.Env, key string) instance {
	t.Helper()
	metrics := prometheus.NewRegistry()
	service, err := audit.New(audit.Config{Key: key}, process.Deps{
		Bus: e.Bus, DatabaseURL: e.URL, AckWait: time.Second, Logger: zerolog.Nop(), Clock: clock.System, Metrics: metrics,
	})
	require.NoError(t, err)
	return instance{metrics, audittest.Start(t, service.Run)}
}

// value gives a metric, by the value of its label where it has one.
func (i instance) value(t *testing.T, name, label string) (value float64, found bool) {
	t.Helper()
	families, err := i.metrics.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, one := range family.GetMetric() {
			if family.GetName() == name && (label == "" || one.GetLabel()[0].GetValue() == label) {
				return one.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

// TestEveryInstanceKnowsWhyNothingIsSigned: the one that stands by, too, and at once.
func TestEveryInstanceKnowsWhyNothingIsSigned(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	text := audit.NewKey()
	key, err := tree.ParseKey(text)
	require.NoError(t, err)
	head := tree.Head{Origin: key.Signer.Name(), Size: 1000, Root: tree.LeafHash(nil), Time: time.Now()}
	signed, err := head.Sign(key.Signer)
	require.NoError(t, err)
	require.NoError(t, publish.NewNATS(e.Bus).Publish(t.Context(), storedtree.SignedHead{Size: head.Size, Note: signed}))

	// There is no row that could be overdue: only what the signer says makes a fault.
	both := []instance{start(t, e, text), start(t, e, text)}
	for _, one := range both {
		require.Eventually(t, func() bool {
			fault, _ := one.value(t, "galley_audit_signing_fault", "")
			return fault == 1
		}, patience, tick)
	}
	leads := func(one instance) bool {
		rows, found := one.value(t, "galley_audit_published_rows", "nats")
		return found && rows == 1000
	}
	require.NotEqual(t, leads(both[0]), leads(both[1]), "one of them publishes")

	e.Execute(t, "cust_001", 0, 1)
	e.Await(t, 3)
	const asked = 8 // whichever answers
	refused := make(chan error, asked)
	for range asked {
		go func() {
			_, err := bus.Ask[query.AuditExportReply](t.Context(), e.Bus, query.ServiceAudit, query.AuditExport,
				query.AuditExportRequest{CustomerID: "cust_001"})
			refused <- err
		}()
	}
	for range asked {
		var late *problem.Error
		require.ErrorAs(t, <-refused, &late)
		assert.False(t, late.Retryable)
		assert.Equal(t, "the log is not the one whose tree head was published; nothing more is signed", late.Message)
	}

	// What the dead one said does not keep the log with a new key from being well.
	for _, one := range both {
		one.stop()
	}
	again := start(t, e, audit.NewKey())
	require.Eventually(t, func() bool {
		rows, _ := again.value(t, "galley_audit_published_rows", "nats")
		return rows == 3
	}, patience, tick)
	for name, want := range map[string]float64{"galley_audit_signing_fault": 0, "galley_audit_publish_behind_seconds": 0} {
		value, found := again.value(t, name, "")
		assert.True(t, found, name)
		assert.InDelta(t, want, value, 0, name)
	}
}
