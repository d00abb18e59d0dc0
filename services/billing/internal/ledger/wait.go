package ledger

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/galley-engine/galley/schemas/credit"
)

// waitPage is how many of a customer's charges that wait one transaction looks at. Serve goes on with the others.
const waitPage = 200

const (
	makeAccounts = `INSERT INTO billing.accounts (customer_id, balance, created_at)
		SELECT customer_id, 0, $2 FROM unnest($1::text[]) AS new (customer_id) ORDER BY customer_id
		ON CONFLICT (customer_id) DO NOTHING`

	// The first of each queue, and those whose time is over wherever they stand.
	queues = `SELECT customer_id, found.execution_id, found.place, found.amount, found.until
		FROM unnest($1::text[]) AS asked (customer_id) CROSS JOIN LATERAL (
			(SELECT execution_id, place, amount, until FROM billing.waits
				WHERE waits.customer_id = asked.customer_id AND decided_at IS NULL ORDER BY place, execution_id LIMIT $2)
			UNION
			(SELECT execution_id, place, amount, until FROM billing.waits
				WHERE waits.customer_id = asked.customer_id AND decided_at IS NULL AND until <= $3 ORDER BY until LIMIT $2)
			ORDER BY place, execution_id) AS found`

	insertWaits = `INSERT INTO billing.waits (customer_id, execution_id, place, amount, until, since)
		SELECT *, $6::timestamptz FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::bigint[], $5::timestamptz[]) AS new`

	// What has waited is debited, refused or settled, or debited and settled at once.
	decideCharges = `UPDATE billing.charges
		SET state = new.state, debited = new.debited, charged = new.charged, balance_after = new.balance_after,
			debit_id = NULLIF(new.debit_id, 0), refund_id = NULLIF(new.refund_id, 0),
			settled_at = CASE new.state WHEN 'settled' THEN $9::timestamptz END,
			allocation = CASE WHEN new.debited > 0 THEN ($10::bigint[])[starts:ends] END
		FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
				$11::integer[], $12::integer[])
			AS new (customer_id, execution_id, state, debited, charged, balance_after, debit_id, refund_id, starts, ends)
		WHERE charges.execution_id = new.execution_id AND charges.customer_id = new.customer_id`

	decideWaits = `UPDATE billing.waits SET decided_at = $3
		FROM unnest($1::text[], $2::uuid[]) AS new (customer_id, execution_id)
		WHERE waits.execution_id = new.execution_id AND waits.customer_id = new.customer_id`

	deleteWaits = `DELETE FROM billing.waits USING unnest($1::text[], $2::uuid[]) AS old (customer_id, execution_id)
		WHERE waits.execution_id = old.execution_id AND waits.customer_id = old.customer_id`
)

// mayWait names the customers of debits that may wait: they need an account, under whose lock the queue is.
func (w *walk) mayWait() (customers []string) {
	for i := range w.instructions {
		if !w.instructions[i].Wait.Until.IsZero() && w.instructions[i].Amount > 0 {
			customers = append(customers, w.instructions[i].Customer)
		}
	}
	slices.Sort(customers)
	return slices.Compact(customers)
}

// readQueues fills in what waits, in one more round trip where something does.
func (w *walk) readQueues(ctx context.Context, conn sender) error {
	var customers []string
	for customer, account := range w.accounts {
		if account.waiting > 0 {
			customers = append(customers, customer)
		}
	}
	if len(customers) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	batch.Queue(queues, customers, waitPage, w.now).Query(w.scanQueues)
	return conn.SendBatch(ctx, batch).Close()
}

func (w *walk) scanQueues(rows pgx.Rows) error {
	for rows.Next() {
		var key Key
		var place, amount int64
		var until time.Time
		if err := rows.Scan(&key.Customer, (*[16]byte)(&key.Execution), &place, &amount, &until); err != nil {
			return err
		}
		account := w.accounts[key.Customer]
		known := w.byKey[key]
		if known == nil {
			known = &charge{Charge: Charge{Key: key, State: StateWaiting}, account: account, stored: true, waited: true}
			w.byKey[key] = known
			w.queued = append(w.queued, known)
		}
		known.wanted, known.wait = credit.Micro(amount), Wait{Until: until, Place: uint64(place)} //nolint:gosec // stored by queueWaits
		account.queue = append(account.queue, known)
	}
	return rows.Err()
}

// turnAway refuses what has waited too long, and serves the others. What is left was read as the first of the queue.
func (w *walk) turnAway() {
	for _, account := range w.accounts {
		for _, charge := range slices.Clone(account.queue) {
			if !charge.wait.Until.After(w.now) {
				w.refuse(charge)
				w.leave(charge)
			}
		}
		w.serve(account)
	}
}

// enter has a debit wait, behind those of the customer that came before.
func (w *walk) enter(charge *charge, wanted *Instruction) {
	account := charge.account
	charge.State, charge.BalanceAfter, charge.changed = StateWaiting, account.balance, true
	charge.wanted, charge.wait = wanted.Amount, wanted.Wait
	whole := account.waiting == len(account.queue)
	place, _ := slices.BinarySearchFunc(account.queue, charge, compareWaits)
	if whole || place < len(account.queue) {
		account.queue = slices.Insert(account.queue, place, charge)
	}
	account.waiting++
	account.moved, w.tells = true, true
	w.serve(account)
	if charge.State == StateWaiting && !account.covers(charge.wanted) {
		w.tellExhausted(account)
	}
}

func compareWaits(a, b *charge) int {
	return cmp.Or(cmp.Compare(a.wait.Place, b.wait.Place), compareIDs(a.Execution, b.Execution))
}

func compareIDs(a, b uuid.UUID) int {
	return slices.Compare(a[:], b[:])
}

// leave takes a charge out of the queue, if that part of it was read.
func (w *walk) leave(charge *charge) {
	account := charge.account
	if i := slices.Index(account.queue, charge); i >= 0 {
		account.queue = slices.Delete(account.queue, i, i+1)
	}
	account.waiting--
	account.moved, w.tells = true, true
}

// serve debits those that wait, one after the other, as far as the balance goes. One that is not covered holds up those behind it.
func (w *walk) serve(account *account) {
	for len(account.queue) > 0 && account.covers(account.queue[0].wanted) {
		first := account.queue[0]
		w.leave(first)
		w.take(first, first.wanted)
	}
}

// queueWaits stores who waits now, and who does not any more. The end of an execution is in the journal already; of what was decided
// otherwise, the journal has to be told.
func (w *walk) queueWaits(batch *pgx.Batch) {
	var entered waitColumns
	var decided chargeColumns
	var untold, ended waitColumns
	for _, charge := range slices.Concat(w.distinct, w.queued) {
		switch {
		case !charge.changed:
		case !charge.waited:
			if charge.State == StateWaiting {
				entered.add(charge)
			}
		default:
			decided.add(charge)
			if charge.State == StateSettled {
				ended.add(charge)
			} else {
				untold.add(charge)
			}
		}
	}
	if c := &entered; len(c.executions) > 0 {
		batch.Queue(insertWaits, c.customers, c.executions, c.places, c.amounts, c.untils, w.now)
	}
	if c := &decided; len(c.executions) > 0 {
		batch.Queue(decideCharges, c.customers, c.executions, c.states, c.debited, c.charged, c.balancesAfter, c.debitIDs,
			c.refundIDs, w.now, c.allocations, c.starts, c.ends)
	}
	if c := &untold; len(c.executions) > 0 {
		batch.Queue(decideWaits, c.customers, c.executions, w.now)
	}
	if c := &ended; len(c.executions) > 0 {
		batch.Queue(deleteWaits, c.customers, c.executions)
	}
}

// waitColumns are waits as Postgres takes them.
type waitColumns struct {
	customers       []string
	executions      []pgtype.UUID
	places, amounts []int64
	untils          []time.Time
}

func (c *waitColumns) add(charge *charge) {
	c.customers = append(c.customers, charge.Customer)
	c.executions = append(c.executions, binary(charge.Execution))
	c.places = append(c.places, int64(charge.wait.Place)) //nolint:gosec // no stream has that many messages
	c.amounts = append(c.amounts, int64(charge.wanted))
	c.untils = append(c.untils, charge.wait.Until)
}
