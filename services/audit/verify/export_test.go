package verify_test

import (
	"bytes"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	exporter "github.com/galley-engine/galley/services/audit/internal/export"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

func newProver(tb testing.TB, e *audittest.Env) *proof.Prover {
	tb.Helper()
	return proof.New(proof.Deps{
		Pool: e.Pool(tb, migrations.Reader), Key: e.Key, Fault: func() error { return nil }, Clock: clock.System, Log: zerolog.Nop(),
	})
}

// exported gives a customer's export, all lines of it.
func exported(tb testing.TB, e *audittest.Env, customer string) []byte {
	tb.Helper()
	pages := exporter.New(exporter.Deps{Pool: e.Pool(tb, migrations.Reader), Prover: newProver(tb, e), Key: e.Key, Clock: clock.System})
	var lines []byte
	for request := (query.AuditExportRequest{CustomerID: customer}); ; {
		page, err := pages.Page(tb.Context(), request)
		require.NoError(tb, err)
		for _, line := range page.Lines {
			lines = append(append(lines, line...), '\n')
		}
		if page.Next == nil {
			return lines
		}
		request.From = page.Next
	}
}

// export verifies an export.
func export(tb testing.TB, e *audittest.Env, lines []byte) *verify.Report {
	tb.Helper()
	report, err := verify.Export(tb.Context(), bytes.NewReader(lines), verify.Options{Key: e.Key.Public})
	require.NoError(tb, err)
	return report
}
