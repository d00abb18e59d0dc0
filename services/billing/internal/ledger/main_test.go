package ledger_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func migrated(tb testing.TB, url string) string {
	tb.Helper()
	require.NoError(tb, postgres.Migrate(tb.Context(), url, migrations.Schema()))
	return url
}

func pool(tb testing.TB, url, role string, settings map[string]string) *pgxpool.Pool {
	tb.Helper()
	opened, err := postgres.Open(tb.Context(), postgres.PoolConfig{URL: url, Role: role, MaxConns: 8, Settings: settings})
	require.NoError(tb, err)
	tb.Cleanup(opened.Close)
	return opened
}

// bank is a ledger with what a test asks of it.
type bank struct {
	*ledger.Ledger
	reader      *ledger.Reader
	work, query *pgxpool.Pool
	// passed is how long after now it is, in nanoseconds.
	passed *atomic.Int64
}

// clock is now until the test lets time pass.
func (b *bank) clock() time.Time { return now().Add(time.Duration(b.passed.Load())) }

func (b *bank) pass(d time.Duration) { b.passed.Add(int64(d)) }

func open(t *testing.T, url string) *bank {
	t.Helper()
	work, query := pool(t, url, migrations.Role, ledger.PoolSettings()), pool(t, url, migrations.Reader, nil)
	events := outbox.New(work, nil, "billing", zerolog.Nop())
	opened := &bank{work: work, query: query, passed: new(atomic.Int64)}
	opened.Ledger, opened.reader = ledger.New(work, events, opened.clock), ledger.NewReader(query, opened.clock)
	return opened
}

func (b *bank) grant(t *testing.T, customer, id string, amount credit.Micro) query.GrantReply {
	t.Helper()
	reply, err := b.Grant(t.Context(), query.GrantRequest{ID: id, CustomerID: customer, Amount: amount, Reason: "test"})
	require.NoError(t, err)
	return reply
}

func (b *bank) balance(t *testing.T, customer string) credit.Micro {
	t.Helper()
	reply, err := b.reader.Balance(t.Context(), customer)
	require.NoError(t, err)
	return reply.Posted
}

// amounts are those of the customer's ledger, oldest first.
func (b *bank) amounts(t *testing.T, customer string) []credit.Micro {
	t.Helper()
	reply, err := b.reader.Transactions(t.Context(), ledger.Page{Customer: customer, Limit: 1000})
	require.NoError(t, err)
	var amounts []credit.Micro
	for _, row := range slices.Backward(reply.Transactions) {
		amounts = append(amounts, row.Amount)
	}
	return amounts
}

// give grants with terms of its own.
func (b *bank) give(t *testing.T, request query.GrantRequest) query.GrantReply {
	t.Helper()
	reply, err := b.Grant(t.Context(), request)
	require.NoError(t, err)
	return reply
}

// apply follows a batch that has to succeed.
func (b *bank) apply(t *testing.T, batch []ledger.Instruction) []ledger.Charge {
	t.Helper()
	charges, err := b.Apply(t.Context(), batch)
	require.NoError(t, err)
	return charges
}

// lot is how a grant stands.
type lot struct {
	Grant                      string
	Remaining, Repaid, Expired credit.Micro
}

// lots are the customer's grants, in the order of their ids.
func (b *bank) lots(t *testing.T, customer string) []lot {
	t.Helper()
	rows, err := b.work.Query(t.Context(), `SELECT grant_id, remaining, repaid, expired FROM billing.grants
		WHERE customer_id = $1 ORDER BY grant_id`, customer)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lot])
	require.NoError(t, err)
	return found
}

// told counts the events of a kind that were stored for the customer.
func (b *bank) told(t *testing.T, subject string) (count int) {
	t.Helper()
	require.NoError(t, b.work.QueryRow(t.Context(), `SELECT count(*) FROM billing.outbox WHERE subject = $1`, subject).Scan(&count))
	return count
}

func (b *bank) events(t *testing.T) (count int) {
	t.Helper()
	require.NoError(t, b.work.QueryRow(t.Context(), `SELECT count(*) FROM billing.outbox`).Scan(&count))
	return count
}

func (b *bank) reconciled(t *testing.T) {
	t.Helper()
	report, err := ledger.Reconcile(t.Context(), b.query)
	require.NoError(t, err)
	assert.Empty(t, report.Drifts)
}
