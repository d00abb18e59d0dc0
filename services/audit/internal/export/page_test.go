package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/audit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/export"
	"github.com/galley-engine/galley/services/audit/internal/proof"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
	"github.com/galley-engine/galley/services/audit/verify"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = time.Minute

func newExporter(t *testing.T, e *audittest.Env) *export.Exporter {
	t.Helper()
	pool := e.Pool(t, migrations.Reader)
	prover := proof.New(proof.Deps{
		Pool: pool, Key: e.Key, Fault: func() error { return nil }, Clock: clock.System, Log: zerolog.Nop(),
	})
	return export.New(export.Deps{Pool: pool, Prover: prover, Key: e.Key, Clock: clock.System})
}

// whole joins the pages of an export. between is called after each.
func whole(ctx context.Context, t require.TestingT, e *export.Exporter, customer string, between func()) (lines []byte, pages int) {
	request := query.AuditExportRequest{CustomerID: customer}
	for {
		page, err := e.Page(ctx, request)
		require.NoError(t, err)
		encoded, err := json.Marshal(page)
		require.NoError(t, err)
		require.Less(t, len(encoded), 1<<20, "a message of NATS holds it")
		for _, line := range page.Lines {
			lines = append(append(lines, line...), '\n')
		}
		pages++
		if page.Next == nil {
			return lines, pages
		}
		request.From = page.Next
		between()
	}
}

func nothing() {}

func kinds(t *testing.T, lines []byte) map[audit.Kind]int {
	t.Helper()
	count := map[audit.Kind]int{}
	var last audit.Kind
	order := []audit.Kind{"", audit.KindLog, audit.KindLeaf, audit.KindTile, audit.KindHead}
	for text := range bytes.SplitSeq(bytes.TrimSpace(lines), []byte("\n")) {
		var line audit.Line
		require.NoError(t, json.Unmarshal(text, &line))
		require.LessOrEqual(t, slices.Index(order, last), slices.Index(order, line.Kind), "kinds come one after the other")
		last = line.Kind
		count[line.Kind]++
	}
	return count
}

// TestExports verifies exports of everything and of customers that have many leaves, some and few, whatever the pages.
func TestExports(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	const rows = 66_000
	e.Fill(t, rows, 1, 256, 40_000, 65_536)
	exporter := newExporter(t, e)
	for customer, want := range map[string]map[audit.Kind]int{
		// 257 complete tiles of leaves and one that is not; two of their roots, complete and not; one above.
		audit.Everyone: {audit.KindLog: 1, audit.KindLeaf: rows, audit.KindTile: 258 + 2 + 1, audit.KindHead: 5},
		"cust_001":     {audit.KindLog: 1, audit.KindLeaf: rows / 2, audit.KindTile: 258 + 2 + 1, audit.KindHead: 1},
		"cust_002":     {audit.KindLog: 1, audit.KindLeaf: rows/8 - 0, audit.KindTile: 258 + 2 + 1, audit.KindHead: 1},
		// Its 33 leaves are below 33 tiles of leaves, none of them the last one.
		"cust_003": {audit.KindLog: 1, audit.KindLeaf: 33, audit.KindTile: 33 + 1 + 2 + 1, audit.KindHead: 1},
		"cust_004": {audit.KindLog: 1, audit.KindTile: 3, audit.KindHead: 1},
	} {
		lines, pages := whole(t.Context(), t, exporter, customer, nothing)
		assert.Equal(t, want, kinds(t, lines), customer)
		if customer == audit.Everyone {
			assert.Greater(t, pages, 100)
		}
		report, err := verify.Export(t.Context(), bytes.NewReader(lines), verify.Options{Key: e.Key.Public})
		require.NoError(t, err)
		assert.Empty(t, report.Findings, customer)
		assert.EqualValues(t, want[audit.KindLeaf], report.Leaves)
		assert.EqualValues(t, []int64{rows, rows}, []int64{report.Size, report.SignedSize})
	}
}

// TestPagesOfAllSizes: how an export is cut into pages changes nothing of it.
func TestPagesOfAllSizes(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 3*256+17, 10, 20, 30, 300)
	customers := []string{audit.Everyone, "cust_001", "cust_002", "cust_003"}
	want := map[string]map[audit.Kind]int{}
	for _, customer := range customers {
		lines, _ := whole(t.Context(), t, newExporter(t, e), customer, nothing)
		want[customer] = kinds(t, lines)
	}
	exporter := newExporter(t, e)
	ctx, outer := t.Context(), t
	rapid.Check(t, func(t *rapid.T) {
		customer := rapid.SampledFrom(customers).Draw(t, "customer")
		exporter.Paging(rapid.IntRange(20_000, 300_000).Draw(t, "room"), rapid.IntRange(50, 500).Draw(t, "leaves"), rapid.IntRange(1, 5).Draw(t, "tiles"), rapid.IntRange(1, 5).Draw(t, "heads"))
		lines, _ := whole(ctx, t, exporter, customer, nothing)
		require.Equal(t, want[customer], kinds(outer, lines))
		report, err := verify.Export(ctx, bytes.NewReader(lines), verify.Options{Key: e.Key.Public})
		require.NoError(t, err)
		require.Empty(t, report.Findings)
	})
}

// TestExportWhileTheLogGrows: what is appended between two pages changes nothing of the export.
func TestExportWhileTheLogGrows(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Execute(t, "cust_001", 0, 300)
	e.Activity(t, "", "activity-1")
	pool := e.Pool(t, migrations.Role)
	outside := publish.NewNATS(e.Bus)
	signer := writer.NewSigner(pool, e.Key, outside, clock.System, zerolog.Nop())
	audittest.Start(t, writer.New(pool, e.Bus, signer, clock.System, zerolog.Nop()).Run)
	signed := func() int64 {
		published, err := outside.Published(t.Context())
		require.NoError(t, err)
		return published.Size
	}
	require.Eventually(t, func() bool { return signed() >= 901 }, patience, 10*time.Millisecond)
	exporter := newExporter(t, e).Paging(100_000, 300, 1, 1)
	for _, customer := range []string{audit.Everyone, "cust_001"} {
		size, more := signed(), 1000+len(customer)*1000
		lines, pages := whole(t.Context(), t, exporter, customer, func() {
			e.Execute(t, "cust_001", more, 20)
			more += 20
		})
		assert.Greater(t, pages, 4)
		report, err := verify.Export(t.Context(), bytes.NewReader(lines), verify.Options{Key: e.Key.Public})
		require.NoError(t, err)
		assert.Empty(t, report.Findings)
		assert.GreaterOrEqual(t, report.SignedSize, size)
		require.Eventually(t, func() bool { return signed() > report.SignedSize }, patience, 10*time.Millisecond, "it has grown")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	e := audittest.New(t)
	e.Fill(t, 10)
	exporter := newExporter(t, e)
	for name, request := range map[string]query.AuditExportRequest{
		"no customer":   {},
		"wrong":         {CustomerID: "a.b"},
		"no such head":  {CustomerID: "cust_001", From: &query.AuditExportPlace{Size: 9, Kind: audit.KindLeaf}},
		"no such kind":  {CustomerID: "cust_001", From: &query.AuditExportPlace{Size: 10, Kind: audit.KindLog}},
		"no such level": {CustomerID: "cust_001", From: &query.AuditExportPlace{Size: 10, Kind: audit.KindTile, Level: 8}},
		"negative":      {CustomerID: "cust_001", From: &query.AuditExportPlace{Size: 10, Kind: audit.KindLeaf, Index: -1}},
	} {
		_, err := exporter.Page(t.Context(), request)
		var refused *problem.Error
		require.ErrorAs(t, err, &refused, name)
		assert.Equal(t, problem.InvalidRequest, refused.Code, name)
	}
}
