package usage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/usage"
	"github.com/galley-engine/galley/services/ingest/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fixture struct {
	*usage.Reader
	admin *pgxpool.Pool
}

func setUp(tb testing.TB) *fixture {
	tb.Helper()
	url := testkit.Postgres(tb)
	require.NoError(tb, postgres.Migrate(tb.Context(), url, migrations.Schema()))
	open := func(role string) *pgxpool.Pool {
		pool, err := postgres.Open(tb.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 4})
		require.NoError(tb, err)
		tb.Cleanup(pool.Close)
		return pool
	}
	return &fixture{Reader: usage.NewReader(open(migrations.Reader)), admin: open("postgres")}
}

// document is a version of cook/soup and of cook/cake, with steps in branches.
const document = `{"apiVersion":"galley/v1","spec":{"steps":[{"id":"find","uses":"action.http","with":{"id":"x","uses":"y"}},
	{"parallel":[{"id":"think","uses":"ai.chat"},{"steps":[{"id":"mail","uses":"correspondence.email"},
	{"parallel":[{"id":"note","uses":"audit.note"},{"id":"again","uses":"ai.chat"}]}]}]}]}}`

// customer makes one with two recipes.
func (f *fixture) customer(tb testing.TB, id string) {
	tb.Helper()
	for _, statement := range []string{
		`INSERT INTO ingest.customers VALUES ($1, '', '{}', now())`, `INSERT INTO ingest.agents VALUES ($1, 'cook', '', '', now())`,
		`INSERT INTO ingest.recipes SELECT $1, 'cook', unnest(ARRAY['soup', 'cake']), 1`,
	} {
		_, err := f.admin.Exec(tb.Context(), statement, id)
		require.NoError(tb, err)
	}
	_, err := f.admin.Exec(tb.Context(), `INSERT INTO ingest.recipe_versions
		SELECT $1, 'cook', unnest(ARRAY['soup', 'cake']), 1, sha256('x'), '', $2, now()`, id, []byte(document))
	require.NoError(tb, err)
}

// execution is a row of the table of executions.
type execution struct {
	customer, recipe string
	accepted         time.Time
	charged          credit.Micro
	// response is nil for one that is under way.
	response []byte
}

func responseOf(steps ...event.StepSummary) []byte {
	encoded, err := json.Marshal(event.Response{Data: json.RawMessage(`{"metadata":{"steps":1}}`), Metadata: event.Metadata{Steps: steps}})
	if err != nil {
		panic(err)
	}
	return encoded
}

func step(id string, credits credit.Micro, used event.Usage) event.StepSummary {
	return event.StepSummary{ID: id, Status: event.StepSuccess, Attempts: 1, Credits: credits, Usage: &used}
}

func (f *fixture) insert(tb testing.TB, executions ...execution) {
	tb.Helper()
	batch := &pgx.Batch{}
	for _, e := range executions {
		batch.Queue(`INSERT INTO ingest.executions (execution_id, customer_id, agent_id, recipe_id, recipe_version, status, accepted_at,
				completed_at, charged, response)
			VALUES ($1, $2, 'cook', $3, 1, CASE WHEN $6::bytea IS NULL THEN 'accepted' ELSE 'success' END, $4,
				CASE WHEN $6::bytea IS NOT NULL THEN $4::timestamptz + interval '1 minute' END, $5, $6)`,
			uuid.New(), e.customer, e.recipe, e.accepted, e.charged, e.response)
	}
	require.NoError(tb, f.admin.SendBatch(tb.Context(), batch).Close())
}

func day(month time.Month, number int) time.Time {
	return time.Date(2026, month, number, 0, 0, 0, 0, time.UTC)
}

func (f *fixture) november(t *testing.T, customer string, by usage.Grouping) usage.Report {
	t.Helper()
	report, err := f.Report(t.Context(), usage.Request{Customer: customer, From: day(11, 1), To: day(12, 1), By: by})
	require.NoError(t, err)
	return report
}

func TestUsage(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.customer(t, "alice")
	f.customer(t, "bob")
	whole := responseOf(step("find", 20, event.Usage{}), step("think", 7, event.Usage{InputTokens: 10, OutputTokens: 3}),
		step("again", 5, event.Usage{InputTokens: 2}), event.StepSummary{ID: "mail", Status: event.StepSkipped})
	f.insert(t,
		execution{"alice", "soup", day(10, 31).Add(24*time.Hour - 1000), 99, whole},
		execution{"alice", "soup", day(11, 1), 32, whole},
		execution{"alice", "cake", day(11, 1).Add(time.Hour), 25, whole}, // capped: the last step that is paid gets what is left
		execution{"alice", "soup", day(11, 2), 0, responseOf()},
		execution{"alice", "soup", day(11, 2), 0, nil},
		execution{"alice", "soup", day(11, 2), 6, []byte("not JSON")},
		execution{"alice", "soup", day(12, 1), 99, whole},
		execution{"bob", "soup", day(11, 3), 9, responseOf(step("note", 4, event.Usage{Units: 2}), step("unknown", 5, event.Usage{}))},
	)
	soup, cake := usage.Key{Agent: "cook", Recipe: "soup"}, usage.Key{Agent: "cook", Recipe: "cake"}
	alice := usage.Figures{Executions: 4, Steps: 6, Credits: 63, InputTokens: 24, OutputTokens: 6}

	report := f.november(t, "alice", usage.Grouping{})
	require.Equal(t, usage.Report{Rows: []usage.Row{{Figures: alice}}, Total: alice, UnderWay: 1}, report)

	report = f.november(t, "alice", usage.Grouping{Recipe: true})
	require.Equal(t, []usage.Row{
		{cake, usage.Figures{Executions: 1, Steps: 3, Credits: 25, InputTokens: 12, OutputTokens: 3}},
		{soup, usage.Figures{Executions: 3, Steps: 3, Credits: 38, InputTokens: 12, OutputTokens: 3}},
	}, report.Rows)
	require.Equal(t, alice, report.Total)

	report = f.november(t, "alice", usage.Grouping{Day: true, Kind: true})
	require.Equal(t, []usage.Row{
		{usage.Key{Day: "2026-11-01", Kind: "action.http"}, usage.Figures{Executions: 2, Steps: 2, Credits: 40}},
		{
			usage.Key{Day: "2026-11-01", Kind: "ai.chat"},
			usage.Figures{Executions: 2, Steps: 4, Credits: 17, InputTokens: 24, OutputTokens: 6},
		},
		{usage.Key{Day: "2026-11-02"}, usage.Figures{Executions: 2, Credits: 6}},
	}, report.Rows)
	require.Equal(t, alice, report.Total)

	report = f.november(t, "", usage.Grouping{Customer: true, Kind: true})
	require.Equal(t, []string{"alice ", "alice action.http", "alice ai.chat", "bob ", "bob audit.note"}, keys(report))
	require.Equal(t, usage.Figures{Executions: 5, Steps: 8, Credits: 72, InputTokens: 24, OutputTokens: 6, Units: 2}, report.Total)

	require.Empty(t, f.november(t, "carol", usage.Grouping{Day: true}).Rows)
	require.Empty(t, f.november(t, "*", usage.Grouping{Day: true}).Rows, "which row-level security takes for everybody")
}

func keys(report usage.Report) (texts []string) {
	for _, row := range report.Rows {
		texts = append(texts, row.Customer+" "+row.Kind)
	}
	return texts
}

// Days begin in the time zone that is asked for; two of them a year are not 24 hours long.
func TestDaysOfATimeZone(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.customer(t, "alice")
	zone, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)
	first := time.Date(2026, 11, 1, 0, 0, 0, 0, zone)
	for _, at := range []time.Duration{-time.Microsecond, 0, 24 * time.Hour, 25*time.Hour - time.Microsecond, 25 * time.Hour, 49 * time.Hour} {
		f.insert(t, execution{"alice", "soup", first.Add(at), 1, responseOf()})
	}
	report, err := f.Report(t.Context(), usage.Request{
		Customer: "alice", From: first, To: first.AddDate(0, 0, 2), By: usage.Grouping{Day: true},
	})
	require.NoError(t, err)
	require.Equal(t, []usage.Row{
		{usage.Key{Day: "2026-11-01"}, usage.Figures{Executions: 3, Credits: 3}},
		{usage.Key{Day: "2026-11-02"}, usage.Figures{Executions: 1, Credits: 1}},
	}, report.Rows)
}

// However a report is grouped, its rows add up to what was charged.
func TestRowsAddUp(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.customer(t, "alice")
	f.customer(t, "bob")
	rapid.Check(t, func(t *rapid.T) {
		_, err := f.admin.Exec(t.Context(), `DELETE FROM ingest.executions`)
		require.NoError(t, err)
		var executions []execution
		var charged credit.Micro
		var ended int64
		for range rapid.SampledFrom([]int{0, 1, 7, 30}).Draw(t, "executions") {
			e := execution{
				customer: []string{"alice", "bob"}[len(executions)%2], recipe: []string{"soup", "cake"}[len(executions)/2%2],
				accepted: day(11, 1+len(executions)%3),
			}
			if len(executions)%5 != 4 {
				e.charged = credit.Micro(rapid.Int64Range(0, 60).Draw(t, "charged"))
				e.response = responseOf(step("find", 20, event.Usage{}), step("think", 30, event.Usage{Units: 1}))
				charged += e.charged
				ended++
			}
			executions = append(executions, e)
		}
		batchInsert(t, f, executions)
		by := usage.Grouping{
			Customer: rapid.Bool().Draw(t, "by customer"), Day: rapid.Bool().Draw(t, "by day"), Recipe: rapid.Bool().Draw(t, "by recipe"),
			Kind: rapid.Bool().Draw(t, "by kind"),
		}
		report, err := f.Report(t.Context(), usage.Request{From: day(11, 1), To: day(11, 4), By: by})
		require.NoError(t, err)
		var sum usage.Figures
		for _, row := range report.Rows {
			sum.Credits, sum.Steps, sum.Units, sum.Executions = sum.Credits+row.Credits, sum.Steps+row.Steps, sum.Units+row.Units, sum.Executions+row.Executions
		}
		require.Equal(t, []any{charged, ended, int64(len(executions)) - ended}, []any{report.Total.Credits, report.Total.Executions, report.UnderWay})
		require.Equal(t, []any{charged, report.Total.Steps, report.Total.Units}, []any{sum.Credits, sum.Steps, sum.Units})
		if !by.Kind {
			require.Equal(t, ended, sum.Executions)
		}
	})
}

func batchInsert(t *rapid.T, f *fixture, executions []execution) {
	t.Helper()
	rows := pgx.CopyFromSlice(len(executions), func(i int) ([]any, error) {
		e := &executions[i]
		status, completed := "accepted", (*time.Time)(nil)
		if e.response != nil {
			status, completed = "success", &e.accepted
		}
		return []any{uuid.New(), e.customer, "cook", e.recipe, 1, status, e.accepted, completed, int64(e.charged), e.response}, nil
	})
	_, err := f.admin.CopyFrom(t.Context(), pgx.Identifier{"ingest", "executions"}, []string{
		"execution_id", "customer_id", "agent_id", "recipe_id", "recipe_version", "status", "accepted_at", "completed_at", "charged", "response",
	}, rows)
	require.NoError(t, err)
}

// many inserts executions that were accepted at the same moment, each of a recipe of its own that is not there any more.
func (f *fixture) many(t *testing.T, count int) {
	t.Helper()
	_, err := f.admin.Exec(t.Context(), `INSERT INTO ingest.executions (execution_id, customer_id, agent_id, recipe_id, recipe_version, status,
			accepted_at, completed_at, charged, response)
		SELECT gen_random_uuid(), 'alice', 'cook', 'r' || n, 1, 'success', $1, $1, 1, '{}' FROM generate_series(1, $2::integer) AS n`, day(11, 1), count)
	require.NoError(t, err)
}

func TestReportsThatAreTooLong(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.customer(t, "alice")
	f.many(t, 20_001)
	_, err := f.Report(t.Context(), usage.Request{Customer: "alice", From: day(11, 1), To: day(11, 2), By: usage.Grouping{Recipe: true, Kind: true}})
	require.ErrorIs(t, err, usage.ErrTooLong)
}

func TestReportsAtTheSameTime(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.customer(t, "alice")
	tx, err := f.admin.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE ingest.executions`)
	require.NoError(t, err)
	report := func(ctx context.Context) error {
		_, err := f.Report(ctx, usage.Request{Customer: "alice", From: day(11, 1), To: day(11, 2)})
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- report(t.Context()) }()
	require.Eventually(t, func() bool {
		var waits bool
		err := tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = (
			SELECT oid FROM pg_database WHERE datname = current_database()))`).Scan(&waits)
		return err == nil && waits
	}, 30*time.Second, time.Millisecond)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, report(impatient), usage.ErrBusy)
	go func() { ended <- report(t.Context()) }()
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-ended)
	require.NoError(t, <-ended)
}

// BenchmarkReport adds up 100,000 executions of six steps in a month.
func BenchmarkReport(b *testing.B) {
	f := setUp(b)
	f.customer(b, "alice")
	var steps []event.StepSummary
	for _, id := range []string{"find", "think", "mail", "note", "again", "last"} {
		steps = append(steps, step(id, 20_000, event.Usage{InputTokens: 812, OutputTokens: 95}))
	}
	_, err := f.admin.Exec(b.Context(), `INSERT INTO ingest.executions (execution_id, customer_id, agent_id, recipe_id, recipe_version, status,
			accepted_at, completed_at, duration_ms, charged, response)
		SELECT gen_random_uuid(), 'alice', 'cook', 'soup', 1, 'success', $1::timestamptz + n * interval '25 seconds', now(), 5, 120000, $2
		FROM generate_series(0, 99999) AS n`, day(11, 1), responseOf(steps...))
	require.NoError(b, err)
	for _, by := range []usage.Grouping{{Day: true}, {Day: true, Recipe: true, Kind: true}} {
		b.Run(fmt.Sprintf("kind=%t", by.Kind), func(b *testing.B) {
			for b.Loop() {
				report, err := f.Report(b.Context(), usage.Request{Customer: "alice", From: day(11, 1), To: day(12, 1), By: by})
				require.NoError(b, err)
				require.EqualValues(b, 100_000, report.Total.Executions)
			}
		})
	}
}
