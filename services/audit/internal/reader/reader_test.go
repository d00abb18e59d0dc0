package reader_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/testkit"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/services/audit/internal/audittest"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/internal/writer"
	"github.com/galley-engine/galley/services/audit/migrations"
)

const patience = time.Minute

func TestMain(m *testing.M) { testkit.Main(m) }

// filled gives a log with two executions and an activity of cust_001, one execution of cust_0010, and an activity of cust_002.
func filled(t *testing.T) *audittest.Env {
	t.Helper()
	e := audittest.New(t)
	e.Execute(t, "cust_001", 0, 2)
	e.Execute(t, "cust_0010", 0, 1)
	e.Activity(t, "cust_001", "activity-1")
	e.Activity(t, "cust_002", "activity-2")
	pool := e.Pool(t, migrations.Role)
	signer := writer.NewSigner(pool, e.Key, publish.NewNATS(e.Bus), clock.System, zerolog.Nop())
	w := writer.New(pool, e.Bus, signer, clock.System, zerolog.Nop())
	stop := audittest.Start(t, w.Run)
	e.Await(t, 11)
	stop()
	return e
}

func TestPages(t *testing.T) {
	t.Parallel()
	e := filled(t)
	r := reader.New(e.Pool(t, migrations.Reader))
	all, err := r.Events(t.Context(), query.AuditEventsRequest{CustomerID: "cust_001", Limit: 200})
	require.NoError(t, err)
	require.Len(t, all.Events, 7)
	assert.Zero(t, all.Next)

	var paged []query.AuditEvent
	request := query.AuditEventsRequest{CustomerID: "cust_001", Limit: 3}
	for {
		page, err := r.Events(t.Context(), request)
		require.NoError(t, err)
		paged = append(paged, page.Events...)
		if page.Next == 0 {
			break
		}
		require.Len(t, page.Events, 3)
		request.Before = page.Next
	}
	assert.Equal(t, all.Events, paged)
	for i, found := range paged {
		if i > 0 {
			assert.Less(t, found.Sequence, paged[i-1].Sequence)
		}
		assert.Contains(t, string(found.Leaf), `"event_id":"`+found.EventID+`"`)
		assert.Contains(t, string(found.Leaf), `"customer_id":"cust_001"`)
	}
}

func TestByResource(t *testing.T) {
	t.Parallel()
	e := filled(t)
	r := reader.New(e.Pool(t, migrations.Reader))
	ids := func(customer, resource string, limit int, before int64) []string {
		reply, err := r.Events(t.Context(), query.AuditEventsRequest{
			CustomerID: customer, ResourceID: resource, Limit: limit, Before: before,
		})
		require.NoError(t, err)
		found := []string{}
		for _, row := range reply.Events {
			assert.Equal(t, resource, row.ResourceID)
			found = append(found, row.EventID)
		}
		return found
	}
	const execution = "cust_001-000001"
	assert.Equal(t, []string{execution + "/completed", execution + "/funded", execution + "/accepted"}, ids("cust_001", execution, 10, 0))
	assert.Equal(t, []string{execution + "/completed"}, ids("cust_001", execution, 1, 0))
	assert.Equal(t, []string{"activity-1"}, ids("cust_001", "discovery", 10, 0))
	assert.Empty(t, ids("cust_001", "discovery", 10, 1))
	assert.Empty(t, ids("cust_001", "cust_001", 10, 0))
	assert.Empty(t, ids("cust_002", execution, 10, 0))
	assert.Empty(t, ids("cust_001", "cust_0010-000000", 10, 0))
	assert.Empty(t, ids("cust_001", "%", 10, 0))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := reader.New(nil)
	for name, request := range map[string]query.AuditEventsRequest{
		"no customer":      {Limit: 1},
		"no such customer": {CustomerID: "a.b", Limit: 1},
		"time":             {CustomerID: "cust_001", Limit: 1, From: new(time.Unix(2, 0)), To: new(time.Unix(2, 0))},
		"action":           {CustomerID: "cust_001", Limit: 1, ActionType: "\x00"},
		"outcome":          {CustomerID: "cust_001", Limit: 1, Outcome: strings.Repeat("x", 257)},
		"no limit":         {CustomerID: "cust_001"},
		"limit":            {CustomerID: "cust_001", Limit: 201},
		"negative before":  {CustomerID: "cust_001", Limit: 1, Before: -1},
		"resource":         {CustomerID: "cust_001", Limit: 1, ResourceID: strings.Repeat("x", 257)},
		"zero byte":        {CustomerID: "cust_001", Limit: 1, ResourceID: "\x00"},
		"not UTF-8":        {CustomerID: "cust_001", Limit: 1, ResourceID: "\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := r.Events(t.Context(), request)
			var refused *problem.Error
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, problem.InvalidRequest, refused.Code)
		})
	}
}

// TestRowLevelSecurity: even a statement that forgets the customer shows only that customer's rows.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	e := filled(t)
	pool := e.Pool(t, migrations.Reader)
	of := func(table, customer string) (n int) {
		err := postgres.Query(t.Context(), pool, customer, func(batch *pgx.Batch) {
			batch.Queue(`SELECT count(*) FROM audit.` + table).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
		})
		require.NoError(t, err)
		return n
	}
	count := func(customer string) int {
		rows := of("events", customer)
		require.Equal(t, rows, of("payloads", customer), "as many payloads")
		return rows
	}
	assert.Equal(t, 7, count("cust_001"))
	assert.Equal(t, 3, count("cust_0010"))
	assert.Equal(t, 1, count("cust_002"))
	assert.Equal(t, 0, count("cust_003"))
	assert.Equal(t, 0, count(""))
	assert.Equal(t, 11, count(postgres.EveryCustomer))
	var unset int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM audit.events`).Scan(&unset))
	assert.Zero(t, unset)
	_, err := pool.Exec(t.Context(), `INSERT INTO audit.head (sequence) VALUES (1)`)
	require.ErrorContains(t, err, "permission denied")
}
