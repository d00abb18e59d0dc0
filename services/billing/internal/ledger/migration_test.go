package ledger_test

import (
	"io/fs"
	"math/rand/v2"
	neturl "net/url"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/services/billing/internal/ledger"
	"github.com/galley-engine/galley/services/billing/migrations"
)

// withoutLots is the schema as it was before grants were lots.
func withoutLots(t *testing.T) postgres.Schema {
	t.Helper()
	schema := migrations.Schema()
	earlier := fstest.MapFS{}
	for _, name := range []string{"0001_ledger.sql", "0002_subscriptions.sql"} {
		text, err := fs.ReadFile(schema.Migrations, name)
		require.NoError(t, err)
		earlier[name] = &fstest.MapFile{Data: text}
	}
	schema.Migrations = earlier
	return schema
}

// past writes what the ledger wrote before grants were lots.
type past struct {
	*pgx.Conn
	customer string
	balance  int64
	inFlight map[uuid.UUID]int64
}

func (p *past) post(t *testing.T, kind string, amount int64, execution *uuid.UUID, grant *string) (id int64) {
	t.Helper()
	p.balance += amount
	err := p.QueryRow(t.Context(), `INSERT INTO billing.credit_transactions
			(customer_id, kind, amount, balance_after, execution_id, grant_id, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, now()) RETURNING id`, p.customer, kind, amount, p.balance, execution, grant).Scan(&id)
	require.NoError(t, err)
	p.exec(t, `UPDATE billing.accounts SET balance = $2 WHERE customer_id = $1`, p.customer, p.balance)
	return id
}

func (p *past) exec(t *testing.T, statement string, arguments ...any) {
	t.Helper()
	_, err := p.Exec(t.Context(), statement, arguments...)
	require.NoError(t, err)
}

func (p *past) grant(t *testing.T, amount int64) {
	t.Helper()
	id := uuid.NewString()
	p.exec(t, `INSERT INTO billing.grants VALUES ($1, $2, $3)`, p.customer, id, p.post(t, "grant", amount, nil, &id))
}

func (p *past) debit(t *testing.T, amount int64) {
	t.Helper()
	id, state, debited, debit := uuid.New(), "debited", amount, (*int64)(nil)
	switch {
	case amount > p.balance:
		state, debited = "refused", 0
	case amount > 0:
		row := p.post(t, "debit", -amount, &id, nil)
		debit = &row
	}
	if state == "debited" {
		p.inFlight[id] = amount
	}
	p.exec(t, `INSERT INTO billing.charges (customer_id, execution_id, state, debited, charged, balance_after, debit_id, created_at)
		VALUES ($1, $2, $3, $4, 0, $5, $6, now())`, p.customer, id, state, debited, p.balance, debit)
}

func (p *past) settle(t *testing.T, id uuid.UUID, charged int64) {
	t.Helper()
	var refund *int64
	if amount := p.inFlight[id] - charged; amount > 0 {
		row := p.post(t, "refund", amount, &id, nil)
		refund = &row
	}
	delete(p.inFlight, id)
	p.exec(t, `UPDATE billing.charges SET state = 'settled', charged = $3, refund_id = $4, settled_at = now()
		WHERE customer_id = $1 AND execution_id = $2`, p.customer, id, charged, refund)
}

// live is a random life: grants, debits, and settles of some of them.
func (p *past) live(t *testing.T, random *rand.Rand) {
	t.Helper()
	p.exec(t, `INSERT INTO billing.accounts VALUES ($1, 0, now())`, p.customer)
	for range random.IntN(30) {
		switch random.IntN(4) {
		case 0:
			p.grant(t, 1+random.Int64N(40))
		case 1:
			for id, debited := range p.inFlight {
				p.settle(t, id, random.Int64N(debited+1))
				break
			}
		default:
			p.debit(t, random.Int64N(20))
		}
	}
}

func TestWhatWasBeforeLots(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	require.NoError(t, postgres.Migrate(t.Context(), url, withoutLots(t)))
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same lives every time
	lives := make([]past, 60)
	conn := superuser(t, url)
	for i := range lives {
		lives[i] = past{Conn: conn, customer: strconv.Itoa(i), inFlight: map[uuid.UUID]int64{}}
		lives[i].live(t, random)
	}
	bank := open(t, migrated(t, url))
	bank.reconciled(t)
	var batch []ledger.Instruction
	for i := range lives {
		life := &lives[i]
		assert.EqualValues(t, life.balance, bank.balance(t, life.customer))
		var remaining credit.Micro
		for _, left := range bank.lots(t, life.customer) {
			remaining += left.Remaining
		}
		assert.EqualValues(t, life.balance, remaining)
		for id, debited := range life.inFlight {
			key := ledger.Key{Customer: life.customer, Execution: id}
			charged := random.Int64N(debited + 1)
			life.balance += debited - charged
			batch = append(batch, ledger.Instruction{Key: key, Action: ledger.Settle, Amount: credit.Micro(charged)})
		}
	}
	require.NotEmpty(t, batch)
	bank.apply(t, batch)
	for i := range lives {
		assert.EqualValues(t, lives[i].balance, bank.balance(t, lives[i].customer))
	}
	bank.reconciled(t)
	bank.apply(t, append(step{debit(1, credit.Micro(lives[0].balance)), debit(2, 1)}.of("0"), step{debit(1, 1)}.of("1")...))
	assert.Zero(t, bank.balance(t, "0"))
	bank.reconciled(t)
}

// ofOwner makes somebody the owner of the database who is no superuser, and whom row-level security limits, too.
func ofOwner(t *testing.T, url string) string {
	t.Helper()
	name := "owner_" + strings.ReplaceAll(uuid.NewString(), "-", "_")
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	_, err = superuser(t, url).Exec(t.Context(), `CREATE ROLE `+name+` LOGIN CREATEROLE;
		ALTER DATABASE `+pgx.Identifier{config.Database}.Sanitize()+` OWNER TO `+name)
	require.NoError(t, err)
	parsed, err := neturl.Parse(url)
	require.NoError(t, err)
	parsed.User = neturl.User(name)
	return parsed.String()
}

// TestOneLotAfterTheOther: what charges that are settled took came first, then each charge that is under way.
func TestOneLotAfterTheOther(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	owned := ofOwner(t, url)
	require.NoError(t, postgres.Migrate(t.Context(), owned, withoutLots(t)))
	life := past{Conn: superuser(t, url), customer: "a", inFlight: map[uuid.UUID]int64{}}
	life.exec(t, `INSERT INTO billing.accounts VALUES ('a', 0, now())`)
	for range 3 {
		life.grant(t, 10)
	}
	life.debit(t, 5)
	for id := range life.inFlight {
		life.settle(t, id, 4)
	}
	life.debit(t, 8)
	life.debit(t, 11)
	bank := open(t, migrated(t, owned))
	rows, err := bank.work.Query(t.Context(), `SELECT unallocated, remaining FROM billing.grants ORDER BY transaction_id`)
	require.NoError(t, err)
	lots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Unallocated, Remaining int64 }])
	require.NoError(t, err)
	assert.Equal(t, []struct{ Unallocated, Remaining int64 }{{4, 0}, {0, 0}, {0, 7}}, lots)
	rows, err = bank.work.Query(t.Context(), `SELECT allocation FROM billing.charges WHERE state = 'debited' ORDER BY debit_id`)
	require.NoError(t, err)
	allocations, err := pgx.CollectRows(rows, pgx.RowTo[[]int64])
	require.NoError(t, err)
	assert.Equal(t, [][]int64{{1, 6, 2, 2}, {2, 8, 3, 3}}, allocations)
	bank.reconciled(t)
}
