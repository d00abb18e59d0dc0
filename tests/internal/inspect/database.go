package inspect

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/subject"
)

// Database compares what each service keeps with the journal. Everything must have come to rest. The connection is that of a
// superuser; nothing is written.
func (j Journal) Database(ctx context.Context, conn *pgx.Conn) ([]error, error) {
	var problems []error
	for _, check := range []func(context.Context, *pgx.Conn) ([]error, error){
		j.projection, j.ledger, j.balances, j.audit, auditTree,
	} {
		found, err := check(ctx, conn)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	return problems, nil
}

// AtRest reads the journal and tells whether everything that was asked for has ended and is known to every service; state says how
// far that is. Nothing more may be asked for in the meantime.
func (r *Reader) AtRest(ctx context.Context, conn *pgx.Conn) (journal Journal, rest bool, state string, err error) {
	// A request leaves RUNS when its execution is in the journal, so the journal is read afterwards.
	runs, err := r.js.Stream(ctx, subject.StreamRuns)
	if err != nil {
		return nil, false, "", fmt.Errorf("look up run requests: %w", err)
	}
	waiting := runs.CachedInfo().State.Msgs
	journal, err = r.Read(ctx)
	if err != nil {
		return nil, false, "", err
	}
	open, auditRows := 0, 0
	for _, execution := range journal {
		if execution.Last(event.Completed) == nil {
			open++
		}
		auditRows += len(execution.audited())
	}
	var projected, settled, audited int
	err = conn.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM ingest.executions WHERE completed_at IS NOT NULL),
		(SELECT count(*) FROM billing.charges WHERE state <> 'debited'),
		(SELECT count(*) FROM audit.events WHERE `+ofJournal+`)`).Scan(&projected, &settled, &audited)
	if err != nil {
		return journal, false, "", fmt.Errorf("count what is settled: %w", err)
	}
	all := len(journal)
	state = fmt.Sprintf("%d run requests wait, %d of %d executions have not ended, %d are projected, %d are settled, %d of %d audit rows are there",
		waiting, open, all, projected, settled, audited, auditRows)
	return journal, waiting == 0 && open == 0 && projected >= all && settled >= all && audited >= auditRows, state, nil
}

// audited lists the ids of the events that belong into the audit log.
func (e *Execution) audited() []string {
	var ids []string
	for i := range e.Events {
		switch e.Events[i].Kind {
		case event.Accepted, event.Funded, event.Completed:
			ids = append(ids, e.Events[i].Header.Get(event.HeaderID))
		case event.Started, event.Step, event.Waiting:
		}
	}
	return ids
}

func (j Journal) projection(ctx context.Context, conn *pgx.Conn) ([]error, error) {
	rows, err := conn.Query(ctx, `SELECT execution_id::text, customer_id, status, charged, response FROM ingest.executions`)
	if err != nil {
		return nil, fmt.Errorf("read the projection: %w", err)
	}
	var problems []error
	seen := map[string]bool{}
	var id, customer, status string
	var charged int64
	var response []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &customer, &status, &charged, &response}, func() error {
		seen[id] = true
		execution, found := j[id]
		if !found {
			problems = append(problems, fmt.Errorf("execution %s is projected, but has no journal", id))
			return nil
		}
		completed := execution.Last(event.Completed)
		if completed == nil {
			return nil // reported with the journal
		}
		amount, err := completed.credits()
		if err != nil {
			return err
		}
		if customer != execution.Customer || status != completed.Header.Get(event.HeaderStatus) || charged != amount {
			problems = append(problems, fmt.Errorf("execution %s is projected as %s of %s, charged %d; its journal says %s of %s, charged %d",
				id, status, customer, charged, completed.Header.Get(event.HeaderStatus), execution.Customer, amount))
		}
		if !bytes.Equal(response, completed.Data) {
			problems = append(problems, fmt.Errorf("execution %s is projected with another response than its journal has", id))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the projection: %w", err)
	}
	for id := range j {
		if !seen[id] {
			problems = append(problems, fmt.Errorf("execution %s is not projected", id))
		}
	}
	return problems, nil
}

// ledger checks that each execution has the debit and the refund that its journal tells of, each at most once.
func (j Journal) ledger(ctx context.Context, conn *pgx.Conn) ([]error, error) {
	rows, err := conn.Query(ctx, `SELECT execution_id::text, customer_id,
			count(*) FILTER (WHERE kind = 'debit'), coalesce(sum(amount) FILTER (WHERE kind = 'debit'), 0)::bigint,
			count(*) FILTER (WHERE kind = 'refund'), coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0)::bigint
		FROM billing.credit_transactions WHERE execution_id IS NOT NULL GROUP BY 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	var problems []error
	type entry struct{ debits, debited, refunds, refunded int64 }
	entries := map[string]entry{}
	var id, customer string
	var e entry
	_, err = pgx.ForEachRow(rows, []any{&id, &customer, &e.debits, &e.debited, &e.refunds, &e.refunded}, func() error {
		entries[id] = e
		if execution, found := j[id]; !found || execution.Customer != customer {
			problems = append(problems, fmt.Errorf("the ledger knows execution %s of %s, the journal does not", id, customer))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	for id, execution := range j {
		got := entries[id]
		var debited, charged int64
		if funded := execution.Last(event.Funded); funded != nil {
			if debited, err = funded.credits(); err != nil {
				return nil, err
			}
		} else if accepted := execution.Last(event.Accepted); accepted != nil && got.debits == 1 {
			// It was cancelled between its debit and the event that would have told of it.
			if debited, err = accepted.credits(); err != nil {
				return nil, err
			}
		}
		if completed := execution.Last(event.Completed); completed != nil {
			if charged, err = completed.credits(); err != nil {
				return nil, err
			}
		}
		if got.debits > 1 || got.refunds > 1 || got.debited != -debited || got.refunded != debited-charged {
			problems = append(problems, fmt.Errorf("execution %s: debited %d, charged %d; the ledger has %d debits of %d and %d refunds of %d",
				id, debited, charged, got.debits, got.debited, got.refunds, got.refunded))
		}
	}
	return problems, nil
}

func (j Journal) balances(ctx context.Context, conn *pgx.Conn) ([]error, error) {
	rows, err := conn.Query(ctx, `SELECT customer_id, balance, coalesce(sum(amount), 0)::bigint
		FROM billing.accounts LEFT JOIN billing.credit_transactions USING (customer_id)
		GROUP BY customer_id, balance HAVING balance < 0 OR balance <> coalesce(sum(amount), 0)`)
	if err != nil {
		return nil, fmt.Errorf("read the balances: %w", err)
	}
	var problems []error
	var customer string
	var balance, sum int64
	_, err = pgx.ForEachRow(rows, []any{&customer, &balance, &sum}, func() error {
		problems = append(problems, fmt.Errorf("customer %s has a balance of %d and a ledger of %d", customer, balance, sum))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the balances: %w", err)
	}
	return problems, nil
}

// ofJournal selects the audit rows of journal events. Others tell what people did to an execution.
const ofJournal = `resource_type = 'execution' AND event_id LIKE resource_id || '/%'`

// audit checks that the log has exactly one row for each event that belongs there.
func (j Journal) audit(ctx context.Context, conn *pgx.Conn) ([]error, error) {
	rows, err := conn.Query(ctx, `SELECT event_id, customer_id, resource_id FROM audit.events WHERE `+ofJournal)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	missing := map[string]string{}
	for id, execution := range j {
		for _, event := range execution.audited() {
			missing[event] = id
		}
	}
	var problems []error
	var id, customer, resource string
	_, err = pgx.ForEachRow(rows, []any{&id, &customer, &resource}, func() error {
		execution, expected := missing[id]
		if !expected || execution != resource || j[execution].Customer != customer {
			problems = append(problems, fmt.Errorf("audit row %s of execution %s and customer %s is not expected", id, resource, customer))
		}
		delete(missing, id)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	for id := range missing {
		problems = append(problems, fmt.Errorf("audit row %s is missing", id))
	}
	return problems, nil
}
