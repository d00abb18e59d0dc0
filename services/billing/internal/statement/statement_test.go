package statement_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/internal/statement"
	"github.com/galley-engine/galley/services/billing/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fixture struct {
	*statement.Reader
	*ledger.Ledger
	clock *testkit.Clock
	work  *pgxpool.Pool
}

func start() time.Time { return time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) }

func setUp(tb testing.TB) *fixture {
	tb.Helper()
	url := testkit.Postgres(tb)
	require.NoError(tb, postgres.Migrate(tb.Context(), url, migrations.Schema()))
	open := func(role string, settings map[string]string) *pgxpool.Pool {
		pool, err := postgres.Open(tb.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 4, Settings: settings})
		require.NoError(tb, err)
		tb.Cleanup(pool.Close)
		return pool
	}
	f := &fixture{
		Reader: statement.NewReader(open(migrations.Reader, nil)), clock: testkit.NewClock(start()),
		work: open(migrations.Role, ledger.PoolSettings()),
	}
	f.Ledger = ledger.New(f.work, outbox.New(f.work, nil, "billing", zerolog.Nop()), f.clock.Now)
	return f
}

func (f *fixture) grant(t require.TestingT, customer string, kind query.GrantKind, amount credit.Micro, expires *time.Time) {
	_, err := f.Grant(context.Background(), query.GrantRequest{
		ID: uuid.NewString(), CustomerID: customer, Amount: amount, Kind: kind, ExpiresAt: expires,
		Actor: event.Actor{Type: "operator", ID: "operator"},
	})
	require.NoError(t, err)
}

func (f *fixture) apply(t require.TestingT, customer string, action ledger.Action, execution uuid.UUID, amount credit.Micro) {
	_, err := f.Apply(context.Background(), []ledger.Instruction{
		{Key: ledger.Key{Customer: customer, Execution: execution}, Action: action, Amount: amount},
	})
	require.NoError(t, err)
}

func (f *fixture) between(t require.TestingT, customer string, from, to time.Time) query.StatementReply {
	reply, err := f.Statement(context.Background(), query.StatementRequest{CustomerID: customer, From: from, To: to})
	require.NoError(t, err)
	return reply
}

func TestStatement(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	october, november, december, january := start().AddDate(0, -1, 0), start(), start().AddDate(0, 1, 0), start().AddDate(0, 2, 0)
	f.clock.Set(november.Add(-time.Microsecond))
	f.grant(t, "alice", query.GrantTopUp, 1_000_000, nil)
	f.clock.Set(november) // the first moment of the period belongs to it
	over, half := november.AddDate(0, 0, 20), uuid.New()
	f.grant(t, "alice", query.GrantMonthly, 500_000, &over)
	f.grant(t, "alice", query.GrantPromotional, 7, nil)
	f.grant(t, "alice", query.GrantPromotional, 3, nil)
	f.grant(t, "bob", query.GrantTopUp, 99, nil)
	for _, amount := range []credit.Micro{60_000, 40_000} {
		execution := uuid.New()
		f.apply(t, "alice", ledger.Debit, execution, amount)
		f.apply(t, "alice", ledger.Settle, execution, amount/2)
	}
	f.apply(t, "alice", ledger.Debit, half, 10_000) // settled in the next period
	f.clock.Set(over)
	require.NoError(t, f.ExpireDue(t.Context()))
	f.clock.Set(december)
	f.apply(t, "alice", ledger.Settle, half, 10_000-1)

	empty := query.StatementReply{Movements: []query.Movement{}, AddsUp: true}
	before := query.StatementReply{
		Movements: []query.Movement{{Kind: "grant", GrantKind: query.GrantTopUp, Rows: 1, Credits: 1_000_000}}, Closing: 1_000_000, AddsUp: true,
	}
	require.Equal(t, before, f.between(t, "alice", october, november))
	require.Equal(t, query.StatementReply{
		Opening: 1_000_000,
		Movements: []query.Movement{
			{Kind: "grant", GrantKind: query.GrantMonthly, Rows: 1, Credits: 500_000},
			{Kind: "grant", GrantKind: query.GrantPromotional, Rows: 2, Credits: 10},
			{Kind: "debit", Rows: 3, Credits: -110_000},
			{Kind: "refund", Rows: 2, Credits: 50_000},
			{Kind: "expire", Rows: 1, Credits: -440_000},
		},
		Charged: 60_000, Closing: 1_000_010, AddsUp: true,
	}, f.between(t, "alice", november, december))
	// What comes back to a grant that is over is taken at once.
	require.Equal(t, query.StatementReply{
		Opening:   1_000_010,
		Movements: []query.Movement{{Kind: "refund", Rows: 1, Credits: 1}, {Kind: "expire", Rows: 1, Credits: -1}},
		Charged:   -1, Closing: 1_000_010, AddsUp: true,
	}, f.between(t, "alice", december, january))
	quiet := f.between(t, "alice", january, january.AddDate(0, 1, 0))
	require.Equal(t, query.StatementReply{Opening: 1_000_010, Movements: []query.Movement{}, Closing: 1_000_010, AddsUp: true}, quiet)
	require.Equal(t, empty, f.between(t, "alice", october.AddDate(0, -1, 0), october))
	require.Equal(t, empty, f.between(t, "carol", october, january))
	require.Equal(t, empty, f.between(t, "*", october, january), "which row-level security takes for everybody")
}

// Both balances stand in the ledger: a row that was slipped in shows.
func TestStatementThatDoesNotAddUp(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.grant(t, "alice", query.GrantTopUp, 100, nil)
	_, err := f.work.Exec(t.Context(), `INSERT INTO billing.credit_transactions (customer_id, kind, amount, balance_after, created_at)
		VALUES ('alice', 'adjust', 5, 106, $1)`, start())
	require.NoError(t, err)
	got := f.between(t, "alice", start(), start().AddDate(0, 0, 1))
	require.False(t, got.AddsUp)
	require.EqualValues(t, 106, got.Closing)
}

// Whatever happens and however time is cut into periods: each adds up, the next one begins where it ends, and together they are the
// ledger. Clocks of several processes may be apart.
func TestPeriodsFollowOneAnother(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	rapid.Check(t, func(t *rapid.T) {
		customer, now := uuid.NewString(), start()
		executions := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
		for range rapid.IntRange(0, 12).Draw(t, "moves") {
			now = now.Add(time.Duration(rapid.IntRange(-2, 30).Draw(t, "hours")) * time.Hour)
			f.clock.Set(now)
			execution := rapid.SampledFrom(executions).Draw(t, "execution")
			amount := credit.Micro(rapid.IntRange(1, 50).Draw(t, "amount"))
			switch rapid.SampledFrom([]string{"grant", "debit", "settle"}).Draw(t, "move") {
			case "grant":
				over := now.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "good for")) * time.Hour)
				f.grant(t, customer, rapid.SampledFrom([]query.GrantKind{query.GrantTopUp, query.GrantMonthly}).Draw(t, "kind"), amount, &over)
			case "debit":
				f.apply(t, customer, ledger.Debit, execution, amount)
			case "settle":
				f.apply(t, customer, ledger.Settle, execution, amount)
			}
		}
		end := now.AddDate(0, 0, 1)
		var balance, charged credit.Micro
		var rows int64
		for from := start().AddDate(0, 0, -1); from.Before(end); {
			to := from.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "period")) * time.Hour)
			period := f.between(t, customer, from, to)
			require.True(t, period.AddsUp)
			require.Equal(t, balance, period.Opening)
			balance, charged, from = period.Closing, charged+period.Charged, to
			for _, movement := range period.Movements {
				rows += movement.Rows
			}
		}
		whole := f.between(t, customer, start().AddDate(0, 0, -1), end.AddDate(0, 0, 5))
		require.Equal(t, []credit.Micro{balance, charged}, []credit.Micro{whole.Closing, whole.Charged})
		var stored int64
		err := f.work.QueryRow(context.Background(), `SELECT count(*) FROM billing.credit_transactions WHERE customer_id = $1`, customer).Scan(&stored)
		require.NoError(t, err)
		require.Equal(t, stored, rows)
	})
}

// BenchmarkStatement sums up a month of 1,000,000 rows, and one that is as many rows back.
func BenchmarkStatement(b *testing.B) {
	f := setUp(b)
	_, err := f.work.Exec(b.Context(), `INSERT INTO billing.credit_transactions (customer_id, kind, amount, balance_after, execution_id, created_at)
		SELECT 'alice', CASE n % 2 WHEN 0 THEN 'debit' ELSE 'refund' END, CASE n % 2 WHEN 0 THEN -2 ELSE 1 END, 1000000000,
			gen_random_uuid(), $1::timestamptz + n * interval '2.6 seconds'
		FROM generate_series(1, 1000000) AS n`, start())
	require.NoError(b, err)
	for name, from := range map[string]time.Time{"of the newest rows": start(), "before them": start().AddDate(0, -1, 0)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f.between(b, "alice", from, from.AddDate(0, 1, 0))
			}
		})
	}
}
